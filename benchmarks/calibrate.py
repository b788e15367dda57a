"""Fits the catalogue's calibration to measured deployments, and says how well it holds.

    python benchmarks/calibrate.py FILE.csv ... > hardware/calibrations/calibration.toml
    python benchmarks/calibrate.py --leave-out chip FILE.csv ...

Rows at a fixed concurrency that the KV cache holds are fitted, as `servesat calibrate` does, from the defaults alone;
rows with requests at a rate by a replay of each.
`--leave-out` fits rows at a fixed concurrency without each chip, family of chips, engine version, model or file in
turn, or without each tenth of them (`fold`), and prints the errors on what was left out; with `arrivals` it fits all
rows but those with requests at a rate of one model on one engine and chip.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import get_args

import numpy as np
import tomli_w

from servesat.catalogue.engine import Program
from servesat.catalogue.load import load_calibration
from servesat.catalogue.measurements import Measurement, read_measurements
from servesat.questions.calibrate import Fit, document, fit, stack_of
from servesat.questions.measured_rows import settled
from servesat.questions.observations import OPEN_SPREADS, Arriving, Observed, observed, unusable

PRIORS = load_calibration().model_copy(update={"chips": {}, "stacks": (), "dtypes": {}, "experts": 0.8})

FEWEST = 5
"""A chip with fewer rows stays with the defaults: they would be called calibrated, and hardly differ from them."""


def read(paths: Sequence[Path]) -> list[tuple[str, Measurement]]:
    """The rows that can be fitted, with the file of each."""
    return [
        (path.stem, row)
        for path in paths
        for row in settled(read_measurements(path)[0])
        if arrives(row) or not unusable(row)
    ]


def arrives(row: Measurement) -> bool:
    """Whether a row is of requests at a rate, which is replayed."""
    return bool(row.requests_per_s) and row.engine in get_args(Program) and "tpot_p50_ms" in row.measured


def fitted_to(rows: Sequence[Measurement]) -> Fit:
    """The constants of rows of either kind."""
    return fit(closed(rows), PRIORS, Arriving([row for row in rows if arrives(row)]))


def closed(rows: Sequence[Measurement]) -> Observed:
    """Those at a fixed concurrency."""
    return observed([row for row in rows if not arrives(row)])


def errors(fitted: Fit, seen: Observed) -> str:
    """The mean and the median of the errors."""
    ttft, tpot = fitted.errors(seen)
    texts = [f"{100 * np.mean(one):.1f} % (median {100 * np.median(one):.1f})" for one in (tpot, ttft) if len(one)]
    return f"{len(seen.rows)} rows, TPOT {texts[0]}" + (f", TTFT {texts[1]}" if len(texts) > 1 else "")


FAMILIES = {
    "a1": "Ampere", "b": "Blackwell", "gb": "Blackwell", "gh": "Hopper", "h": "Hopper", "l4": "Ada", "mi": "CDNA",
    "tpu": "TPU",
}  # fmt: skip
"""The generations of chips, by the beginning of their ids; any other chip is a family of its own."""


def family(chip: str) -> str:
    """The generation of a chip, by the longest beginning of its id that is known."""
    return next((name for start, name in sorted(FAMILIES.items(), reverse=True) if chip.startswith(start)), chip)


KEYS: dict[str, Callable[[int, str, Measurement], str]] = {
    "chip": lambda _, file, row: row.chip.id,
    "family": lambda _, file, row: family(row.chip.id),
    "engine": lambda _, file, row: " ".join(stack_of(row)).strip(),
    "model": lambda _, file, row: row.model.id,
    "file": lambda _, file, row: file,
    "fold": lambda number, file, row: f"tenth {number % 10}",
}


def leave_out(found: list[tuple[str, Measurement]], by: str) -> Iterator[tuple[str, Fit, Observed]]:
    """Fit without each in turn: what it was, the fit, and the rows left out."""
    order = np.random.default_rng(0).permutation(len(found))
    keys = [KEYS[by](int(order[place]), file, row) for place, (file, row) in enumerate(found)]
    for key in sorted(set(keys)):
        rest = observed([row for (_, row), other in zip(found, keys, strict=True) if other != key])
        yield (
            key,
            fit(rest, PRIORS),
            observed([row for (_, row), other in zip(found, keys, strict=True) if other == key]),
        )


def print_left_out(found: list[tuple[str, Measurement]], by: str) -> None:
    """Print the errors on each that was left out."""
    each = []
    for key, fitted, out in leave_out(found, by):
        print(f"{key:40} {errors(fitted, out)}")
        each.append(fitted.errors(out))
    ttft, tpot = (np.concatenate(one) for one in zip(*each, strict=True))
    means = f"TPOT {100 * tpot.mean():.1f} % (median {100 * np.median(tpot):.1f})"
    print(f"{'all':40} {means}, TTFT {100 * ttft.mean():.1f} % (median {100 * np.median(ttft):.1f})")


def print_arrivals_left_out(rows: Sequence[Measurement]) -> None:
    """Print the errors of replays of each model on an engine and a chip, fitted without them, and with them."""
    groups = sorted({_run(row) for row in rows if arrives(row)})
    whole = fitted_to(rows)
    for group in groups:
        own = [row for row in rows if arrives(row) and _run(row) == group]
        apart = fitted_to([row for row in rows if not (arrives(row) and _run(row) == group)])
        for name, fitted in (("with them", whole), ("without", apart)):
            print(f"{' '.join(group):40} {name:10} {replayed_errors(fitted, own)}", flush=True)


def _run(row: Measurement) -> tuple[str, str, str]:
    return row.engine, row.model.id, row.chip.id


def replayed_errors(fitted: Fit, rows: Sequence[Measurement]) -> str:
    """The mean errors of what was replayed, by figure."""
    seen = Arriving(rows)
    made = seen.figures(fitted.parameters.constants(fitted.vector, rows), np.ones(len(rows), dtype=bool))
    off = 100 * np.nanmean(np.abs(made / seen.measured - 1), axis=0)
    return ", ".join(f"{name} {each:.1f} %" for name, each in zip(OPEN_SPREADS, off, strict=True))


def medians(found: list[tuple[str, Measurement]], by: str) -> dict[str, float]:
    """The median errors on what was left out, as a calibration has them."""
    each = [fitted.errors(out) for _, fitted, out in leave_out(found, by)]
    ttft, tpot = (float(np.median(np.concatenate(one))) for one in zip(*each, strict=True))
    return {"tpot": round(tpot, 3), "ttft": round(ttft, 3)}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("files", nargs="+", type=Path)
    arguments.add_argument("--leave-out", choices=[*KEYS, "arrivals"])
    given = arguments.parse_args()
    found = read(given.files)
    rows = [row for _, row in found]
    at_once = [(file, row) for file, row in found if not arrives(row)]
    if given.leave_out == "arrivals":
        print_arrivals_left_out(rows)
        return
    if given.leave_out:
        print_left_out(at_once, given.leave_out)
        return
    seen, fitted = closed(rows), fitted_to(rows)
    files = ", ".join(sorted(path.name for path in given.files))
    source = f"benchmarks/calibrate.py over {files}: {errors(fitted, seen)}"
    arriving = [row for row in rows if arrives(row)]
    if arriving:
        source += f"; {len(arriving)} of requests at a rate: {replayed_errors(fitted, arriving)}"
    written = document(rows, fitted, name="Fitted to published measurements", source=source)
    written["chips"] = {chip: known for chip, known in written["chips"].items() if known["rows"] >= FEWEST}
    written["checked"] = date.today()
    kinds = {"calibrated": "fold", "other_version": "engine", "other_chip": "chip"}
    written["errors"] = {kind: medians(at_once, by) for kind, by in kinds.items()}
    written["sources"]["default_chip"] = "medians of fits to kernel tables: ai-dynamo/aiconfigurator 0.12.0"
    print(errors(fitted, seen), file=sys.stderr)
    print(tomli_w.dumps(written), end="")


if __name__ == "__main__":
    main()
