"""Price books: the prices of chips on a date, by cloud, region and purchase."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from servesat.catalogue.record import Sourced, Text
from servesat.core.validation import Count, Strict, Usd

Purchase = Literal["on_demand", "spot", "reserved"]


class Price(Strict):
    """The hourly price of a chip, where and how it is bought, and the source of the price.

    The chip-hour of a chip that is sold by the instance is the price of the instance over `instance_chips`.
    """

    usd_per_chip_hour: Usd
    purchase: Purchase = "on_demand"
    cloud: Text | None = None
    region: Text | None = Field(default=None, description="Absent: the same price in every region.")
    instance: Text | None = None
    instance_chips: Count | None = Field(default=None, description="Chips in the instance.")
    usd_per_instance_hour: Usd | None = None
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
            if abs(self.usd_per_chip_hour - share) > 1e-9 * share:
                raise ValueError(f"usd_per_chip_hour = {self.usd_per_chip_hour}: expected none, or {share}")
        return self


def _as_list(value: Any) -> Any:
    """Accept a single price without a list around it."""
    return [value] if isinstance(value, Mapping | Price) else value


class PriceBook(Sourced):
    """Prices of chips on a date: one or several per chip, by cloud, region and purchase."""

    chips: dict[str, Annotated[tuple[Price, ...], Field(min_length=1), BeforeValidator(_as_list)]] = Field(min_length=1)

    def cheapest(self, chip: str, purchase: Purchase, region: str | None) -> Price | None:
        """The lowest price of a chip for a purchase, in a region if given; None where there is no such price."""
        prices = [price for price in self.chips.get(chip, ()) if price.purchase == purchase]
        in_region = [price for price in prices if region is None or price.region in (None, region)]
        return min(in_region, key=lambda price: price.usd_per_chip_hour, default=None)

    @property
    def regions(self) -> set[str]:
        """The regions named by prices of the book."""
        return {price.region for prices in self.chips.values() for price in prices if price.region is not None}
