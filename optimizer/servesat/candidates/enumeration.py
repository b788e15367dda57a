"""Every layout a spec allows: chip, slice, tensor-parallel axes and dtypes.

Here a layout is a machine with dtypes that decodes; `serving_modes` adds how it serves prompts.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import fields, replace

import numpy as np

from servesat.candidates.engines import (
    Dtypes,
    leaves_out_what_cannot_run,
    runs,
    searched_dtypes,
    usable_bytes,
    window_held,
)
from servesat.candidates.layouts import KV_LAYOUTS, Layouts, ShardedSlice, decoding
from servesat.candidates.purchases import Units
from servesat.candidates.replicas import head_flop_per_s, with_adapters
from servesat.candidates.undominated_offers import HeldSlices, held_slices
from servesat.catalogue.chip import chips_in
from servesat.catalogue.engine import Engine
from servesat.core.arrays import Bools, Floats, Ints
from servesat.core.errors import SpecError
from servesat.core.plan import KvLayout
from servesat.cost_model.calibrated import Constants
from servesat.cost_model.decode import Replica
from servesat.cost_model.sharding import (
    Links,
    Sharding,
    dearest_stage,
    kv_batch_shards,
    links_of,
    shardings,
)
from servesat.cost_model.speculation import NO_DRAFT, Drafting
from servesat.cost_model.storage import BYTES_PER_VALUE, Storage, StoredWeights
from servesat.spec.spec import Spec

MAX_LAYOUTS = 4_000_000
"""The most layouts of a search, before their modes: 800 MB of them."""

Screen = Callable[[Sequence[ShardedSlice], Sequence[Dtypes]], Bools]
"""Tells which dtypes are worth trying at each place; shape [places, dtypes]."""


def decode_layouts(spec: Spec, named: Collection[str] = (), screen: Screen | None = None) -> Layouts:
    """List every chip x slice x axes x dtypes of the search, where the chip has a peak for the compute dtype.

    They leave prompts out. Layouts that violate a requirement are listed too: the requirements say what excludes them.
    `named` tells offers apart, as in `held_slices`; dtypes that do not pass a `screen` are left out.
    """
    places = _places(spec, named)
    dtypes = searched_dtypes(spec)
    peaks, run = _peaks(spec, places, dtypes), _runs_there(spec, places, dtypes)
    searched = run if leaves_out_what_cannot_run(spec) and run.any() else np.ones_like(run)
    place, dtype = np.nonzero(peaks * searched * _may_draft(places, dtypes))
    if len(place) > MAX_LAYOUTS:
        raise SpecError(
            f"the search has {len(place):,} layouts, expected at most {MAX_LAYOUTS:,}: list fewer chips, dtypes, or "
            "slices under search.topologies"
        )
    if screen is not None:
        passes = screen(places, dtypes)[place, dtype]
        place, dtype = place[passes], dtype[passes]

    replica = _replicas(spec, places, dtypes, place, dtype)
    tp, ep, pp = (np.asarray(ways, dtype=np.int64) for ways in (replica.tp, replica.ep, replica.pp))
    chips = np.array([chips_in(p.topology) for p in places])[place]
    replicas = chips // (tp * ep * pp)
    kv_layout = np.array([KV_LAYOUTS.index(p.sharding.kv_layout) for p in places])[place]
    over_batch = kv_layout == KV_LAYOUTS.index(KvLayout.BATCH)
    of_engine = [None if not choice.engine else spec.engine_of(choice.engine) for choice in dtypes]
    return Layouts(
        places=places,
        dtypes=dtypes,
        number=np.arange(len(place)),
        place=place,
        dtype=dtype,
        chips=chips,
        replicas=replicas,
        counted_replicas=replicas * np.array([spec.counted_share(p.offer.purchase) for p in places])[place],
        tp=tp,
        kv_layout=kv_layout,
        batch_shards=ep * pp * np.where(over_batch, kv_batch_shards(spec.model, tp), 1),
        units=_units(places).take(place),
        hbm_bytes=_usable_bytes(spec, places, of_engine)[place, dtype],
        runs=run[place, dtype],
        replica=replica,
        constants=_constants(spec, places, dtypes, place, dtype),
        **_margins(spec, places, dtypes, place, dtype),
        serving=decoding(np.ones(len(place), dtype=np.int64)),
    )


def _replicas(
    spec: Spec, places: tuple[ShardedSlice, ...], dtypes: tuple[Dtypes, ...], place: Ints, dtype: Ints
) -> Replica:
    """The replica of each layout, as the cost model takes it; shape [layouts]."""

    def of_place(values: Sequence[float]) -> Floats:
        return np.array(values, dtype=np.float64)[place]

    def of_dtype(values: list[float]) -> Floats:
        return np.array(values)[dtype]

    chips = [p.offer.chip for p in places]
    head_peaks = {name: head_flop_per_s(chip) for name, chip in {chip.id: chip for chip in chips}.items()}
    links = _links(places, exact_wraparound=spec.exact_wraparound)
    storage = Storage(spec.model, spec.int4_group)
    ways = [p.ways(p.sharding.tp_axes) for p in places]
    stages = np.array([p.ways(p.sharding.pp_axes) for p in places])[place]
    tp = of_place(ways)
    kv_layouts = [p.sharding.kv_layout for p in places]
    replica = Replica(
        tp=tp,
        ep=of_place([p.ways(p.sharding.ep_axes) for p in places]),
        kv_copied_over=of_place([n if kv is KvLayout.COPIES else 1 for n, kv in zip(ways, kv_layouts, strict=True)]),
        kv_split_over=of_place([n if kv is KvLayout.SEQUENCE else 1 for n, kv in zip(ways, kv_layouts, strict=True)]),
        hbm_bytes_per_s=of_place([chip.hbm_bytes_per_s for chip in chips]),
        flop_per_s=_peaks(spec, places, dtypes)[place, dtype],
        head_flop_per_s=of_place([head_peaks[chip.id] for chip in chips]),
        tp_bytes_per_s=of_place([link.tp_bytes_per_s for link in links]),
        ep_bytes_per_s=of_place([link.ep_bytes_per_s for link in links]),
        pp=stages.astype(np.float64),
        pp_bytes_per_s=of_place([link.pp_bytes_per_s for link in links]),
        dearest_stage=dearest_stage(spec.model, stages),
        weights=_stored(storage, dtypes, dtype, tp),
        kv_token_bytes=of_dtype([storage.kv_token_bytes(choice.kv_cache) for choice in dtypes]),
        kv_value_bytes=of_dtype([BYTES_PER_VALUE[choice.kv_cache] for choice in dtypes]),
        drafting=_drafting(spec, dtypes, dtype),
        host_bytes_per_s=of_place([chip.host_bytes_per_s or np.inf for chip in chips]),
        window_times=of_dtype([window_held(spec, choice.engine)[0] for choice in dtypes]),
        window_slack=of_dtype([window_held(spec, choice.engine)[1] for choice in dtypes]),
    )
    return with_adapters(spec, replica)


def _constants(
    spec: Spec, places: tuple[ShardedSlice, ...], dtypes: tuple[Dtypes, ...], place: Ints, dtype: Ints
) -> Constants | None:
    """The constants of each layout's chip, dtype of its matmuls, and engine; None under the ideal cost model."""
    calibration = spec.calibration
    if calibration is None:
        return None
    chips, chip = _numbered([p.offer.chip.id for p in places])
    computes, compute = _numbered([choice.compute for choice in dtypes])
    engines, engine = _numbered([choice.engine for choice in dtypes])
    reach = np.array([[calibration.reach_of(name, matmuls) for matmuls in computes] for name in chips])
    hosts = np.array([calibration.host_of(spec.engine_of(name) if name else None) for name in engines])
    return Constants(*reach[chip[place], compute[dtype]].T, *hosts[engine[dtype]].T).slowed(spec.step_factor)


def _margins(
    spec: Spec, places: tuple[ShardedSlice, ...], dtypes: tuple[Dtypes, ...], place: Ints, dtype: Ints
) -> dict[str, Floats]:
    """By what share the times of each layout stay below their limits."""
    chips, chip = _numbered([p.offer.chip.id for p in places])
    engines, engine = _numbered([choice.engine for choice in dtypes])
    of_each = [[spec.margins_of(name, runner) for runner in engines] for name in chips]
    tpot, ttft = (np.array([[getattr(one, key) for one in row] for row in of_each]) for key in ("tpot", "ttft"))
    at = chip[place], engine[dtype]
    return {"tpot_margin": tpot[at], "ttft_margin": ttft[at]}


def _numbered(values: Sequence[str]) -> tuple[list[str], Ints]:
    """The distinct ones of some values, and the position of each value among them."""
    distinct = list(dict.fromkeys(values))
    position = {value: number for number, value in enumerate(distinct)}
    return distinct, np.array([position[value] for value in values], dtype=np.int64)


def _runs_there(spec: Spec, places: tuple[ShardedSlice, ...], dtypes: tuple[Dtypes, ...]) -> Bools:
    """Whether the engine of each choice of dtypes runs it on the chips of each place; shape [places, dtypes]."""
    chips, chip = _numbered([place.offer.chip.id for place in places])
    of_place: Bools = runs(spec, chips, dtypes)[chip]
    return of_place


def _may_draft(places: tuple[ShardedSlice, ...], dtypes: tuple[Dtypes, ...]) -> Bools:
    """Which dtypes with a draft are searched at each place: those where a replica has one stage."""
    one_stage = np.array([not place.sharding.pp_axes for place in places], dtype=np.bool_)
    return one_stage[:, None] | np.array([not choice.draft for choice in dtypes], dtype=np.bool_)


def _drafting(spec: Spec, dtypes: tuple[Dtypes, ...], dtype: Ints) -> Drafting:
    """What drafts beside each layout; shape [layouts]."""
    if not spec.drafts:
        return NO_DRAFT
    each = [spec.drafting_of(choice.draft, choice.draft_tokens, choice.weights) for choice in dtypes]
    names = [field.name for field in fields(Drafting)]
    return Drafting(**{name: np.array([getattr(one, name) for one in each])[dtype] for name in names})


def _usable_bytes(spec: Spec, places: tuple[ShardedSlice, ...], engines: Sequence[Engine | None]) -> Floats:
    """The memory of a chip that may be used at each place, with each choice of dtypes; shape [places, dtypes]."""
    distinct = {id(place.offer.chip): place.offer.chip for place in places}
    rows = {name: [usable_bytes(spec, chip, engine) for engine in engines] for name, chip in distinct.items()}
    return np.array([rows[id(place.offer.chip)] for place in places], dtype=np.float64)


def _links(places: tuple[ShardedSlice, ...], *, exact_wraparound: bool) -> list[Links]:
    """The links of the sharding at each place."""
    known: dict[tuple[str, str, Sharding], Links] = {}
    for place in places:
        machine = (place.offer.chip.id, place.topology, place.sharding)
        if machine not in known:
            known[machine] = links_of(
                place.offer.chip, place.topology, place.sharding, exact_wraparound=exact_wraparound
            )
    return [known[place.offer.chip.id, place.topology, place.sharding] for place in places]


def _stored(storage: Storage, dtypes: tuple[Dtypes, ...], dtype: Ints, tp: Floats) -> StoredWeights:
    """What the weights take in the dtypes and on the tensor-parallel chips of each layout; shape [layouts]."""
    known = {weights: storage.weights(weights) for weights in {choice.weights for choice in dtypes}}
    each = [known[choice.weights] for choice in dtypes]
    stored = StoredWeights(
        resident=np.array([weights.resident for weights in each])[dtype],
        mlp=np.array([weights.mlp for weights in each])[dtype],
        embedding=np.array([weights.embedding for weights in each])[dtype],
        head=np.array([weights.head for weights in each])[dtype],
        idle=each[0].idle,
    )
    if storage.model.moe is None:
        return stored
    ways, row_of_ways = np.unique(tp, return_inverse=True)
    padded = np.array(
        [
            weights.experts * storage.expert_padding(choice.weights, ways)
            for weights, choice in zip(each, dtypes, strict=True)
        ]
    )
    return replace(
        stored,
        experts=padded[dtype, row_of_ways],
        shared_experts=np.array([weights.shared_experts for weights in each])[dtype],
    )


def _places(spec: Spec, named: Collection[str]) -> tuple[ShardedSlice, ...]:
    """Every slice of the search at the offers worth trying, split in every way. Raises SpecError for none."""
    splits: dict[tuple[str, str], list[Sharding]] = {}
    places = []
    for held in held_slices(spec, named):
        slice_of_chip = (held.offer.chip.id, held.topology)
        if slice_of_chip not in splits:
            stages = spec.stages_of(held.offer.chip.id)
            splits[slice_of_chip] = shardings(spec.model, held.offer.chip, held.topology, spec.kv_layouts, stages)
        places += [
            ShardedSlice(held.offer, held.topology, sharding, held.unit, held.alone)
            for sharding in splits[slice_of_chip]
        ]
    if splits and not any(splits.values()) and 1 not in (spec.search.pp or (1,)):
        listed = " or ".join(map(str, spec.search.pp or ()))
        raise SpecError(f"search.pp = {listed}: the last axes of no slice of the search make so many stages")
    if not places and splits:
        layouts = ", ".join(spec.kv_layouts)
        raise SpecError(f"search.kv_layouts = {layouts}: no slice of the search splits the KV heads of the model so")
    if not places:
        raise SpecError(f"search: no {_sold_by(spec)} holds {_slices_searched(spec)}")
    return tuple(places)


def _sold_by(spec: Spec) -> str:
    """Whose machines are searched, as an error says it."""
    return "machine of `owned`" if tuple(spec.purchase) == ("owned",) else f"offer of {spec.price_book.id}"


def _slices_searched(spec: Spec) -> str:
    """The slices of the first chip of a search, and how large its instances are."""
    chip = spec.chips[0]
    sizes = sorted({offer.price.instance_chips or 0 for offer in spec.offers_of(chip.id) if offer.price is not None})
    held = f"its instances have {' or '.join(map(str, sizes))} chips; wider slices need their network_bytes_per_s"
    return f"{chip.id} {' or '.join(spec.topologies_of(chip))} ({held})"


def _units(places: tuple[ShardedSlice, ...]) -> Units:
    """What slices are bought in at each place; shape [places]."""
    offers = {id(offer): number for number, offer in enumerate({id(p.offer): p.offer for p in places}.values())}
    slices, chips, instances, usd_per_hour = zip(*(place.unit for place in places), strict=True)
    return Units(
        offer=np.array([offers[id(place.offer)] for place in places]),
        slice_chips=np.array([chips_in(place.topology) for place in places]),
        slices=np.array(slices),
        chips=np.array(chips),
        instances=np.array(instances),
        usd_per_hour=np.array(usd_per_hour),
    )


def repriced(layouts: Layouts, held: Sequence[HeldSlices]) -> Layouts:
    """The same layouts at other prices, of slices at the same places."""
    slices = {(one.offer.chip.id, one.topology, one.offer.place): one for one in held}
    now = [slices[place.offer.chip.id, place.topology, place.offer.place] for place in layouts.places]
    places = tuple(
        place._replace(offer=one.offer, unit=one.unit, alone=one.alone)
        for place, one in zip(layouts.places, now, strict=True)
    )
    return replace(layouts, places=places, units=_units(places).take(layouts.place))


def _peaks(spec: Spec, places: tuple[ShardedSlice, ...], dtypes: tuple[Dtypes, ...]) -> Floats:
    """The peak of each place in each choice of dtypes, 0 where there is none; shape [places, dtypes] [FLOP/s]."""
    storage = Storage(spec.model, spec.int4_group)
    chips = {place.offer.chip.id: place.offer.chip for place in places}
    of_chip = {name: chip.flop_per_s.by_dtype() for name, chip in chips.items()}
    rows = {
        chip: np.array([storage.flop_per_s(peaks, choice.weights, choice.compute) for choice in dtypes])
        for chip, peaks in of_chip.items()
    }
    return np.array([rows[place.offer.chip.id] for place in places])
