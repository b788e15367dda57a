"""How large a model is: weights and KV cache by dtype, the slices that hold them, and what those slices decode."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from servesat.candidates.replicas import replica_of
from servesat.catalogue.chip import Chip, axis_sizes, chips_in
from servesat.catalogue.load import load_price_book
from servesat.catalogue.model import BITS, ModelSpec
from servesat.core.errors import SpecError
from servesat.core.plan import Assignment, KvLayout
from servesat.core.tolerances import round_down
from servesat.cost_model.decode import (
    Replica,
    decode_step,
    replica_kv_bytes,
    replica_weights_bytes,
    usd_per_million_tokens,
)
from servesat.cost_model.memory import chips_to_hold, sequences_that_fit, smallest_slice
from servesat.cost_model.sharding import heads_divide
from servesat.cost_model.step_curve import hidden_tokens
from servesat.cost_model.storage import BYTES_PER_VALUE, Storage
from servesat.spec.keys import DEFAULT_PRICE_BOOK
from servesat.spec.spec import Spec

DTYPES = ("bf16", "int8", "int4")
CONTEXTS, BATCHES, OUTPUT_TOKENS = (2048, 8192, 32_768), (1, 32, 240), 512


@dataclass(frozen=True, kw_only=True)
class SizeOfDtype:
    """A model in a dtype, weights and KV cache alike, on slices of a chip.

    `chips` hold the weights, not rounded, and `slice` is the smallest that does; None where none does. `largest_tp` is
    for each batch the most chips of a slice that tensor parallelism can use before an MLP matmul waits for the
    interconnect, as the ideal cost model sees it.
    """

    dtype: str
    weights_bytes: float
    kv_bytes_per_token: float
    chips: float
    slice: str | None
    largest_tp: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class FullSlice:
    """Decoding alone on a slice whose memory is full, as one replica of the ideal cost model.

    The KV cache has the dtype of the weights. `batch` is the most sequences that fit beside the weights; without one
    the other figures are None, as is the cost without a price.
    """

    dtype: str
    slice: str
    context_tokens: int
    batch: int = 0
    step_s: float | None = None
    requests_per_s: float | None = None
    requests_per_s_per_chip: float | None = None
    usd_per_million_output_tokens: float | None = None


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """A model's sizes: by dtype, and of the KV cache by context and batch in a dtype [bytes].

    `full_slices` are the smallest slice that holds each dtype, and the next of at least twice as many chips, at each
    context. `price_book` is where the price comes from, unless it is stated or the chip's own.
    """

    model: ModelSpec
    chip: Chip
    kv_cache: str
    contexts: tuple[int, ...]
    batches: tuple[int, ...]
    by_dtype: tuple[SizeOfDtype, ...]
    kv_bytes: tuple[tuple[float, ...], ...]
    output_tokens: int
    compute: str
    usd_per_chip_hour: float | None
    price_book: str | None
    full_slices: tuple[FullSlice, ...]


def sizes_of(
    model: ModelSpec,
    chip: Chip,
    *,
    contexts: Sequence[int] = CONTEXTS,
    batches: Sequence[int] = BATCHES,
    kv_cache: str = "int8",
    output_tokens: int = OUTPUT_TOKENS,
    usd_per_chip_hour: float | None = None,
) -> Sizes:
    """The sizes of a model, and what they mean for slices of a chip, at its list price unless one is given.

    Raises SpecError for sizes below 1, and for a price that is none.
    """
    for name, values in (("contexts", contexts), ("batches", batches), ("output_tokens", [output_tokens])):
        if not values or min(values) < 1:
            raise SpecError(f"{name} = {', '.join(map(str, values))}: expected whole numbers of at least 1")
    if usd_per_chip_hour is not None and not 0 < usd_per_chip_hour < inf:
        raise SpecError(f"price = {usd_per_chip_hour:g}: expected dollars a chip-hour, more than 0")
    if kv_cache not in BYTES_PER_VALUE:
        raise SpecError(f"kv_cache = {kv_cache}: expected one of {', '.join(BYTES_PER_VALUE)}")
    storage = Storage(model)
    native = () if model.native is None else (model.native.dtype,)
    dtypes = sorted({*DTYPES, *map(str, native)}, key=lambda dtype: (-BITS[dtype], dtype))
    usd, price_book = (usd_per_chip_hour, None) if usd_per_chip_hour is not None else _list_price(chip)
    spec = _spec_of(model, chip)
    by_dtype = tuple(_in_dtype(spec, chip, dtype, batches) for dtype in dtypes)
    return Sizes(
        model=model,
        chip=chip,
        kv_cache=kv_cache,
        contexts=tuple(contexts),
        batches=tuple(batches),
        by_dtype=by_dtype,
        kv_bytes=tuple(
            tuple(batch * storage.kv_cache_bytes(kv_cache, context) for batch in batches) for context in contexts
        ),
        output_tokens=output_tokens,
        compute=_compute(chip),
        usd_per_chip_hour=usd,
        price_book=price_book,
        full_slices=tuple(
            _full(spec, chip, FullSlice(dtype=row.dtype, slice=topology, context_tokens=context), output_tokens, usd)
            for row in by_dtype
            for topology in _smallest_and_double(chip, row.slice)
            for context in contexts
        ),
    )


def _list_price(chip: Chip) -> tuple[float | None, str | None]:
    """The chip's own price, or the lowest on demand in the default price book [$/chip-hour], and which book that is."""
    if chip.usd_per_chip_hour is not None:
        return chip.usd_per_chip_hour, None
    listed = load_price_book(DEFAULT_PRICE_BOOK).prices.get(chip.id, ())
    on_demand = [price.usd_per_chip_hour for price in listed if price.purchase == "on_demand"]
    return (min(on_demand), DEFAULT_PRICE_BOOK) if on_demand else (None, None)


def _spec_of(model: ModelSpec, chip: Chip) -> Spec:
    """The ideal cost model of a model on a chip. A spec needs a price; no figure taken from this one depends on it."""
    return Spec.load(
        {
            "cost_model": "ideal",
            "model": model,
            "workload": {"context_tokens": 1},
            "search": {"chips": [chip]},
            "price": {chip.id: 1.0},
        }
    )


def _in_dtype(spec: Spec, chip: Chip, dtype: str, batches: Sequence[int]) -> SizeOfDtype:
    storage = Storage(spec.model)
    weights = storage.weights_bytes(dtype)
    first = storage.kv_cache_bytes(dtype, 1000)
    return SizeOfDtype(
        dtype=dtype,
        weights_bytes=weights,
        kv_bytes_per_token=storage.kv_cache_bytes(dtype, 1001) - first,
        chips=chips_to_hold(weights, chip),
        slice=smallest_slice(weights, chip),
        largest_tp=tuple(_largest_tp(spec, chip, dtype, batch) for batch in batches),
    )


def _compute(chip: Chip) -> str:
    """The dtype of the matmuls: bf16, or the first that the chip has a peak in."""
    peaks = chip.flop_per_s.by_dtype()
    return "bf16" if "bf16" in peaks else next(iter(peaks))


def _replica_of(spec: Spec, chip: Chip, dtype: str, topology: str, kv_layout: KvLayout) -> Replica:
    """A replica over a whole slice."""
    axes = tuple(axis for axis, size in enumerate(axis_sizes(topology)) if size > 1)
    split = Assignment(
        chip=chip.id, topology=topology, tp_axes=axes, weights=dtype, kv_cache=dtype,
        compute=_compute(chip), batch=1, kv_layout=kv_layout,
    )  # fmt: skip
    return replica_of(spec, chip, split)


def _largest_tp(spec: Spec, chip: Chip, dtype: str, batch: int) -> int:
    """Of the slices of a chip that tensor parallelism takes whole, the most chips at which no MLP matmul waits."""
    most = 1
    for topology in chip.topologies:
        tp = chips_in(topology)
        if tp <= most or not heads_divide(spec.model, np.array([tp]))[0]:
            continue
        replica = _replica_of(spec, chip, dtype, topology, KvLayout.COPIES)
        if float(hidden_tokens(spec.model, replica, 1e-9)) >= batch:
            most = tp
    return most


def _smallest_and_double(chip: Chip, smallest: str | None) -> list[str]:
    """A slice, and the smallest one of at least twice as many chips, where there is one; nothing for no slice."""
    if smallest is None:
        return []
    larger = [topology for topology in chip.topologies if chips_in(topology) >= 2 * chips_in(smallest)]
    return [smallest, *sorted(larger, key=lambda topology: (chips_in(topology), topology))[:1]]


def _full(spec: Spec, chip: Chip, at: FullSlice, output_tokens: int, usd: float | None) -> FullSlice:
    """A slice with as many sequences as fit: B / (t_step · G) requests a second, each chip with its part of them."""
    replica, chips = _replica_of(spec, chip, at.dtype, at.slice, KvLayout.BATCH), chips_in(at.slice)
    sequence_bytes = replica_kv_bytes(spec.model, at.context_tokens, replica)
    fit = sequences_that_fit(chips * chip.hbm_bytes, replica_weights_bytes(replica), sequence_bytes)
    batch = max(0, int(round_down(fit)))
    if batch == 0:
        return at
    step_s = float(decode_step(spec.model, at.context_tokens, replica, float(batch), pay_ici=False).total_s)
    requests_per_s = batch / step_s / output_tokens
    return replace(
        at,
        batch=batch,
        step_s=step_s,
        requests_per_s=requests_per_s,
        requests_per_s_per_chip=requests_per_s / chips,
        usd_per_million_output_tokens=None
        if usd is None
        else float(usd_per_million_tokens(chips * usd, batch / step_s)),
    )
