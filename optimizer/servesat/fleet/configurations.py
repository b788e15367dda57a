"""The configurations that a workload may run in: what one replica of each serves, and the chips it takes."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from servesat.candidates.evaluation import evaluate
from servesat.candidates.serving_modes import enumerate_layouts
from servesat.catalogue.chip import Chip, axis_sizes
from servesat.core.dominance import undominated
from servesat.core.plan import Mode, Plan
from servesat.deployment.check.plan import rederive
from servesat.deployment.solve import solve
from servesat.fleet.pods.slices import Box, Counts, Slice, counted, fits
from servesat.spec.spec import Spec


@dataclass(frozen=True)
class Configuration:
    """One replica of a deployment: a slice of a chip, or two pools of them, and the requests/s it serves.

    Where requests come in several sizes, `of_size` is what it serves of each size alone, in place of `requests_per_s`,
    which is 0, and there is one of `plans` for each size that it serves.
    """

    name: str
    chip: str
    chips: int
    requests_per_s: float
    plan: Plan | None = None
    slices: Counts = ()
    of_size: tuple[float, ...] = ()
    plans: Mapping[str, Plan] = field(default_factory=dict, hash=False)


def configurations(
    spec: Spec, chips: Iterable[str], *, keep_dominated: bool = False, pods: Mapping[str, Collection[Box]] | None = None
) -> tuple[Configuration, ...]:
    """What one replica can be, on each of the chips: the best of each slice in one pool, and the best two pools.

    The best of a slice serves the most requests within the limits. A configuration that serves no more than another on
    no fewer of the same chips is left out, unless they are all to be kept, or those chips stand in `pods`, of so many
    shapes, where it may be the one whose shape fits; the best two pools are then found for each shape. A limit on what
    a replica costs is left to those who know the price.
    """
    found, shapes = [], pods or {}
    for chip in sorted(chips):
        own = _on_chip(on_chip(spec, chip), chip, shapes.get(chip, ()))
        every = keep_dominated or chip in shapes
        found += own if every else _undominated(own)
    return tuple(found)


def on_chip(spec: Spec, chip: str) -> Spec:
    """A deployment on one chip, at $1 an hour and whatever a replica costs."""
    slices = {own: names for own, names in spec.search.topologies.items() if own == chip}
    alone = {
        "search.chips": [chip],
        "search.topologies": slices,
        "price": {chip: 1.0},
        "search.max_usd_per_hour": None,
    }
    return spec.changed(alone)


def _on_chip(spec: Spec, chip: str, shapes: Collection[Box]) -> list[Configuration]:
    own = spec.offers[0].chip
    if not set(spec.search.compute) & set(own.flop_per_s.by_dtype()):
        return []
    plans = []
    one_pool = [mode for mode in spec.modes if mode is not Mode.DISAGGREGATED]
    if one_pool:
        plans += _best_of_each_slice(spec.changed({"search.modes": one_pool}))
    if Mode.DISAGGREGATED in spec.modes and own.network_bytes_per_s:
        every = spec.topologies_of(own)
        for fitting in dict.fromkeys((tuple(every), *(_fitting(every, shape) for shape in sorted(shapes)))):
            if not fitting:
                continue
            asked = {"search.modes": [Mode.DISAGGREGATED], "search.topologies": {chip: list(fitting)}}
            pools = solve(spec.changed(asked)).plan
            plans += [] if pools is None or pools in plans else [pools]
    return [
        Configuration(
            name=_name(plan),
            chip=chip,
            chips=plan.chips,
            requests_per_s=spec.utilisation * (plan.requests_per_s or 0.0),
            plan=plan,
            slices=slices_of(spec, own, plan),
        )
        for plan in plans
    ]


def _fitting(topologies: Iterable[str], shape: Box) -> tuple[str, ...]:
    """The slices that stand in pods of a shape."""
    none = (False,) * len(shape)
    return tuple(one for one in topologies if fits(shape, Slice(axis_sizes(one), none)))


def _best_of_each_slice(spec: Spec) -> list[Plan]:
    """The plan of each slice that serves the most; the slice's price is the same, so it is the cheapest."""
    columns = evaluate(spec, enumerate_layouts(spec, undominated=True))
    meets = np.flatnonzero(columns.violated == 0)
    numbers = {topology: number for number, topology in enumerate(spec.topologies_of(spec.offers[0].chip))}
    of_place = np.array([numbers[place.topology] for place in columns.layouts.places])
    topology = of_place[columns.layouts.place]
    order = meets[np.lexsort((columns.step_s[meets], columns.usd_per_million[meets], topology[meets]))]
    _, first = np.unique(topology[order], return_index=True)
    return [rederive(spec, columns.assignment(int(order[row])))[0] for row in first]


def slices_of(spec: Spec, chip: Chip, plan: Plan) -> Counts:
    """The slices of a plan, with the axes along which its collectives count on a ring."""
    pools = [(plan.topology, (*plan.tp_axes, *plan.ep_axes), plan.slices)]
    if plan.prefill is not None:
        own = plan.prefill
        pools.append((own.topology, (*own.tp_axes, *own.ep_axes), own.slices))
    found = []
    for topology, used, count in pools:
        sizes = axis_sizes(topology)
        every = [axis.wraps_every for axis in chip.axes]
        closed = [wraps is not None and size % wraps == 0 for size, wraps in zip(sizes, every, strict=True)]
        exact = spec.wraparound == "exact"
        rings = tuple(exact and axis in used and closes for axis, closes in enumerate(closed))
        found.append((Slice(sizes, rings), count))
    return counted(found)


def _name(plan: Plan) -> str:
    pool = "" if plan.prefill is None else f" with {plan.prefill.slices} x {plan.prefill.topology} to prefill"
    count = f"{plan.slices} x " if plan.slices > 1 else ""
    return f"{plan.chip} {count}{plan.topology}{pool}, {plan.mode}, batch {plan.batch}"


def _undominated(found: list[Configuration]) -> list[Configuration]:
    """Those of one chip that no other equals in requests/s on as few chips; of equal ones the first by name."""
    figures = np.array([(one.chips, -one.requests_per_s) for one in found]).reshape(-1, 2)
    by_name = np.argsort(np.argsort([one.name for one in found]))
    return [found[row] for row in undominated(figures, by_name)]
