"""Import of price lists: what a list offers becomes a dated price book."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from servesat.catalogue.load import MAX_BOOK_BYTES
from servesat.catalogue.price_book import PriceBook
from servesat.catalogue.price_lists import read_price_list
from servesat.catalogue.price_rows import LeftOut, Offer
from servesat.core.errors import CatalogueError
from servesat.core.validation import validate

MAX_PRICES = 200_000
"""The most prices of a book, which take some 6 MB."""

_ROUNDING = 1e-4
"""How far prices of a chip lie apart, relatively, where those of its slices were rounded."""

_NAMED_CLOUDS = 3
"""How many clouds the name of a book lists."""


class _Machine(NamedTuple):
    """What tells a machine from others; one that is sold by the chip has no instance, and counts no chips."""

    cloud: str | None
    instance: str | None
    chip: str
    chips: int


class _Listed(NamedTuple):
    """What tells an entry of a price book from others."""

    machine: _Machine
    purchase: str
    term: str | None
    as_of: date | None
    note: str | None
    everywhere: bool


@dataclass(frozen=True)
class ImportedPrices:
    """A price book made of a list, its text, the list's format, and how often what was left out of it."""

    book: PriceBook
    text: str
    kind: str
    left_out: tuple[tuple[LeftOut, str, int], ...]

    @property
    def prices(self) -> int:
        """How many prices the book has."""
        return sum(len(offer.by_region) for offer in self.book.offers)

    @property
    def notes(self) -> list[str]:
        """A sentence for each reason to leave something out, with its counts by name."""
        return _notes(self.left_out)


def import_prices(path: Path, cloud: str | None = None, checked: date | None = None) -> ImportedPrices:
    """Make a price book of a list: SkyPilot's, gpuhunt's or one's own, recognised by its header.

    `cloud` is that of rows that name none, and `checked` the date of the book, by default that of the file. Raises
    CatalogueError for a file that is no such list, for its malformed rows, and for a list without an offer.
    """
    gathered = _Gathered(path)
    kind, prices = read_price_list(path, cloud, gathered.add)
    left_out = _in_order(prices.left_out)
    if not gathered.usd:
        raise CatalogueError("\n".join(f"{path}: {note}" for note in ("no row is an offer", *_notes(left_out))))
    labels = _labels(gathered.machines)
    source = path.name.encode("utf-8", "backslashreplace").decode()
    fields = {
        "name": _book_name(gathered.machines, source),
        "checked": checked or date.fromtimestamp(path.stat().st_mtime),
        "instances": {label: {**gathered.machines[machine], "source": source} for machine, label in labels.items()},
        "offers": _offers(gathered, labels, source),
    }
    book = validate(PriceBook, fields, where=str(path), error=CatalogueError)
    text = book_text(book)
    size = len(text.encode())
    if size > MAX_BOOK_BYTES:
        raise CatalogueError(f"{path}: its price book would take {size:,} bytes, of at most {MAX_BOOK_BYTES:,}")
    return ImportedPrices(book, text, kind.name, left_out)


def book_text(book: PriceBook) -> str:
    """The text of a price book's file, without characters that a terminal obeys."""
    fields = book.model_dump(exclude_none=True, exclude={"id"})
    text = tomli_w.dumps({key: value for key, value in fields.items() if value})
    return re.sub(r"[^ -~\n]", _escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    return character if character.isprintable() else f"\\U{ord(character):08x}"


@dataclass
class _Gathered:
    """The lowest and the highest price [$/h] of each offer by region, and what is known of each machine."""

    path: Path
    prices: int = 0
    usd: dict[_Listed, dict[str | None, tuple[float, float]]] = field(default_factory=lambda: defaultdict(dict))
    machines: dict[_Machine, dict[str, Any]] = field(default_factory=dict)

    def add(self, offer: Offer) -> None:
        """Add an offer; that of another zone or slice may be there already. Raises CatalogueError for too many."""
        by_chip = offer.instance is None
        machine = _Machine(offer.cloud, offer.instance, offer.chip, 0 if by_chip else offer.chips)
        listed = _Listed(machine, offer.purchase, offer.term, offer.as_of, offer.note, offer.region is None)
        usd = offer.usd_per_hour / (offer.chips if by_chip else 1)
        by_region = self.usd[listed]
        self.prices += offer.region not in by_region
        if self.prices > MAX_PRICES:
            raise CatalogueError(f"{self.path}: expected at most {MAX_PRICES:,} prices")
        low, high = by_region.get(offer.region, (usd, usd))
        by_region[offer.region] = (min(low, usd), max(high, usd))
        network = {"network_bytes_per_s": offer.network_bytes_per_s, "link_chips": offer.link_chips}
        known = self.machines.setdefault(machine, {"chip": offer.chip, "chips": offer.chips})
        known |= {key: value for key, value in network.items() if value is not None}


def _labels(machines: Mapping[_Machine, Mapping[str, Any]]) -> dict[_Machine, str]:
    """Names of the instances; those that a list calls the same are told apart by their cloud and chips."""
    called = defaultdict(list)
    for machine in machines:
        if machine.instance is not None:
            called[machine.instance].append(machine)
    labels = {}
    for name, same in called.items():
        alike = len({frozenset(machines[machine].items()) for machine in same}) == 1
        for machine in same:
            apart = ", ".join(filter(None, (machine.cloud, f"{machine.chips} x {machine.chip}")))
            labels[machine] = name if alike else f"{name} ({apart})"
    return labels


def _book_name(machines: Iterable[_Machine], source: str) -> str:
    """What a book is called: `aws offers from vms.csv`."""
    clouds = sorted({machine.cloud for machine in machines if machine.cloud is not None})
    if not clouds or len(clouds) > _NAMED_CLOUDS:
        return f"Offers of {len(clouds)} clouds from {source}" if clouds else f"Offers from {source}"
    return f"{', '.join(clouds)} offers from {source}"


def _offers(gathered: _Gathered, labels: Mapping[_Machine, str], source: str) -> list[dict[str, Any]]:
    """The entries of a book: one for each instance or chip, purchase and note, with its price by region."""
    by_region: dict[_Listed, dict[str | None, tuple[float, float]]] = defaultdict(dict)
    for listed, regions in gathered.usd.items():
        for region, (low, high) in regions.items():
            by_region[listed._replace(note=_note_of(listed, low, high))][region] = low, high
    ordered = sorted(by_region, key=lambda listed: [str(part or "") for part in (*listed.machine, *listed[1:])])
    return [_offer(listed, by_region[listed], labels, source) for listed in ordered]


def _offer(
    listed: _Listed, by_region: Mapping[str | None, tuple[float, float]], labels: Mapping[_Machine, str], source: str
) -> dict[str, Any]:
    """The fields of an entry of a book."""
    machine, purchase, term, as_of, note, everywhere = listed
    sold, of = ({"instance": labels[machine]}, "instance") if machine in labels else ({"chip": machine.chip}, "chip")
    regions = [] if everywhere else sorted(by_region, key=str)
    usd = by_region[None][1] if everywhere else {region: by_region[region][1] for region in regions}
    lowest = {region: by_region[region][0] for region in regions if by_region[region][0] < by_region[region][1]}
    fields: dict[str, Any] = {"cloud": machine.cloud, **sold, "purchase": purchase, "term": term, "as_of": as_of}
    fields |= {f"usd_per_{of}_hour": usd, "source": source, "note": note}
    if of == "instance" and lowest:
        fields["lowest_usd_per_instance_hour"] = lowest
    return {key: value for key, value in fields.items() if value is not None}


def _note_of(listed: _Listed, low: float, high: float) -> str | None:
    """The note of a price, which says where other zones or slices cost less, unless a field of its own does."""
    by_chip = listed.machine.instance is None
    if low >= high * (1 - (_ROUNDING if by_chip else 0)) or not (by_chip or listed.everywhere):
        return listed.note
    lowest = f"highest {'zone or slice' if by_chip else 'zone'}; the lowest was {low:.12g}"
    return lowest if listed.note is None else f"{listed.note}; {lowest}"


def _in_order(left_out: Mapping[tuple[LeftOut, str], int]) -> tuple[tuple[LeftOut, str, int], ...]:
    """What is left out, reason by reason, then by name."""
    reasons = list(LeftOut)
    ordered = sorted(left_out, key=lambda entry: (reasons.index(entry[0]), entry[1]))
    return tuple((reason, name, left_out[reason, name]) for reason, name in ordered)


def _notes(left_out: Iterable[tuple[LeftOut, str, int]]) -> list[str]:
    """A sentence for each reason to leave something out: `left out 3 prices (zero): K80 (2), P100 (1)`."""
    notes = []
    for reason, group in groupby(left_out, key=lambda entry: entry[0]):
        counts = {name: count for _, name, count in group}
        total = sum(counts.values())
        names = ", ".join(f"{name} ({count:,})" for name, count in counts.items() if name)
        what, why = reason.value
        notes.append(f"left out {total:,} {what}{'s' if total > 1 else ''} ({why}){': ' if names else ''}{names}")
    return notes
