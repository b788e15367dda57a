"""Fits the catalogue's calibration to measured deployments, and says how well it holds.

    python benchmarks/calibrate.py FILE.csv ... > hardware/calibrations/calibration.toml
    python benchmarks/calibrate.py --leave-out chip FILE.csv ...

Rows at a fixed concurrency that the KV cache holds are fitted, as `servesat calibrate` does, from the defaults alone.
`--leave-out` fits without each chip, engine version, model or file in turn, or without each tenth of the rows (`fold`),
and prints the errors on what was left out.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
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


def leave_out(found: list[tuple[str, Measurement]], by: str) -> None:
    """Fit without each in turn, and print the errors on it."""
    order = np.random.default_rng(0).permutation(len(found))
    keys = [KEYS[by](int(order[place]), file, row) for place, (file, row) in enumerate(found)]
    ttfts, tpots = [], []
    for key in sorted(set(keys)):
        rest = observed([row for (_, row), other in zip(found, keys, strict=True) if other != key])
        out = observed([row for (_, row), other in zip(found, keys, strict=True) if other == key])
        fitted = fit(rest, PRIORS)
        print(f"{key:40} {errors(fitted, out)}")
        ttft, tpot = fitted.errors(out)
        ttfts.append(ttft)
        tpots.append(tpot)
    of_all = [100 * np.mean(np.concatenate(one)) for one in (tpots, ttfts)]
    print(f"{'all':40} TPOT {of_all[0]:.1f} %, TTFT {of_all[1]:.1f} %")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("files", nargs="+", type=Path)
    arguments.add_argument("--leave-out", choices=KEYS)
    given = arguments.parse_args()
    found = read(given.files)
    if given.leave_out:
        leave_out(found, given.leave_out)
        return
    seen = observed([row for _, row in found])
    fitted = fit(seen, PRIORS)
    files = ", ".join(sorted(path.name for path in given.files))
    source = f"benchmarks/calibrate.py over {files}: {errors(fitted, seen)}"
    written = document(seen, fitted, name="Fitted to published measurements", source=source)
    written["checked"] = date.today()
    written["sources"]["default_chip"] = "medians of fits to kernel tables: ai-dynamo/aiconfigurator 0.12.0"
    print(errors(fitted, seen), file=sys.stderr)
    print(tomli_w.dumps(written), end="")


if __name__ == "__main__":
    main()
