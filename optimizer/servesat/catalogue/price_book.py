"""Price books: what chips cost at one date, by cloud, region and purchase."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from servesat.catalogue.record import Sourced, Text
from servesat.core.validation import Count, Strict, Usd

Purchase = Literal["on_demand", "spot", "reserved"]


class Price(Strict):
    """What a chip costs for an hour, where and how it is bought, and where that is written.

    A chip that is sold by the instance has the price of the instance: its chip-hour is that over `instance_chips`.
    """

    usd_per_chip_hour: Usd
    purchase: Purchase = "on_demand"
    cloud: Text | None = None
    region: Text | None = Field(default=None, description="Absent: the same everywhere.")
    instance: Text | None = None
    instance_chips: Count | None = Field(default=None, description="Chips of the instance that is sold.")
    usd_per_instance_hour: Usd | None = None
    source: Text
    note: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_the_instance(cls, data: Any) -> Any:
        """Give a chip that is sold by the instance its share of the price."""
        if not isinstance(data, Mapping) or "usd_per_chip_hour" in data:
            return data
        whole, chips = data.get("usd_per_instance_hour"), data.get("instance_chips")
        if whole is not None and chips is None:
            raise ValueError("instance_chips is missing: usd_per_instance_hour is the price of so many")
        if isinstance(whole, int | float) and isinstance(chips, int) and chips > 0:
            return {**data, "usd_per_chip_hour": whole / chips}
        return data

    @model_validator(mode="after")
    def _one_price(self) -> Self:
        if (self.usd_per_instance_hour is None) != (self.instance_chips is None):
            raise ValueError("usd_per_instance_hour and instance_chips go together")
        if self.usd_per_instance_hour is not None and self.instance_chips is not None:
            share = self.usd_per_instance_hour / self.instance_chips
            if abs(self.usd_per_chip_hour - share) > 1e-9 * share:
                raise ValueError(f"usd_per_chip_hour = {self.usd_per_chip_hour}: expected none, or {share}")
        return self


def _several(value: Any) -> Any:
    """One offer may stand without a list around it."""
    return [value] if isinstance(value, Mapping | Price) else value


class PriceBook(Sourced):
    """Prices of chips at one date: one or several for each, by cloud, region and purchase."""

    chips: dict[str, Annotated[tuple[Price, ...], Field(min_length=1), BeforeValidator(_several)]] = Field(min_length=1)

    def cheapest(self, chip: str, purchase: Purchase, region: str | None) -> Price | None:
        """The lowest price of a chip bought in this way, in this region if one is given; None where there is none."""
        offers = [price for price in self.chips.get(chip, ()) if price.purchase == purchase]
        here = [price for price in offers if region is None or price.region in (None, region)]
        return min(here, key=lambda price: price.usd_per_chip_hour, default=None)

    @property
    def regions(self) -> set[str]:
        """The regions that some price of the book names."""
        return {price.region for prices in self.chips.values() for price in prices if price.region is not None}
