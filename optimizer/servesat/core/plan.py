"""A plan: the decisions that make it, and the figures that follow from them."""

from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """How prompts and answers share chips; docs/cost-model.md gives each one's formulas."""

    DECODE_ONLY = "decode_only"
    INTERLEAVED = "interleaved"
    CHUNKED = "chunked"
    DISAGGREGATED = "disaggregated"


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
class StepBreakdown:
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
class Parallelism:
    """How the chips of a plan work together: `replicas` in a slice, of `tp · ep` chips each; `chips` of all slices.

    `kv_batch_shards` are the ways that attention splits the batch, which is a multiple of it.
    """

    tp: int
    ep: int
    replicas: int
    chips: int
    kv_batch_shards: int


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """What one replica holds, of the memory of its chips [bytes]."""

    weights_bytes: float
    kv_cache_bytes: float
    hbm_bytes: float
    hbm_used_fraction: float


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast tokens come: the mean time per output token with its parts, the longest pause, and the throughput.

    `tokens_per_s` is what all slices can put out, prefill included.
    """

    tpot_ms: float
    step_ms: StepBreakdown
    stall_ms: float
    tokens_per_s: float
    tokens_per_s_per_chip: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What all slices cost, prefill included, and what each pool pays for."""

    usd_per_chip_hour: float
    usd_per_hour: float
    usd_per_million_output_tokens: float
    bills: tuple[Bill, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RequestFigures:
    """The figures of whole requests; None without prompt_tokens and output_tokens.

    Under `decode_only` there are only those that need no prefill. `load_fraction` is the demand over `requests_per_s`,
    `transfer_ms` what the KV cache takes from pool to pool, `usd_per_million_tokens` counts prompt and output.
    """

    prefill_ms: float | None = None
    transfer_ms: float | None = None
    ttft_ms: float | None = None
    e2e_ms: float | None = None
    requests_per_s: float | None = None
    load_fraction: float | None = None
    usd_per_request: float | None = None
    usd_per_million_tokens: float | None = None
    sequences_finished_per_step: float | None = None
    kv_tokens_evicted_per_step: float | None = None


@dataclass(frozen=True, kw_only=True)
class Plan(Assignment, Parallelism, MemoryUse, Pace, Cost, RequestFigures):
    """A serving configuration with its figures, in the units of people: ms, bytes and US dollars."""
