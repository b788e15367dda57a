"""Which limits hold a plan where it is, and what each would save if it were looser."""

from collections.abc import Sequence

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.evaluation import evaluate
from servesat.candidates.requirements import RULES, bits_of, rules_of
from servesat.candidates.rule import Kind, Requirement, Rule
from servesat.core.arrays import Floats
from servesat.core.result import Margin, Relaxation
from servesat.core.tolerances import COST_TIE_RTOL
from servesat.spec.spec import Spec

TIGHT_RTOL = 1e-6
"""A limit with less slack than this share of it has none."""


def _limits(spec: Spec) -> dict[str, Rule]:
    """The requirements and constraints that can bind."""
    return {name: rule for name, rule in rules_of(spec).items() if rule.kind is not Kind.STRUCTURE}


def binding_limits(
    spec: Spec, columns: Columns, chosen: int, margins: Sequence[Margin], relaxed: int = 0
) -> tuple[str, ...]:
    """The limits that the chosen column is up against.

    A limit binds where the plan has no slack, where the layout's next larger batch would break it (its next smaller
    one, if it is a lower limit), or where one more slice would.
    """
    tight = {
        margin.requirement
        for margin in margins
        if margin.slack is not None and margin.limit is not None and margin.slack <= TIGHT_RTOL * abs(margin.limit)
    }
    broken = tight | _broken_by_next_batch(spec, columns, chosen) | _broken_by_next_slice(spec, columns, chosen)
    bits = bits_of(spec)
    return tuple(name for name in _limits(spec) if name in broken and not relaxed & bits[name])


def relaxations(spec: Spec, columns: Columns, cost: float) -> tuple[Relaxation, ...]:
    """What a looser limit would save, for each that alone excludes a plan cheaper than `cost`; the largest first."""
    usd = columns.usd_per_million
    found, bits = [], bits_of(spec)
    for name, rule in _limits(spec).items():
        if not rule.can_be_relaxed:
            continue
        alone = np.flatnonzero((columns.violated == bits[name]) & np.isfinite(_figures(spec, columns, name)))
        least = float(usd[alone].min(initial=np.inf))
        if least * (1 + COST_TIE_RTOL) < cost:
            tied = alone[usd[alone] <= least * (1 + COST_TIE_RTOL)]
            found.append(
                Relaxation(
                    requirement=name,
                    relaxed_to=_least_change(spec, columns, name, tied),
                    usd_per_million_output_tokens=least,
                    saves_fraction=1 - least / cost,
                )
            )
    return tuple(sorted(found, key=lambda relaxation: relaxation.usd_per_million_output_tokens))


def _broken_by_next_batch(spec: Spec, columns: Columns, chosen: int) -> set[str]:
    """The upper limits that the layout's next larger batch breaks, and the lower limits that its next smaller does."""
    layout = columns.layouts.take(np.array([chosen]))
    batch, multiple = columns.batch[chosen], layout.batch_shards[0]
    near = evaluate(spec, layout, batches=np.array([batch - multiple, batch + multiple]))
    broken, bits = set(), bits_of(spec)
    for violated, tried in zip(near.violated.tolist(), near.batch.tolist(), strict=True):
        for name, rule in _limits(spec).items():
            one_sided = rule.kind is not Kind.CONSTRAINT or rule.figure is not None
            if violated & bits[name] and one_sided and rule.at_least == (tried < batch):
                broken.add(name)
    return broken


def _broken_by_next_slice(spec: Spec, columns: Columns, chosen: int) -> set[str]:
    """The limits on all slices together that leave no room for one more, of either pool."""
    layout = columns.layouts.take(np.array([chosen]))
    slices, pool_slices = columns.slices[[chosen]], layout.serving.pool_slices
    more = [(slices + 1, pool_slices)] + ([(slices, pool_slices + 1)] if pool_slices[0] else [])
    return {
        name
        for name, rule in RULES.items()
        if rule.shared is not None and rule.is_stated(spec)
        if any(limit.is_exceeded_by(*counts).any() for limit in rule.shared(spec, layout) for counts in more)
    }


def _least_change(spec: Spec, columns: Columns, name: str, rows: np.ndarray) -> float | int | None:
    """The value of the limit that allows one of some columns, in the unit of the spec; None where no value would."""
    rule = rules_of(spec)[name]
    if rule.figure is None:
        return None
    figures = _figures(spec, columns, name)[rows]
    figure = float(figures.max() if rule.at_least else figures.min())
    if name == Requirement.HBM and figure > 1:
        return None  # more memory than the chips have
    return rule.adjusted(figure)


def _figures(spec: Spec, columns: Columns, name: str) -> Floats:
    """The figure of each column that a limit is about, 0 for a limit without one; infinite where it is not known."""
    figure = rules_of(spec)[name].figure
    return np.zeros(len(columns)) if figure is None else np.asarray(figure(spec, columns), dtype=np.float64)
