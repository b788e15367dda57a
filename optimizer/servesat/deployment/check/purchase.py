"""What a plan is bought as, put together again: the offers of its pools, their instances, and the bills."""

from dataclasses import replace
from itertools import product

from servesat.catalogue.chip import axis_sizes, chips_in
from servesat.core.errors import SolverError
from servesat.core.plan import Assignment, Bill, PrefillPool
from servesat.spec.offers import Offer, bill_of
from servesat.spec.spec import Spec

Side = Assignment | PrefillPool
"""The slices of one pool."""

MAX_PLACED_CHIPS = 100_000
"""The chips of a slice that are placed one by one."""


def offer_of(spec: Spec, side: Side) -> Offer:
    """What the slices of a pool are rented as: the offer it names, or the cheapest that holds them if it names none.

    Raises SolverError unless the spec has such an offer.
    """
    holding = [offer for offer in spec.offers_of(side.chip) if _holds(offer, side.topology)]
    named = [offer for offer in holding if offer.place == side.rented or not any(side.rented)]
    if not named:
        raise SolverError(f"{side.chip} {side.topology} is not on offer in this spec as {side.rented}")
    return named[0]


def _holds(offer: Offer, topology: str) -> bool:
    """Whether the chips of a slice stand in one instance or its link's reach, or the network is as fast as they need.

    Chips fill one instance after another along the axes in their order.
    """
    price, sizes, chips = offer.price, axis_sizes(topology), chips_in(topology)
    if price is None or price.instance_chips is None or chips <= price.instance_chips:
        return True
    reach = max(price.instance_chips, price.link_chips or 0)
    if chips % price.instance_chips:
        return False
    if chips <= reach:
        return True
    network = (price.network_bytes_per_s or 0.0) / price.instance_chips
    strides = [chips_in("x".join(map(str, sizes[:axis]))) if axis else 1 for axis in range(len(sizes))]
    if chips > MAX_PLACED_CHIPS:
        raise SolverError(f"{topology}: more than {MAX_PLACED_CHIPS:,} chips, too many to check where they stand")
    for axis, size in enumerate(sizes):
        others = [range(1 if other == axis else count) for other, count in enumerate(sizes)]
        lines = (sum(at * stride for at, stride in zip(start, strides, strict=True)) for start in product(*others))
        leaves = any(len({(first + at * strides[axis]) // reach for at in range(size)}) > 1 for first in lines)
        if leaves and network < offer.chip.axes[axis].bytes_per_s * (1 - 1e-9):
            return False
    return True


def bills_of(spec: Spec, assignment: Assignment) -> tuple[Bill, ...]:
    """What the pools of a plan pay: one bill each, or one for both where they share instances."""
    sides: tuple[Side, ...] = (assignment,) if assignment.prefill is None else (assignment, assignment.prefill)
    bills = [_bill(spec, side) for side in sides]
    if len(bills) == 1 or not _share_instances(spec, *sides):
        return tuple(bills)
    large, small = sorted(((chips_in(side.topology), side.slices) for side in sides), reverse=True)
    instances = _packed(*large, *small, bills[0].instance_chips or 1)
    used = sum(bill.chips_used for bill in bills)
    return (_of_instances(replace(bills[0], chips_used=used), instances),)


def _share_instances(spec: Spec, one: Side, other: Side) -> bool:
    """Whether slices of two pools may stand in the same instances: each fits, and the larger is a multiple."""
    sizes = sorted(chips_in(side.topology) for side in (one, other))
    offer, instance_chips = offer_of(spec, one), _instance_chips(offer_of(spec, one))
    fits = instance_chips is not None and sizes[1] <= instance_chips and sizes[1] % sizes[0] == 0
    return spec.buy == "instances" and fits and offer == offer_of(spec, other)


def _packed(large: int, large_slices: int, small: int, small_slices: int, instance_chips: int) -> int:
    """Instances for slices of two sizes: the large ones first, then the small ones in the room that is left."""
    each = instance_chips // large
    full, others = divmod(large_slices, each)
    room = full * ((instance_chips - each * large) // small)
    room += (instance_chips - others * large) // small if others else 0
    beyond = max(0, small_slices - room)
    return full + (1 if others else 0) + -(-beyond // (instance_chips // small))


def _bill(spec: Spec, side: Side) -> Bill:
    """What one pool pays for by itself."""
    offer, chips = offer_of(spec, side), side.slices * chips_in(side.topology)
    bill, instance_chips = bill_of(side.chip, chips, offer.usd_per_chip_hour, offer.price), _instance_chips(offer)
    if spec.buy == "share" or instance_chips is None:
        return bill
    of_slice = chips_in(side.topology)
    each = instance_chips // of_slice
    return _of_instances(bill, -(-side.slices // each) if each else side.slices * of_slice // instance_chips)


def _instance_chips(offer: Offer) -> int | None:
    return None if offer.price is None else offer.price.instance_chips


def _of_instances(bill: Bill, instances: int) -> Bill:
    """A bill for whole instances."""
    return replace(bill, instances=instances, chips=instances * (bill.instance_chips or 1))


def usd_per_hour(bill: Bill) -> float:
    """What a bill comes to: whole instances at their price, or chips at theirs."""
    if bill.usd_per_instance_hour is not None and isinstance(bill.instances, int):
        return bill.instances * bill.usd_per_instance_hour
    return bill.chips * bill.usd_per_chip_hour
