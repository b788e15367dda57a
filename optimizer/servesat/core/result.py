"""The result of a deployment: its status, plan, margins and explanations.

Requirements are named by text, as in the table (`candidates.requirements.Requirement`), and parts of a search as in
`questions.search_relaxations.SearchRelaxation`.
"""

from dataclasses import dataclass
from enum import StrEnum

from servesat.core.plan import Plan


class Status(StrEnum):
    """How solving ended; `feasible`: the time limit was reached with a plan that is not proved optimal."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Margin:
    """A requirement of a plan: its value, its limit, and the slack between them (negative: violated).

    `heads`, `kv_heads` and `dtypes` are rules without a quantity; their value, limit and slack are None.
    """

    requirement: str
    holds: bool
    value: float | None = None
    limit: float | None = None
    slack: float | None = None
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class SliceSummary:
    """The best plan of a slice: the cheapest, or if none is feasible the plan that violates the fewest requirements."""

    plan: Plan
    margins: tuple[Margin, ...]

    @property
    def violated(self) -> tuple[str, ...]:
        """The requirements that exclude the slice; empty for a feasible plan."""
        return tuple(margin.requirement for margin in self.margins if not margin.holds)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of a key of the spec: a new limit, or a further entry of the search.

    `requirement` names the requirement with the limit, or the part of the search that is widened.
    """

    requirement: str
    key: str
    value: float | int | str
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Correction:
    """The smallest change that makes a spec feasible, or two where none suffices alone, and the best plan under it."""

    changes: tuple[Change, ...]
    plan: Plan
    replayed: bool = False  # whether the plan passed replays, of a spec with percentiles; else it holds on average


@dataclass(frozen=True, kw_only=True)
class Relaxation:
    """What a looser limit would save: the cost of the best plan that breaks that limit alone.

    `relaxed_to` is the value of the limit at which that plan is allowed, in the unit of the spec; None where the limit
    is no number, or where no value of it would do.
    """

    requirement: str
    relaxed_to: float | int | None
    usd_per_million_output_tokens: float
    saves_fraction: float


@dataclass(frozen=True, kw_only=True)
class LimitValue:
    """What a limit of a feasible spec costs, from the proved optimum without it.

    `value` is the plan's figure, `relaxed_to` the figure without the limit (None for a limit without a comparable
    quantity), `then_binding` what binds without it. The savings are 0 when the limit costs nothing.
    """

    requirement: str
    value: float | None
    limit: float | None
    unit: str
    relaxed_to: float | None
    saves_usd_per_million_output_tokens: float
    saves_fraction: float
    then_binding: tuple[str, ...]


@dataclass(frozen=True)
class ApiOffer:
    """What a provider charges for a request of the workload to the model [$]."""

    provider: str
    listed_as: str
    usd_per_request: float


@dataclass(frozen=True, kw_only=True)
class ApiComparison:
    """What API providers charge for the model, the cheapest first, as published on the date `checked`.

    `usd_per_hour` is what the cheapest charges for the load of the plan. `break_even_requests_per_s` is the least load
    at which some plan of one pool costs no more than it; None where none does at any load (`pays_at_no_load`), or where
    it is not known, as of two pools alone, or under constraints that count.
    """

    checked: str | None
    offers: tuple[ApiOffer, ...]
    usd_per_hour: float
    break_even_requests_per_s: float | None
    pays_at_no_load: bool


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How an engine comes by the weights of a plan, and what it calls the dtype of its KV cache.

    It loads `checkpoint`, a repository of the Hugging Face Hub (None: the catalogue knows none in that dtype), and then
    makes the plan's dtype of it by the method that `quantises` names, if any.
    """

    engine: str
    checkpoint: str | None
    quantises: str | None
    kv_cache: str


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What to expect of a plan in practice, by the calibrated cost model (docs/accuracy.md).

    `stack` is the engine's version whose measurements stand for the plan's; neither it nor the chip need be calibrated.
    """

    tpot_ms: float
    ttft_ms: float | None
    tokens_per_s: float
    chip_is_calibrated: bool
    stack: str
    stack_is_calibrated: bool


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What the times of a plan rest on under the calibrated cost model (docs/accuracy.md).

    Half of the measurements that were left out of a fit lie within the errors, as shares of a prediction; they are
    larger where the `chip`, or the engine's version (`stack` stands for it), has no measurements. `best_calibrated` is
    the best plan on chips that have some, where the plan's has none.
    """

    calibration: str
    chip_is_calibrated: bool
    stack: str
    stack_is_calibrated: bool
    tpot_error: float
    ttft_error: float
    best_calibrated: Plan | None = None


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """A time of requests in a replay [ms]: what 50, 90, 95 and 99 % of them do not exceed."""

    p50: float
    p90: float
    p95: float
    p99: float


@dataclass(frozen=True, kw_only=True)
class KeptLimit:
    """A limit on a share of the requests, and the `value` that this share of them did not exceed [ms].

    `met` is the share of requests within it, plus or minus `confidence` at 95 %; `holds` says whether that is enough,
    None where the replays leave it undecided. Value and limit of `goodput` are shares of the requests.
    """

    requirement: str
    share: float
    value: float
    limit: float
    met: float
    confidence: float
    holds: bool | None


@dataclass(frozen=True, kw_only=True)
class Fallen:
    """A cheaper proposal that was rejected, and the limits that its replay broke."""

    chip: str
    topology: str
    mode: str
    engine: str | None
    slices: int
    usd_per_hour: float
    broken: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What a plan's replicas do under requests that arrive at random, or as in a trace (docs/queues.md).

    `limits` are kept in replays of `seeds` with every step slower by `margin`; the times, and what replicas did, are of
    the first eight of these without it. `busy` is the share of the time in which replicas work, `within_all` the share
    of requests within every limit. Of the plans that a search proposed before, `fallen` has the last.
    """

    arrivals: str
    router: str
    seeds: int
    requests: int
    margin: float
    ttft_ms: Percentiles
    tpot_ms: Percentiles
    e2e_ms: Percentiles
    limits: tuple[KeptLimit, ...]
    within_all: float
    busy: float
    most_sequences: int
    preempted: int
    proposals: int = 1
    fallen: tuple[Fallen, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EngineCost:
    """The best plan under another engine, or under none; a `plan` of None: it runs none that meets the limits."""

    engine: str
    plan: Plan | None


@dataclass(frozen=True, kw_only=True)
class Result:
    """The answer to a deployment: a plan with its proof, or the requirements in conflict.

    `bound_usd_per_million_output_tokens` is the proved lower bound on the cost (None when infeasible or unknown).
    `binding` lists the limits without slack, and those that the next batch or one more slice would break.
    `relaxations` lists the limits that alone rule out a cheaper plan, binding or not, with what a looser one saves.
    `margins` has the plan's margin for each requirement of the spec.
    `conflict` lists the minimal sets of requirements that no plan satisfies together (None unless infeasible).
    `answer` fills in the rest: the `relaxations` of a spec with constraints; `slices` summarises every slice of the
    plan's chip, `max_batch_binds` says that search.max_batch rules out a cheaper plan, and `corrections`,
    `limit_values`, `alternatives` and the prices of an `api` explain the result. `without_spot` is the best plan
    without spot, if `plan` is on spot, `loading` how the plan's engine comes by the weights, `expected` what it takes
    in practice, `basis` what its times rest on, and `engines` what the others would cost. `replayed` verifies limits
    that hold for a share of the requests: the plan is the cheapest that passes, and the bound that of all proposals.
    Where there is no plan, `servable_requests_per_s` is a load that has one; with `means_hold` there is one by means.
    """

    status: Status
    plan: Plan | None
    bound_usd_per_million_output_tokens: float | None = None
    binding: tuple[str, ...] = ()
    relaxations: tuple[Relaxation, ...] = ()
    conflict: tuple[tuple[str, ...], ...] | None = None
    margins: tuple[Margin, ...] = ()
    slices: tuple[SliceSummary, ...] = ()
    corrections: tuple[Correction, ...] = ()
    limit_values: tuple[LimitValue, ...] = ()
    alternatives: tuple[Plan, ...] = ()
    max_batch_binds: bool = False
    api: ApiComparison | None = None
    without_spot: Plan | None = None
    loading: Loading | None = None
    expected: Expected | None = None
    basis: Basis | None = None
    engines: tuple[EngineCost, ...] = ()
    replayed: Replayed | None = None
    servable_requests_per_s: float | None = None
    means_hold: bool = False
    solve_s: float

    @property
    def gap(self) -> float | None:
        """The relative distance of the cost from its bound; None without a plan or a bound."""
        if self.plan is None or self.bound_usd_per_million_output_tokens is None:
            return None
        return 1 - self.bound_usd_per_million_output_tokens / self.plan.usd_per_million_output_tokens
