"""Measurement: what a card reaches of its peaks, from timings of it, as the calibration of a chip."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import tomli_w

from servesat.catalogue.accelerator_names import chip_of_card
from servesat.catalogue.calibration import Calibration
from servesat.catalogue.chip import Chip
from servesat.catalogue.load import chip_ids, load_chip
from servesat.catalogue.model import ModelSpec
from servesat.core.arrays import Floats
from servesat.core.errors import ServesatError
from servesat.core.validation import nearest
from servesat.questions.timings import DTYPES, REPEATS, Device, Timings

MEMORY_RTOL = 0.1
"""How far a card's memory may be from the chip's."""

IMPLAUSIBLE = 1.3
"""Clocks above the rated ones reach a little more than a peak; a card that reaches this much is another chip."""


@dataclass(frozen=True)
class Constant:
    """A constant: its median and its quartiles over the repeats."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Measured:
    """What was measured of a chip: its constants by name, what dtypes reach beside bf16, and what to know of them."""

    chip: Chip
    card: str
    driver: str
    library: str
    cards: int
    memory_bytes: int
    model: str
    constants: Mapping[str, Constant]
    dtypes: Mapping[str, Constant]
    timings: int
    notes: Sequence[str]


def chip_of(device: Device, chip_id: str | None) -> Chip:
    """The chip of a device, as stated or by the name of its card.

    Raises ServesatError for a card that is no chip of the catalogue, or whose memory is another chip's.
    """
    found = chip_id or chip_of_card(device.card)
    if found is None:
        raise ServesatError(
            f"card '{device.card}' is not in the catalogue's list of cards: name its chip with --chip ID"
        )
    if found not in chip_ids():
        raise ServesatError(f"--chip {found}: no such chip; {nearest(found, chip_ids())}")
    chip = load_chip(found)
    expected = chip.usable_hbm_bytes or chip.hbm_bytes
    if abs(device.memory_bytes - expected) > MEMORY_RTOL * expected:
        raise ServesatError(
            f"{device.card} has {device.memory_bytes / 1e9:.1f} GB, and {found} {expected / 1e9:.1f}: "
            "expected a whole card of that chip"
        )
    return chip


def _constant(values: Floats) -> Constant:
    low, median, high = (float(value) for value in np.quantile(values, (0.25, 0.5, 0.75)))
    return Constant(median, low, high)


def measure(device: Device, chip: Chip, model: ModelSpec, tell: Callable[[str], None]) -> Measured:
    """The constants of a chip, from the times of a device; `tell` hears what is timed.

    Raises ServesatError where no bf16 matmul can be timed, where times are on no line, or far above a peak.
    """
    timings, notes, shares = Timings(device, chip), list[str](), dict[str, Floats]()
    tell("streams through the memory")
    shares["weights"] = timings.bandwidth()
    for dtype in (dtype for dtype in DTYPES if dtype in chip.flop_per_s.by_dtype()):
        tell(f"matmuls in {dtype}")
        reached = timings.matmuls(model, dtype)
        if reached is not None:
            shares[dtype] = reached
        elif dtype == "bf16":
            raise ServesatError(f"{device.card}: no bf16 matmul of {model.id} can be timed that is bound by FLOPs")
        else:
            notes.append(f"{dtype} is not measured: {device.library} multiplies nothing of {model.id} in it here")
    tell("launches")
    seconds = {"launch_s": timings.launches()}
    if device.count > 1 and chip.axes:
        tell(f"all-reduces over {device.count} cards")
        seconds["collective_s"], shares["link"] = timings.all_reduces()
    else:
        notes.append("link and collective_s are not measured: that takes several cards with a link in the catalogue")
    for name, reached in shares.items():
        shares[name] = _at_most_the_peak(name, reached, chip, notes)
    found = {"weights": shares.pop("weights"), "flops": shares["bf16"], **seconds}
    found |= {"link": shares.pop("link")} if "link" in shares else {}
    return Measured(
        chip=chip,
        card=device.card,
        driver=device.driver,
        library=device.library,
        cards=device.count,
        memory_bytes=device.memory_bytes,
        model=model.id,
        constants={name: _constant(values) for name, values in found.items()},
        dtypes={name: _constant(reached / shares["bf16"]) for name, reached in shares.items() if name != "bf16"},
        timings=timings.count * REPEATS,
        notes=notes,
    )


def _at_most_the_peak(name: str, reached: Floats, chip: Chip, notes: list[str]) -> Floats:
    """Shares, where they are above 1 as 1, which a note says. Raises ServesatError far above it."""
    median = float(np.median(reached))
    if median > IMPLAUSIBLE:
        raise ServesatError(f"{name} reaches {median:.2f} of the peak of {chip.id}: this is another card")
    if median > 1:
        notes.append(f"{name} reaches {median:.2f} of the peak of {chip.id}, and counts as 1")
    return np.minimum(reached, 1.0)


def calibration_text(found: Measured, known: Calibration, name: str) -> str:
    """A calibration as the text of its file: what was measured of the chip, and what is known of all else."""
    before, _ = known.chip(found.chip.id)
    medians = {name: constant.median for name, constant in found.constants.items()}
    chip = {name: value for name, value in before.model_dump().items() if name != "rows"} | medians
    of_dtypes = {str(dtype): share for dtype, share in known.dtypes.items()}
    of_dtypes |= {dtype: constant.median for dtype, constant in found.dtypes.items()}
    document: dict[str, Any] = {
        "name": name,
        "checked": date.today(),
        "chips": {chip_id: one.model_dump() for chip_id, one in known.chips.items()}
        | {found.chip.id: {key: _rounded(value) for key, value in chip.items()} | {"rows": found.timings}},
        "stacks": [stack.model_dump() for stack in known.stacks],
        "dtypes": {dtype: _rounded(share) for dtype, share in of_dtypes.items()},
        "experts": known.experts,
        "default_chip": known.default_chip.model_dump(),
        "default_stack": known.default_stack.model_dump(),
        "draft_s": known.draft_s,
        "errors": known.errors.model_dump(),
        "measured": {
            found.chip.id: {
                "card": found.card,
                "driver": found.driver,
                "library": found.library,
                "cards": found.cards,
                "usable_hbm_bytes": found.memory_bytes,
                "model": found.model,
                "spread": {
                    key: {"low": _rounded(one.low), "high": _rounded(one.high)}
                    for key, one in {**found.constants, **found.dtypes}.items()
                },
            }
        },
        "sources": {"default": _source(found, known)},
    }
    return tomli_w.dumps(document)


def _source(found: Measured, known: Calibration) -> str:
    measured = ", ".join([*found.constants, *found.dtypes])
    return f"servesat measure on {found.card}, {found.timings} timings: {measured}; all else: {known.name.lower()}"


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
