"""The formats of the price lists that users have: SkyPilot's catalogue, gpuhunt's, and a list of one's own."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from math import isfinite
from pathlib import Path
from typing import get_args

from servesat.catalogue.accelerator_names import accelerator_names, chip_named, is_known, tpu_slice
from servesat.catalogue.load import chip_ids
from servesat.catalogue.price_book import Purchase
from servesat.catalogue.price_rows import CellError, LeftOut, Offer, PriceList, Row, usd_per_hour, whole_chips
from servesat.core.errors import CatalogueError
from servesat.core.validation import nearest

_HALF_A_CENT = 0.005
"""How far a price may be rounded [$]."""

_PLACEHOLDER_USD = 700.0
"""What SkyPilot writes for an unknown price of a slice of any size; no chip costs as much."""

_MIB_OF_ONE = re.compile(r"SizeInMiB\W+(\d{4,9})\b", re.ASCII)
_MIB_OF_ALL = re.compile(r"TotalGpuMemoryInMiB\W+(\d{4,9})\b", re.ASCII)
_GCP_ZONE = re.compile(r"([a-z]+-[a-z]+\d+)-\w+", re.ASCII)


def _skypilot(row: Row, prices: PriceList) -> Iterator[Offer]:
    """The offers of a row of SkyPilot's catalogue: on demand and on spot, in a zone of a region."""
    name, count = row.text("AcceleratorName"), row.number("AcceleratorCount")
    sold = _sold(prices, name, row.text("InstanceType"), count, _memory_gib(row.cell("GpuInfo"), count))
    if sold is None:
        return
    if not row.cell("Price") and not row.cell("SpotPrice"):
        prices.leave_out(LeftOut.NO_PRICE, name)
    instance, chip, chips = sold
    for purchase, column in (("on_demand", "Price"), ("spot", "SpotPrice")):
        usd = usd_per_hour(row, column, prices, name, chips)
        if usd is not None and (usd == _PLACEHOLDER_USD or usd / chips >= _PLACEHOLDER_USD):
            prices.leave_out(LeftOut.PLACEHOLDER, name)
        elif usd is not None:
            yield Offer(prices.cloud, instance, chip, chips, row.text("Region") or None, purchase, usd)


def _gpuhunt(row: Row, prices: PriceList) -> Iterator[Offer]:
    """The offer of a row of gpuhunt's catalogue; Google's locations are zones, and become regions."""
    name, memory_gib = row.text("gpu_name"), row.number("gpu_memory")
    stated = memory_gib if memory_gib and isfinite(memory_gib) else None
    sold = _sold(prices, name, row.text("instance_name"), row.number("gpu_count"), stated)
    if sold is None:
        return
    spot = row.text("spot").casefold()
    if spot not in {"true", "false"}:
        raise CellError("spot", "expected True or False")
    conditions = {*row.text("flags").split()} & {*accelerator_names().gpuhunt_conditions}
    if conditions:
        prices.leave_out(LeftOut.CONDITIONS, min(conditions))
        return
    instance, chip, chips = sold
    cloud, location = row.text("provider") or prices.cloud, row.text("location")
    zone = _GCP_ZONE.fullmatch(location) if cloud == "gcp" else None
    usd = usd_per_hour(row, "price", prices, name, chips)
    if not row.cell("price"):
        prices.leave_out(LeftOut.NO_PRICE, name)
    if usd is not None:
        purchase = "spot" if spot == "true" else "on_demand"
        yield Offer(cloud, instance, chip, chips, zone[1] if zone else location or None, purchase, usd)


def _own(row: Row, prices: PriceList) -> Iterator[Offer]:
    """The offer of a row of a list of one's own, whose chips are ids of the catalogue."""
    chip, instance, column = row.text("chip"), row.text("instance") or None, "usd_per_instance_hour"
    if chip and chip not in chip_ids():
        raise CellError("chip", nearest(chip, chip_ids()))
    chips = whole_chips(prices, chip, row.number("chips"))
    if chips is None:
        return
    usd = usd_per_hour(row, column, prices, chip, chips)
    if not row.cell(column):
        prices.leave_out(LeftOut.NO_PRICE, chip)
    purchase, network, link = row.text("purchase") or "on_demand", row.number("network_bytes_per_s"), _link(row)
    if purchase not in get_args(Purchase):
        raise CellError("purchase", f"expected one of {', '.join(get_args(Purchase))}")
    if network is not None and not 1 <= network <= 1e30:
        raise CellError("network_bytes_per_s", "expected at least 1")
    for machine in ("network_bytes_per_s", "link_chips"):
        if instance is None and row.cell(machine):
            raise CellError(machine, "expected none without an instance")
    if usd is not None:
        cloud, region = row.text("cloud") or prices.cloud, row.text("region") or None
        term, note = row.text("term") or None, row.text("note", 1000) or None
        offer = Offer(
            cloud, instance, chip, chips, region, purchase, usd, term, _date(row, "as_of"), note, network, link
        )
        _refuse_contradictions(offer, prices)
        yield offer


def _sold(
    prices: PriceList, name: str, instance: str, count: float | None, memory_gib: float | None
) -> tuple[str | None, str, int] | None:
    """The instance of a row, its chip and how many; None in place of an instance sells them by the chip.

    Leaves out a row without an accelerator, with a part of one, without an instance, or of an uncertain chip.
    """
    part = tpu_slice(name)
    chips = whole_chips(prices, name, count if part is None or count is None else count * part[1])
    if chips is None:
        return None
    if part is not None:
        return None, part[0], chips
    if not instance and is_known(name):
        prices.leave_out(LeftOut.ALONE, name)
        return None
    chip = chip_named(name, instance, memory_gib)
    if chip is None:
        prices.leave_out(LeftOut.UNMAPPED, name)
        return None
    return instance, chip, chips


def _memory_gib(info: str, count: float | None) -> float | None:
    """The memory of each accelerator by SkyPilot's GpuInfo [GiB]; None where it may be that of all of them."""
    one, every = _MIB_OF_ONE.search(info), _MIB_OF_ALL.search(info)
    if one is None or count is None:
        return None
    of_one = count == 1 or (every is not None and int(every[1]) == count * int(one[1]))
    return int(one[1]) / 1024 if of_one else None


def _link(row: Row) -> int | None:
    """How many chips a link connects. Raises CellError."""
    chips = row.number("link_chips")
    if chips is not None and not (chips.is_integer() and 1 <= chips <= 1e12):
        raise CellError("link_chips", "expected a whole number of at least 1")
    return None if chips is None else int(chips)


def _date(row: Row, column: str) -> date | None:
    """A date; None for an empty cell. Raises CellError."""
    try:
        return date.fromisoformat(row.text(column)) if row.cell(column) else None
    except ValueError:
        raise CellError(column, "expected a date such as 2026-11-28") from None


def _refuse_contradictions(offer: Offer, prices: PriceList) -> None:
    """Check that rows do not price an offer twice, nor describe an instance in two ways. Raises CellError."""
    same = replace(offer, usd_per_hour=0.0, as_of=None, note=None, network_bytes_per_s=None, link_chips=None)
    machine = (offer.cloud, offer.instance, offer.chip, offer.chips)
    if offer.instance is None:
        of_chip = (offer.cloud, offer.chip, offer.region, offer.purchase, offer.term, "chip")
        usd = offer.chips * prices.stated.setdefault(of_chip, offer.usd_per_hour / offer.chips)
        if abs(usd - offer.usd_per_hour) > _HALF_A_CENT * (offer.chips + 1):
            how_many = f"{offer.chips} times the price per chip of an earlier row"
            raise CellError("usd_per_instance_hour", f"expected {usd:g}, {how_many}; name the instances that differ")
    for column, key, value in (
        ("usd_per_instance_hour", same, offer.usd_per_hour),
        ("network_bytes_per_s", (*machine, "network"), offer.network_bytes_per_s),
        ("link_chips", (*machine, "link"), offer.link_chips),
    ):
        if value is not None and prices.stated.setdefault(key, value) != value:
            what = "offer" if key is same else "instance"
            raise CellError(column, f"expected {prices.stated[key]}, as an earlier row says of the same {what}")


@dataclass(frozen=True)
class Format:
    """A kind of price list: the columns that tell it, those that it may have, and how its rows are read.

    Without `optional` columns, those that are not needed are ignored.
    """

    name: str
    needed: tuple[str, ...]
    offers: Callable[[Row, PriceList], Iterator[Offer]]
    cloud: Callable[[Path, str | None], str | None]
    optional: tuple[str, ...] = ()


def _skypilot_cloud(path: Path, given: str | None) -> str:
    """The cloud given, or else the folder that the file stands in. Raises CatalogueError."""
    folder = path.absolute().parent.name
    if not given and folder not in accelerator_names().skypilot_clouds:
        raise CatalogueError(f"{path}: --cloud is missing: its folder {folder!r} is none of SkyPilot's clouds")
    return given or folder


FORMATS = (
    Format(
        "SkyPilot",
        ("InstanceType", "AcceleratorName", "AcceleratorCount", "Price", "SpotPrice", "Region"),
        _skypilot,
        _skypilot_cloud,
    ),
    Format(
        "gpuhunt",
        ("instance_name", "location", "price", "gpu_count", "gpu_name", "spot"),
        _gpuhunt,
        lambda path, given: given or path.stem,
    ),
    Format(
        "own",
        ("instance", "chip", "chips", "usd_per_instance_hour"),
        _own,
        lambda _, given: given,
        ("cloud", "region", "purchase", "term", "network_bytes_per_s", "link_chips", "note", "as_of"),
    ),
)
