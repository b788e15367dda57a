"""How good choices by predictions are: the tensor parallelism and batch with most output a chip under a limit on TPOT.

    python benchmarks/choices.py FILE.csv ...

Among the rows of one model, chip, engine, dtype and lengths, for each limit that some of them keep and some break: how
often what is chosen breaks the limit as measured, and else how much less it puts out than the best that keeps it.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from servesat.catalogue.load import load_calibration
from servesat.catalogue.measurements import Measurement
from servesat.questions.accuracy import Predicted, accuracy

LIMITS_MS = (5, 7.5, 10, 15, 20, 30, 50, 75, 100)
FEWEST = 3
"""Rows among which there is something to choose."""


class Choice(NamedTuple):
    """A row as predicted and as measured: TPOT [ms] and output tokens/s a chip."""

    predicted_ms: float
    measured_ms: float
    predicted_output: float
    measured_output: float


def output(row: Measurement, ttft_ms: float, tpot_ms: float) -> float:
    """Output tokens/s a chip with all requests under way."""
    whole_s = (ttft_ms + (row.output_tokens - 1) * tpot_ms) / 1e3
    return (row.concurrency or 0.0) * row.output_tokens / whole_s / (row.tp * row.dp)


def choice_of(one: Predicted) -> Choice:
    """A row to choose."""
    made, found = ((figures["ttft_ms"], figures["tpot_ms"]) for figures in (one.figures, one.row.measured))
    return Choice(made[1], found[1], output(one.row, *made), output(one.row, *found))


def outcomes(rows: Sequence[Choice]) -> Iterator[float | None]:
    """For each limit what is lost by the choice, as a share of the best; None where it breaks the limit."""
    for limit in LIMITS_MS:
        kept = [row.measured_output for row in rows if row.measured_ms <= limit]
        likely = [row for row in rows if row.predicted_ms <= limit]
        if likely and kept and len(kept) < len(rows):
            chosen = max(likely, key=lambda row: row.predicted_output)
            yield None if chosen.measured_ms > limit else 1 - chosen.measured_output / max(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", nargs="+", type=Path)
    for path in parser.parse_args().files:
        for name in ("calibration", "ideal"):
            groups: dict[tuple[object, ...], list[Choice]] = defaultdict(list)
            for one in accuracy(path, calibration=load_calibration(name)).predicted:
                if {"ttft_ms", "tpot_ms"} <= set(one.figures):
                    row = one.row
                    deployed = (row.model.id, row.chip.id, row.engine, row.engine_version, row.harness, row.weights)
                    groups[*deployed, row.prompt_tokens, row.output_tokens].append(choice_of(one))
            found = [each for rows in groups.values() if len(rows) >= FEWEST for each in outcomes(rows)]
            lost = [each for each in found if each is not None]
            broken = 1 - len(lost) / len(found)
            print(f"{path.stem} {name}: {len(found)} choices, {broken:.1%} broken, else {np.mean(lost):.1%} lost")


if __name__ == "__main__":
    main()
