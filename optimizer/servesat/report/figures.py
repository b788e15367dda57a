"""The scaling book's two figures, for any model, slice and dtypes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from servesat.candidates.rule import Requirement
from servesat.catalogue.chip import axis_sizes, chips_in
from servesat.catalogue.load import load_chip
from servesat.core.arrays import Ints
from servesat.core.errors import SpecError
from servesat.core.plan import Assignment
from servesat.core.quantities import dollars, gigabytes
from servesat.cost_model.decode import usd_per_million_tokens
from servesat.cost_model.sharding import kv_layouts_of
from servesat.cost_model.storage import Storage
from servesat.deployment.check.plan import rederive
from servesat.questions.batch_curve import BatchCurve, batch_curve
from servesat.report.charts import Chart, Frame, Series
from servesat.spec.spec import Spec


def read_layout(
    *,
    model: str,
    chip: str,
    topology: str | None,
    weights: str,
    kv_cache: str,
    compute: str,
    contexts: Sequence[int],
    max_batch: int,
    price: float | None,
) -> tuple[Spec, Assignment]:
    """The spec at the first of some contexts, and the layout of a figure, from the options of the command line.

    Raises SpecError for a context that the model does not take, and for one that cannot be split over the slice.
    """
    loaded = load_chip(chip)
    topology = topology or ("4x4" if "4x4" in loaded.topologies else min(loaded.topologies, key=_distance_from_8))
    search = {
        "chips": [loaded],
        "topologies": {loaded.id: [topology]},
        "weights": [weights],
        "kv_cache": [kv_cache],
        "compute": [compute],
        "max_batch": max_batch,
    }
    prices = {} if price is None else {loaded.id: price}
    specs = [
        Spec.load(
            {
                "cost_model": "ideal",
                "model": model,
                "workload": {"context_tokens": context},
                "search": search,
                "price": prices,
            }
        )
        for context in contexts
    ]
    assignment = Assignment(
        chip=loaded.id,
        topology=topology,
        tp_axes=tuple(axis for axis, size in enumerate(axis_sizes(topology)) if size > 1),
        kv_layout=kv_layouts_of(specs[0].model, chips_in(topology))[0],
        weights=weights,
        kv_cache=kv_cache,
        compute=compute,
        batch=1,
    )
    _check_layout(specs[0], assignment)
    return specs[0], assignment


def _check_layout(spec: Spec, assignment: Assignment) -> None:
    """Check that a layout can be drawn. Raises SpecError."""
    plan, margins = rederive(spec, assignment)
    violated = {margin.requirement for margin in margins if not margin.holds}
    if Requirement.HEADS in violated:
        raise SpecError(
            f"--topology {plan.topology}: {plan.tp} ways do not divide the query heads and d_ff of {spec.model.id}"
        )
    if Requirement.BLOCKS in violated:
        raise SpecError(f"--topology {plan.topology}: {plan.tp} ways cut {plan.weights} weights within a scale")
    if Requirement.DTYPES in violated:
        raise SpecError(f"--compute {plan.compute}: the weights, {plan.weights}, are wider")


def _distance_from_8(topology: str) -> tuple[int, str]:
    """The distance of a slice from 8 chips, the usual node."""
    return abs(chips_in(topology) - 8), topology


def pareto_chart(spec: Spec, assignment: Assignment, contexts: Sequence[int], max_batch: int) -> Chart:
    """Throughput and cost against latency over the batches that fit, with sliders for context and batch.

    Raises SpecError.
    """
    curves = _curves(spec, assignment, contexts, max_batch)
    rows = _doubled(curves[0].batch, max(curve.max_batch_in_hbm for curve in curves))
    frames = [replace(_pareto_frame(curve), stops=_batches(curve, rows)) for curve in curves]
    drawn = [series for frame in frames for series in frame.series if len(series.x)]
    return Chart(
        title=f"{_layout(spec, assignment)}: throughput against latency",
        x_title="time per output token [ms]",
        y_title="tokens/s per chip",
        right_title="$ per million output tokens",
        right_scale=float(usd_per_million_tokens(curves[0].usd_per_chip_hour, 1.0)),
        x_range=(0.0, 1.05 * max(max(series.x) for series in drawn)),
        y_range=(0.8 * min(min(series.y) for series in drawn), 1.3 * max(max(series.y) for series in drawn)),
        log_x=False,
        log_y=True,
        slider="context: ",
        frames=tuple(frames),
        first_frame=_first_frame(contexts),
        stop_slider="batch: ",
    )


def breakdown_chart(spec: Spec, assignment: Assignment, contexts: Sequence[int], max_batch: int) -> Chart:
    """The parts of a step over the batch, compute-bound batches shaded, with a context slider. Raises SpecError."""
    curves = _curves(spec, assignment, contexts, max_batch)
    frames = [_breakdown_frame(curve) for curve in curves]
    times = [value for frame in frames for series in frame.series for value in (min(series.y), max(series.y))]
    return Chart(
        title=f"{_layout(spec, assignment)}: where a step goes",
        x_title="batch [sequences]",
        y_title="time of a step [ms]",
        x_range=(float(curves[0].batch[0]), max(float(max_batch), 2.0 * curves[0].batch[0])),
        y_range=(0.8 * min(times), 1.3 * max(times)),
        log_x=True,
        log_y=True,
        slider="context: ",
        frames=tuple(frames),
        first_frame=_first_frame(contexts),
    )


def _curves(spec: Spec, assignment: Assignment, contexts: Sequence[int], max_batch: int) -> list[BatchCurve]:
    curves = []
    for context in contexts:
        workload = spec.workload.model_copy(update={"context_tokens": context})
        curves.append(batch_curve(spec.model_copy(update={"workload": workload}), assignment, max_batch))
    if not any(map(_some_batch_fits, curves)):
        weights = Storage(spec.model, spec.int4_group).weights_bytes(assignment.weights)
        raise SpecError(
            f"nothing to draw: on {assignment.chip} {assignment.topology} no batch fits with {gigabytes(weights)} of "
            f"{assignment.weights} weights, even at {min(contexts):,} tokens; take a larger slice"
        )
    return curves


def _first_frame(contexts: Sequence[int]) -> int:
    """The frame of 8,192 tokens, the context of the book, or else the first."""
    return list(contexts).index(8192) if 8192 in contexts else 0


def _some_batch_fits(curve: BatchCurve) -> bool:
    return bool(curve.max_batch_in_hbm >= curve.batch[0])


def _label(curve: BatchCurve) -> str:
    return f"{curve.context_tokens:,} tokens" + ("" if _some_batch_fits(curve) else " (no batch fits)")


def _layout(spec: Spec, assignment: Assignment) -> str:
    dtypes = f"{assignment.weights} weights, {assignment.kv_cache} KV cache, {assignment.compute} FLOPs"
    return f"{spec.model.name} on {assignment.chip} {assignment.topology}, {dtypes}"


def _doubled(batch: Ints, most: int) -> Ints:
    """The rows of batches 1, 2, 4, … up to the most, or of the next one that the layout has."""
    powers = 2 ** np.arange(most.bit_length())
    rows: Ints = np.unique(np.searchsorted(batch, powers[powers <= batch[-1]]))
    return rows[batch[rows] <= most]


def _batches(curve: BatchCurve, rows: Ints) -> Series:
    """The batches of some rows with their figures, for a slider; NaN where they do not fit."""
    fits = curve.batch[rows] <= curve.max_batch_in_hbm
    return Series(
        name="batch of the slider",
        x=np.where(fits, curve.step_ms[rows], np.nan).tolist(),
        y=np.where(fits, curve.tokens_per_s_per_chip[rows], np.nan).tolist(),
        hover=[_figures_of(curve, row) for row in rows],
        points=True,
        labels=[f"{batch:,}" for batch in curve.batch[rows]],
    )


def _figures_of(curve: BatchCurve, row: int) -> str:
    """A batch, its latency, throughput and cost."""
    return (
        f"batch {curve.batch[row]}<br>{curve.step_ms[row]:.2f} ms a token<br>"
        f"{curve.tokens_per_s_per_chip[row]:.1f} tokens/s a chip<br>"
        f"{dollars(curve.usd_per_million[row])} per million tokens"
    )


def _pareto_frame(curve: BatchCurve) -> Frame:
    """The batches that fit; the compute-bound batches are dotted."""
    fits = curve.batch <= curve.max_batch_in_hbm
    is_compute_bound = curve.batch >= curve.critical_batch
    memory_bound = np.flatnonzero(fits & ~is_compute_bound)
    compute_bound = np.flatnonzero(fits & is_compute_bound)
    if len(memory_bound) and len(compute_bound):
        compute_bound = np.concatenate([memory_bound[-1:], compute_bound])

    def series(name: str, rows: np.ndarray, *, dashed: bool) -> Series:
        return Series(
            name=name,
            x=curve.step_ms[rows].tolist(),
            y=curve.tokens_per_s_per_chip[rows].tolist(),
            hover=[_figures_of(curve, row) for row in rows],
            dashed=dashed,
        )

    return Frame(
        label=_label(curve),
        series=(
            series("memory-bound", memory_bound, dashed=False),
            series(f"compute-bound (batch ≥ {curve.critical_batch:.0f})", compute_bound, dashed=True),
        ),
        **_at_twice_the_latency(curve),
    )


def _at_twice_the_latency(curve: BatchCurve) -> dict[str, Any]:
    """A rule at twice the latency of the first batch, and how much less a token costs there at most.

    If memory is full at a lower latency, the rule is there.
    """
    if not _some_batch_fits(curve):
        return {}
    fits, first_ms = curve.batch <= curve.max_batch_in_hbm, float(curve.step_ms[0])
    rule_ms = min(2 * first_ms, float(curve.step_ms[fits].max()))
    ratio = curve.usd_per_million[0] / curve.usd_per_million[fits & (curve.step_ms <= rule_ms)].min()
    label = f"{rule_ms / first_ms:.2g}× latency: {ratio:.{0 if ratio >= 10 else 1}f}× cheaper"
    return {"rule_at": rule_ms, "rule_label": label}


def _breakdown_frame(curve: BatchCurve) -> Frame:
    ones = np.ones(len(curve.batch))
    terms = {
        "weights": np.asarray(curve.step.weights_s) * ones * 1e3,
        "KV cache": np.asarray(curve.step.kv_cache_s + curve.step.kv_exchange_s) * 1e3,
        "FLOPs": np.asarray(curve.step.flops_s) * 1e3,
        "step": curve.step_ms,
    }
    return Frame(
        label=_label(curve),
        series=tuple(
            Series(
                name=name,
                x=curve.batch.tolist(),
                y=values.tolist(),
                hover=[f"batch {batch}<br>{value:.3g} ms" for batch, value in zip(curve.batch, values, strict=True)],
                dashed=name == "step",
            )
            for name, values in terms.items()
        ),
        shade_from=curve.critical_batch,
        shade_label=f"compute-bound from {curve.critical_batch:.0f}",
        rule_at=float(curve.max_batch_in_hbm) if _some_batch_fits(curve) else None,
        rule_label=f"HBM full at {curve.max_batch_in_hbm}",
    )
