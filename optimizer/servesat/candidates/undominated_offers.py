"""The offers worth trying for each slice: those that no other offer replaces at the same price or less.

A cloud's price list has hundreds of entries for a chip, and few of them can be part of a best plan. What is left out is
left out exactly: another offer holds the same slices, costs no more for any number of them, and is not told apart by a
constraint.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from servesat.core.dominance import undominated
from servesat.core.plan import Mode
from servesat.spec.expressions import Expression, Name, limit_in
from servesat.spec.offers import Offer, Unit
from servesat.spec.spec import Spec

_PLACE = ("cloud", "region", "purchase", "instance")
"""The names in constraints that tell offers apart, in the order of `Offer.place`."""

_DOLLARS = {"usd_per_hour", "usd_per_million_output_tokens"}
"""The figures of constraints that grow with a price."""

Site = tuple[str, str]
"""A cloud and a region, empty where none is named."""


class HeldSlices(NamedTuple):
    """An offer with the unit in which it holds slices of a topology; `alone`: a plan of one pool may be best on it."""

    topology: str
    offer: Offer
    unit: Unit
    alone: bool


def held_slices(spec: Spec, named: Collection[str] = ()) -> Iterator[HeldSlices]:
    """Every slice of the search with the offers of it that are worth trying, by chip, slice and price.

    `named` is what others tell plans apart by, beside the constraints of the spec: names as in a constraint.
    """
    told_apart = _ToldApart(spec, named)
    pooled = _for_pools(spec, told_apart) if Mode.DISAGGREGATED in spec.modes else {}
    by_units = _must_keep_units(spec) or bool(named)
    for chip in spec.chips:
        distinct = {id(offer): offer for offer in _cheapest_of_each_kind(spec.offers_of(chip.id), told_apart)}
        offers = [offer for offer in spec.offers_of(chip.id) if id(offer) in distinct or id(offer) in pooled]
        for topology in spec.topologies_of(chip):
            units = _units(spec, offers, topology)
            alone = {id(offer) for offer in _alone(units, told_apart, by_units=by_units)}
            for offer, unit in units:
                if id(offer) in alone or id(offer) in pooled:
                    yield HeldSlices(topology, offer, unit, id(offer) in alone)


def _units(spec: Spec, offers: Iterable[Offer], topology: str) -> list[tuple[Offer, Unit]]:
    """The offers that hold slices of a topology, with what they are bought in."""
    units = ((offer, offer.unit(topology, spec.buy)) for offer in offers)
    return [(offer, unit) for offer, unit in units if unit is not None]


def _cheapest_of_each_kind(offers: Iterable[Offer], told_apart: "_ToldApart") -> list[Offer]:
    """The first of some offers with the same instances, of those that no constraint tells apart."""
    first: dict[Any, Offer] = {}
    for offer in offers:
        first.setdefault((_size(offer), _network(offer), told_apart(offer)), offer)
    return list(first.values())


def _size(offer: Offer) -> tuple[int, int, bool]:
    """Chips of an instance, those that its link connects beyond it, and whether a network is stated; 0 for none."""
    price = offer.price
    if price is None:
        return 0, 0, False
    return price.instance_chips or 0, price.link_chips or 0, price.network_bytes_per_s is not None


def _network(offer: Offer) -> float:
    """What an instance sends over its network, where that is stated, or else a chip [bytes/s]."""
    stated = None if offer.price is None else offer.price.network_bytes_per_s
    return offer.network_bytes_per_s if stated is None else stated


def _alone(units: Sequence[tuple[Offer, Unit]], told_apart: "_ToldApart", *, by_units: bool) -> list[Offer]:
    """The offers on which a plan of one pool may be best; with `by_units` of each size of unit, as something counts."""
    kept: dict[tuple[str, ...], list[tuple[Offer, Unit]]] = defaultdict(list)
    seen = set()
    for offer, unit in units:  # the cheapest chip first
        group = told_apart(offer)
        if (group, unit[:3]) in seen:
            continue
        seen.add((group, unit[:3]))
        if by_units or not any(_replaces(other, unit) for _, other in kept[group]):
            kept[group].append((offer, unit))
    return [offer for group in kept.values() for offer, unit in group if by_units or not _is_replaced(unit, group)]


def _is_replaced(unit: Unit, group: Sequence[tuple[Offer, Unit]]) -> bool:
    return any(other is not unit and _replaces(other, unit) for _, other in group)


def _replaces(one: Unit, other: Unit) -> bool:
    """Whether no number of slices costs more, or takes more chips, in units of the one than of the other."""
    if one.slices >= other.slices:
        return one.usd_per_hour <= other.usd_per_hour and one.chips <= other.chips
    several, rest = divmod(other.slices, one.slices)
    return not rest and one.usd_per_hour * several <= other.usd_per_hour and one.chips * several <= other.chips


def _must_keep_units(spec: Spec) -> bool:
    """Whether a limit or a constraint counts units or what they put out, so that the cheaper one may be ruled out."""
    search = spec.search
    limits = (search.max_chips, search.max_instances, spec.slo.min_tokens_per_s)
    return bool(spec.expressions or search.quota) or any(limit is not None for limit in limits)


class _ToldApart:
    """A key of an offer that is the same for those that no constraint, and nothing else that is named, tells apart."""

    def __init__(self, spec: Spec, named: Collection[str]) -> None:
        in_constraints = {name.id.removeprefix("prefill.") for one in spec.expressions for name in one.names}
        derated = {"purchase"} if spec.spot_capacity < 1 else set()
        told = in_constraints | {*named} | derated
        self._positions = [at for at, name in enumerate(_PLACE) if name in told]
        self._by_price = any(map(_may_exclude_the_cheaper, spec.expressions)) or bool(_DOLLARS & {*named})

    def __call__(self, offer: Offer) -> tuple[str, ...]:
        place = offer.place
        key = tuple(place[at] for at in self._positions)
        return (*key, repr(offer.usd_per_chip_hour)) if self._by_price else key


def _may_exclude_the_cheaper(expression: Expression) -> bool:
    """Whether a constraint may rule out a plan and leave the same one at a higher price."""
    if not any(name.id in _DOLLARS for name in expression.names):
        return False
    bound = limit_in(expression)
    return bound is None or bound.at_least or not isinstance(bound.term, Name)


def _for_pools(spec: Spec, told_apart: _ToldApart) -> dict[int, Offer]:
    """The offers that may be part of a best pair of pools, by identity.

    Both pools stand at one site, so a site is left out where another has as good an offer for each of its own.
    """
    menus = [_cheapest(menu, told_apart) for menu in _menus(spec)]
    kinds = {kind: number for number, kind in enumerate(dict.fromkeys(kind for menu in menus for kind in menu))}
    usd = np.full((len(menus), len(kinds)), np.inf)
    for row, menu in enumerate(menus):
        for kind, offer in menu.items():
            usd[row, kinds[kind]] = offer.usd_per_chip_hour
    somewhere = any(region and not cloud for cloud, region, *_ in (offer.place for offer in spec.offers))
    rows = range(len(menus)) if somewhere else undominated(usd)  # a region without a cloud may be at any of them
    return {id(offer): offer for row in rows for offer in menus[row].values()}


def _cheapest(menu: Iterable[Offer], told_apart: _ToldApart) -> dict[Any, Offer]:
    """The cheapest offer of each kind of machine at a site, and dearer ones only where their network is faster."""
    kept: dict[Any, Offer] = {}
    fastest: dict[Any, float] = {}
    for offer in sorted(menu, key=lambda offer: offer.usd_per_chip_hour):
        kind, network = (offer.chip.id, _size(offer), told_apart(offer)), _network(offer)
        if network > fastest.get(kind, -1.0):
            fastest[kind] = network
            kept[*kind, network] = offer
    return kept


def _menus(spec: Spec) -> list[list[Offer]]:
    """The offers at each site that have a network; those that are the same in all regions, or anywhere, are at each."""
    by_site: dict[Site, list[Offer]] = defaultdict(list)
    for offer in spec.offers:
        if offer.network_bytes_per_s > 0:
            by_site[offer.place[:2]].append(offer)
    anywhere = by_site.pop(("", ""), [])
    clouds = {cloud for cloud, region in by_site if region}
    menus = [
        [*offers, *(by_site.get((cloud, ""), []) if region else []), *anywhere]
        for (cloud, region), offers in by_site.items()
        if region or cloud not in clouds
    ]
    return menus or [anywhere]
