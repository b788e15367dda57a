"""How large a model is: weights and KV cache by dtype, the slices that hold them, and how far splitting them pays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from servesat.candidates.replicas import replica_of
from servesat.catalogue.chip import Chip, axis_sizes, chips_in
from servesat.catalogue.model import BITS, ModelSpec
from servesat.core.errors import SpecError
from servesat.core.plan import Assignment, KvLayout
from servesat.cost_model.memory import chips_to_hold, smallest_slice
from servesat.cost_model.sharding import heads_divide
from servesat.cost_model.step_curve import hidden_tokens
from servesat.cost_model.storage import BYTES_PER_VALUE, Storage
from servesat.spec.spec import Spec

DTYPES = ("bf16", "int8", "int4")
CONTEXTS, BATCHES = (2048, 8192, 32_768), (1, 32, 240)


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
class Sizes:
    """A model's sizes: by dtype, and of the KV cache by context and batch in a dtype [bytes]."""

    model: ModelSpec
    chip: Chip
    kv_cache: str
    contexts: tuple[int, ...]
    batches: tuple[int, ...]
    by_dtype: tuple[SizeOfDtype, ...]
    kv_bytes: tuple[tuple[float, ...], ...]


def sizes_of(
    model: ModelSpec,
    chip: Chip,
    *,
    contexts: Sequence[int] = CONTEXTS,
    batches: Sequence[int] = BATCHES,
    kv_cache: str = "int8",
) -> Sizes:
    """The sizes of a model, and what they mean for slices of a chip. Raises SpecError for sizes below 1."""
    for name, values in (("contexts", contexts), ("batches", batches)):
        if not values or min(values) < 1:
            raise SpecError(f"{name} = {', '.join(map(str, values))}: expected whole numbers of at least 1")
    if kv_cache not in BYTES_PER_VALUE:
        raise SpecError(f"kv_cache = {kv_cache}: expected one of {', '.join(BYTES_PER_VALUE)}")
    storage = Storage(model)
    native = () if model.native is None else (model.native.dtype,)
    dtypes = sorted({*DTYPES, *map(str, native)}, key=lambda dtype: (-BITS[dtype], dtype))
    return Sizes(
        model=model,
        chip=chip,
        kv_cache=kv_cache,
        contexts=tuple(contexts),
        batches=tuple(batches),
        by_dtype=tuple(_in_dtype(model, chip, dtype, batches) for dtype in dtypes),
        kv_bytes=tuple(
            tuple(batch * storage.kv_cache_bytes(kv_cache, context) for batch in batches) for context in contexts
        ),
    )


def _in_dtype(model: ModelSpec, chip: Chip, dtype: str, batches: Sequence[int]) -> SizeOfDtype:
    storage = Storage(model)
    weights = storage.weights_bytes(dtype)
    first = storage.kv_cache_bytes(dtype, 1000)
    return SizeOfDtype(
        dtype=dtype,
        weights_bytes=weights,
        kv_bytes_per_token=storage.kv_cache_bytes(dtype, 1001) - first,
        chips=chips_to_hold(weights, chip),
        slice=smallest_slice(weights, chip),
        largest_tp=tuple(_largest_tp(model, chip, dtype, batch) for batch in batches),
    )


def _largest_tp(model: ModelSpec, chip: Chip, dtype: str, batch: int) -> int:
    """Of the slices of a chip that tensor parallelism takes whole, the most chips at which no MLP matmul waits."""
    spec = Spec.load(
        {"cost_model": "ideal", "model": model, "workload": {"context_tokens": 1}, "search": {"chips": [chip]}}
    )
    most = 1
    for topology in chip.topologies:
        tp = chips_in(topology)
        if tp <= most or not heads_divide(model, np.array([tp]))[0]:
            continue
        axes = tuple(axis for axis, size in enumerate(axis_sizes(topology)) if size > 1)
        split = Assignment(
            chip=chip.id, topology=topology, tp_axes=axes, weights=dtype, kv_cache="bf16", compute="bf16", batch=1,
            kv_layout=KvLayout.COPIES,
        )  # fmt: skip
        if float(hidden_tokens(model, replica_of(spec, chip, split), 1e-9)) >= batch:
            most = tp
    return most
