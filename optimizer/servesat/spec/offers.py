"""Offers: what a chip is bought as, which slices that holds, and in which units."""

from dataclasses import replace
from itertools import accumulate
from operator import mul
from typing import Literal, NamedTuple

from servesat.catalogue.chip import Chip, axis_sizes, chips_in
from servesat.catalogue.price_book import Price
from servesat.core.plan import Bill
from servesat.core.tolerances import LIMIT_RTOL

Buy = Literal["share", "instances"]


class Unit(NamedTuple):
    """What slices are bought in: a slice, or whole instances that hold one slice or several.

    `instances` is 0 where chips pay a share of an instance, or where no instance is named.
    """

    slices: int
    chips: int
    instances: int
    usd_per_hour: float


class Offer(NamedTuple):
    """A chip with a price under the spec, and where that price is paid."""

    chip: Chip
    usd_per_chip_hour: float
    price: Price | None = None  # None where the price is the spec's, bought in no stated way, or the chip's own

    @property
    def place(self) -> tuple[str, str, str, str, str]:
        """Cloud, region, purchase, instance and term, empty where there is none."""
        return ("", "", "", "", "") if self.price is None else self.price.place

    @property
    def purchase(self) -> str | None:
        """How it is bought; None where the spec, or the chip, has a price of its own that does not say so."""
        return None if self.price is None else self.price.purchase

    @property
    def network_bytes_per_s(self) -> float:
        """What a chip sends over the network: what the chip can, or its instance, if less is stated; 0 if unknown."""
        network = self.chip.network_bytes_per_s or 0.0
        of_instance = None if self.price is None else self.price.network_bytes_per_s_per_chip
        return network if of_instance is None else min(network, of_instance)

    @property
    def assumes_network(self) -> bool:
        """Whether its instance has no stated network, and the full speed of the chips is assumed."""
        price = self.price
        return price is not None and price.instance is not None and price.network_bytes_per_s is None

    def instances_of_slice(self, topology: str) -> int | None:
        """The instances that a slice takes at least a part of; None if they do not hold it, 0 without instances.

        A slice stays inside an instance, or inside what the instances' link connects. A wider one takes whole
        instances, and their network must be stated, and be as fast as each axis that leaves the link.
        """
        instance_chips = None if self.price is None else self.price.instance_chips
        if self.price is None or instance_chips is None:
            return 0
        chips = chips_in(topology)
        if chips <= instance_chips:
            return 1
        count, rest = divmod(chips, instance_chips)
        linked_chips = max(instance_chips, self.price.link_chips or 0)
        if rest or (chips > linked_chips and not self._is_networked(axis_sizes(topology), linked_chips)):
            return None
        return count

    def _is_networked(self, sizes: tuple[int, ...], linked_chips: int) -> bool:
        """Whether the network is as fast as the axes that do not end where the link does."""
        network = (self.price.network_bytes_per_s_per_chip if self.price else None) or 0.0
        leaving = [
            axis.bytes_per_s
            for axis, size, chips in zip(self.chip.axes, sizes, accumulate(sizes, mul), strict=True)
            if size > 1 and linked_chips % chips
        ]
        return all(network * (1 + LIMIT_RTOL) >= bytes_per_s for bytes_per_s in leaving)

    def unit(self, topology: str, buy: Buy) -> Unit | None:
        """What slices of this topology are bought in; None if the offer does not hold them."""
        chips, instances = chips_in(topology), self.instances_of_slice(topology)
        if instances is None:
            return None
        if buy == "share" or self.price is None or not instances:
            return Unit(1, chips, 0, chips * self.usd_per_chip_hour)
        instance_chips = self.price.instance_chips or 1
        usd = instances * instance_chips * self.usd_per_chip_hour
        if self.price.usd_per_instance_hour is not None:
            usd = instances * self.price.usd_per_instance_hour
        return Unit(max(1, instance_chips // chips), instances * instance_chips, instances, usd)


def bill_of(chip: str, chips: int, usd_per_chip_hour: float, price: Price | None) -> Bill:
    """What some chips of a type are billed as: they pay a share of an instance, where their price is that of one."""
    bill = Bill(chip=chip, chips=chips, chips_used=chips, usd_per_chip_hour=usd_per_chip_hour)
    if price is None:
        return bill
    return replace(
        bill,
        purchase=price.purchase,
        cloud=price.cloud,
        region=price.region,
        instance=price.instance,
        instance_chips=price.instance_chips,
        usd_per_instance_hour=price.usd_per_instance_hour,
        lowest_usd_per_instance_hour=price.lowest_usd_per_instance_hour,
        interrupted_per_month=price.interrupted_per_month,
        interrupted_as_of=None if price.interrupted_as_of is None else price.interrupted_as_of.isoformat(),
        instances=None if price.instance_chips is None else chips / price.instance_chips,
        term=price.term,
        as_of=None if price.as_of is None else price.as_of.isoformat(),
        note=price.note,
    )
