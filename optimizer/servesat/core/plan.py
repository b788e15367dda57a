"""A plan: its decisions, and the figures that follow from them."""

from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """How prompts and answers share chips; docs/cost-model.md has the formulas of each mode."""

    DECODE_ONLY = "decode_only"
    INTERLEAVED = "interleaved"
    CHUNKED = "chunked"
    DISAGGREGATED = "disaggregated"


class KvLayout(StrEnum):
    """Where the KV cache lies on the chips of tensor parallelism; docs/cost-model.md, "KV layouts".

    Up to as many chips as KV heads each has its `heads`. Beyond that the chips that share a head split the `batch`, or
    the `sequence`, or hold `copies` of the head.
    """

    HEADS = "heads"
    BATCH = "batch"
    SEQUENCE = "sequence"
    COPIES = "copies"


Split = tuple[tuple[int, ...], tuple[int, ...], KvLayout, tuple[int, ...]]

Place = tuple[str, str, str, str, str]
"""Cloud, region, purchase, instance and term of an offer, empty where there is none."""


def place_of(pool: "Assignment | PrefillPool") -> Place:
    """Where the slices of a pool are rented."""
    return pool.cloud or "", pool.region or "", pool.purchase or "", pool.instance or "", pool.term or ""


@dataclass(frozen=True, kw_only=True)
class PrefillPool:
    """The prefill pool of a disaggregated plan; its KV cache has the dtype of the decode pool, which receives it."""

    chip: str
    topology: str
    tp_axes: tuple[int, ...]
    weights: str
    compute: str
    slices: int
    ep_axes: tuple[int, ...] = ()
    kv_layout: KvLayout = KvLayout.HEADS
    pp_axes: tuple[int, ...] = ()
    cloud: str | None = None
    region: str | None = None
    purchase: str | None = None
    instance: str | None = None
    term: str | None = None

    @property
    def sharding(self) -> Split:
        """How a replica of the pool is split."""
        return self.tp_axes, self.ep_axes, self.kv_layout, self.pp_axes

    @property
    def rented(self) -> Place:
        """The place that identifies its offer."""
        return place_of(self)

    def alone(self, kv_cache: str, engine: str | None) -> "Assignment":
        """A replica of it with a single sequence, as the decisions of a plan."""
        return Assignment(
            chip=self.chip, topology=self.topology, tp_axes=self.tp_axes, ep_axes=self.ep_axes, pp_axes=self.pp_axes,
            kv_layout=self.kv_layout, weights=self.weights, kv_cache=kv_cache, compute=self.compute, batch=1,
            engine=engine,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """The decisions of a plan, from which every figure follows under a spec.

    `slices` counts the slices that decode, and that prefill unless there is a `prefill` pool. `cloud` to `term` say
    which offer they are rented as; all are None where the price names no place. `engine` runs both pools; None without
    engines in the spec. `draft` drafts `draft_tokens` ahead; None where nothing does.
    """

    chip: str
    topology: str
    tp_axes: tuple[int, ...]
    weights: str
    kv_cache: str
    compute: str
    batch: int
    engine: str | None = None
    draft: str | None = None
    draft_tokens: int = 0
    ep_axes: tuple[int, ...] = ()
    kv_layout: KvLayout = KvLayout.HEADS
    pp_axes: tuple[int, ...] = ()
    mode: Mode = Mode.DECODE_ONLY
    chunk_tokens: int | None = None
    slices: int = 1
    prefill: PrefillPool | None = None
    cloud: str | None = None
    region: str | None = None
    purchase: str | None = None
    instance: str | None = None
    term: str | None = None

    @property
    def sharding(self) -> Split:
        """How a replica is split: tensor- and expert-parallel axes, where its KV cache lies, and axes of stages."""
        return self.tp_axes, self.ep_axes, self.kv_layout, self.pp_axes

    @property
    def rented(self) -> Place:
        """The place that identifies its offer."""
        return place_of(self)


@dataclass(frozen=True, kw_only=True)
class StepBreakdown:
    """Where the time per output token goes [ms]; weights, FLOPs and ICI overlap, the KV cache does not.

    `kv_exchange` is that of queries and partial results where sequences are split over chips, `pipeline` that of
    activations from stage to stage, `draft` that of drafting tokens ahead, `prefill` the mean time that prompts add
    between the steps; under the ideal cost model the chunk of a step counts in `flops`. The calibrated one has the
    output `head` apart, adds `ici` instead of hiding it, and knows what `launches` and the `host` take.
    """

    weights: float
    flops: float
    ici: float
    kv_cache: float
    kv_exchange: float = 0.0
    pipeline: float = 0.0
    draft: float = 0.0
    prefill: float = 0.0
    head: float = 0.0
    launches: float = 0.0
    host: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What a pool of a plan pays, or both where they share instances; a price of the spec is known by the chip-hour.

    `chips` are paid for, of which the slices take `chips_used`. `instances` is the number of cloud instances that the
    chips fill: whole ones, or 0.5 for 4 chips of an instance with 8, which pay their share of its price. On spot the
    price is that of the dearest zone of the region, the lowest that of the cheapest, and a share of the instances is
    withdrawn in a month, from and to, as far as the price book has them.
    """

    chip: str
    chips: int
    chips_used: int
    usd_per_chip_hour: float
    purchase: str | None = None
    cloud: str | None = None
    region: str | None = None
    instance: str | None = None
    instance_chips: int | None = None
    usd_per_instance_hour: float | None = None
    lowest_usd_per_instance_hour: float | None = None
    interrupted_per_month: tuple[float, float] | None = None
    interrupted_as_of: str | None = None
    instances: float | None = None
    term: str | None = None
    as_of: str | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Parallelism:
    """How the chips of a plan work together: `replicas` per slice, of `tp · ep · pp` chips; `chips` in all slices.

    The layers are split into `pp` stages. `kv_batch_shards` is the number of ways that micro-batches and attention
    split the batch, and divides the batch. `kv_replicated` says whether chips hold copies of KV heads.
    """

    tp: int
    ep: int
    pp: int
    replicas: int
    chips: int
    kv_batch_shards: int
    kv_replicated: bool = False


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """What a replica holds in the memory of its chips [bytes].

    `hbm_bytes` is what may be used of them, under an engine by its rule. `runtime_bytes` are then the driver's context,
    collectives and captured graphs, `activation_bytes` those at the peak of a step; both are 0 without an engine.
    `weights_bytes` has `adapter_bytes` of LoRA adapters in it. Its hosts keep prefixes in `host_bytes` of theirs.
    """

    weights_bytes: float
    kv_cache_bytes: float
    hbm_bytes: float
    hbm_used_fraction: float
    runtime_bytes: float = 0.0
    activation_bytes: float = 0.0
    adapter_bytes: float = 0.0
    host_bytes: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The mean time per output token with its parts, the longest pause, and the throughput.

    A step makes `accepted_tokens` of each sequence, 1 unless some are drafted ahead; its parts are those of one token.

    `tokens_per_s` is the output of all slices at full load, prefill included. `mfu` is the share of its peak FLOP/s
    that a replica uses then, with those of its prompts, `mbu` the share of its memory bandwidth.
    """

    tpot_ms: float
    step_ms: StepBreakdown
    accepted_tokens: float
    stall_ms: float
    tokens_per_s: float
    tokens_per_s_per_chip: float
    mfu: float
    mbu: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of all slices, prefill included, and the bill of each pool.

    `instances` are whole ones that are paid for, 0 where chips pay a share. Of the chips paid for, `chips_used` are in
    slices; `usd_per_hour_of_chips_used` is their share of the cost. A month has 730 hours, a year 8,760. `power_kw` is
    the rated power of the chips that are paid for, times the spec's `power.pue`; None where that of one is not known.
    """

    usd_per_chip_hour: float
    usd_per_hour: float
    usd_per_month: float
    usd_per_year: float
    usd_per_million_output_tokens: float
    usd_per_hour_of_chips_used: float
    chips_used: int
    instances: int
    power_kw: float | None = None
    kwh_per_million_output_tokens: float | None = None
    bills: tuple[Bill, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RequestFigures:
    """The figures of whole requests; None without output_tokens.

    `decode_only` has only figures that need no prefill. `load_fraction` is the demand over `requests_per_s`,
    `transfer_ms` the time to move the KV cache between the pools, `host_load_ms` that to load it from a host's cache,
    `usd_per_million_tokens` counts prompt and output, `usd_per_million_input_tokens` the prompt alone.
    """

    prefill_ms: float | None = None
    transfer_ms: float | None = None
    host_load_ms: float | None = None
    ttft_ms: float | None = None
    e2e_ms: float | None = None
    requests_per_s: float | None = None
    load_fraction: float | None = None
    usd_per_request: float | None = None
    usd_per_million_input_tokens: float | None = None
    usd_per_million_tokens: float | None = None
    sequences_finished_per_step: float | None = None
    kv_tokens_evicted_per_step: float | None = None


@dataclass(frozen=True, kw_only=True)
class Plan(Assignment, Parallelism, MemoryUse, Pace, Cost, RequestFigures):
    """A serving configuration with its figures, in ms, bytes and US dollars."""
