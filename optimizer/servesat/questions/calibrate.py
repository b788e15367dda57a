"""Calibration: the constants of chips and engines that measurements support, near what is known of them already."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from typing import Any

import numpy as np
import tomli_w

from servesat.catalogue.calibration import FEW_ROWS, Calibration
from servesat.catalogue.chip import Chip
from servesat.catalogue.measurements import Measurement
from servesat.core.arrays import Bools, Floats
from servesat.core.errors import ServesatError
from servesat.cost_model.calibrated import Constants, closed_loop_s
from servesat.questions.observations import OPEN_SPREADS, Arriving, Observed, observed

CHIP = ("weights", "kv_cache", "flops", "link", "launch_s", "collective_s")
STACK = ("step_s", "sequence_s", "request_s", "prompts_first", "prompt_s", "host_launch_s")

_SHARES = {"weights", "kv_cache", "flops", "link", "prompts_first", "experts"}
"""Constants between 0 and 1; the others are seconds."""

SPREAD = {
    "weights": 0.7, "kv_cache": 1.2, "flops": 1.0, "link": 1.2, "launch_s": 0.7, "collective_s": 0.8,
    "step_s": 1.0, "sequence_s": 1.0, "request_s": 1.0, "prompts_first": 1.2, "prompt_s": 1.0,
    "host_launch_s": 1.5, "dtype": 0.2, "experts": 0.7,
}  # fmt: skip
"""How far each constant may be from its prior: a deviation of its logarithm, or of the log-odds of a share."""

ALIKE = {"weights": 0.4, "kv_cache": 0.4, "flops": 0.15, "link": 0.15, "launch_s": 0.15, "collective_s": 0.15}
"""How far a constant of a chip may move apart from that of another with the same peaks, links and nodes."""

TPOT_SPREAD, TTFT_SPREAD = 0.08, 0.25
"""The deviation of a logarithm that counts as one: TTFT of one configuration alone differs by 14 %."""

DIFFERENCE, REPLAYED_DIFFERENCE = 1e-4, 0.03
"""How far constants are moved to see what follows: of a formula, and of a replay, which jumps a little."""

SLOWER_HOSTS = (1.0, 3.0, 10.0, 30.0)
"""How many times slower than known a host is tried to be before a fit: one that hides behind a step has no slope."""

IDENTIFIED = 0.9
"""A constant is identified where the measurements narrow its deviation to less than this share."""

MOST_OFF = {"TPOT": 0.5, "TTFT": 10.0, "throughput": 0.5}
"""The median error beyond which fitted constants say nothing of the rows."""

ROUNDS, DAMPINGS = 60, 10

MAX_SOURCE = 2000
"""Characters of the source of a figure in a file of the catalogue."""

Stack = tuple[str, str, str]
"""An engine, its version, and, where there is none, the harness that stands for one."""


Named = dict[str, float]
"""Constants by name."""


def stack_of(row: Measurement) -> Stack:
    """The stack of a row."""
    return row.engine, row.engine_version, row.harness if not row.engine_version else ""


class Parameters:
    """The constants of some rows as a vector: log-odds of shares, logarithms of times and of what dtypes reach."""

    def __init__(self, rows: Sequence[Measurement], known: Calibration) -> None:
        """Priors are what a calibration has of a chip, a stack or a dtype, or its defaults."""
        self.known = known
        self.chips = sorted({row.chip.id for row in rows})
        self.stacks = sorted({stack_of(row) for row in rows})
        self.dtypes = sorted({row.compute for row in rows} - {"bf16"})
        self.with_experts = any(row.model.moe for row in rows)
        of_dtype = {str(dtype): value for dtype, value in known.dtypes.items()}
        prior: list[float] = []
        for chip in self.chips:
            prior += [_open(name, getattr(known.chip(chip)[0], name)) for name in CHIP]
        for stack in self.stacks:
            prior += [_open(name, getattr(known.stack(*stack)[0], name)) for name in STACK]
        prior += [float(np.log(of_dtype.get(dtype, 1.0))) for dtype in self.dtypes]
        prior += [_open("experts", known.experts)] * self.with_experts
        self.names = [f"{chip}.{name}" for chip in self.chips for name in CHIP]
        self.names += [f"{' '.join(stack).strip()}.{name}" for stack in self.stacks for name in STACK]
        self.names += [f"dtypes.{dtype}" for dtype in self.dtypes] + ["experts"] * self.with_experts
        spread = [SPREAD[name] for _ in self.chips for name in CHIP] + [
            SPREAD[name] for _ in self.stacks for name in STACK
        ]
        spread += [SPREAD["dtype"]] * len(self.dtypes) + [SPREAD["experts"]] * self.with_experts
        self.prior, self.spread = np.array(prior), np.array(spread)
        self.ties = self._ties({row.chip.id: row.chip for row in rows})

    def _ties(self, chips: Mapping[str, Chip]) -> Floats:
        """What ties the constants of chips with the same peaks, links and nodes, in spreads; shape [ties, constants].

        An H200 is an H100 with another memory: what rows leave open of one moves from its prior as that of the other.
        """
        rows = []
        for one, other in combinations(self.chips, 2):
            if _is_alike(chips[one], chips[other]):
                for name in CHIP:
                    tie = np.zeros(len(self.names))
                    tie[self.names.index(f"{one}.{name}")] = 1 / ALIKE[name]
                    tie[self.names.index(f"{other}.{name}")] = -1 / ALIKE[name]
                    rows.append(tie)
        return np.array(rows).reshape(-1, len(self.names))

    def split(self, vector: Floats) -> tuple[dict[str, Named], dict[Stack, Named], Named, float]:
        """The constants by chip, by stack, what dtypes reach, and what experts do, of a vector."""
        values = iter(vector.tolist())
        chips = {chip: {name: _closed(name, next(values)) for name in CHIP} for chip in self.chips}
        stacks = {stack: {name: _closed(name, next(values)) for name in STACK} for stack in self.stacks}
        dtypes = {dtype: float(np.exp(next(values))) for dtype in self.dtypes}
        return chips, stacks, dtypes, _closed("experts", next(values)) if self.with_experts else self.known.experts

    def constants(self, vector: Floats, rows: Sequence[Measurement]) -> Constants:
        """Those of each row; of a chip or a stack that is not among the parameters, the known ones, or like others."""
        chips, stacks, dtypes, experts = self.split(vector)
        of_chip = [chips.get(row.chip.id) or _as_known(self.known.chip(row.chip.id)[0], CHIP) for row in rows]
        of_stack = [stacks.get(stack_of(row)) or self._like(stacks, row) for row in rows]
        reach = np.array([dtypes.get(row.compute, 1.0) for row in rows])
        each = [chip | stack for chip, stack in zip(of_chip, of_stack, strict=True)]
        named = {name: np.array([one[name] for one in each]) for name in (*CHIP, *STACK)}
        each_experts = np.full(len(rows), experts)
        return Constants(**{**named, "flops": named["flops"] * reach, "experts": each_experts})

    def _like(self, stacks: Mapping[Stack, Named], row: Measurement) -> Named:
        """What a version without rows takes: the median of its program's."""
        same = [one for stack, one in stacks.items() if stack[0] == row.engine]
        if not same:
            return _as_known(self.known.stack(*stack_of(row))[0], STACK)
        return {name: float(np.median([one[name] for one in same])) for name in STACK}


def _is_alike(one: Chip, other: Chip) -> bool:
    first, second = ((chip.vendor, chip.flop_per_s, chip.axes[:1], chip.node_chips) for chip in (one, other))
    return first == second


def _as_known(record: object, names: Sequence[str]) -> Named:
    return {name: float(getattr(record, name)) for name in names}


def _open(name: str, value: float) -> float:
    """A constant without bounds; those at an end of their range are moved off it."""
    if name in _SHARES:
        share = min(max(value, 1e-3), 1 - 1e-3)
        return float(np.log(share / (1 - share)))
    return float(np.log(max(value, 1e-7)))


def _closed(name: str, value: float) -> float:
    return float(1 / (1 + np.exp(-value))) if name in _SHARES else float(np.exp(value))


def _pace(seen: Observed, ttft: Floats, tpot: Floats) -> Floats:
    """Predicted tokens/s over those measured; NaN where TPOT was measured, of which they say no more."""
    made = seen.batch * seen.output_tokens / (ttft + (seen.output_tokens - 1) * tpot)
    return np.where(np.isfinite(seen.tpot_s), np.nan, made / seen.tokens_per_s)


@dataclass(frozen=True)
class Fit:
    """Fitted constants, and the deviation of each as a share of its prior's."""

    parameters: Parameters
    vector: Floats
    narrowed: Floats

    def predict(self, seen: Observed) -> tuple[Floats, Floats]:
        """The times to the first token and per output token [s]; shape [rows] each."""
        constants = self.parameters.constants(self.vector, seen.rows)
        ttft, tpot = closed_loop_s(seen.work, constants, seen.batch, seen.output_tokens)
        return np.asarray(ttft), np.asarray(tpot)

    def errors(self, seen: Observed) -> tuple[Floats, Floats]:
        """|predicted / measured - 1| of TTFT and of TPOT, where they were measured."""
        ttft, tpot = (np.abs(made / found - 1) for made, found in zip(self.predict(seen), seen.times, strict=True))
        return ttft[np.isfinite(ttft)], tpot[np.isfinite(tpot)]

    def pace_errors(self, seen: Observed) -> Floats:
        """|predicted / measured - 1| of tokens/s, where they alone were measured."""
        errors = np.abs(_pace(seen, *self.predict(seen)) - 1)
        return errors[np.isfinite(errors)]

    @property
    def unidentified(self) -> tuple[str, ...]:
        """The constants that the measurements say little of, by name: they stay near what was known."""
        pairs = zip(self.parameters.names, self.narrowed, strict=True)
        return tuple(name for name, share in pairs if share > IDENTIFIED)


@dataclass(frozen=True)
class _Problem:
    """Constants that are to be fitted: how far predictions are off, in spreads, and constants from their priors.

    What is off of requests that arrive at a rate follows what is of the others.
    """

    parameters: Parameters
    seen: Observed
    arriving: Arriving

    def cost(self, vector: Floats) -> float:
        """What a fit makes least."""
        off = (vector - self.parameters.prior) / self.parameters.spread
        apart = self.parameters.ties @ (vector - self.parameters.prior)
        return float(np.log1p(self._residuals(vector) ** 2).sum() + (off**2).sum() + (apart**2).sum())

    def descended(self, vector: Floats) -> Floats:
        """The constants at the end of a descent."""
        least, damping = self.cost(vector), 1.0
        for _ in range(ROUNDS):
            curvature, slope = self.curvature(vector)
            for _ in range(DAMPINGS):
                step = np.asarray(np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), -slope))
                tried = self.cost(vector + step)
                if tried < least:
                    break
                damping *= 4
            else:
                break
            gained, vector, least, damping = least - tried, vector + step, tried, damping / 3
            if gained < 1e-4 * least:
                break
        return vector

    def with_slow_hosts(self, vector: Floats) -> Floats:
        """The same, but for hosts so slow that steps wait for them, where that suits the rows better."""
        for column, name in enumerate(self.parameters.names):
            if name.endswith(".host_launch_s"):
                tried = [_moved(vector, column, float(np.log(factor))) for factor in SLOWER_HOSTS]
                vector = min(tried, key=self.cost)
        return vector

    def curvature(self, vector: Floats) -> tuple[Floats, Floats]:
        """The curvature of the cost at a vector, and its slope."""
        found, prior, spread = self._residuals(vector), self.parameters.prior, self.parameters.spread
        weight, slopes = 1 / (1 + found**2), self._slopes(vector, found)
        ties = self.parameters.ties.T @ self.parameters.ties
        curvature = slopes.T @ (weight[:, None] * slopes) + np.diag(1 / spread**2) + ties
        return curvature, slopes.T @ (weight * found) + (vector - prior) / spread**2 + ties @ (vector - prior)

    def _residuals(self, vector: Floats) -> Floats:
        every = np.ones(len(self.arriving.rows), dtype=bool)
        return np.concatenate([self._formulas(vector), self._replays(vector, every)])

    def _slopes(self, vector: Floats, found: Floats) -> Floats:
        """By each constant, by differences; a row is replayed only for those that it depends on."""
        formulas = len(found) - self.arriving.measured.size
        of_rows = self.parameters.constants(vector, self.arriving.rows)
        slopes = np.zeros((len(found), len(vector)))
        for column in range(len(vector)):
            slopes[:formulas, column] = (
                self._formulas(_moved(vector, column, DIFFERENCE)) - found[:formulas]
            ) / DIFFERENCE
            moved = _moved(vector, column, REPLAYED_DIFFERENCE)
            other = self.parameters.constants(moved, self.arriving.rows)
            which = np.any(
                [getattr(other, name) != value for name, value in vars(of_rows).items() if np.ndim(value)], axis=0
            )
            again = self._replays(moved, which)
            changed = np.repeat(which, len(OPEN_SPREADS))
            slopes[formulas:, column] = np.where(changed, (again - found[formulas:]) / REPLAYED_DIFFERENCE, 0.0)
        return slopes

    def _formulas(self, vector: Floats) -> Floats:
        seen = self.seen
        ttft, tpot = Fit(self.parameters, vector, vector).predict(seen)
        ratios = (tpot / seen.tpot_s, ttft / seen.ttft_s, _pace(seen, ttft, tpot))
        spreads = (TPOT_SPREAD, TTFT_SPREAD, TPOT_SPREAD)
        return np.concatenate([np.nan_to_num(np.log(one) / s) for one, s in zip(ratios, spreads, strict=True)])

    def _replays(self, vector: Floats, which: Bools) -> Floats:
        made = self.arriving.figures(self.parameters.constants(vector, self.arriving.rows), which)
        off = np.log(made / self.arriving.measured) / np.array(list(OPEN_SPREADS.values()))
        return np.asarray(np.nan_to_num(off).ravel())


def _moved(vector: Floats, column: int, difference: float) -> Floats:
    moved = vector.copy()
    moved[column] += difference
    return moved


def fit(seen: Observed, known: Calibration, arriving: Arriving | None = None) -> Fit:
    """The constants under which measurements and priors are likeliest: Levenberg-Marquardt, reweighted (Cauchy).

    A host that hides behind its steps has no slope, so a descent from hosts as known may miss a slow one, and one from
    slow hosts may stay with them: the best of both is taken, and of each stack the one that suits its rows.
    """
    arriving = arriving or Arriving()
    parameters = Parameters([*seen.rows, *arriving.rows], known)
    problem = _Problem(parameters, seen, arriving)
    fast, slow = problem.descended(parameters.prior), problem.descended(problem.with_slow_hosts(parameters.prior))
    mixed = fast
    for stack in parameters.stacks:
        columns = np.array([name.startswith(f"{' '.join(stack).strip()}.") for name in parameters.names])
        mixed = min(mixed, np.where(columns, slow, mixed), key=problem.cost)
    vector = min(fast, slow, problem.descended(mixed), key=problem.cost)
    ties = parameters.ties.T @ parameters.ties  # which say nothing of what rows identify
    deviations = np.sqrt(np.diag(np.linalg.inv(problem.curvature(vector)[0] - ties)))
    return Fit(parameters, vector, deviations / parameters.spread)


def left_out_errors(files: Sequence[Sequence[Measurement]], known: Calibration) -> tuple[Floats, Floats]:
    """The errors of TTFT and TPOT on the rows of each file, fitted without them."""
    found: list[tuple[Floats, Floats]] = []
    for left_out in range(len(files)):
        rest = [row for place, rows in enumerate(files) if place != left_out for row in rows]
        found.append(fit(observed(rest), known).errors(observed(files[left_out])))
    ttft, tpot = zip(*found, strict=True)
    return np.concatenate(ttft), np.concatenate(tpot)


def calibration_text(seen: Observed, found: Fit, *, name: str, files: Sequence[str]) -> str:
    """A calibration as the text of its file, with its errors, its date, and what the measurements did not identify.

    Chips and programs of engines that were not measured keep what is known of them. Plans by it carry an error no
    smaller than the catalogue's, or than half of these rows have; of few rows that of a version that nobody measured.
    Raises ServesatError where the best constants miss by far.
    """
    ttft, tpot = found.errors(seen)
    errors = ", ".join(
        f"{name} {100 * of.mean():.1f} % off" for name, of in (("TPOT", tpot), ("TTFT", ttft)) if len(of)
    )
    errors = errors or "by throughput"
    unidentified = f"; near what was known: {', '.join(found.unidentified)}" if found.unidentified else ""
    source = f"servesat calibrate over {', '.join(files)}: {len(seen.rows)} rows, {errors}{unidentified}"
    for kind, of in (("TPOT", tpot), ("TTFT", ttft), ("throughput", found.pace_errors(seen))):
        if len(of) and np.median(of) > MOST_OFF[kind]:
            raise ServesatError(
                f"{', '.join(files)}: {kind} stays {100 * np.median(of):,.0f} % off in half of the rows, expected at "
                f"most {100 * MOST_OFF[kind]:,.0f} %: are model, chip, units and lengths right?"
            )
    written = document(seen.rows, found, name=name, source=source[:MAX_SOURCE])
    known = found.parameters.known
    written["chips"] = {chip: one.model_dump() for chip, one in known.chips.items()} | written["chips"]
    programs = {stack["program"] for stack in written["stacks"]}
    written["stacks"] += [stack.model_dump() for stack in known.stacks if stack.program not in programs]
    floor = known.errors.calibrated if len(seen.rows) >= FEW_ROWS else known.errors.other_version
    off = {"tpot": tpot, "ttft": ttft}
    written["errors"]["calibrated"] = {
        kind: max(getattr(floor, kind), round(float(np.median(errors)), 3) if len(errors) else 0.0)
        for kind, errors in off.items()
    }
    return tomli_w.dumps({"name": written.pop("name"), "checked": date.today(), **written})


def document(rows: Sequence[Measurement], found: Fit, *, name: str, source: str) -> dict[str, Any]:
    """A calibration as its file has it: what is fitted, and what is known of others."""
    known, (chips, stacks, dtypes, experts) = found.parameters.known, found.parameters.split(found.vector)
    of_chip, of_stack = Counter(row.chip.id for row in rows), Counter(stack_of(row) for row in rows)
    return {
        "name": name,
        "chips": {chip: _rounded(values) | {"rows": of_chip[chip]} for chip, values in chips.items()},
        "stacks": [
            {"program": stack[0], "version": stack[1], "harness": stack[2], **_rounded(values), "rows": of_stack[stack]}
            for stack, values in stacks.items()
        ],
        "dtypes": _rounded({str(dtype): value for dtype, value in known.dtypes.items()} | dtypes),
        "experts": float(f"{experts:.3g}"),
        "default_chip": known.default_chip.model_dump(),
        "default_stack": known.default_stack.model_dump(),
        "draft_s": known.draft_s,
        "errors": known.errors.model_dump(),
        "sources": {"default": source},
    }


def _rounded(values: Mapping[str, float]) -> Named:
    return {name: float(f"{value:.3g}") for name, value in values.items()}
