"""Conflicts, corrections and collisions of a fleet as sentences."""

from collections.abc import Iterable, Iterator
from math import ceil, floor

from servesat.core.quantities import dollars
from servesat.core.tolerances import LIMIT_RTOL
from servesat.fleet.conflict import Collision, FleetCorrection
from servesat.fleet.formulation.limits import Limit
from servesat.fleet.result import FleetResult
from servesat.fleet.unservable import Unservable
from servesat.report.limit_words import conflict

SHARE_KEYS = {"region_share": "max_share_per_region", "spot_share": "max_spot_share"}
"""The key in the spec of each limit on a share of the demand."""


_REASONS = {
    "slices": "no machines sold hold its slices",
    "network": "no machines sold have the network that two pools need",
    "cost": "each replica costs more than search.max_usd_per_hour",
    "replays": "at no rate within its costs do replays keep its limits for {share} of the requests",
}
"""Why a workload with plans cannot be served."""


def unservable_words(unservable: Unservable) -> Iterator[str]:
    """Why a workload cannot be served, a line for each reason."""
    workload, size = unservable.workload, unservable.size
    subject = f"{workload} has" if size is None else f"the {size} requests of {workload} have"
    statement = f"{subject} nothing to run on"
    if not unservable.sold:
        chips = (
            f"no price for {', '.join(unservable.unsold)} as they may be bought"
            if unservable.unsold
            else "none of the chips it may use"
        )
        yield f"{statement}: its regions have {chips}"
    for members in unservable.conflict:
        held = ", ".join(f"{chip} {topology}" for chip, topology in unservable.widest.items())
        yield f"{statement}: {conflict(members, unservable.spec)}" + (f"; machines hold {held} at most" if held else "")
    if unservable.reason is not None:
        yield f"{statement}: {_REASONS[unservable.reason].format(share=f'{unservable.percentile or 0:.0%}')}"


def conflict_words(limits: Iterable[Limit], result: FleetResult) -> str:
    """Limits in words: the tpu-v5e quota of 64 in us-central1 and the demand of chat."""
    *others, last = [_limit_words(limit, result) for limit in limits]
    return f"{', '.join(others)} and {last}" if others else last


def _limit_words(limit: Limit, result: FleetResult) -> str:
    instance = result.instance
    if limit.kind == "quota":
        region, chip = limit.of
        return f"the {chip} quota of {instance.quotas[region, chip]} in {region}"
    if limit.kind == "pods":
        region, chip = limit.of
        return f"the {instance.pods[region, chip]} {chip} in {region}"
    if limit.kind == "budget":
        return f"the budget of {dollars(instance.budget_usd or 0.0)}"
    if limit.kind == "max_changes":
        return f"at most {0 if instance.previous_plan is None else instance.previous_plan.max_changes} changes"
    names = {
        "demand": "the demand",
        **SHARE_KEYS,
        "n_plus": "n_plus",
        "one_chip": "one_chip",
        "max_configurations": "max_configurations",
    }
    return f"{names[limit.kind]} of {limit.of[0]}"


def collision_words(collision: Collision, result: FleetResult) -> str:
    """Slices that do not fit together: 3 of 8x8 do not stand together in 2 pods of 8x12 tpu-v5e in us-central1."""
    region, chip = collision.region, collision.chip
    *others, last = [f"{count} of {item.name}" for item, count in collision.slices]
    pods = f"{result.instance.pods[region, chip]} {chip} in {region}"
    first = collision.slices[0][0]
    if collision.slices == ((first, 1),):
        return f"no {first.name} stands in {pods}"
    verb = "do not stand together in" if collision.proved else "were not shown to stand together in"
    return f"{', '.join(others)} and {last} {verb} {pods}" if others else f"{last} {verb} {pods}"


def correction_words(correction: FleetCorrection) -> str:
    """A correction of a limit in words: a budget of $120.00."""
    limit, value = correction.limit, correction.value
    match limit.kind:
        case "quota":
            return f"{value:g} {limit.of[1]} in {limit.of[0]}"
        case "pods":
            return f"{value:g} {'pod' if value == 1 else 'pods'} of {limit.of[1]} in {limit.of[0]}"
        case "budget":
            text = f"a budget of ${ceil(100 * value * (1 - LIMIT_RTOL)) / 100:,.2f}"
        case "max_changes":
            text = f"{value:g} {'change' if value == 1 else 'changes'}"
        case "max_configurations":
            text = f"max_configurations of {limit.of[0]} at {value:g}"
        case kind if kind in SHARE_KEYS:
            text = f"{SHARE_KEYS[kind]} of {limit.of[0]} at {value:g}"
        case _:
            text = f"{floor(1000 * value) / 10:.1f}% of every demand, and no more"
    return text
