"""Which hardware suits a model: for each chip what a dollar buys, where it binds, and its best plan."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servesat.catalogue.chip import Chip
from servesat.core.plan import Plan
from servesat.core.result import Result
from servesat.cost_model.figures_of_merit import (
    alpha,
    beta,
    bytes_per_active_parameter,
    critical_batch,
    flop_per_usd,
    hbm_bytes_per_usd,
    held_bytes_per_usd,
)
from servesat.cost_model.memory import smallest_slice
from servesat.cost_model.storage import Storage
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.spec.offers import Offer
from servesat.spec.spec import Spec


@dataclass(frozen=True, kw_only=True)
class RankedChip:
    """A chip rated for a model, at its lowest price; figures that need a peak in the dtype are None without one.

    `smallest_slice` is the smallest that holds the weights; `plan` is the proved optimum on this chip. Without a plan,
    `conflict` holds the minimal conflicts, or nothing if the chip does not compute in the dtype.
    """

    chip: str
    usd_per_chip_hour: float
    flop_per_s: float | None
    hbm_bytes: float
    hbm_bytes_per_s: float
    flop_per_usd: float | None
    hbm_traffic_bytes_per_usd: float
    hbm_byte_hours_per_usd: float
    critical_batch: float | None
    alpha: float | None
    beta: float
    smallest_slice: str | None
    plan: Plan | None
    conflict: tuple[tuple[str, ...], ...] = ()


def ranked_chips(
    spec: Spec | Mapping[str, Any] | str | Path, settings: Settings | None = None
) -> tuple[RankedChip, ...]:
    """Rank the chips of a spec by the cost of their best plan [$/1M output tokens]; chips without a plan come last.

    Figures of merit use the first weights dtype and the first compute dtype of the search. Raises SpecError.
    """
    spec = Spec.load(spec)
    ranked = [_ranked(spec, spec.offers_of(chip.id)[0], settings or Settings()) for chip in spec.chips]
    return tuple(sorted(ranked, key=_order))


def _ranked(spec: Spec, offer: Offer, settings: Settings) -> RankedChip:
    chip, usd = offer.chip, offer.usd_per_chip_hour
    weights, compute = spec.weights[0], spec.compute[0]
    peak = chip.flop_per_s.by_dtype().get(compute)
    stored_bytes = Storage(spec.model, spec.int4_group).weights_bytes(weights)
    bytes_per_parameter = bytes_per_active_parameter(spec.model, stored_bytes)
    result = _best_on(spec, chip, settings)
    return RankedChip(
        chip=chip.id,
        usd_per_chip_hour=usd,
        flop_per_s=peak,
        hbm_bytes=chip.hbm_bytes,
        hbm_bytes_per_s=chip.hbm_bytes_per_s,
        flop_per_usd=None if peak is None else flop_per_usd(peak, usd),
        hbm_traffic_bytes_per_usd=hbm_bytes_per_usd(chip, usd),
        hbm_byte_hours_per_usd=held_bytes_per_usd(chip, usd),
        critical_batch=None if peak is None else critical_batch(chip, compute, bytes_per_parameter),
        alpha=None if peak is None else alpha(chip, compute),
        beta=beta(chip),
        smallest_slice=smallest_slice(stored_bytes, chip, spec.kept_free),
        plan=None if result is None else result.plan,
        conflict=() if result is None else result.conflict or (),
    )


def _best_on(spec: Spec, chip: Chip, settings: Settings) -> Result | None:
    """Solve on a single chip; None where it has a peak in no compute dtype of the search."""
    if not set(spec.compute) & set(chip.flop_per_s.by_dtype()):
        return None
    topologies = {name: slices for name, slices in spec.search.topologies.items() if name == chip.id}
    quota = {name: chips for name, chips in spec.search.quota.items() if name == chip.id}
    changes = {"search.chips": [chip], "search.topologies": topologies, "search.quota": quota}
    return solve(spec.changed(changes), settings)


def _order(ranked: RankedChip) -> tuple[float, str]:
    return (ranked.plan.usd_per_million_output_tokens if ranked.plan else float("inf"), ranked.chip)
