"""What a requirement is: how it is stated, how a column meets it, and how it is worded and relaxed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import reduce

from servesat.candidates.columns import Columns
from servesat.candidates.engines import unsupported
from servesat.candidates.layouts import Layouts
from servesat.candidates.purchases import SharedLimit
from servesat.candidates.step_times import ReplicaTimes
from servesat.core.arrays import Bools, Floats, Ints
from servesat.core.quantities import number
from servesat.core.tolerances import is_at_least, is_at_most
from servesat.spec.spec import Spec


class Requirement(StrEnum):
    """The name of a condition on a plan."""

    HBM = "hbm"
    TPOT = "tpot"
    ICI = "ici"
    HEADS = "heads"
    KV_HEADS = "kv_heads"
    DTYPES = "dtypes"
    BLOCKS = "blocks"
    CHIPS = "chips"
    INSTANCES = "instances"
    SLICES = "slices"
    BUDGET = "budget"
    THROUGHPUT = "throughput"
    TTFT = "ttft"
    E2E = "e2e"
    STALL = "stall"
    CHUNK = "chunk"
    MIN_BATCH = "min_batch"
    QUOTA = "quota"
    QUALITY = "quality"
    CONTEXT = "context"
    ENGINE = "engine"


REQUIREMENT_BIT: dict[str, int] = {requirement: 1 << position for position, requirement in enumerate(Requirement)}
"""The bit of each requirement in a violation mask."""


EVERY_REQUIREMENT = (1 << len(Requirement)) - 1
"""A violation mask with the bit of every requirement, and of no constraint."""


class Kind(Enum):
    """What sets a requirement: the model's shape, the machine, the service promised, what may be taken, or the user."""

    STRUCTURE = "structure"
    HARDWARE = "hardware"
    SERVICE_LEVEL = "service level"
    RESOURCE = "resource"
    CONSTRAINT = "constraint"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a requirement asks, and how it is worded.

    The spec states its limit at `key`, in `unit` (`usable_share`: as the share to keep free), or `limit_of` has it, or
    `stated` says whether the spec asks for it. A column meets it where its `figure` is at most the limit (`at_least`:
    at least), or where it is not `violated`. `largest_batch` and `smallest_batch` bound the batch of a layout, `shared`
    the slices of a plan.

    `text` says it, with its `{limit}`, that as a `{number}` with commas, `{quotas}` or `{engines}`. A correction may
    move the limit to `adjusted(figure)`, said as `correction` with the new `{value}`, or with that rounded `{up}` or
    `{down}`; where that text is empty, no other limit would help. `upgrade` is what a machine that meets it has more
    of. A margin is in `margin_unit`, or else in `unit`.
    """

    name: str
    kind: Kind
    key: str = ""
    limit_of: Callable[[Spec], float] | None = None
    unit: str = ""
    margin_unit: str | None = None
    at_least: bool = False
    usable_share: bool = False
    stated: Callable[[Spec], bool] | None = None
    figure: Callable[[Spec, Columns], Floats | Ints] | None = None
    violated: Callable[[Spec, Columns], Bools] | None = None
    largest_batch: Callable[[Spec, Layouts, ReplicaTimes], Floats] | None = None
    smallest_batch: Callable[[Spec, Layouts, ReplicaTimes], Floats] | None = None
    shared: Callable[[Spec, Layouts], Sequence[SharedLimit]] | None = None
    text: str
    correction: str = ""
    adjusted: Callable[[float], float | int] = float
    upgrade: str = ""

    @property
    def can_be_relaxed(self) -> bool:
        """Whether another value in the spec, or a machine with more, would meet it; a constraint can be dropped."""
        return bool(self.correction or self.upgrade or self.shared) or self.kind is Kind.CONSTRAINT

    def limit(self, spec: Spec) -> float | None:
        """The limit that a spec states; None where it states none, or where it is not a number."""
        if self.figure is None:
            return None
        if self.limit_of is not None:
            return self.limit_of(spec)
        value: float | None = reduce(getattr, self.key.split("."), spec)  # type: ignore[assignment]
        return value

    def is_stated(self, spec: Spec) -> bool:
        """Whether a spec asks for it."""
        return self.limit(spec) is not None if self.stated is None else self.stated(spec)

    def say(self, spec: Spec) -> str:
        """The requirement with its limit, of a spec that states it: `tpot ≤ 15 ms`."""
        limit = self.limit(spec)
        quotas = ", ".join(f"{chip} ≤ {quota}" for chip, quota in spec.search.quota.items())
        engines = "; ".join(unsupported(spec)) or " or ".join(engine.name for engine in spec.engine)
        written = "" if limit is None else number(limit)
        return self.text.format(limit=limit, number=written, quotas=quotas, engines=engines)

    def is_violated(self, spec: Spec, columns: Columns) -> Bools:
        """Which columns violate it, of a spec that states it; shape [columns].

        Raises TypeError for a rule with neither a figure and a limit nor a formula.
        """
        if self.violated is not None:
            return self.violated(spec, columns)
        limit = self.limit(spec)
        if self.figure is None or limit is None:
            raise TypeError(f"{self.name} has neither a limit nor a rule")
        meets = is_at_least if self.at_least else is_at_most
        return ~meets(self.figure(spec, columns), limit)


def is_relaxed(relaxed: int, requirement: str) -> bool:
    """Whether a bit mask takes a requirement to hold."""
    return bool(relaxed & REQUIREMENT_BIT[requirement])


def mask_of(*requirements: str) -> int:
    """The bit mask of requirements."""
    return sum(REQUIREMENT_BIT[requirement] for requirement in requirements)
