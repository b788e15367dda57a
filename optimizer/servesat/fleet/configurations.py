"""The configurations that a workload may run in: what one replica of each serves, and the chips it takes."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from math import prod

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.evaluation import evaluate
from servesat.candidates.serving_modes import enumerate_layouts
from servesat.catalogue.chip import Chip, axis_sizes, chips_in, closed_axes
from servesat.catalogue.load import load_chip
from servesat.core.arrays import Ints
from servesat.core.dominance import undominated
from servesat.core.plan import Assignment, KvLayout, Mode, Plan, PrefillPool
from servesat.deployment.check.plan import rederive
from servesat.deployment.solve import solve
from servesat.fleet.pods.slices import Box, Counts, Slice, counted, fits
from servesat.fleet.replayed_rates import replayed_rate
from servesat.fleet.spec import AtRandom
from servesat.spec.slo import LIMITS
from servesat.spec.spec import Spec

SIZED_FOR_EACH = 8
"""Different demands of periods that two pools are sized for one by one; of more, the highest."""

MAX_HALVINGS = 10
"""How often the highest demand is halved, at most, for smaller pools."""


@dataclass(frozen=True)
class Configuration:
    """One replica of a deployment: a slice of a chip, or two pools of slices, and the requests/s it serves.

    If requests come in several sizes, `size_rates` says what the replica serves of each size alone, `plans` has one
    plan for each size that it serves, and `requests_per_s` is 0.
    """

    name: str
    chip: str
    chips: int
    requests_per_s: float
    plan: Plan | None = None
    slices: Counts = ()
    slice_chips: tuple[tuple[int, int], ...] = ()  # chips of a slice, and slices; of no plan, all chips are one slice
    size_rates: tuple[float, ...] = ()
    plans: Mapping[str, Plan] = field(default_factory=dict, hash=False)


def configurations(
    spec: Spec,
    chips: Iterable[str],
    *,
    keep_dominated: bool = False,
    pods: Mapping[str, Collection[Box]] | None = None,
    held: Mapping[str, Collection[tuple[str, ...]]] | None = None,
    machines: Mapping[str, Collection[tuple[str, ...]]] | None = None,
    demand: Collection[float] = (),
    at_random: AtRandom | None = None,
) -> tuple[Configuration, ...]:
    """The configurations of a replica on each chip: the best plan of each slice in one pool, and the best two pools.

    The best plan of a slice serves the most requests within the limits. The best two pools are the cheapest for each
    token, and for parts of the `demand`, in requests/s. `pods` has the pod shapes of each chip, `machines` the lists of
    slices that its machines hold, and `held` those that hold them with a network: the best two pools are found for each
    shape and list. A dominated configuration is dropped: it serves no more than another, on at least as many of the
    same chips, and every machine that holds it holds the other. It stays where `keep_dominated` is set or its chips are
    in pods, where it may be the only one that fits. The limit on the cost of a replica is not applied here, because
    prices depend on the region. Where requests arrive `at_random`, a replica serves the rate at which its replays keep
    each limit, with the engine and at the batch of which that is the most.
    """
    selected, pod_shapes, rates = [], pods or {}, _rates_of_pools(demand)
    for chip in (chip for chip in sorted(chips) if may_keep_prefixes(spec, chip)):
        of_chip, shapes = on_chip(spec, chip), sorted(pod_shapes.get(chip, ()))
        topologies = of_chip.topologies_of(of_chip.chips[0])
        listed = [topologies] if held is None else held.get(chip, ())
        listed = [*listed, *(_fitting(topologies, shape) for shape in shapes)]
        candidates = _on_chip(of_chip, listed, rates, at_random)
        selected += (
            candidates
            if keep_dominated or chip in pod_shapes
            else _undominated(candidates, [topologies] if machines is None else machines.get(chip, ()))
        )
    return tuple(selected)


def may_keep_prefixes(spec: Spec, chip_id: str) -> bool:
    """Whether a chip is known to load from the memory of its host, where the spec has a cache in that."""
    if spec.workload.host_cache is None:
        return True
    listed = {chip.id: chip for chip in spec.search.chips or ()}
    chip = listed[chip_id] if chip_id in listed else load_chip(chip_id)
    return spec.chip.get(chip_id, {}).get("host_bytes_per_s", chip.host_bytes_per_s) is not None


def on_chip(spec: Spec, chip: str) -> Spec:
    """A deployment on one chip, at $1 per chip-hour and without a limit on the cost of a replica."""
    topologies = {name: listed for name, listed in spec.search.topologies.items() if name == chip}
    changes = {
        "search.chips": [chip],
        "search.topologies": topologies,
        "price": {chip: 1.0},
        "search.max_usd_per_hour": None,
    }
    return spec.changed(changes)


def _rates_of_pools(demand: Collection[float]) -> list[float]:
    """What two pools are sized for, the most first: the demand of few periods, the highest of many, and its halves."""
    distinct = {rate for rate in demand if rate}
    if not distinct:
        return []
    highest = max(distinct)
    whole = distinct if len(distinct) <= SIZED_FOR_EACH else {highest}
    return sorted(whole | {highest / 2**halvings for halvings in range(1, MAX_HALVINGS + 1)}, reverse=True)


def _two_pools(spec: Spec, topologies: tuple[str, ...], rates: Iterable[float]) -> list[Plan]:
    """The cheapest two pools of some slices for each token, and for each rate until one slice each is enough."""
    asked = spec.changed({"search.modes": [Mode.DISAGGREGATED], "search.topologies": {spec.chips[0].id: topologies}})
    plan = solve(asked).plan
    found = [] if plan is None else [plan]
    for rate in rates if found else ():
        at_rate = asked.changed({"workload.requests_per_s": rate, "utilisation": spec.utilisation}).in_means()
        sized = solve(at_rate).plan
        if sized is None or sized.prefill is None:
            continue
        decisions = {part.name: getattr(sized, part.name) for part in fields(Assignment)}
        found.append(rederive(asked, Assignment(**decisions))[0])
        if sized.slices == sized.prefill.slices == 1:
            break
    return found


def _on_chip(
    spec: Spec, listed: Iterable[tuple[str, ...]], rates: list[float], at_random: AtRandom | None
) -> list[Configuration]:
    chip = spec.chips[0]
    if not set(spec.compute) & set(chip.flop_per_s.by_dtype()):
        return []
    of_slices, plans = [], []
    one_pool = [mode for mode in spec.modes if mode is not Mode.DISAGGREGATED]
    if one_pool:
        in_one_pool = spec.changed({"search.modes": one_pool})
        of_slices = _best_of_each_slice(in_one_pool) if at_random is None else _best_at_random(in_one_pool)
    if Mode.DISAGGREGATED in spec.modes and chip.network_bytes_per_s:
        for topologies in dict.fromkeys(filter(None, listed)):
            plans += [plan for plan in _two_pools(spec, topologies, rates) if plan not in plans]
    plans = [*of_slices, *plans]
    served = [spec.utilisation * (plan.requests_per_s or 0.0) for plan in plans]
    if at_random is not None:
        served = _replayed_rates(spec, plans, served, at_random)
    return [
        Configuration(
            name=_name(plan),
            chip=chip.id,
            chips=plan.chips,
            requests_per_s=rate,
            plan=plan,
            slices=slices_of(spec, chip, plan),
            slice_chips=slice_chips_of(plan),
        )
        for plan, rate in zip(plans, served, strict=True)
        if rate or at_random is None
    ]


def _fitting(topologies: Iterable[str], shape: Box) -> tuple[str, ...]:
    """The slices that fit in pods of a shape."""
    no_rings = (False,) * len(shape)
    return tuple(topology for topology in topologies if fits(shape, Slice(axis_sizes(topology), no_rings)))


def _best_of_each_slice(spec: Spec) -> list[Plan]:
    """The plan of each slice that serves the most; since the slice has one price, it is also the cheapest."""
    columns = evaluate(spec, enumerate_layouts(spec, undominated=True))
    return _plans(spec, columns, _first_of_each(_topologies(spec, columns), columns))


def _best_at_random(spec: Spec) -> list[Plan]:
    """The plans of each slice and engine that may serve the most: the best by means, and the same at its largest batch.

    Limits on means at a full batch prove nothing, as replicas are rarely full.
    """
    columns = evaluate(spec, enumerate_layouts(spec, undominated=True))
    of_dtypes = [dtypes.engine for dtypes in columns.layouts.dtypes]
    engines = list(dict.fromkeys(of_dtypes))
    engine = np.array([engines.index(one) for one in of_dtypes])[columns.layouts.dtype]
    best = columns.take(_first_of_each(_topologies(spec, columns) * len(engines) + engine, columns))
    loose = without_limits_on_times(spec)
    every = evaluate(loose, replace(best.layouts, number=np.arange(len(best))))
    legal = np.flatnonzero(every.violated == 0)
    order = legal[np.lexsort((-every.batch[legal], every.layouts.number[legal]))]
    _, largest = np.unique(every.layouts.number[order], return_index=True)
    return [*_plans(spec, best, np.arange(len(best))), *_plans(loose, every, order[largest])]


def without_limits_on_times(spec: Spec) -> Spec:
    """A deployment whose times replays decide on, not means."""
    return spec.changed({f"slo.{name}": None for name in LIMITS})


def _topologies(spec: Spec, columns: Columns) -> Ints:
    numbers = {topology: number for number, topology in enumerate(spec.topologies_of(spec.chips[0]))}
    of_place: Ints = np.array([numbers[place.topology] for place in columns.layouts.places])
    return of_place[columns.layouts.place]


def _first_of_each(kind: Ints, columns: Columns) -> Ints:
    """Of each kind of column the cheapest that violates nothing, the fastest of those that cost the same."""
    feasible = np.flatnonzero(columns.violated == 0)
    order = feasible[np.lexsort((columns.tpot_s[feasible], columns.usd_per_million[feasible], kind[feasible]))]
    _, first = np.unique(kind[order], return_index=True)
    found: Ints = order[first]
    return found


def _plans(spec: Spec, columns: Columns, rows: Ints) -> list[Plan]:
    return [rederive(spec, columns.assignment(int(row)))[0] for row in rows]


def _replayed_rates(spec: Spec, plans: list[Plan], most: list[float], at_random: AtRandom) -> list[float]:
    """The replayed rate of the plan of each slice that serves the most, and 0 of those that serve no more than another.

    Those with the largest rate by means come first, and others are ended once they are known to serve less.
    """
    rates, best = [0.0] * len(plans), dict[tuple[object, ...], int]()
    for number in sorted(range(len(plans)), key=lambda number: -most[number]):
        slice_ = slice_chips_of(plans[number]), plans[number].topology
        known = best.get(slice_)
        beyond = 0.0 if known is None else rates[known]
        rate = replayed_rate(spec, plans[number], at_random, most[number], more_than=beyond)
        if rate > beyond:
            rates[number], best[slice_] = rate, number
            if known is not None:
                rates[known] = 0.0
    return rates


def slices_of(spec: Spec, chip: Chip, plan: Plan) -> Counts:
    """The slices of a plan, with the axes along which its collectives need a ring."""
    pools = [(plan.topology, (*plan.tp_axes, *plan.ep_axes, *plan.pp_axes), plan.slices)]
    if plan.prefill is not None:
        prefill = plan.prefill
        pools.append((prefill.topology, (*prefill.tp_axes, *prefill.ep_axes, *prefill.pp_axes), prefill.slices))
    slices = []
    for topology, used_axes, count in pools:
        exact = spec.exact_wraparound
        closed = enumerate(closed_axes(chip, topology))
        rings = tuple(exact and axis in used_axes and closes for axis, closes in closed)
        slices.append((Slice(axis_sizes(topology), rings), count))
    return counted(slices)


def topologies_of(plan: Plan) -> list[str]:
    """The slices of a plan, those of a prefill pool last."""
    return [plan.topology] if plan.prefill is None else [plan.topology, plan.prefill.topology]


def slice_chips_of(plan: Plan) -> tuple[tuple[int, int], ...]:
    """The slices of a plan by their chips: pairs of chips and number, a prefill pool's after the others."""
    pools = [(chips_in(plan.topology), plan.slices)]
    return tuple(pools if plan.prefill is None else [*pools, (chips_in(plan.prefill.topology), plan.prefill.slices)])


def _name(plan: Plan) -> str:
    """What tells replicas apart: `h100-sxm 2 x 1x1 with 3 x 1x1, fp8, to prefill, fp8, disaggregated, batch 48`."""
    pool = plan.prefill
    prefill = "" if pool is None else f" with {pool.slices} x {pool.topology}, {_pool(pool)}, to prefill"
    count = f"{plan.slices} x " if plan.slices > 1 else ""
    return f"{plan.chip} {count}{plan.topology}{prefill}, {how_served(plan)}, batch {plan.batch}"


def _pool(pool: PrefillPool) -> str:
    """What a prefill pool must be started anew for: `tp 4, fp8/bf16`."""
    sizes = axis_sizes(pool.topology)
    tp, ep = (prod(sizes[axis] for axis in axes) for axes in (pool.tp_axes, pool.ep_axes))
    return ", ".join([*_ways(pool.topology, pool.kv_layout, tp, ep, 1), _once(pool.weights, pool.compute)])


def how_served(plan: Plan) -> str:
    """What else a replica must be started anew for: `tp 4, int8/int8/bf16, vllm-0.32, chunked by 512`."""
    chunk = f" by {plan.chunk_tokens}" if plan.chunk_tokens else ""
    ways = _ways(plan.topology, plan.kv_layout, plan.tp, plan.ep, plan.pp)
    draft = [f"{plan.draft_tokens} drafted by {plan.draft}"] if plan.draft else []
    engine = [plan.engine] if plan.engine else []
    dtypes = _once(plan.weights, plan.kv_cache, plan.compute)
    return ", ".join([*ways, dtypes, *draft, *engine, f"{plan.mode}{chunk}"])


def _ways(topology: str, kv_layout: KvLayout, tp: int, ep: int, pp: int) -> list[str]:
    """How a replica shards, where it is not tensor-parallel over all chips with a head on each."""
    ways = [f"tp {tp}"] if tp < chips_in(topology) else []
    ways += [f"{name} {count}" for name, count in (("ep", ep), ("pp", pp)) if count > 1]
    return ways if kv_layout is KvLayout.HEADS else [*ways, f"KV by {kv_layout}"]


def _once(*dtypes: str) -> str:
    return "/".join(dtypes if len(set(dtypes)) > 1 else dtypes[:1])


def _undominated(candidates: list[Configuration], machines: Collection[tuple[str, ...]]) -> list[Configuration]:
    """Configurations of one chip that no other matches in requests/s on as few chips; of equals, the first by name.

    Each is compared only with configurations of as many pools that every machine holding it also holds; `machines` are
    lists of slices.
    """
    figures = np.array([(candidate.chips, -candidate.requests_per_s) for candidate in candidates]).reshape(-1, 2)
    rank = np.argsort(np.argsort([candidate.name for candidate in candidates]))
    plans = [candidate.plan for candidate in candidates if candidate.plan is not None]
    slices = [{*topologies_of(plan)} for plan in plans]
    pools = [plan.prefill is not None for plan in plans]
    holding = [frozenset(number for number, held in enumerate(machines) if own <= {*held}) for own in slices]
    kept: list[int] = []
    for has_pools, holds in dict.fromkeys(zip(pools, holding, strict=True)):
        rows = np.array([row for row in range(len(plans)) if pools[row] is has_pools and holds <= holding[row]])
        best = rows[undominated(figures[rows], rank[rows])].tolist()
        kept += [row for row in best if holding[row] == holds]
    return [candidates[row] for row in sorted(kept)]
