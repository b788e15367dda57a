"""Every printed figure of the documents as a claim, with the answer of servesat."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from servesat.core.errors import ServesatError
from servesat.core.validation import nearest
from servesat.scaling_book.documents import Answer, Answers
from servesat.scaling_book.printed import documents, groups, one_word, printed_rows
from servesat.scaling_book.problems import problems
from servesat.scaling_book.sizes import doubled_slices, hardware, kv_caches, slices
from servesat.scaling_book.speeds import doubled, latency, pareto, throughput
from servesat.scaling_book.traffic import prefill, sharding

_CHAPTERS: tuple[Callable[[], Answers], ...] = (
    hardware, kv_caches, slices, latency, throughput, doubled_slices, doubled, sharding, prefill, pareto, problems,
)  # fmt: skip


class Verdict(StrEnum):
    """The outcome of comparing a printed figure with its computed value."""

    HOLDS = "holds"
    SEED_ERROR = "seed-error"
    ASSUMPTION = "assumption"
    ANSWERED = "question"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A figure printed in a document, None for a question without an answer, and the answer of servesat."""

    id: str
    group: str
    documents: str
    question: str
    printed: float | None
    unit: str
    tolerance: float
    answer: float
    remark: str
    assumes: str

    @property
    def verdict(self) -> Verdict:
        """The verdict within the claim's relative tolerance; ASSUMPTION where the answer needs an omitted input."""
        if self.printed is None:
            return Verdict.ANSWERED
        if self.assumes:
            return Verdict.ASSUMPTION
        error = abs(self.answer - self.printed)
        return Verdict.HOLDS if error <= (self.tolerance + 1e-12) * abs(self.printed) else Verdict.SEED_ERROR


def claims_of(group: str | None = None, document: str | None = None) -> list[Claim]:
    """The claims of a group, of a document, or of both; `kv-cache` is the group `KV cache`.

    Raises ServesatError for one that there is not.
    """
    known = [one_word(name) for name in groups()]
    if group is not None and one_word(group) not in known:
        raise ServesatError(f"--group {group}: no such group; {nearest(one_word(group), known)}")
    if document is not None and document not in documents():
        raise ServesatError(f"--document {document}: no such document; {nearest(document, documents())}")
    return [
        claim
        for claim in claims()
        if (group is None or one_word(group) == one_word(claim.group))
        and (document is None or document in claim.documents.split("+"))
    ]


def claims() -> Iterator[Claim]:
    """Every claim with its answer, in the order of the chapter."""
    answers = {name: answer for chapter in _CHAPTERS for name, answer in chapter().items()}
    for row in printed_rows():
        answer = answers[row["id"]]
        if not isinstance(answer, Answer):
            answer = Answer(answer)
        yield Claim(
            id=row["id"],
            group=row["group"],
            documents=row["documents"],
            question=row["question"],
            printed=float(row["printed"]) if row["printed"] else None,
            unit=row["unit"],
            tolerance=float(row["tolerance"]),
            answer=float(answer.value),
            remark=answer.remark,
            assumes=answer.assumes,
        )
