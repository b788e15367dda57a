"""The chips that a spec can rent, with their prices."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from servesat.catalogue.chip import Chip
from servesat.catalogue.load import chip_ids, load_chip
from servesat.catalogue.price_book import Price, PriceBook, Purchase
from servesat.core.errors import SpecError
from servesat.core.plan import Bill
from servesat.core.validation import validate
from servesat.spec.overrides import merged


class Offer(NamedTuple):
    """A chip with its price under the spec."""

    chip: Chip
    usd_per_chip_hour: float
    price: Price | None = None  # None where the price is the spec's or the chip's own, and no variation of a book's


def bill_of(chip_id: str, chips: int, usd_per_chip_hour: float, price: Price | None) -> Bill:
    """What some chips of a type are billed as, by the price of the book that they have, if it is one of a book."""
    bill = Bill(chip=chip_id, chips=chips, usd_per_chip_hour=usd_per_chip_hour)
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
        note=price.note,
    )


def _at(price: Price | None, usd_per_chip_hour: float) -> Price | None:
    """A price of a book at another amount."""
    if price is None:
        return None
    of_instance = None if price.instance_chips is None else usd_per_chip_hour * price.instance_chips
    return price.model_copy(update={"usd_per_chip_hour": usd_per_chip_hour, "usd_per_instance_hour": of_instance})


@dataclass(frozen=True)
class Market:
    """The prices and chip fields of a spec.

    A price comes from `prices`, else from the chip, else from the price book. `varied` has the price of the book that
    one of `prices` varies: the chip is still rented there. `where` names the spec in errors.
    """

    price_book: PriceBook
    purchase: Purchase
    region: str | None
    prices: Mapping[str, float]
    varied: Mapping[str, Price]
    chip_fields: Mapping[str, Mapping[str, Any]]
    where: str

    def offers(self, chips: Iterable[Chip] | None) -> tuple[Offer, ...]:
        """Offer the chips of the search that have a price, or every priced chip of the catalogue if it lists none.

        Raises ValueError when no chip has a price, SpecError for a malformed chip field.
        """
        if chips is None:
            offered = self.priced_catalogue_chips()
            if not offered:
                raise ValueError(f"search.chips: no chip of the catalogue has a price in {self._source}")
            return tuple(offer for chip in offered if (offer := self._offer(chip)) is not None)
        listed = tuple(map(self._with_fields, chips))
        found = tuple(offer for chip in listed if (offer := self._offer(chip)) is not None)
        if not found:
            raise ValueError(f"{self._no_price_for(listed[0].id)}; add `price: {{{listed[0].id}: USD_PER_CHIP_HOUR}}`")
        return found

    def unpriced(self, chips: Iterable[Chip]) -> Iterator[str]:
        """Say which chips of the search are left out, for want of a price."""
        for chip in chips:
            if self._offer(chip) is None:
                yield f"{self._no_price_for(chip.id)}, and is left out"

    def priced_catalogue_chips(self) -> tuple[Chip, ...]:
        """Every chip of the catalogue with a price in the spec or its price book, sorted by id."""
        in_book = {chip for chip in self.price_book.chips if self._cheapest(chip) is not None}
        priced = {*self.prices, *in_book}
        return tuple(self._with_fields(load_chip(chip_id)) for chip_id in chip_ids() if chip_id in priced)

    def _with_fields(self, chip: Chip) -> Chip:
        """The chip with the fields that the spec overrides. Raises SpecError."""
        if chip.id not in self.chip_fields:
            return chip
        prefix = f"chip.{chip.id}"
        fields = merged(chip.model_dump(), self.chip_fields[chip.id], f"{self.where}: {prefix}")
        return validate(Chip, fields, where=self.where, error=SpecError, prefix=prefix)

    def _offer(self, chip: Chip) -> Offer | None:
        stated = self.prices.get(chip.id, chip.usd_per_chip_hour)
        if stated is not None:
            return Offer(chip, stated, _at(self.varied.get(chip.id), stated))
        price = self._cheapest(chip.id)
        return None if price is None else Offer(chip, price.usd_per_chip_hour, price)

    def _cheapest(self, chip_id: str) -> Price | None:
        return self.price_book.cheapest(chip_id, self.purchase, self.region)

    @property
    def _source(self) -> str:
        """The price book with the purchase and the region, as error messages name them."""
        if self.region is None and self.purchase == "on_demand":
            return self.price_book.id
        return f"{self.price_book.id} as {self.purchase}" + ("" if self.region is None else f" in {self.region}")

    def _no_price_for(self, chip_id: str) -> str:
        prices = self.price_book.chips.get(chip_id, ())
        available = sorted({f"{price.purchase} in {price.region or 'any region'}" for price in prices})
        hint = f" (it has {', '.join(available)})" if available else ""
        return f"search.chips: {chip_id} has no price in {self._source}{hint}"
