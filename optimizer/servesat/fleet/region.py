"""A region of a fleet: what is sold there, how much of it, and the pods that slices stand in."""

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo

from servesat.catalogue.chip import CUBIC, Chip, Topology, axis_sizes, is_topology
from servesat.catalogue.load import EVERY_OFFER, load_price_book
from servesat.catalogue.price_book import Price, PriceBook, Purchase
from servesat.core.errors import CatalogueError
from servesat.core.validation import Strict, Usd
from servesat.fleet.pods.slices import Box
from servesat.spec.offers import Offer

MAX_POD_SIDE = 64
ChipCount = Annotated[int, Field(strict=True, ge=0, le=10**9)]


def _price_book(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str | PathLike):
        return value
    try:
        return load_price_book(Path(value), (info.context or {}).get("folder", Path()))
    except CatalogueError as fault:
        raise ValueError(str(fault)) from None


class PodsGiven(Strict):
    """The pods in which the slices of one type of chip must be placed."""

    count: Annotated[int, Field(strict=True, ge=0, le=10_000)] = Field(description="Number of pods.")
    shape: Topology | None = Field(
        default=None, description="Chips along each axis; absent: the sizes at which the axes close."
    )


class Region(Strict):
    """A region in which chips are rented: quotas, ways to buy, and prices."""

    quota: dict[str, ChipCount] | None = Field(
        default=None,
        description="Chips available, by type; types that are not listed cannot be rented. Absent: any number.",
    )
    purchases: Annotated[tuple[Purchase, ...], Field(min_length=1)] = Field(
        default=("on_demand",),
        description="Ways to buy: `on_demand`, `spot`, and `reserved`, which is bought once and paid in every period.",
    )
    price_book: Annotated[PriceBook, BeforeValidator(_price_book)] = Field(
        default=EVERY_OFFER,
        validate_default=True,
        description="Where prices come from: an id of the catalogue, or the path of a price book; `all`: every offer.",
    )
    price_cloud: str | None = Field(default=None, description="The cloud of the price book; absent: any.")
    price_region: str | None = Field(default=None, description="The region of the price book; absent: any.")
    price: dict[str, dict[Purchase, Usd]] = Field(
        default={},
        description="Prices in $ a chip-hour that replace those of the book, by chip, as in `{tpu-v5e: {on_demand: "
        "1.2}}`.",
    )
    pods: dict[str, PodsGiven] = Field(
        default={},
        description="Pods in which the slices of a TPU must be placed, by chip, as in `{tpu-v5e: {count: 2, shape: "
        "8x16}}`; absent: placement does not matter.",
    )

    def is_sold(self, chip: str, purchase: Purchase) -> bool:
        """Whether a chip is sold this way."""
        return purchase in self.price.get(chip, {}) or any(self._listed(chip, purchase))

    def offers(self, chip: Chip, purchase: Purchase) -> list[Offer]:
        """What a chip is sold as: at the region's own price, else as the book has it, the cheapest first."""
        usd = self.price.get(chip.id, {}).get(purchase)
        if usd is not None:
            return [Offer(chip, usd)]
        return [Offer(chip, price.usd_per_chip_hour, price) for price in self._listed(chip.id, purchase)]

    def _listed(self, chip: str, purchase: Purchase) -> Iterator[Price]:
        """The prices of the book that apply, the lowest first."""
        for price in self.price_book.prices.get(chip, ()):
            in_region = price.region is None or self.price_region in (None, price.region)
            if price.purchase == purchase and in_region and self.price_cloud in (None, price.cloud):
                yield price

    def chips(self) -> set[str]:
        """The chips that may be rented in the region."""
        if self.quota is not None:
            return {chip for chip, count in self.quota.items() if count}
        return {*self.price, *self.price_book.prices}


def pod_shape(chip: Chip, given: PodsGiven, key: str) -> Box:
    """The shape of a chip's pods. Raises ValueError if the chip's slices are not blocks with two or three axes."""
    ring_sizes = [axis.wraps_every for axis in chip.axes]
    if len(ring_sizes) not in (2, CUBIC) or None in ring_sizes:
        raise ValueError(
            f"{key}: the slices of {chip.id} are not blocks; expected a chip with a torus of 2 or 3 axes, such as a TPU"
        )
    if given.shape is not None and not is_topology(given.shape):
        raise ValueError(f"{key}.shape = {given.shape!r}: expected chips along each axis, as in '16x16'")
    shape = tuple(side or 1 for side in ring_sizes) if given.shape is None else axis_sizes(given.shape)
    if len(shape) != len(ring_sizes):
        raise ValueError(f"{key}.shape = {given.shape}: expected {len(ring_sizes)} sizes, as {chip.id} has axes")
    if len(shape) == CUBIC and len(set(shape)) > 1:
        raise ValueError(f"{key}.shape = {given.shape}: expected a cube, as 4x4x4: cubes are joined by optical links")
    if max(shape) > MAX_POD_SIDE:
        raise ValueError(f"{key}.shape = {given.shape}: expected at most {MAX_POD_SIDE} chips along an axis")
    return shape
