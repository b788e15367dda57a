"""Colours of figures: a chip has the same one in every figure."""

import colorsys
import hashlib
from functools import cache

from servesat.catalogue.load import chip_ids

COLOURS = (
    "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf",
    "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#003f5c", "#00b894",
)  # fmt: skip
"""Colours of lines that stand for no chip, in order."""

GOLDEN_RATIO = 0.618034
"""Steps around the circle of hues by this share of it lie far apart, however many there are."""


@cache
def chip_colour(chip: str) -> str:
    """The colour of a chip, as #rrggbb: by its place in the catalogue, or of another chip by its name."""
    known = chip_ids()
    place = known.index(chip) if chip in known else int(hashlib.sha256(chip.encode()).hexdigest()[:8], 16)
    lightness = (0.40, 0.55, 0.30)[place % 3]
    red, green, blue = colorsys.hls_to_rgb(place * GOLDEN_RATIO % 1, lightness, 0.75)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
