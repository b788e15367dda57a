"""What an answer is made of: margins, explanations, and the result that carries them with a plan.

Requirements are named by text: those of the table (`candidates.requirements.Requirement`), and any that a user adds.
"""

from dataclasses import dataclass
from enum import StrEnum

from servesat.core.plan import Plan


class Status(StrEnum):
    """How a question ended; `feasible` is a plan without its proof, when the time limit struck."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Margin:
    """How a plan stands to one requirement: its value, the limit, and the slack between them (negative: violated).

    `heads`, `kv_heads` and `dtypes` are rules without a quantity: they hold or not, and their numbers are None.
    """

    requirement: str
    holds: bool
    value: float | None = None
    limit: float | None = None
    slack: float | None = None
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class SliceSummary:
    """The best that one slice can do: its cheapest plan, or else the plan that violates the fewest requirements."""

    plan: Plan
    margins: tuple[Margin, ...]

    @property
    def violated(self) -> tuple[str, ...]:
        """The requirements that exclude the slice; empty when it has a plan."""
        return tuple(margin.requirement for margin in self.margins if not margin.holds)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One key of the spec moved: to a new limit, or one more entry of the search.

    `requirement` names the requirement that the key limits, or the part of the search that it opens.
    """

    requirement: str
    key: str
    value: float | int | str
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Correction:
    """The smallest change that makes a plan exist, and the best plan under it; two changes where no single one does."""

    changes: tuple[Change, ...]
    plan: Plan


@dataclass(frozen=True, kw_only=True)
class LimitValue:
    """What a limit of a feasible spec costs: the best plan without it, proved.

    `value` is the plan's, `relaxed_to` is what the plan without the limit uses of it (None where there is no such
    quantity), `then_binding` is what holds that plan back. `saves_usd` is 0 when the limit costs nothing.
    """

    requirement: str
    value: float | None
    limit: float | None
    unit: str
    relaxed_to: float | None
    saves_usd_per_million_output_tokens: float
    saves_fraction: float
    then_binding: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Result:
    """The answer to one deployment: a plan with its proof, or the requirements in conflict.

    `bound_usd_per_million_output_tokens` is the proved lower bound on the cost (None when infeasible or unknown).
    `binding` are the limits that keep the plan from a larger, cheaper batch, or from a cheaper slice.
    `margins` are the plan's, one for each requirement that the spec makes.
    `conflict` lists the minimal sets of requirements that no plan satisfies together (None unless infeasible).
    `answer` fills in the rest: `slices` sums up every slice of the plan's chip, `max_batch_binds` says that the
    search's largest batch keeps the plan from a cheaper one, and `corrections`, `limit_values` and `alternatives`
    explain it.
    """

    status: Status
    plan: Plan | None
    bound_usd_per_million_output_tokens: float | None = None
    binding: tuple[str, ...] = ()
    conflict: tuple[tuple[str, ...], ...] | None = None
    margins: tuple[Margin, ...] = ()
    slices: tuple[SliceSummary, ...] = ()
    corrections: tuple[Correction, ...] = ()
    limit_values: tuple[LimitValue, ...] = ()
    alternatives: tuple[Plan, ...] = ()
    max_batch_binds: bool = False
    solve_s: float

    @property
    def gap(self) -> float | None:
        """How far the cost may be above the least one, relatively; None without a plan, or without a bound."""
        if self.plan is None or self.bound_usd_per_million_output_tokens is None:
            return None
        return 1 - self.bound_usd_per_million_output_tokens / self.plan.usd_per_million_output_tokens
