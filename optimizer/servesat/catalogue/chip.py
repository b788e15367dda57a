"""Chips: memory, peaks, interconnect and slices."""

from functools import lru_cache
from math import prod
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from servesat.catalogue.record import Sourced, Text
from servesat.core.validation import Count, Rate, Strict, Usd, refuse_duplicates


def _topology_text(value: Any) -> Any:
    """Turn the topology `8` of a single axis, which YAML reads as a number, into text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Topology = Annotated[str, BeforeValidator(_topology_text)]
MAX_CHIPS = 1_000_000
"""Largest slice [chips]: beyond all real slices, and exact in every numeric type used."""


class Axis(Strict):
    """An axis of a slice: the chips along it communicate over the same links."""

    name: Text
    bytes_per_s: Rate = Field(
        description="What a chip can receive over this axis [bytes/s]: "
        "both directions of a torus axis, the one-way port of a switch."
    )
    wraps_every: Count | None = Field(
        default=None,
        description="A torus axis closes to a ring where its size is a multiple of this; of three such axes all do or "
        "none, as optical switches close whole cubes. Absent: a switch.",
    )


class Peaks(Strict):
    """Dense peak FLOP/s of a chip by dtype; the chip cannot compute in a dtype that is absent."""

    bf16: Rate | None = None
    fp8: Rate | None = None
    int8: Rate | None = None
    int4: Rate | None = None
    mxfp4: Rate | None = None
    nvfp4: Rate | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.by_dtype():
            raise ValueError("expected the peak of at least one dtype")
        return self

    def by_dtype(self) -> dict[str, float]:
        """The peaks by dtype [FLOP/s]."""
        return {dtype: peak for dtype, peak in self if peak is not None}


class Chip(Sourced):
    """An accelerator: memory, peak FLOP/s by dtype, interconnect and slices."""

    vendor: Text
    hbm_bytes: Rate = Field(description="M, memory of a chip, the round figure of its maker [bytes].")
    usable_hbm_bytes: Rate | None = Field(
        default=None, description="Memory that a chip's driver or compiler reports [bytes]; absent: not known."
    )
    hbm_bytes_per_s: Rate = Field(description="W_hbm, memory bandwidth of a chip [bytes/s].")
    power_w: Rate | None = Field(default=None, description="Rated power of a chip [W]; absent: not known.")
    flop_per_s: Peaks = Field(description="C, dense peak of a chip by compute dtype [FLOP/s].")
    axes: tuple[Axis, ...] = Field(min_length=1, max_length=6, description="The axes of a slice, fastest first.")
    topologies: tuple[Topology, ...] = Field(
        min_length=1, max_length=1000, description="The slices offered, as chips along each axis: '4x8'."
    )
    devices: Annotated[int, Field(strict=True, ge=1, le=64)] = Field(
        default=1, description="Devices that an engine takes a chip for, as it counts them in tensor parallelism."
    )
    node_chips: Count | None = Field(default=None, description="Chips that share a host.")
    network_bytes_per_s: Rate | None = Field(
        default=None, description="What a chip can send over the data-centre network, one way [bytes/s]."
    )
    host_bytes_per_s: Rate | None = Field(
        default=None, description="What a chip receives from the memory of its host [bytes/s]; absent: not known."
    )
    usd_per_chip_hour: Usd | None = Field(
        default=None, description="A price that goes before the price book; chips of the catalogue have none."
    )
    note: Text | None = Field(default=None, description="Conflicts between sources, and omissions.")

    @model_validator(mode="after")
    def _topologies_fit_axes(self) -> Self:
        refuse_duplicates(self.topologies)
        for topology in self.topologies:
            if not is_topology(topology):
                raise ValueError(f"topologies: {topology!r}: expected chips along each axis, as in '4x8'")
            if chips_in(topology) > MAX_CHIPS:
                raise ValueError(f"topologies: {topology!r}: expected at most {MAX_CHIPS:,} chips")
            sizes = len(axis_sizes(topology))
            if sizes != len(self.axes):
                raise ValueError(f"topologies: {topology!r} has {sizes} sizes, expected {len(self.axes)}, one an axis")
        return self


def offered_topology(chip: Chip, topology: str) -> str | None:
    """The slice of a chip that a topology names, in whatever order of axes that are alike: `4x2` is `2x4` on a torus.

    None if it is not offered.
    """
    if topology in chip.topologies or not is_topology(topology):
        return topology if topology in chip.topologies else None
    sizes = _sizes_by_kind(chip, topology)
    return next((offered for offered in chip.topologies if _sizes_by_kind(chip, offered) == sizes), None)


def _sizes_by_kind(chip: Chip, topology: str) -> list[tuple[float, int, int]]:
    """Bandwidth, wraparound and size of each axis, sorted."""
    sizes = zip(chip.axes, axis_sizes(topology), strict=False)
    return sorted((axis.bytes_per_s, axis.wraps_every or 0, size) for axis, size in sizes)


CUBIC = 3
"""Axes of a torus that is joined of cubes."""


def closed_axes(chip: Chip, topology: str) -> tuple[bool, ...]:
    """Which axes of a slice close to a ring; switches do not.

    With three axes the optical switches between cubes close them: no axis of 2x4x4, which is no whole cube, is a ring
    (scaling book, part 2, "TPU networking").
    """
    sizes = zip(chip.axes, axis_sizes(topology), strict=True)
    closed = tuple(axis.wraps_every is not None and size % axis.wraps_every == 0 for axis, size in sizes)
    torus = sum(axis.wraps_every is not None for axis in chip.axes)
    return closed if torus != CUBIC or sum(closed) == CUBIC else (False,) * len(closed)


def is_topology(text: str) -> bool:
    """Whether a text gives the chips along each axis, as in '4x8'."""
    return all(size.isascii() and size.isdigit() and size[0] != "0" and len(size) <= 7 for size in text.split("x"))


@lru_cache(maxsize=10_000)
def axis_sizes(topology: str) -> tuple[int, ...]:
    """Chips along each axis: '4x8' is (4, 8)."""
    return tuple(int(size) for size in topology.split("x"))


@lru_cache(maxsize=10_000)
def chips_in(topology: str) -> int:
    """Chips in a slice: '4x8' has 32."""
    return prod(axis_sizes(topology))
