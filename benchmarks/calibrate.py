"""Fits the catalogue's calibration to measured deployments, and says how well it holds.

    python benchmarks/calibrate.py FILE.csv ... > hardware/calibrations/calibration.toml
    python benchmarks/calibrate.py --leave-out chip FILE.csv ...

Rows at a fixed concurrency that the KV cache holds are fitted, as `servesat calibrate` does, from the defaults alone.
`--leave-out` fits without each chip, engine version, model or file in turn, or without each tenth of the rows (`fold`),
and prints the errors on what was left out.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import tomli_w

from servesat.catalogue.load import load_calibration
from servesat.catalogue.measurements import Measurement, read_measurements
from servesat.questions.calibrate import Fit, Observed, document, fit, observed, stack_of, unusable

PRIORS = load_calibration().model_copy(update={"chips": {}, "stacks": (), "dtypes": {}})


def read(paths: Sequence[Path]) -> list[tuple[str, Measurement]]:
    """The rows that can be fitted, with the file of each."""
    return [(path.stem, row) for path in paths for row in read_measurements(path)[0] if unusable(row) is None]


def errors(fitted: Fit, seen: Observed) -> str:
    """The mean and the median of the errors."""
    ttft, tpot = fitted.errors(seen)
    texts = [f"{100 * np.mean(one):.1f} % (median {100 * np.median(one):.1f})" for one in (tpot, ttft) if len(one)]
    return f"{len(seen.rows)} rows, TPOT {texts[0]}" + (f", TTFT {texts[1]}" if len(texts) > 1 else "")


KEYS: dict[str, Callable[[int, str, Measurement], str]] = {
    "chip": lambda _, file, row: row.chip.id,
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


def medians(found: list[tuple[str, Measurement]], by: str) -> dict[str, float]:
    """The median errors on what was left out, as a calibration has them."""
    each = [fitted.errors(out) for _, fitted, out in leave_out(found, by)]
    ttft, tpot = (float(np.median(np.concatenate(one))) for one in zip(*each, strict=True))
    return {"tpot": round(tpot, 3), "ttft": round(ttft, 3)}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("files", nargs="+", type=Path)
    arguments.add_argument("--leave-out", choices=KEYS)
    given = arguments.parse_args()
    found = read(given.files)
    if given.leave_out:
        print_left_out(found, given.leave_out)
        return
    seen = observed([row for _, row in found])
    fitted = fit(seen, PRIORS)
    files = ", ".join(sorted(path.name for path in given.files))
    source = f"benchmarks/calibrate.py over {files}: {errors(fitted, seen)}"
    written = document(seen, fitted, name="Fitted to published measurements", source=source)
    written["checked"] = date.today()
    kinds = {"calibrated": "fold", "other_version": "engine", "other_chip": "chip"}
    written["errors"] = {kind: medians(found, by) for kind, by in kinds.items()}
    written["sources"]["default_chip"] = "medians of fits to kernel tables: ai-dynamo/aiconfigurator 0.12.0"
    print(errors(fitted, seen), file=sys.stderr)
    print(tomli_w.dumps(written), end="")


if __name__ == "__main__":
    main()
