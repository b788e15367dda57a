"""Conflicts, corrections and collisions of a fleet as sentences."""

from collections.abc import Iterable, Iterator
from math import ceil, floor

from servesat.core.quantities import dollars
from servesat.core.tolerances import LIMIT_RTOL
from servesat.fleet.conflict import Collision, FleetCorrection
from servesat.fleet.formulation.limits import Limit
from servesat.fleet.plan import FleetResult
from servesat.fleet.unservable import Unservable
from servesat.report.words import conflict

SHARES = {"region_share": "max_share_per_region", "spot_share": "max_spot_share"}


def unservable_words(one: Unservable) -> Iterator[str]:
    """Why a workload has nothing to run on, a line for each reason."""
    whose = f"{one.workload} has" if one.size is None else f"the {one.size} requests of {one.workload} have"
    nothing = f"{whose} nothing to run on"
    if not one.sold:
        chips = (
            f"no price for {', '.join(one.unsold)} as they may be bought"
            if one.unsold
            else "none of the chips it may use"
        )
        yield f"{nothing}: its regions have {chips}"
    for members in one.conflict:
        yield f"{nothing}: {conflict(members, one.spec)}"
    if one.sold and not one.conflict:
        yield f"{nothing}: each replica costs more than search.max_usd_per_hour"


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
        return f"at most {0 if instance.earlier is None else instance.earlier.max_changes} changes"
    names = {
        "demand": "the demand",
        **SHARES,
        "n_plus": "n_plus",
        "one_chip": "one_chip",
    }
    return f"{names[limit.kind]} of {limit.of[0]}"


def collision_words(one: Collision, result: FleetResult) -> str:
    """Slices that do not stand together: 3 of 8x8 do not stand together in 2 pods of 8x12 tpu-v5e in us-central1."""
    kinds = [f"{count} of {kind.name}" for kind, count in one.slices]
    *others, last = kinds
    pods = f"{result.instance.pods[one.region, one.chip]} {one.chip} in {one.region}"
    if one.slices == ((one.slices[0][0], 1),):
        return f"no {one.slices[0][0].name} stands in {pods}"
    shown = "do not stand together in" if one.proved else "were not shown to stand together in"
    return f"{', '.join(others)} and {last} {shown} {pods}" if others else f"{last} {shown} {pods}"


def correction_words(one: FleetCorrection) -> str:
    """A change of one limit in words: a budget of $120.00."""
    if one.limit.kind == "quota":
        return f"{one.value:g} {one.limit.of[1]} in {one.limit.of[0]}"
    if one.limit.kind == "pods":
        return f"{one.value:g} {'pod' if one.value == 1 else 'pods'} of {one.limit.of[1]} in {one.limit.of[0]}"
    if one.limit.kind == "budget":
        return f"a budget of ${ceil(100 * one.value * (1 - LIMIT_RTOL)) / 100:,.2f}"
    if one.limit.kind == "max_changes":
        return f"{one.value:g} {'change' if one.value == 1 else 'changes'}"
    if one.limit.kind in SHARES:
        return f"{SHARES[one.limit.kind]} of {one.limit.of[0]} at {one.value:g}"
    return f"{floor(1000 * one.value) / 10:.1f}% of every demand, and no more"
