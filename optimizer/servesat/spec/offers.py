"""What a spec can rent: its chips, and the offers of them with their prices."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from operator import mul
from typing import Any, Literal, NamedTuple

from servesat.catalogue.chip import Chip, axis_sizes, chips_in
from servesat.catalogue.load import chip_ids, load_chip
from servesat.catalogue.price_book import Price, PriceBook, Purchase
from servesat.core.errors import SpecError
from servesat.core.plan import Bill
from servesat.core.tolerances import LIMIT_RTOL
from servesat.core.validation import nearest, validate
from servesat.spec.overrides import merged

Buy = Literal["share", "instances"]

_SHOWN = 6
"""Places of other prices that an error names."""


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
    price: Price | None = None  # None where the price is the spec's or the chip's own, and no variation of a book's

    @property
    def place(self) -> tuple[str, str, str, str, str]:
        """Cloud, region, purchase, instance and term, empty where there is none."""
        return ("", "", "", "", "") if self.price is None else self.price.place

    @property
    def network_bytes_per_s(self) -> float:
        """What a chip sends over the network: what the chip can, or its instance, if less is stated; 0 if unknown."""
        network = self.chip.network_bytes_per_s or 0.0
        of_instance = None if self.price is None else self.price.network_bytes_per_s_per_chip
        return network if of_instance is None else min(network, of_instance)

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
        instances=None if price.instance_chips is None else chips / price.instance_chips,
        term=price.term,
        as_of=None if price.as_of is None else price.as_of.isoformat(),
        note=price.note,
    )


def _at(price: Price, usd_per_chip_hour: float) -> Price:
    """A price of a book at another amount."""
    of_instance = None if price.instance_chips is None else usd_per_chip_hour * price.instance_chips
    return price.model_copy(update={"usd_per_chip_hour": usd_per_chip_hour, "usd_per_instance_hour": of_instance})


@dataclass(frozen=True)
class Market:
    """The prices and chip fields of a spec.

    A price comes from `prices`, else from the chip, else from the price book. `varied` has the lowest price in the book
    of each chip that one of `prices` varies: the chip is still rented where the book sells it, and all of its offers
    rise or fall alike. `where` names the spec in errors.
    """

    price_book: PriceBook
    purchases: tuple[Purchase, ...]
    regions: tuple[str, ...]
    clouds: tuple[str, ...]
    prices: Mapping[str, float]
    varied: Mapping[str, float]
    chip_fields: Mapping[str, Mapping[str, Any]]
    where: str

    def offers(self, chips: Iterable[Chip] | None) -> tuple[Offer, ...]:
        """The offers of the chips of the search, or of every priced chip of the catalogue if it lists none.

        Those of a chip stand together, the cheapest first. Raises ValueError when no chip has a price, SpecError for a
        malformed chip field.
        """
        if chips is None:
            offered = tuple(offer for chip in self.priced_catalogue_chips() for offer in self._offers(chip))
            if not offered:
                raise ValueError(f"search.chips: no chip of the catalogue has a price in {self._source}")
            return offered
        listed = tuple(map(self._with_fields, chips))
        found = tuple(offer for chip in listed for offer in self._offers(chip))
        if not found:
            raise ValueError(f"{self._no_price_for(listed[0].id)}; add `price: {{{listed[0].id}: USD_PER_CHIP_HOUR}}`")
        return found

    def unpriced(self, chips: Iterable[Chip]) -> Iterator[str]:
        """Say which chips of the search are left out, for want of a price."""
        for chip in chips:
            if not self._offers(chip):
                yield f"{self._no_price_for(chip.id)}, and is left out"

    def priced_catalogue_chips(self) -> tuple[Chip, ...]:
        """Every chip of the catalogue with a price in the spec or its price book, sorted by id."""
        priced = {*self.prices, *(chip for chip in self.price_book.prices if self._prices_in_book(chip))}
        return tuple(self._with_fields(load_chip(chip_id)) for chip_id in chip_ids() if chip_id in priced)

    def check_narrowed(self) -> None:
        """Check that the price book names each region and cloud. Raises ValueError."""
        for key, wanted, known in (
            ("region", self.regions, self.price_book.regions),
            ("cloud", self.clouds, self.price_book.clouds),
        ):
            for name in wanted:
                if name not in known:
                    raise ValueError(
                        f"{key} = {name!r}: no price in {self.price_book.id} names it; {nearest(name, known)}"
                    )

    def _with_fields(self, chip: Chip) -> Chip:
        """The chip with the fields that the spec overrides. Raises SpecError."""
        if chip.id not in self.chip_fields:
            return chip
        prefix = f"chip.{chip.id}"
        fields = merged(chip.model_dump(), self.chip_fields[chip.id], f"{self.where}: {prefix}")
        return validate(Chip, fields, where=self.where, error=SpecError, prefix=prefix)

    def _offers(self, chip: Chip) -> list[Offer]:
        stated = self.prices.get(chip.id, chip.usd_per_chip_hour)
        if stated is None:
            return [Offer(chip, price.usd_per_chip_hour, price) for price in self._prices_in_book(chip.id)]
        lowest = self.varied.get(chip.id)
        if lowest is None:
            return [Offer(chip, stated)]
        amounts = [
            (price, stated if price.usd_per_chip_hour == lowest else price.usd_per_chip_hour * (stated / lowest))
            for price in self._prices_in_book(chip.id)
        ]
        return [Offer(chip, usd, _at(price, usd)) for price, usd in amounts]

    def _prices_in_book(self, chip_id: str) -> Sequence[Price]:
        """The prices of a chip in the book, as it is to be bought, the lowest first."""
        return self._wanted_prices.get(chip_id, ())

    @cached_property
    def _wanted_prices(self) -> dict[str, Sequence[Price]]:
        return {chip: list(filter(self._is_wanted, prices)) for chip, prices in self.price_book.prices.items()}

    def _is_wanted(self, price: Price) -> bool:
        return (
            price.purchase in self.purchases
            and (not self.regions or price.region is None or price.region in self.regions)
            and (not self.clouds or price.cloud in self.clouds)
        )

    @property
    def _source(self) -> str:
        """The price book with the purchase and the places, as error messages name them."""
        text = self.price_book.id
        if self.purchases != ("on_demand",) or self.regions or self.clouds:
            text += f" as {' or '.join(self.purchases)}"
        text += f" in {' or '.join(self.regions)}" if self.regions else ""
        return text + (f" at {' or '.join(self.clouds)}" if self.clouds else "")

    def _no_price_for(self, chip_id: str) -> str:
        prices = self.price_book.prices.get(chip_id, ())
        available = sorted({f"{price.purchase} in {price.region or 'any region'}" for price in prices})
        if self.clouds:
            available = sorted({f"{price.purchase} at {price.cloud or 'any cloud'}" for price in prices})
        shown = [*available[:_SHOWN], f"{len(available) - _SHOWN} more"] if len(available) > _SHOWN else available
        hint = f" (it has {', '.join(shown)})" if shown else ""
        return f"search.chips: {chip_id} has no price in {self._source}{hint}"
