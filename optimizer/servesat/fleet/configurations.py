"""The configurations that a workload may run in: what one replica of each serves, and the chips it takes."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from servesat.candidates import evaluate
from servesat.check import rederive
from servesat.deployment import solve
from servesat.modes import enumerate_layouts
from servesat.plan import Mode, Plan
from servesat.spec import Spec


@dataclass(frozen=True)
class Configuration:
    """One replica of a deployment: a slice of a chip, or two pools of them, and the requests/s it serves."""

    name: str
    chip: str
    chips: int
    requests_per_s: float
    plan: Plan | None = None


def configurations(spec: Spec, chips: Iterable[str], *, keep_dominated: bool = False) -> tuple[Configuration, ...]:
    """What one replica can be, on each of the chips: the best of each slice in one pool, and the best two pools.

    The best of a slice serves the most requests within the limits. A configuration that serves no more than another on
    no fewer of the same chips is left out, unless they are all to be kept.
    """
    found = []
    for chip in sorted(chips):
        slices = {own: names for own, names in spec.search.topologies.items() if own == chip}
        alone = {"search.chips": [chip], "search.topologies": slices, "search.quota": {}, "price": {chip: 1.0}}
        found += _on_chip(spec.changed(alone), chip)
    return tuple(found) if keep_dominated else tuple(one for one in found if not _dominated(one, found))


def _on_chip(spec: Spec, chip: str) -> list[Configuration]:
    own = spec.offers[0].chip
    if not set(spec.search.compute) & set(own.flop_per_s.by_dtype()):
        return []
    plans = []
    one_pool = [mode for mode in spec.modes if mode is not Mode.DISAGGREGATED]
    if one_pool:
        plans += _best_of_each_slice(spec.changed({"search.modes": one_pool}))
    if Mode.DISAGGREGATED in spec.modes and own.network_bytes_per_s:
        pools = solve(spec.changed({"search.modes": [Mode.DISAGGREGATED]})).plan
        plans += [] if pools is None else [pools]
    return [
        Configuration(
            name=_name(plan),
            chip=chip,
            chips=plan.chips,
            requests_per_s=spec.utilisation * (plan.requests_per_s or 0.0),
            plan=plan,
        )
        for plan in plans
    ]


def _best_of_each_slice(spec: Spec) -> list[Plan]:
    """The plan of each slice that serves the most; the slice's price is the same, so it is the cheapest."""
    columns = evaluate(spec, enumerate_layouts(spec, contenders=True))
    meets = np.flatnonzero(columns.violated == 0)
    chips = columns.layouts.chips[meets]
    order = meets[np.lexsort((columns.step_s[meets], columns.usd_per_million[meets], chips))]
    _, first = np.unique(columns.layouts.chips[order], return_index=True)
    return [rederive(spec, columns.assignment(int(order[row])))[0] for row in first]


def _name(plan: Plan) -> str:
    pool = "" if plan.prefill is None else f" with {plan.prefill.slices} x {plan.prefill.topology} to prefill"
    count = f"{plan.slices} x " if plan.slices > 1 else ""
    return f"{plan.chip} {count}{plan.topology}{pool}, {plan.mode}, batch {plan.batch}"


def _dominated(one: Configuration, others: list[Configuration]) -> bool:
    """Whether another on the same chip serves as much with as few chips, and is better, or equal and first by name."""
    mine = (one.chips, -one.requests_per_s)
    return any(
        other.chip == one.chip
        and other.chips <= one.chips
        and other.requests_per_s >= one.requests_per_s
        and ((other.chips, -other.requests_per_s, other.name) < (*mine, one.name))
        for other in others
    )
