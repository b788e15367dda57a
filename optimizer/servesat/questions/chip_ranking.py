"""The hardware question for one model: what each chip's dollar buys, where it binds, and the best it can do."""

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
    critical_batch,
    flop_per_usd,
    hbm_bytes_per_usd,
    held_bytes_per_usd,
)
from servesat.cost_model.memory import active_parameters, smallest_slice, weights_bytes
from servesat.cost_model.precision import Precision
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.spec.spec import Offer, Spec


@dataclass(frozen=True, kw_only=True)
class Rank:
    """One chip for one model. What needs a peak in the compute dtype is None of a chip without one.

    `smallest_slice` holds the weights; `plan` is the cheapest on this chip, proved. Without one, `conflict` says which
    requirements exclude it; it is empty where the chip does not compute in the dtype.
    """

    chip: str
    usd_per_chip_hour: float
    flop_per_usd: float | None
    hbm_traffic_bytes_per_usd: float
    hbm_byte_hours_per_usd: float
    critical_batch: float | None
    alpha: float | None
    beta: float
    smallest_slice: str | None
    plan: Plan | None
    conflict: tuple[tuple[str, ...], ...] = ()


def rank(spec: Spec | Mapping[str, Any] | str | Path, settings: Settings | None = None) -> tuple[Rank, ...]:
    """Compare the chips of a spec, the cheapest per token first, those without a plan last.

    The weights and the compute dtype of the figures of merit are the first that the spec searches. Raises SpecError.
    """
    spec = Spec.load(spec)
    ranks = [_rank(spec, offer, settings or Settings()) for offer in spec.offers]
    return tuple(sorted(ranks, key=_order))


def _rank(spec: Spec, offer: Offer, settings: Settings) -> Rank:
    chip, usd = offer.chip, offer.usd_per_chip_hour
    weights, compute = spec.weights[0], spec.search.compute[0]
    precision = Precision(spec.model, spec.int4_group)
    peak = chip.flop_per_s.by_dtype().get(compute)
    held = float(
        weights_bytes(spec.model, precision.resident_value_bytes(weights), precision.expert_value_bytes(weights))
    )
    result = _best_on(spec, chip, settings)
    return Rank(
        chip=chip.id,
        usd_per_chip_hour=usd,
        flop_per_usd=None if peak is None else flop_per_usd(peak, usd),
        hbm_traffic_bytes_per_usd=hbm_bytes_per_usd(chip, usd),
        hbm_byte_hours_per_usd=held_bytes_per_usd(chip, usd),
        critical_batch=None if peak is None else critical_batch(chip, compute, held / active_parameters(spec.model)),
        alpha=None if peak is None else alpha(chip, compute),
        beta=beta(chip),
        smallest_slice=smallest_slice(held, chip, spec.headroom),
        plan=None if result is None else result.plan,
        conflict=() if result is None else result.conflict or (),
    )


def _best_on(spec: Spec, chip: Chip, settings: Settings) -> Result | None:
    """The best plan on one chip; None where it computes in no dtype of the search."""
    if not set(spec.search.compute) & set(chip.flop_per_s.by_dtype()):
        return None
    topologies = {own: names for own, names in spec.search.topologies.items() if own == chip.id}
    quota = {own: most for own, most in spec.search.quota.items() if own == chip.id}
    changes = {"search.chips": [chip], "search.topologies": topologies, "search.quota": quota}
    return solve(spec.changed(changes), settings)


def _order(one: Rank) -> tuple[float, str]:
    return (one.plan.usd_per_million_output_tokens if one.plan else float("inf"), one.chip)
