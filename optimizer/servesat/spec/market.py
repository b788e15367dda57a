"""The market of a spec: which offers it can rent, or has bought, and at which prices."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import Field

from servesat.catalogue.chip import Chip
from servesat.catalogue.load import chip_ids, load_chip
from servesat.catalogue.price_book import Price, PriceBook, Purchase, sorted_prices
from servesat.core.errors import SpecError
from servesat.core.validation import Count, Rate, Strict, Usd, nearest, validate
from servesat.spec.offers import Offer
from servesat.spec.overrides import merged

_SHOWN = 3
"""Places of other prices that an error names."""

HOURS_OF_YEAR = 8760


class Owned(Strict):
    """A machine that is bought: its price, over the years that it is used."""

    usd: Usd = Field(description="Price of a machine, including everything around its chips (host, network, rack).")
    years: Annotated[float, Field(strict=True, gt=0, le=100, allow_inf_nan=False)] = Field(
        description="Years over which it is used."
    )
    chips: Count = Field(default=8, description="Chips of a machine.")
    network_bytes_per_s: Rate | None = Field(
        default=None, description="Bytes/s that a machine sends over its network; absent: not known."
    )


class Power(Strict):
    """What electricity costs, and how much of it a data centre takes for each watt of its chips."""

    usd_per_kwh: Annotated[float, Field(strict=True, ge=0, le=1e3, allow_inf_nan=False)] = Field(
        default=0.0, description="Price of electricity [$/kWh]."
    )
    pue: Annotated[float, Field(strict=True, ge=1, le=10, allow_inf_nan=False)] = Field(
        default=1.0, description="Power of the data centre over that of its chips."
    )


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
    owned: Mapping[str, Owned]
    power: Power
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
                every = [price for prices in self.price_book.prices.values() for price in prices]
                has = self._missing_machines or self._available(every)
                raise ValueError(f"search.chips: no chip of the catalogue has a price in {self._source}{has}")
            return offered
        listed = tuple(map(self._with_fields, chips))
        found = tuple(offer for chip in listed for offer in self._offers(chip))
        if not found:
            remedy = self._missing_machines or f"; add `price: {{{listed[0].id}: USD_PER_CHIP_HOUR}}`"
            raise ValueError(f"{self._no_price_for(listed[0].id)}{remedy}")
        return found

    def unpriced(self, chips: Iterable[Chip]) -> Iterator[str]:
        """Say which chips of the search are left out, for want of a price."""
        for chip in chips:
            if not self._offers(chip):
                yield f"{self._no_price_for(chip.id)}, and is left out"

    def priced_catalogue_chips(self) -> tuple[Chip, ...]:
        """Every chip of the catalogue with a price in the spec or its price book, sorted by id."""
        priced = {
            *self.prices,
            *self._owned_chips,
            *(chip for chip in self.price_book.prices if self._prices_in_book(chip)),
        }
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
        prefix, own = f"chip.{chip.id}", self.chip_fields[chip.id]
        fields = merged(chip.model_dump(), own, f"{self.where}: {prefix}")
        changed = validate(Chip, fields, where=self.where, error=SpecError, prefix=prefix)
        if chip.usable_hbm_bytes is None or "hbm_bytes" not in own or "usable_hbm_bytes" in own:
            return changed
        usable = chip.usable_hbm_bytes * (changed.hbm_bytes / chip.hbm_bytes)  # the driver keeps the same share
        return changed.model_copy(update={"usable_hbm_bytes": usable})

    def _offers(self, chip: Chip) -> list[Offer]:
        stated = self.prices.get(chip.id, chip.usd_per_chip_hour)
        if stated is None:
            prices = [*self._prices_in_book(chip.id), *self._owned_price(chip)]
            return [Offer(chip, price.usd_per_chip_hour, price) for price in sorted_prices(prices)]
        lowest = self.varied.get(chip.id)
        if lowest is None:
            return [Offer(chip, stated, self._contract(chip.id, stated) if chip.id in self.prices else None)]
        amounts = [
            (price, stated if price.usd_per_chip_hour == lowest else price.usd_per_chip_hour * (stated / lowest))
            for price in sorted_prices([*self._prices_in_book(chip.id), *self._owned_price(chip)])
        ]
        return [Offer(chip, usd, _at(price, usd)) for price, usd in amounts]

    def _contract(self, chip_id: str, usd_per_chip_hour: float) -> Price | None:
        """A price that the spec states, as what it says chips are bought: on spot, or reserved; None if neither alone.

        It is of the region and the cloud that the spec names, where that is one.
        """
        if self.purchases not in {("spot",), ("reserved",)}:
            return None
        return Price(
            usd_per_chip_hour=usd_per_chip_hour,
            purchase=self.purchases[0],
            cloud=self.clouds[0] if len(self.clouds) == 1 else None,
            region=self.regions[0] if len(self.regions) == 1 else None,
            source=f"{self.where}: price.{chip_id}",
        )

    @property
    def _missing_machines(self) -> str:
        """What to state where machines of one's own are to be used, and there are none; else empty."""
        is_missing = self.purchases == ("owned",) and not self.owned
        return "; state your machines, as in `owned: {CHIP: {usd: 250000, years: 4}}`" if is_missing else ""

    @property
    def _owned_chips(self) -> Collection[str]:
        return self.owned if "owned" in self.purchases else ()

    def _owned_price(self, chip: Chip) -> Iterator[Price]:
        """What an owned machine of a chip costs an hour: its price over its hours, and its electricity.

        (usd / (years · 8,760) + chips · power_w / 1,000 · pue · usd_per_kwh). Raises ValueError where the power that
        would have to be paid for is not known.
        """
        if chip.id not in self._owned_chips:
            return
        machine = self.owned[chip.id]
        if self.power.usd_per_kwh and chip.power_w is None:
            raise ValueError(f"power: the power of {chip.id} is not known; give chip.{chip.id}.power_w")
        kilowatts = machine.chips * (chip.power_w or 0.0) / 1000 * self.power.pue
        usd = machine.usd / (machine.years * HOURS_OF_YEAR) + kilowatts * self.power.usd_per_kwh
        yield Price(
            purchase="owned",
            instance=f"own {machine.chips} {chip.id}",
            instance_chips=machine.chips,
            usd_per_instance_hour=usd,
            usd_per_chip_hour=usd / machine.chips,
            network_bytes_per_s=machine.network_bytes_per_s,
            source=f"{self.where}: owned.{chip.id}",
        )

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
        has = self._available(self.price_book.prices.get(chip_id, ()))
        return f"search.chips: {chip_id} has no price in {self._source}{has}"

    def _available(self, prices: Iterable[Price]) -> str:
        """How and where some offers are sold, in words: ` (it has spot in us)`."""
        places: dict[str, set[str]] = defaultdict(set)
        for price in prices:
            in_region = price.region or "any region"
            places[price.purchase].add(price.cloud or "any cloud" if self.clouds else in_region)
        at = "at" if self.clouds else "in"
        available = [f"{purchase} {at} {_some(names)}" for purchase, names in sorted(places.items())]
        return f" (it has {'; '.join(available)})" if available else ""


def _some(names: Collection[str]) -> str:
    """The first of some names, and how many more there are."""
    shown = sorted(names)[:_SHOWN]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


def _at(price: Price, usd_per_chip_hour: float) -> Price:
    """A price of a book at another amount."""
    of_instance = None if price.instance_chips is None else usd_per_chip_hour * price.instance_chips
    lowest = price.lowest_usd_per_instance_hour
    if lowest is not None:
        lowest *= usd_per_chip_hour / price.usd_per_chip_hour
    amounts = {
        "usd_per_chip_hour": usd_per_chip_hour,
        "usd_per_instance_hour": of_instance,
        "lowest_usd_per_instance_hour": lowest,
    }
    return price.model_copy(update=amounts)
