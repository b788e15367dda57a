"""What was measured of a card: a table and JSON."""

from dataclasses import asdict
from datetime import date
from typing import Any

from rich.console import Console
from rich.text import Text

from servesat.catalogue.calibration import Calibration
from servesat.core.quantities import gigabytes, number
from servesat.questions.measure import Constant, Measured
from servesat.report.tables import Fitted, columns

_MEANING = {
    "weights": "e_b, bandwidth",
    "flops": "e_f, bf16 peak",
    "link": "e_u, link",
    "launch_s": "t_0, kernel",
    "collective_s": "a_l, all-reduce",
}


def measured_document(found: Measured) -> dict[str, Any]:
    """The JSON of `servesat measure`; times in seconds, shares of 1."""
    return {
        "chip": found.chip.id,
        "card": found.card,
        "driver": found.driver,
        "library": found.library,
        "date": date.today().isoformat(),
        "cards": found.cards,
        "usable_hbm_bytes": found.memory_bytes,
        "model": found.model,
        "constants": {name: asdict(constant) for name, constant in found.constants.items()},
        "dtypes": {name: asdict(constant) for name, constant in found.dtypes.items()},
        "timings": found.timings,
        "notes": list(found.notes),
    }


def print_measured(console: Console, found: Measured, known: Calibration) -> None:
    """Print each constant with its quartiles, beside what was known of it, and what is not measured."""
    before, is_calibrated = known.chip(found.chip.id)
    of_dtypes = {str(dtype): share for dtype, share in known.dtypes.items()}
    title = f"{found.chip.id}: {found.card}, {found.driver}, {found.library}"
    table = Fitted(
        [
            *columns("constant", ""),
            *columns("median", "quartiles", "known" if is_calibrated else "default", right=True),
        ],
        title,
    )
    for name, constant in found.constants.items():
        table.add_row([name, _MEANING[name], *_figures(constant), number(getattr(before, name))])
    for dtype, constant in found.dtypes.items():
        table.add_row([dtype, "u, beside bf16", *_figures(constant), number(of_dtypes.get(dtype, 1.0))])
    console.print(table)
    console.print(Text(f"memory that the driver reports: {gigabytes(found.memory_bytes)}"))


def _figures(constant: Constant) -> list[str]:
    return [number(constant.median), f"{number(constant.low)} to {number(constant.high)}"]
