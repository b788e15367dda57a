"""The names that price lists give accelerators, and the chips of the catalogue that they certainly are."""

import re
from collections import defaultdict
from datetime import date
from fnmatch import fnmatchcase
from functools import cache, cached_property, lru_cache
from typing import Literal

from servesat.catalogue.load import load_chip, shelf_of
from servesat.catalogue.record import Text
from servesat.core.errors import CatalogueError
from servesat.core.reading import read_toml
from servesat.core.validation import Strict, validate

FILE = "accelerator_names.toml"

_MEMORY_RTOL = 0.1
"""How far a stated memory may lie from a chip's: it is rounded, in GB or GiB, or what the driver leaves."""

_SLICE = re.compile(r"(?:tpu-)?(?P<version>v\w+)-(?P<size>\d{1,9})", re.ASCII)


class AcceleratorName(Strict):
    """Names of a chip, of any instance or of those whose names fit a pattern."""

    chip: Text
    names: tuple[Text, ...]
    instances: tuple[Text, ...] = ()

    def fits(self, instance: str, memory_gib: float | None) -> bool:
        """Whether neither the instance nor the memory that a row states contradicts the chip."""
        patterns = [pattern.casefold() for pattern in self.instances]
        if patterns and not any(fnmatchcase(instance.casefold(), pattern) for pattern in patterns):
            return False
        hbm_bytes = load_chip(self.chip).hbm_bytes
        return memory_gib is None or abs(memory_gib * 2**30 - hbm_bytes) <= _MEMORY_RTOL * hbm_bytes


class TpuName(Strict):
    """The version in the name of a slice, and how many of what its size counts make a chip."""

    chip: Text
    version: Text
    cores: Literal[1, 2]


class AcceleratorNames(Strict):
    """The table of names."""

    checked: date
    source: Text
    skypilot_clouds: tuple[Text, ...]
    gpuhunt_conditions: tuple[Text, ...]
    cards: dict[Text, Text]
    accelerators: tuple[AcceleratorName, ...]
    tpus: tuple[TpuName, ...]

    @cached_property
    def by_name(self) -> dict[str, list[AcceleratorName]]:
        """The entries of each name, in its plain form."""
        entries = defaultdict(list)
        for entry in self.accelerators:
            for name in entry.names:
                entries[_plain(name)].append(entry)
        return dict(entries)


@cache
def accelerator_names() -> AcceleratorNames:
    """The table of names, from hardware/accelerator_names.toml."""
    path = shelf_of("hardware") / FILE
    return validate(AcceleratorNames, read_toml(path, CatalogueError), where=str(path), error=CatalogueError)


def is_known(name: str) -> bool:
    """Whether a name is in the table, certain or not."""
    return _plain(name) in accelerator_names().by_name


@lru_cache(maxsize=10_000)
def chip_named(name: str, instance: str, memory_gib: float | None) -> str | None:
    """The chip that an accelerator of an instance is; None where no entry fits, or entries of several chips do."""
    entries = accelerator_names().by_name.get(_plain(name), [])
    chips = {entry.chip for entry in entries if entry.fits(instance, memory_gib)}
    return chips.pop() if len(chips) == 1 else None


def chip_of_card(card: str) -> str | None:
    """The chip of a card as its driver names it, `NVIDIA H100 80GB HBM3`; None for any other name."""
    return accelerator_names().cards.get(card)


def cards_of(chip: str) -> list[str]:
    """The cards that are a chip, as their driver names them."""
    return [card for card, named in accelerator_names().cards.items() if named == chip]


@lru_cache(maxsize=10_000)
def tpu_slice(name: str) -> tuple[str, float] | None:
    """The chip of a slice of TPUs and how many it holds, `tpu-v5p-8` four; None for any other name."""
    match = _SLICE.fullmatch(name.casefold())
    tpus = {tpu.version: tpu for tpu in accelerator_names().tpus}
    if match is None or match["version"] not in tpus:
        return None
    tpu = tpus[match["version"]]
    return tpu.chip, int(match["size"]) / tpu.cores


def _plain(name: str) -> str:
    """A name without what lists write differently: case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "", name).casefold()
