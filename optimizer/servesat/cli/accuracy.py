"""The command `servesat accuracy`."""

from pathlib import Path
from typing import Annotated

import typer

from servesat.cli.common import AsJson, Wide, console, print_json, tell
from servesat.cli.outputs import OutFigure, parse_outputs


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
    prompt_tokens, output_tokens; measured: ttft_ms, tpot_ms, ttft_p50_ms, tpot_p50_ms, tokens_per_s. A row that cannot
    be predicted says why.
    """
    from servesat.catalogue.load import load_calibration
    from servesat.core.errors import ServesatError
    from servesat.core.validation import nearest
    from servesat.questions.accuracy import GROUPS
    from servesat.questions.accuracy import accuracy as predicted
    from servesat.report.charts import FIGURES

    names = tuple(by.split(",")) if by else ()
    for name in names:
        if name not in GROUPS:
            raise ServesatError(f"--by {name}: no such group; {nearest(name, GROUPS)}")
    outputs = parse_outputs(out, FIGURES)
    found = predicted(file, names, load_calibration(calibration))
    if outputs.figures:
        from servesat.report.accuracy import accuracy_chart
        from servesat.report.charts import draw

        for path in outputs.figures:
            draw(accuracy_chart(found, file.name), path)
        outputs.report_written()
    if as_json:
        from servesat.report.accuracy import accuracy_document

        print_json(accuracy_document(found))
        return
    from servesat.report.accuracy import print_accuracy

    print_accuracy(console(), found)
    if found.unread:
        tell(f"note: {len(found.unread)} of {len(found.unread) + len(found.predicted)} rows are not predicted")
