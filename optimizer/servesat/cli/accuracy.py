"""The command `servesat accuracy`."""

from pathlib import Path
from typing import Annotated

import typer

from servesat.cli.common import AsJson, Wide, print_answer, tell
from servesat.cli.outputs import OutFigure, parse_outputs
from servesat.core.errors import ServesatError


def accuracy(
    file: Annotated[Path, typer.Argument(help="A CSV file with a measured deployment in each row.")],
    by: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Errors by chip, engine, engine_version, model: chip,model.")
    ] = None,
    calibration: Annotated[
        str, typer.Option(metavar="NAME", help="The constants to predict with: the catalogue's, or a .toml.")
    ] = "calibration",
    out: OutFigure = None,
    as_json: AsJson = False,
    wide: Wide = False,
) -> None:
    """Predict measured deployments, and say how far the predictions are from what was measured.

    Columns: model, chip, engine, engine_version, weights, kv_cache, tp, ep, dp, concurrency or requests_per_s,
    prompt_tokens, output_tokens; measured: ttft_ms, tpot_ms, e2e_ms, each also as ttft_p50_ms, and tokens_per_s. A row
    that cannot be predicted says why. Exit codes: 0 some row is predicted, 1 an error or none, 2 a usage error.
    """
    from servesat.api import accuracy as api
    from servesat.report.drawing import FIGURES

    outputs = parse_outputs(out, FIGURES)
    found = api.accuracy(file, by=by or (), calibration=calibration)
    print_answer(found, as_json)
    for note in found.notes:
        tell(f"note: {note}")
    if not found.predicted:
        raise ServesatError(f"{file}: no row can be predicted")
    for path in outputs.figures:
        found.draw(path)
    outputs.report_written()
