"""Speculative decoding in a spec: the draft, the number of tokens, and how many of them are accepted."""

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from servesat.catalogue.drafts import CHAT, Draft, Drafted, Length, drafts_of
from servesat.catalogue.engine import DraftKind
from servesat.catalogue.model import ModelSpec
from servesat.core.validation import Strict
from servesat.cost_model.memory import parameters
from servesat.cost_model.speculation import NO_DRAFT, Drafting, eagle_drafting, model_drafting, mtp_drafting
from servesat.cost_model.storage import Storage
from servesat.spec.search_space import LIST

NO_DRAFTING = "none"


class Speculation(Strict):
    """Tokens drafted ahead of the model and verified by it, several in a step."""

    draft: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="mtp, eagle3, the id of a smaller model, or none; absent: what was published."
    )
    tokens: Annotated[tuple[Drafted, ...], Field(min_length=1, max_length=32), *LIST] | None = Field(
        default=None, description="How many tokens may be drafted; absent: as many as was published."
    )
    accepted: Length | None = Field(
        default=None, description="Mean tokens of a step, the one made anyway included; absent: as published."
    )
    dataset: Annotated[str, Field(max_length=100)] | None = Field(
        default=None, description=f"Whose published acceptance is taken; absent: {CHAT}, or else the mean of all."
    )

    @property
    def figures(self) -> dict[str, str]:
        """The keys that are stated beside the draft, with their values as text."""
        stated = {"tokens": self.tokens, "accepted": self.accepted, "dataset": self.dataset}
        tokens = ", ".join(map(str, self.tokens or ()))
        return {key: tokens if key == "tokens" else str(value) for key, value in stated.items() if value is not None}


class DraftChoice(NamedTuple):
    """A draft to choose from: its method or model, tokens drafted, mean accepted length, and repository."""

    draft: str
    tokens: int
    accepted: float
    repository: str | None = None
    parameters: float | None = None
    model: ModelSpec | None = None

    @property
    def kind(self) -> DraftKind:
        """The support that an engine needs: mtp, eagle3, or model."""
        return "model" if self.model is not None else "mtp" if self.draft == "mtp" else "eagle3"

    def drafting(self, model: ModelSpec, weights: str, int4_group: int | None) -> Drafting:
        """The cost of drafting for a model with weights in a dtype."""
        if self.model is not None:
            return model_drafting(model, self.model, self.tokens, self.accepted)
        if self.parameters is not None:
            return eagle_drafting(model, self.parameters, self.tokens, self.accepted)
        return mtp_drafting(model, Storage(model, int4_group), weights, self.tokens, self.accepted)


def draft_choices(stated: Speculation, model: ModelSpec, draft_model: ModelSpec | None) -> tuple[DraftChoice, ...]:
    """The drafts that a spec may choose; of several with the same method and tokens, the one with the most accepted.

    Raises ValueError for a draft without published acceptance lengths, unless `accepted` and `tokens` are given.
    """
    figures = [f"{key} = {value}" for key, value in stated.figures.items()]
    if stated.draft == NO_DRAFTING:
        if figures:
            raise ValueError(f"speculative.{figures[0]}: expected none beside draft: none")
        return ()
    if stated.draft == "mtp" and not model.mtp_parameters:
        raise ValueError(
            f"speculative.draft = mtp: {model.id} has no layer of multi-token prediction; expected a model with "
            "mtp_parameters"
        )
    if draft_model is not None:
        _check_drafts_for(model, draft_model, str(stated.draft))
        if stated.accepted is None or stated.tokens is None:
            raise ValueError(f"speculative.draft = {stated.draft}: give tokens and accepted, as nobody published them")
        return tuple(
            DraftChoice(
                draft_model.id, tokens, _of(stated.accepted, tokens), _repository(draft_model), None, draft_model
            )
            for tokens in stated.tokens
        )
    found = [one for one in drafts_of(model.id) if stated.draft in {None, one.method}]
    if found:
        _check_published(stated, model, found)
    elif stated.draft == "eagle3":
        raise ValueError(
            f"speculative.draft = eagle3: no such head of {model.id} is published; expected a model that "
            "models/drafts/published.toml has one of, or another draft"
        )
    elif stated.draft == "mtp" and stated.accepted is None:
        raise ValueError(f"speculative.draft = mtp: no acceptance is published of {model.id}; give tokens and accepted")
    elif stated.draft is None and figures:
        raise ValueError(
            f"speculative.{figures[0]}: nothing that drafts for {model.id} is published; expected draft beside it"
        )
    best: dict[tuple[str, int], DraftChoice] = {}
    for choice in _published(stated, found):
        key = (choice.draft, choice.tokens)
        if key not in best or choice.accepted > best[key].accepted:
            best[key] = choice
    return tuple(best.values())


def _check_drafts_for(model: ModelSpec, draft: ModelSpec, named: str) -> None:
    """Raise ValueError for a draft model that is not smaller, or that has a different vocabulary."""
    if draft == model:
        raise ValueError(f"speculative.draft = {named}: is the model itself; expected a smaller one")
    if draft.vocab_size != model.vocab_size:
        raise ValueError(
            f"speculative.draft = {named}: has a vocabulary of {draft.vocab_size}; expected that of {model.id}, "
            f"{model.vocab_size}"
        )
    theirs, ours = parameters(draft), parameters(model)
    if theirs >= ours:
        raise ValueError(
            f"speculative.draft = {named}: has {theirs / 1e9:.1f}e9 parameters; expected fewer than {model.id}, which "
            f"has {ours / 1e9:.1f}e9"
        )


def _check_published(stated: Speculation, model: ModelSpec, found: list[Draft]) -> None:
    """Raise ValueError for a dataset or a number of tokens without a published acceptance length."""
    rows = [row for one in found for row in one.accepted]
    datasets = sorted({row.dataset for row in rows})
    if stated.dataset is not None and stated.dataset not in datasets:
        raise ValueError(
            f"speculative.dataset = {stated.dataset}: expected one that is published of {model.id}: "
            f"{'; '.join(datasets)}"
        )
    known = sorted({row.tokens for row in rows if stated.dataset in {None, row.dataset}})
    missing = [tokens for tokens in stated.tokens or () if tokens not in known]
    if missing and stated.accepted is None:
        raise ValueError(
            f"speculative.tokens = {missing[0]}: no acceptance of {missing[0]} tokens is published of {model.id}; "
            f"expected {' or '.join(map(str, known))}, or accepted beside it"
        )


def _published(stated: Speculation, found: list[Draft]) -> Iterator[DraftChoice]:
    """Published drafts, with the acceptance of the spec or else the published one; and mtp if the spec states it."""
    for one in found:
        for tokens in stated.tokens or sorted({row.tokens for row in one.accepted}):
            length = _of(stated.accepted, tokens) if stated.accepted else one.length_of(tokens, stated.dataset)
            if length is not None:
                yield DraftChoice(one.method, tokens, length, one.repository, one.parameters)
    if not found and stated.accepted is not None:
        for tokens in stated.tokens or (1,):
            yield DraftChoice("mtp", tokens, _of(stated.accepted, tokens))


def _of(accepted: float, tokens: int) -> float:
    """The accepted length. Raises ValueError for more tokens than a step can make."""
    if accepted > tokens + 1:
        raise ValueError(f"speculative.accepted = {accepted:g}: a step makes at most {tokens + 1} tokens of {tokens}")
    return accepted


def _repository(model: ModelSpec) -> str | None:
    known: dict[str, Any] = {str(dtype): name for dtype, name in model.checkpoints.items()}
    return known.get("bf16")


def drafting_of(choice: DraftChoice | None, model: ModelSpec, weights: str, int4_group: int | None) -> Drafting:
    """The cost of a draft; zero without one."""
    return NO_DRAFT if choice is None else choice.drafting(model, weights, int4_group)
