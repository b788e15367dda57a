"""What an answer is made of: the requirements, a plan with its figures, and the result that carries it."""

from dataclasses import dataclass
from enum import StrEnum


class Requirement(StrEnum):
    """A named condition on a plan; docs/cost-model.md gives each one's formula."""

    HBM = "hbm"
    TPOT = "tpot"
    ICI = "ici"
    HEADS = "heads"
    KV_HEADS = "kv_heads"
    DTYPES = "dtypes"
    CHIPS = "chips"
    BUDGET = "budget"
    THROUGHPUT = "throughput"
    TTFT = "ttft"
    E2E = "e2e"
    STALL = "stall"
    CHUNK = "chunk"
    MIN_BATCH = "min_batch"
    QUOTA = "quota"
    QUALITY = "quality"


class Mode(StrEnum):
    """How prompts and answers share chips; docs/cost-model.md gives each one's formulas."""

    DECODE_ONLY = "decode_only"
    INTERLEAVED = "interleaved"
    CHUNKED = "chunked"
    DISAGGREGATED = "disaggregated"


class Status(StrEnum):
    """How a question ended; `feasible` is a plan without its proof, when the time limit struck."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    UNKNOWN = "unknown"


Split = tuple[tuple[int, ...], tuple[int, ...], bool]


@dataclass(frozen=True, kw_only=True)
class PrefillPool:
    """The prefill side of a disaggregated plan: its slices, each of `chips` chips, and what one of them does.

    The KV cache has the dtype of the decode side, which receives it.
    """

    chip: str
    topology: str
    tp_axes: tuple[int, ...]
    weights: str
    compute: str
    slices: int
    ep_axes: tuple[int, ...] = ()

    @property
    def sharding(self) -> Split:
        """How one replica of the pool is split; it holds its prompts' cache once."""
        return self.tp_axes, self.ep_axes, False


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """The decisions alone: enough, with the spec, to re-derive every figure of a plan.

    `slices` are those that decode (and prefill, unless there is a `prefill` pool).
    """

    chip: str
    topology: str
    tp_axes: tuple[int, ...]
    weights: str
    kv_cache: str
    compute: str
    batch: int
    ep_axes: tuple[int, ...] = ()
    kv_replicated: bool = False
    mode: Mode = Mode.DECODE_ONLY
    chunk_tokens: int | None = None
    slices: int = 1
    prefill: PrefillPool | None = None

    @property
    def sharding(self) -> Split:
        """How one replica is split: its tensor-parallel axes, those its experts are spread over, a replicated cache."""
        return self.tp_axes, self.ep_axes, self.kv_replicated


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Where the time per output token goes [ms]; weights, FLOPs and ICI overlap, the KV cache does not.

    `prefill` is what whole prefills between the steps add on average; a chunk that rides along is in `flops`.
    """

    weights: float
    flops: float
    ici: float
    kv_cache: float
    prefill: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What one pool of a plan pays for; of prices that a spec gives only the chip-hour is known.

    `instances` is how many of the instance that the price book sells its chips fill: 0.5 pays for 4 chips of one of 8,
    at their share of its price.
    """

    chip: str
    chips: int
    usd_per_chip_hour: float
    purchase: str | None = None
    cloud: str | None = None
    region: str | None = None
    instance: str | None = None
    instance_chips: int | None = None
    usd_per_instance_hour: float | None = None
    instances: float | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plan(Assignment):
    """A serving configuration with its figures, in the units of people: ms, bytes and US dollars.

    `tpot_ms` is the mean time per output token, `step_ms` its parts. `chips`, `usd_per_hour` and `tokens_per_s` are
    those of all slices, prefill included; `tokens_per_s` and `requests_per_s` are what they can put out. What only
    whole requests have is None without prompt_tokens and output_tokens, and for `decode_only`: `prefill_ms`,
    `ttft_ms`, `e2e_ms`, `requests_per_s`, `usd_per_request`, `usd_per_million_tokens` (prompt and output),
    `sequences_finished_per_step`, `kv_tokens_evicted_per_step`. `load_fraction` is the demand over `requests_per_s`,
    `transfer_ms` what the KV cache takes from pool to pool.
    """

    tp: int
    ep: int
    replicas: int
    chips: int
    kv_batch_shards: int
    tpot_ms: float
    step_ms: StepTime
    tokens_per_s: float
    tokens_per_s_per_chip: float
    usd_per_chip_hour: float
    usd_per_hour: float
    usd_per_million_output_tokens: float
    weights_bytes: float
    kv_cache_bytes: float
    hbm_bytes: float
    hbm_used_fraction: float
    bills: tuple[Bill, ...] = ()
    prefill_ms: float | None = None
    transfer_ms: float | None = None
    ttft_ms: float | None = None
    stall_ms: float | None = None
    e2e_ms: float | None = None
    requests_per_s: float | None = None
    load_fraction: float | None = None
    usd_per_request: float | None = None
    usd_per_million_tokens: float | None = None
    sequences_finished_per_step: float | None = None
    kv_tokens_evicted_per_step: float | None = None


@dataclass(frozen=True, kw_only=True)
class Margin:
    """How a plan stands to one requirement: its value, the limit, and the slack between them (negative: violated).

    `heads`, `kv_heads` and `dtypes` are rules without a quantity: they hold or not, and their numbers are None.
    """

    requirement: Requirement
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
    def violated(self) -> tuple[Requirement, ...]:
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

    requirement: Requirement
    value: float | None
    limit: float | None
    unit: str
    relaxed_to: float | None
    saves_usd_per_million_output_tokens: float
    saves_fraction: float
    then_binding: tuple[Requirement, ...]


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
    binding: tuple[Requirement, ...] = ()
    conflict: tuple[tuple[Requirement, ...], ...] | None = None
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
