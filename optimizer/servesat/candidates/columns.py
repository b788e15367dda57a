"""Columns: layouts at batches, with the figures of each (docs/formulation.md)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from servesat.candidates.engine_memory import engine_bytes
from servesat.candidates.layouts import MODES, Layouts, ShardedSlice
from servesat.candidates.step_times import replica_times
from servesat.core.arrays import Floats, Ints, Rows
from servesat.core.plan import Assignment, PrefillPool
from servesat.core.tolerances import round_up
from servesat.cost_model.decode import replica_kv_bytes, replica_weights_bytes, usd_per_million_tokens
from servesat.spec.spec import Spec


@dataclass(frozen=True)
class Columns(Rows):
    """Layouts at batches, with what each costs and which requirements it violates; arrays of shape [columns].

    `tpot_s` is the mean time per output token, `held_bytes` the weights and the KV cache of one replica, and what an
    engine takes beside them. Chips, dollars and tokens are those of all slices, and of whole instances where those are
    bought.
    """

    layouts: Layouts  # one row a column
    batch: Ints
    slices: Ints
    held_bytes: Floats
    tpot_s: Floats
    stall_s: Floats
    ttft_s: Floats
    e2e_s: Floats
    chips: Ints
    instances: Ints
    usd_per_hour: Floats
    tokens_per_s: Floats
    usd_per_million: Floats
    violated: Ints  # bit mask over Requirement, see REQUIREMENT_BIT

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def hbm_used_fraction(self) -> Floats:
        """What a replica holds, as a share of the memory of its chips."""
        return self.held_bytes / self.layouts.replica_hbm_bytes

    def assignment(self, column: int) -> Assignment:
        """The decisions that a column stands for."""
        layouts, serving = self.layouts, self.layouts.serving
        place, dtypes = layouts.places[layouts.place[column]], layouts.dtypes[layouts.dtype[column]]
        return Assignment(
            chip=place.offer.chip.id,
            topology=place.topology,
            **place.sharding._asdict(),
            **_rented(place),
            batch=int(self.batch[column]),
            mode=MODES[serving.mode[column]],
            chunk_tokens=int(serving.chunk[column]) or None,
            slices=int(self.slices[column]),
            prefill=self._pool(column) if serving.pool_place[column] >= 0 else None,
            weights=dtypes.weights,
            kv_cache=dtypes.kv_cache,
            compute=dtypes.compute,
            engine=dtypes.engine or None,
            draft=dtypes.draft or None,
            draft_tokens=dtypes.draft_tokens,
        )

    def _pool(self, column: int) -> PrefillPool:
        layouts, serving = self.layouts, self.layouts.serving
        place = layouts.places[serving.pool_place[column]]
        dtypes = layouts.dtypes[serving.pool_dtype[column]]
        return PrefillPool(
            chip=place.offer.chip.id,
            topology=place.topology,
            tp_axes=place.sharding.tp_axes,
            ep_axes=place.sharding.ep_axes,
            kv_layout=place.sharding.kv_layout,
            pp_axes=place.sharding.pp_axes,
            weights=dtypes.weights,
            compute=dtypes.compute,
            slices=int(serving.pool_slices[column]),
            **_rented(place),
        )


def _rented(place: ShardedSlice) -> dict[str, Any]:
    """Where a slice is rented, as a plan says it."""
    names = ("cloud", "region", "purchase", "instance", "term")
    return {name: text or None for name, text in zip(names, place.offer.place, strict=True)}


def columns_at(spec: Spec, layouts: Layouts, batch: Ints, slices: Ints | None = None) -> Columns:
    """The figures of each layout at a batch of its own; their violations are left at none.

    Where `slices` are given, they replace the number that the demand needs.
    """
    serving, workload, replica = layouts.serving, spec.workload, layouts.replica
    output_tokens = workload.output_tokens or 0
    times = replica_times(spec, layouts).at(batch.astype(np.float64))
    slice_tokens_per_s = layouts.counted_replicas * times.tokens_per_s
    demanded = (workload.requests_per_s or 0.0) * output_tokens
    if slices is None and demanded:
        slices = round_up(demanded / (spec.utilisation * slice_tokens_per_s)).astype(np.int64)
    elif slices is None:
        slices = serving.slices
    tokens_per_s = np.minimum(slices * slice_tokens_per_s, serving.prefill_limited_tokens_per_s)
    units, pool_units = layouts.purchase.counted(slices, serving.pool_slices)
    usd_per_hour = units * layouts.units.usd_per_hour + pool_units * serving.pool_units.usd_per_hour
    sold_per_s = spec.utilisation * tokens_per_s if not demanded else np.full(len(batch), demanded)
    sequence = replica_kv_bytes(spec.model, workload.held_tokens, replica)
    held_bytes = np.asarray(replica_weights_bytes(replica) + batch * sequence)
    return Columns(
        layouts=layouts,
        batch=batch,
        slices=slices,
        held_bytes=held_bytes + engine_bytes(spec, layouts, batch.astype(np.float64)),
        tpot_s=times.tpot_s,
        stall_s=times.stall_s,
        ttft_s=times.ttft_s,
        e2e_s=times.e2e_s,
        chips=(units * layouts.units.chips + pool_units * serving.pool_units.chips).astype(np.int64),
        instances=(units * layouts.units.instances + pool_units * serving.pool_units.instances).astype(np.int64),
        usd_per_hour=usd_per_hour,
        tokens_per_s=tokens_per_s,
        usd_per_million=np.asarray(usd_per_million_tokens(usd_per_hour, sold_per_s)),
        violated=np.zeros(len(batch), dtype=np.int64),
    )
