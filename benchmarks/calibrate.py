"""Fits the constants of the calibrated cost model to measured deployments, and says how well they hold.

    python benchmarks/calibrate.py FILE.csv ... > hardware/calibrations/calibration.toml
    python benchmarks/calibrate.py --leave-out chip FILE.csv ...

Rows at a fixed concurrency are fitted, as `servesat accuracy` reads them. The residuals are logarithms of predicted
over measured, TTFT at a third of the weight of TPOT; large ones count less than squared (Cauchy). Each constant has a
prior, from fits to kernels and from what hosts take: what rows do not identify stays there. `--leave-out` fits without
each chip, engine version, model or file in turn, or without each tenth of the rows (`fold`), and prints the errors on
what was left out.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, get_args

import numpy as np
import tomli_w

from servesat.catalogue.engine import Program
from servesat.catalogue.measurements import Measurement, read_measurements
from servesat.cost_model.calibrated import ChipConstants, StackConstants, Work, closed_loop_s, work_of
from servesat.questions.accuracy import placed, sequences_in_memory

SHARES = {"weights", "kv_cache", "flops", "link", "prompts_first"}
CHIP = {"weights": 0.8, "kv_cache": 0.6, "flops": 0.65, "link": 0.6, "launch_s": 3.5e-6, "collective_s": 8e-6}
STACK = {"step_s": 1.5e-3, "sequence_s": 2e-5, "request_s": 20e-3, "prompts_first": 0.3}
SPREAD = {
    "weights": 0.7, "kv_cache": 1.2, "flops": 1.0, "link": 1.2, "launch_s": 0.7, "collective_s": 0.8,
    "step_s": 1.0, "sequence_s": 1.0, "request_s": 1.0, "prompts_first": 1.2, "dtype": 0.2,
}  # fmt: skip
"""How far each constant may be from its prior, as a deviation of its logarithm, or of its log-odds."""

TPOT_SPREAD, TTFT_SPREAD = 0.08, 0.25
"""The deviation of a logarithm that counts as one: TTFT of one configuration alone differs by 14 %."""


@dataclass(frozen=True)
class Rows:
    """Measurements with their work, and the index of the chip, the stack and the dtype of each."""

    rows: Sequence[Measurement]
    work: Work
    batch: Any
    output: Any
    ttft: Any
    tpot: Any


def read(paths: Sequence[Path]) -> list[tuple[str, Measurement]]:
    """The rows at a fixed concurrency that the KV cache holds, with the file of each."""
    found = []
    for path in paths:
        for row in read_measurements(path)[0]:
            known = row.engine in get_args(Program) and "tpot_ms" in row.measured
            if known and row.concurrency and row.concurrency <= sequences_in_memory(row):
                found.append((path.stem, row))
    return found


def prepared(rows: Sequence[Measurement]) -> Rows:
    works = [
        work_of(
            row.model, row.chip, placed(row),
            batch=row.concurrency or 1.0, prompt_tokens=row.prompt_tokens, output_tokens=row.output_tokens,
        )
        for row in rows
    ]  # fmt: skip
    work = Work(**{part.name: np.array([getattr(one, part.name) for one in works]) for part in fields(Work)})
    measured = {
        name: np.array([row.measured.get(name, np.nan) for row in rows]) / 1e3 for name in ("ttft_ms", "tpot_ms")
    }
    return Rows(
        rows, work, np.array([row.concurrency for row in rows]), np.array([row.output_tokens for row in rows]),
        measured["ttft_ms"], measured["tpot_ms"],
    )  # fmt: skip


Stack = tuple[str, str, str]


def stack_of(row: Measurement) -> Stack:
    return row.engine, row.engine_version, row.harness if not row.engine_version else ""


class Parameters:
    """The constants as one vector: log-odds of shares, logarithms of times and of what dtypes reach."""

    def __init__(self, rows: Sequence[Measurement]) -> None:
        self.chips = sorted({row.chip.id for row in rows})
        self.stacks = sorted({stack_of(row) for row in rows})
        self.dtypes = sorted({row.compute for row in rows} - {"bf16"})
        prior = [_open(name, value) for _ in self.chips for name, value in CHIP.items()]
        prior += [_open(name, value) for _ in self.stacks for name, value in STACK.items()]
        spread = [SPREAD[name] for _ in self.chips for name in CHIP]
        spread += [SPREAD[name] for _ in self.stacks for name in STACK]
        self.prior = np.array(prior + [0.0] * len(self.dtypes))
        self.spread = np.array(spread + [SPREAD["dtype"]] * len(self.dtypes))

    def constants(self, vector: Any, rows: Sequence[Measurement]) -> tuple[ChipConstants, StackConstants]:
        """Those of each row; the prior of a chip or a stack that is not among the parameters."""
        chips, stacks, dtypes = self.split(vector)
        of_chip = [chips.get(row.chip.id, CHIP) for row in rows]
        of_stack = [stacks.get(stack_of(row)) or self._of_program(stacks, row) for row in rows]
        reach = np.array([dtypes.get(row.compute, 1.0) for row in rows])
        chip = ChipConstants(**{name: np.array([one[name] for one in of_chip]) for name in CHIP})
        stack = StackConstants(**{name: np.array([one[name] for one in of_stack]) for name in STACK})
        return chip._replace(flops=chip.flops * reach), stack

    @staticmethod
    def _of_program(stacks: dict[Stack, dict[str, float]], row: Measurement) -> dict[str, float]:
        """What a version without rows takes: the median of its program's."""
        same = [one for stack, one in stacks.items() if stack[0] == row.engine]
        return {name: float(np.median([one[name] for one in same])) for name in STACK} if same else STACK

    def split(self, vector: Any) -> tuple[dict[str, dict[str, float]], dict[Stack, dict[str, float]], dict[str, float]]:
        """The constants by chip, by stack, and what dtypes reach, of a vector."""
        values, at = list(vector), 0
        chips, stacks = {}, {}
        for chip in self.chips:
            chips[chip] = {name: _closed(name, values[at + place]) for place, name in enumerate(CHIP)}
            at += len(CHIP)
        for stack in self.stacks:
            stacks[stack] = {name: _closed(name, values[at + place]) for place, name in enumerate(STACK)}
            at += len(STACK)
        return chips, stacks, {dtype: float(np.exp(values[at + place])) for place, dtype in enumerate(self.dtypes)}


def _open(name: str, value: float) -> float:
    return float(np.log(value / (1 - value))) if name in SHARES else float(np.log(value))


def _closed(name: str, value: float) -> float:
    return float(1 / (1 + np.exp(-value))) if name in SHARES else float(np.exp(value))


def predicted(parameters: Parameters, vector: Any, rows: Rows) -> tuple[Any, Any]:
    chip, stack = parameters.constants(vector, rows.rows)
    return closed_loop_s(rows.work, chip, stack, rows.batch, rows.output)


def fit(rows: Rows, rounds: int = 60) -> tuple[Parameters, Any]:
    """Levenberg-Marquardt on reweighted residuals, with the priors as further rows."""
    parameters = Parameters(rows.rows)

    def residuals(vector: Any) -> Any:
        ttft, tpot = predicted(parameters, vector, rows)
        of_ttft = np.where(np.isfinite(rows.ttft), np.log(ttft / rows.ttft), 0.0) / TTFT_SPREAD
        return np.concatenate([np.log(tpot / rows.tpot) / TPOT_SPREAD, of_ttft])

    def cost(vector: Any) -> float:
        found = residuals(vector)
        return float(np.log1p(found**2).sum() + (((vector - parameters.prior) / parameters.spread) ** 2).sum())

    vector, damping = parameters.prior.copy(), 1.0
    least = cost(vector)
    for _ in range(rounds):
        found = residuals(vector)
        weight = 1 / (1 + found**2)
        slopes = np.empty((len(found), len(vector)))
        for column in range(len(vector)):
            moved = vector.copy()
            moved[column] += 1e-4
            slopes[:, column] = (residuals(moved) - found) / 1e-4
        curvature = slopes.T @ (weight[:, None] * slopes) + np.diag(1 / parameters.spread**2)
        slope = slopes.T @ (weight * found) + (vector - parameters.prior) / parameters.spread**2
        for _ in range(10):
            step = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), -slope)
            tried = cost(vector + step)
            if tried < least:
                break
            damping *= 4
        else:
            break
        gained, vector, least, damping = least - tried, vector + step, tried, damping / 3
        if gained < 1e-4 * least:
            break
    return parameters, vector


def errors(parameters: Parameters, vector: Any, rows: Rows) -> str:
    ttft, tpot = predicted(parameters, vector, rows)
    of_tpot, of_ttft = np.abs(tpot / rows.tpot - 1), np.abs(ttft / rows.ttft - 1)[np.isfinite(rows.ttft)]
    texts = [
        f"{100 * np.mean(one):.1f} % (median {100 * np.median(one):.1f})" for one in (of_tpot, of_ttft) if len(one)
    ]
    return f"{len(rows.rows)} rows, TPOT {texts[0]}" + (f", TTFT {texts[1]}" if len(texts) > 1 else "")


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
    totals: list[tuple[float, float]] = []
    for key in sorted(set(keys)):
        rest = prepared([row for (_, row), other in zip(found, keys, strict=True) if other != key])
        out = prepared([row for (_, row), other in zip(found, keys, strict=True) if other == key])
        fitted = fit(rest)
        print(f"{key:40} {errors(*fitted, out)}")
        ttft, tpot = predicted(*fitted, out)
        totals += list(zip(np.abs(tpot / out.tpot - 1), np.abs(ttft / out.ttft - 1), strict=True))
    tpot, ttft = np.array(totals).T
    print(f"{'all':40} TPOT {100 * np.mean(tpot):.1f} %, TTFT {100 * np.nanmean(ttft):.1f} %")


def document(rows: Rows, parameters: Parameters, vector: Any, paths: Sequence[Path]) -> dict[str, Any]:
    chips, stacks, dtypes = parameters.split(vector)
    of_chip = Counter(row.chip.id for row in rows.rows)
    of_stack = Counter(stack_of(row) for row in rows.rows)
    files = ", ".join(sorted(path.name for path in paths))

    def rounded(values: dict[str, float]) -> dict[str, float]:
        return {name: float(f"{value:.3g}") for name, value in values.items()}

    return {
        "name": "Fitted to published measurements",
        "checked": date.today(),
        "chips": {chip: rounded(values) | {"rows": of_chip[chip]} for chip, values in chips.items()},
        "stacks": [
            {"program": stack[0], "version": stack[1], "harness": stack[2]}
            | rounded(values)
            | {"rows": of_stack[stack]}
            for stack, values in stacks.items()
        ],
        "dtypes": rounded(dtypes),
        "default_chip": CHIP | {"rows": 0},
        "default_stack": {"program": "vllm"} | STACK | {"rows": 0},
        "sources": {
            "default": f"benchmarks/calibrate.py over {files}: {errors(parameters, vector, rows)}",
            "default_chip": "medians of fits to kernel tables: ai-dynamo/aiconfigurator 0.12.0",
        },
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("files", nargs="+", type=Path)
    arguments.add_argument("--leave-out", choices=KEYS)
    given = arguments.parse_args()
    found = read(given.files)
    if given.leave_out:
        leave_out(found, given.leave_out)
        return
    rows = prepared([row for _, row in found])
    fitted = fit(rows)
    print(errors(*fitted, rows), file=sys.stderr)
    print(tomli_w.dumps(document(rows, *fitted, given.files)), end="")


if __name__ == "__main__":
    main()
