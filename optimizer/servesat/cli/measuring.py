"""The command `servesat measure`."""

from pathlib import Path
from typing import Annotated

import typer

from servesat.cli.common import AsJson, Wide, console, print_json, tell
from servesat.cli.outputs import require_toml


def measure(
    out: Annotated[Path, typer.Option(metavar="FILE", help="Write the constants: my-chip.toml.")],
    model: Annotated[str, typer.Option(metavar="ID", help="The model whose matmuls are timed.")] = "qwen3-32b",
    chip: Annotated[
        str | None, typer.Option(metavar="ID", help="The chip that the card is; by default known by its name.")
    ] = None,
    as_json: AsJson = False,
    wide: Wide = False,
) -> None:
    """Time the accelerators of this machine: the constants of their chip in the calibrated cost model.

    Needs PyTorch, an idle card, and a few minutes. `cost_model: FILE` in a spec plans with the constants; those of
    engines stay the catalogue's.
    """
    from servesat.catalogue.load import load_calibration, load_model
    from servesat.core.writing import write_text
    from servesat.questions.measure import calibration_text, chip_of
    from servesat.questions.measure import measure as measured
    from servesat.questions.torch_device import open_device
    from servesat.report.measure import measured_document, print_measured
    from servesat.report.progress import doing

    require_toml(out, "a calibration")
    known, shape, device = load_calibration(), load_model(model), open_device()
    with doing() as activity:
        found = measured(device, chip_of(device, chip), shape, activity)
    write_text(out, calibration_text(found, known, out.stem))
    for note in found.notes:
        tell(f"note: {note}")
    tell(f"wrote {out}")
    if as_json:
        print_json(measured_document(found))
    else:
        print_measured(console(), found, known)
