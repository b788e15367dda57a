"""The scaling book's two figures, for any model, slice and dtypes."""

from collections.abc import Sequence

import numpy as np

from servesat.candidates.requirements import Requirement
from servesat.catalogue.chip import axis_sizes, chips_in
from servesat.catalogue.load import load_chip
from servesat.core.errors import SpecError
from servesat.core.plan import Assignment
from servesat.core.quantities import dollars, gigabytes
from servesat.cost_model.memory import weights_bytes
from servesat.cost_model.precision import BYTES_PER_VALUE
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
    contexts: str,
    max_batch: int,
    price: float | None,
) -> tuple[Spec, Assignment, list[int]]:
    """The layout that a figure is drawn for, and its contexts, from the words of the command line.

    Raises SpecError when they are malformed, or when the model cannot be split over the slice.
    """
    try:
        tokens = [int(text) for text in contexts.split(",")]
    except ValueError:
        raise SpecError(f"--contexts {contexts!r}: expected whole numbers with commas, as in 2048,8192") from None
    searched = load_chip(chip)
    topology = topology or ("4x4" if "4x4" in searched.topologies else min(searched.topologies, key=_distance_from_8))
    search = {
        "chips": [searched],
        "topologies": {searched.id: [topology]},
        "weights": [weights],
        "kv_cache": [kv_cache],
        "compute": [compute],
        "max_batch": max_batch,
    }
    prices = {} if price is None else {searched.id: price}
    specs = [
        Spec.load({"model": model, "workload": {"context_tokens": context}, "search": search, "price": prices})
        for context in tokens
    ]
    assignment = Assignment(
        chip=searched.id,
        topology=topology,
        tp_axes=tuple(axis for axis, size in enumerate(axis_sizes(topology)) if size > 1),
        weights=weights,
        kv_cache=kv_cache,
        compute=compute,
        batch=1,
    )
    plan, margins = rederive(specs[0], assignment)
    broken = {margin.requirement for margin in margins if not margin.holds}
    if Requirement.HEADS in broken:
        raise SpecError(
            f"--topology {topology}: {plan.tp} ways do not divide the query heads and d_ff of {specs[0].model.id}"
        )
    if Requirement.DTYPES in broken:
        raise SpecError(f"--compute {compute}: the weights, {weights}, are wider")
    if plan.kv_batch_shards > max_batch:
        raise SpecError(f"--max-batch {max_batch}: {plan.tp} ways need batches of {plan.kv_batch_shards} at least")
    return specs[0], assignment, tokens


def _distance_from_8(topology: str) -> tuple[int, str]:
    """How far a slice is from eight chips, the usual node."""
    return abs(chips_in(topology) - 8), topology


def pareto_chart(spec: Spec, assignment: Assignment, contexts: Sequence[int], max_batch: int) -> Chart:
    """Throughput against latency over the batches that fit, a slider over context."""
    sweeps = _sweeps(spec, assignment, contexts, max_batch)
    frames = [_pareto_frame(one) for one in sweeps]
    shown = [series for frame in frames for series in frame.series if len(series.x)]
    return Chart(
        title=f"{_layout(spec, assignment)}: throughput against latency",
        x_title="time per output token [ms]",
        y_title="tokens/s per chip",
        x_range=(0.0, 1.05 * max(max(series.x) for series in shown)),
        y_range=(0.8 * min(min(series.y) for series in shown), 1.3 * max(max(series.y) for series in shown)),
        log_x=False,
        log_y=True,
        slider="context: ",
        frames=tuple(frames),
        first_frame=_first_frame(contexts),
    )


def breakdown_chart(spec: Spec, assignment: Assignment, contexts: Sequence[int], max_batch: int) -> Chart:
    """Where a step's time goes over the batch, the compute-bound sector shaded, a slider over context."""
    sweeps = _sweeps(spec, assignment, contexts, max_batch)
    frames = [_breakdown_frame(one) for one in sweeps]
    shown = [value for frame in frames for series in frame.series for value in (min(series.y), max(series.y))]
    return Chart(
        title=f"{_layout(spec, assignment)}: where a step goes",
        x_title="batch [sequences]",
        y_title="time of a step [ms]",
        x_range=(float(sweeps[0].batch[0]), max(float(max_batch), 2.0 * sweeps[0].batch[0])),
        y_range=(0.8 * min(shown), 1.3 * max(shown)),
        log_x=True,
        log_y=True,
        slider="context: ",
        frames=tuple(frames),
        first_frame=_first_frame(contexts),
    )


def _sweeps(spec: Spec, assignment: Assignment, contexts: Sequence[int], max_batch: int) -> list[BatchCurve]:
    found = []
    for context in contexts:
        workload = spec.workload.model_copy(update={"context_tokens": context})
        found.append(batch_curve(spec.model_copy(update={"workload": workload}), assignment, max_batch))
    if all(one.max_batch_in_hbm < one.batch[0] for one in found):
        held = float(weights_bytes(spec.model, BYTES_PER_VALUE[assignment.weights]))
        raise SpecError(
            f"nothing to draw: on {assignment.chip} {assignment.topology} no batch fits beside {gigabytes(held)} of "
            f"{assignment.weights} weights, even at {min(contexts):,} tokens; take a larger slice"
        )
    return found


def _first_frame(contexts: Sequence[int]) -> int:
    """The book's 8,192 tokens where they are among the contexts."""
    return list(contexts).index(8192) if 8192 in contexts else 0


def _label(one: BatchCurve) -> str:
    nothing = "" if one.max_batch_in_hbm >= one.batch[0] else " (no batch fits)"
    return f"{one.context_tokens:,} tokens{nothing}"


def _layout(spec: Spec, assignment: Assignment) -> str:
    dtypes = f"{assignment.weights} weights, {assignment.kv_cache} KV cache, {assignment.compute} FLOPs"
    return f"{spec.model.name} on {assignment.chip} {assignment.topology}, {dtypes}"


def _pareto_frame(one: BatchCurve) -> Frame:
    """The batches that fit; those that are compute-bound are dotted."""
    fitting = one.batch <= one.max_batch_in_hbm
    bound = one.batch >= one.critical_batch
    memory_bound = np.flatnonzero(fitting & ~bound)
    compute_bound = np.flatnonzero(fitting & bound)
    if len(memory_bound) and len(compute_bound):
        compute_bound = np.concatenate([memory_bound[-1:], compute_bound])

    def series(name: str, rows: np.ndarray, *, dashed: bool) -> Series:
        return Series(
            name=name,
            x=one.step_ms[rows].tolist(),
            y=one.tokens_per_s_per_chip[rows].tolist(),
            hover=[
                f"batch {one.batch[row]}<br>{one.step_ms[row]:.2f} ms a token<br>"
                f"{one.tokens_per_s_per_chip[row]:.1f} tokens/s a chip<br>"
                f"{dollars(one.usd_per_million[row])} per million tokens"
                for row in rows
            ],
            dashed=dashed,
        )

    return Frame(
        label=_label(one),
        series=(
            series("memory-bound", memory_bound, dashed=False),
            series(f"compute-bound (batch ≥ {one.critical_batch:.0f})", compute_bound, dashed=True),
        ),
    )


def _breakdown_frame(one: BatchCurve) -> Frame:
    constant = np.ones(len(one.batch))
    terms = {
        "weights": np.asarray(one.step.weights_s) * constant * 1e3,
        "KV cache": np.asarray(one.step.kv_cache_s) * 1e3,
        "FLOPs": np.asarray(one.step.flops_s) * 1e3,
        "step": one.step_ms,
    }
    return Frame(
        label=_label(one),
        series=tuple(
            Series(
                name=name,
                x=one.batch.tolist(),
                y=values.tolist(),
                hover=[f"batch {batch}<br>{value:.3g} ms" for batch, value in zip(one.batch, values, strict=True)],
                dashed=name == "step",
            )
            for name, values in terms.items()
        ),
        shade_from=one.critical_batch,
        shade_label=f"compute-bound from {one.critical_batch:.0f}",
        rule_at=float(one.max_batch_in_hbm) if one.max_batch_in_hbm >= one.batch[0] else None,
        rule_label=f"HBM full at {one.max_batch_in_hbm}",
    )
