"""Price books: what chips cost on a date, by cloud, region and purchase, as offers of instances or by the chip."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from servesat.catalogue.record import Sourced, Text
from servesat.core.validation import ONE, SEVERAL, Count, Rate, Strict, Usd, nearest

Purchase = Literal["on_demand", "spot", "reserved", "owned"]

UsdByRegion = Annotated[
    Annotated[Usd, Tag(ONE)] | Annotated[dict[Text, Usd], Field(min_length=1), Tag(SEVERAL)],
    Discriminator(lambda given: SEVERAL if isinstance(given, Mapping) else ONE),
]
"""A price that is the same in every region, or one a region."""


def _in_order(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError("expected [from, to] with from at most to")
    return interval


_Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

Interval = Annotated[tuple[_Fraction, _Fraction], AfterValidator(_in_order)]
"""A share that is known as an interval: from, and to."""

_DERIVED_RTOL = 1e-9
"""How near a stated price of a chip must lie to its share of the instance's price."""


class Price(Strict):
    """The hourly price of a chip, where and how it is bought, and the source of the price.

    The chip-hour of a chip that is sold by the instance is the price of the instance over `instance_chips`. Such a
    price buys only slices that its instances hold; one without an instance buys any slice.
    """

    model_config = ConfigDict(json_schema_extra={"required": ["source"]})  # the price may be the instance's
    usd_per_chip_hour: Usd
    purchase: Purchase = "on_demand"
    cloud: Text | None = None
    region: Text | None = Field(default=None, description="Absent: the same price in every region.")
    instance: Text | None = None
    instance_chips: Count | None = Field(default=None, description="Chips in the instance.")
    usd_per_instance_hour: Usd | None = None
    lowest_usd_per_instance_hour: Usd | None = Field(
        default=None, description="What the cheapest zone of the region asked when the price was read, if less."
    )
    interrupted_per_month: Interval | None = None
    interrupted_as_of: date | None = None
    link_chips: Count | None = Field(
        default=None, description="Chips that the instance's link connects, if it reaches beyond the instance."
    )
    network_bytes_per_s: Rate | None = Field(
        default=None, description="What an instance sends over its network, one way [bytes/s]; absent: not stated."
    )
    term: Text | None = Field(default=None, description="What a reservation commits to: 1 year, nothing upfront.")
    as_of: date | None = Field(default=None, description="Date of the price; absent: that of the book.")
    source: Text
    note: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _share_of_instance(cls, data: Any) -> Any:
        """Derive the price of a chip from the price of its instance."""
        if not isinstance(data, Mapping) or "usd_per_chip_hour" in data:
            return data
        usd, chips = data.get("usd_per_instance_hour"), data.get("instance_chips")
        if usd is not None and chips is None:
            raise ValueError("instance_chips is missing: usd_per_instance_hour is the price of that many chips")
        if isinstance(usd, int | float) and isinstance(chips, int) and chips > 0:
            return {**data, "usd_per_chip_hour": usd / chips}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.usd_per_instance_hour is None) != (self.instance_chips is None):
            raise ValueError("usd_per_instance_hour and instance_chips go together")
        if self.usd_per_instance_hour is not None and self.instance_chips is not None:
            share = self.usd_per_instance_hour / self.instance_chips
            if abs(self.usd_per_chip_hour - share) > _DERIVED_RTOL * share:
                raise ValueError(f"usd_per_chip_hour = {self.usd_per_chip_hour}: expected none, or {share}")
        return self

    @property
    def network_bytes_per_s_per_chip(self) -> float | None:
        """What each chip of an instance sends when all do [bytes/s]; None where that is not stated."""
        if self.network_bytes_per_s is None or self.instance_chips is None:
            return None
        return self.network_bytes_per_s / self.instance_chips

    @cached_property
    def place(self) -> tuple[str, str, str, str, str]:
        """Cloud, region, purchase, instance and term, empty where there is none: what tells it from other prices."""
        return (self.cloud or "", self.region or "", self.purchase, self.instance or "", self.term or "")


class Instance(Strict):
    """A machine that a cloud rents as a whole."""

    chip: Text
    chips: Count
    link: Text | None = Field(default=None, description="What connects its chips, as the source says.")
    link_chips: Count | None = Field(
        default=None, description="Chips that the link connects, if it reaches beyond the instance."
    )
    network_bytes_per_s: Rate | None = Field(
        default=None, description="What it sends over its network, one way [bytes/s]; absent: not stated."
    )
    source: Text


class Interruptions(Strict):
    """How often a cloud takes instances on spot back: the share of them in a month, from and to, by region."""

    share_per_month: Annotated[dict[Text, Interval], Field(min_length=1)]
    as_of: date | None = None
    source: Text


class Listing(Strict):
    """An entry of a price list: an instance, or a chip that is sold in slices of any size, at a price by region."""

    cloud: Text | None = None
    instance: Text | None = None
    chip: Text | None = None
    purchase: Purchase = "on_demand"
    term: Text | None = Field(default=None, description="What a reservation commits to: 1 year, nothing upfront.")
    as_of: date | None = Field(default=None, description="Date of the price; absent: that of the book.")
    usd_per_instance_hour: UsdByRegion | None = None
    usd_per_chip_hour: UsdByRegion | None = None
    lowest_usd_per_instance_hour: dict[Text, Usd] = Field(
        default={}, description="By region, what the cheapest zone asked; the price is that of the dearest."
    )
    interruptions: Interruptions | None = Field(default=None, description="Of spot: how often instances are withdrawn.")
    source: Text
    note: Text | None = None

    @model_validator(mode="after")
    def _one_thing_at_one_price(self) -> Self:
        of_instance = (self.instance is not None, self.usd_per_instance_hour is not None)
        of_chip = (self.chip is not None, self.usd_per_chip_hour is not None)
        if {of_instance, of_chip} != {(True, True), (False, False)}:
            raise ValueError("expected instance with usd_per_instance_hour, or chip with usd_per_chip_hour")
        if self.interruptions is not None and self.purchase != "spot":
            raise ValueError(f"interruptions: purchase is {self.purchase}, and only spot is interrupted")
        self._check_regions("interruptions.share_per_month", self.interruptions_by_region)
        self._check_regions("lowest_usd_per_instance_hour", self.lowest_usd_per_instance_hour)
        for region, lowest in self.lowest_usd_per_instance_hour.items():
            if self.usd_per_instance_hour is None or lowest > self.by_region[region]:
                raise ValueError(
                    f"lowest_usd_per_instance_hour.{region} = {lowest:g}: expected at most usd_per_instance_hour there"
                )
        return self

    def _check_regions(self, key: str, regions: Iterable[str]) -> None:
        """Check that there is a price in each of some regions. Raises ValueError."""
        for region in regions:
            if region not in self.by_region:
                raise ValueError(f"{key}.{region}: there is no price in that region")

    @property
    def interruptions_by_region(self) -> dict[str, "Interval"]:
        """The share of instances withdrawn in a month, from and to, where it is known."""
        return {} if self.interruptions is None else self.interruptions.share_per_month

    @property
    def by_region(self) -> dict[str | None, float]:
        """The price in each region; None stands for every region."""
        usd = self.usd_per_chip_hour if self.usd_per_instance_hour is None else self.usd_per_instance_hour
        return dict(usd.items()) if isinstance(usd, dict) else {None: usd or 0.0}


def _as_list(value: Any) -> Any:
    """Accept a single price without a list around it."""
    return [value] if isinstance(value, Mapping | Price) else value


_Prices = Annotated[
    tuple[Price, ...],
    Field(min_length=1),
    BeforeValidator(_as_list, json_schema_input_type=Price | tuple[Price, ...]),
]


class PriceBook(Sourced):
    """Prices on a date: `offers`, of the machines that clouds rent, and prices of `chips` wherever they stand."""

    chips: dict[str, _Prices] = {}
    instances: dict[Text, Instance] = {}
    offers: tuple[Listing, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.chips and not self.offers:
            raise ValueError("expected the prices of some chips, or some offers")
        for position, offer in enumerate(self.offers):
            if offer.instance is not None and offer.instance not in self.instances:
                hint = nearest(offer.instance, self.instances) if self.instances else "there are none"
                raise ValueError(f"offers.{position}.instance = {offer.instance!r}: is not among instances; {hint}")
        seen: set[tuple[str | None, ...]] = set()
        for position, offer in enumerate(self.offers):
            for region in offer.by_region:
                sold = (offer.cloud, region, offer.purchase, offer.instance, offer.chip, offer.term)
                if sold in seen:
                    where = f"{offer.instance or offer.chip} in {region or 'every region'}"
                    raise ValueError(f"offers.{position}: {where} is listed twice as {offer.purchase}")
                seen.add(sold)
        return self

    @cached_property
    def prices(self) -> dict[str, tuple[Price, ...]]:
        """Every price by chip, those of `chips` and, one a region, those of `offers`; the lowest first."""
        found: dict[str, list[Price]] = defaultdict(list)
        for chip, prices in self.chips.items():
            found[chip] += prices
        for offer in self.offers:
            machine = None if offer.instance is None else self.instances[offer.instance]
            sold = offer.chip if machine is None else machine.chip
            found[sold or ""] += _prices_of(offer, machine)
        return {chip: sorted_prices(prices) for chip, prices in found.items()}

    @cached_property
    def regions(self) -> set[str]:
        """The regions named by prices of the book."""
        return {price.region for prices in self.prices.values() for price in prices if price.region is not None}

    @cached_property
    def clouds(self) -> set[str]:
        """The clouds named by prices of the book."""
        return {price.cloud for prices in self.prices.values() for price in prices if price.cloud is not None}


def merged(books: Sequence[PriceBook], book_id: str, name: str) -> PriceBook:
    """Several books as one, with every price of each; it is as old as the oldest of them."""
    found: dict[str, list[Price]] = defaultdict(list)
    for book in books:
        for chip, prices in book.prices.items():
            found[chip] += prices
    chips = {chip: tuple(prices) for chip, prices in found.items()}
    dates = [book.checked for book in books if book.checked is not None]
    # each part was validated when it was read
    return PriceBook.model_construct(id=book_id, name=name, checked=min(dates, default=None), chips=chips)


def sorted_prices(prices: Sequence[Price]) -> tuple[Price, ...]:
    """Prices of a chip, the lowest first, and of equal ones that of the smallest instance."""
    return tuple(sorted(prices, key=lambda price: (price.usd_per_chip_hour, price.instance_chips or 0, price.place)))


def _prices_of(offer: Listing, machine: Instance | None) -> list[Price]:
    """The prices of an offer, one a region."""
    chips = None if machine is None else machine.chips
    # the parts were validated when they were read, and a book has thousands of them
    return [
        Price.model_construct(
            usd_per_chip_hour=usd / (chips or 1),
            purchase=offer.purchase,
            cloud=offer.cloud,
            region=region,
            instance=offer.instance,
            instance_chips=chips,
            usd_per_instance_hour=None if machine is None else usd,
            lowest_usd_per_instance_hour=offer.lowest_usd_per_instance_hour.get(region or ""),
            interrupted_per_month=offer.interruptions_by_region.get(region or ""),
            interrupted_as_of=None if offer.interruptions is None else offer.interruptions.as_of,
            link_chips=None if machine is None else machine.link_chips,
            network_bytes_per_s=None if machine is None else machine.network_bytes_per_s,
            term=offer.term,
            as_of=offer.as_of,
            source=offer.source,
            note=offer.note,
        )
        for region, usd in offer.by_region.items()
    ]
