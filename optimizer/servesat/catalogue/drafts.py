"""Published draft models: what drafts tokens ahead of a model, and how many are accepted (models/drafts)."""

from functools import cache
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from servesat.catalogue.load import shelf_of
from servesat.catalogue.record import Sourced, Text
from servesat.core.errors import CatalogueError
from servesat.core.reading import read_toml
from servesat.core.validation import Strict, validate

DraftMethod = Literal["mtp", "eagle3"]
"""What drafts: a layer of the model itself that predicts further tokens, or a small one trained on its states."""

CHAT = "mtbench"
"""The dataset whose accepted lengths are taken where they are published, unless another is named."""

MAX_DRAFTED = 32

Drafted = Annotated[int, Field(strict=True, ge=1, le=MAX_DRAFTED)]
Length = Annotated[float, Field(strict=True, ge=1, le=MAX_DRAFTED + 1, allow_inf_nan=False)]


class Accepted(Strict):
    """The mean number of tokens that a step makes, the one that it makes anyway included."""

    tokens: Drafted = Field(description="Tokens drafted ahead.")
    dataset: Text
    length: Length

    @model_validator(mode="after")
    def _is_among_those_drafted(self) -> Self:
        if self.length > self.tokens + 1:
            raise ValueError(f"length = {self.length:g}: a step makes at most {self.tokens + 1} tokens")
        return self


class Draft(Strict):
    """What drafts for some models, with what was published of it."""

    models: Annotated[tuple[Text, ...], Field(min_length=1)]
    method: DraftMethod
    repository: Text | None = Field(default=None, description="Absent: it is in the model's own checkpoint.")
    parameters: Annotated[float, Field(gt=0, le=1e13)] | None = Field(
        default=None, description="Of an eagle3 draft, all that a step of it reads."
    )
    accepted: Annotated[tuple[Accepted, ...], Field(min_length=1)]
    source: Text

    @model_validator(mode="after")
    def _eagle_has_weights(self) -> Self:
        if self.method == "eagle3" and (self.repository is None or self.parameters is None):
            raise ValueError("an eagle3 draft has a repository and parameters")
        return self

    def length_of(self, tokens: int, dataset: str | None = None) -> float | None:
        """The accepted length with so many tokens drafted, of a dataset; None where it is not published.

        Without a dataset that of CHAT, or else the mean of all.
        """
        found = {row.dataset: row.length for row in self.accepted if row.tokens == tokens}
        if dataset is not None or not found:
            return found.get(dataset or CHAT)
        return found.get(CHAT, sum(found.values()) / len(found))


class DraftTable(Sourced):
    """The published drafts."""

    drafts: tuple[Draft, ...]


@cache
def published_drafts() -> DraftTable:
    """The published drafts, from the catalogue. Raises CatalogueError when their file is malformed."""
    path = shelf_of("models") / "drafts" / "published.toml"
    return validate(DraftTable, read_toml(path, CatalogueError), where=str(path), error=CatalogueError)


def drafts_of(model: str) -> tuple[Draft, ...]:
    """The published drafts of a model, by its id."""
    return tuple(draft for draft in published_drafts().drafts if model in draft.models)
