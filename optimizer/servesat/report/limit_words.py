"""Limits as sentences: what they cost, which of them conflict, what would correct them, and what breaks them."""

from collections.abc import Callable, Sequence
from math import ceil, floor, log10

from servesat.candidates.requirements import RULES, rules_of
from servesat.candidates.rule import Kind, Requirement
from servesat.catalogue.chip import Chip, chips_in
from servesat.core.plan import Plan
from servesat.core.quantities import gigabytes, number
from servesat.core.result import Change, LimitValue, Margin, Relaxation, SliceSummary
from servesat.report.words import chips
from servesat.spec.spec import Spec


def conflict(members: Sequence[str], spec: Spec) -> str:
    """A minimal conflict as a sentence."""
    rules = rules_of(spec)
    limits = [rules[member].say(spec) if member in rules else f"goodput ≥ {spec.slo.goodput:g}" for member in members]
    where = f"on any of {len(spec.chips)} chips"
    if len(spec.chips) == 1:
        scarce = any(rules[member].kind is Kind.RESOURCE for member in members if member in rules)
        where = f"on {spec.chips[0].id}" if scarce else _on(spec.chips[0], spec)  # wider slices take no less
    if spec.buy == "instances" and Requirement.CHIPS in members:
        where += ", where machines are rented, or owned, whole"
    if len(limits) == 1:
        return f"no plan satisfies {limits[0]} {where}"
    return f"{', '.join(limits[:-1])} and {limits[-1]} cannot hold together {where}"


def _on(chip: Chip, spec: Spec) -> str:
    """The chip searched, and up to which slices if no price has wider ones."""
    offers, searched = spec.offers_of(chip.id), spec.topologies_of(chip)
    held = [slice_ for slice_ in searched if any(offer.instances_of_slice(slice_) is not None for offer in offers)]
    widest = max(map(chips_in, held), default=0)
    if widest in {0, max(map(chips_in, searched))}:
        return f"on {chip.id}"
    return f"on {chip.id} in slices of up to {widest} chips: wider ones need a faster network than any price states"


def change(correction: Change) -> str:
    """A change of the spec: `tpot up to 15.76 ms`, `+ chip tpu-v5p`, `weights may be int4`."""
    name, value = correction.requirement, correction.value
    if correction.key.startswith("constraints."):
        return str(value)
    rule = RULES.get(name)
    text = (rule.correction if rule is not None else "") or _SEARCH_CHANGES.get(name, "{requirement} may be {value}")
    return text.format(requirement=name, value=value, up=_rounded(value, ceil), down=_rounded(value, floor))


_SEARCH_CHANGES = {
    "ici": "ici: {value}",
    "max_batch": "batches up to {value}",
    "chip": "+ chip {value}",
    "topology": "+ slice {value}",
}
"""Texts of changes that widen the search."""


def _rounded(value: float | int | str, towards: Callable[[float], int]) -> str:
    """Four significant digits, rounded so that the limit shown suffices."""
    if isinstance(value, str) or value == 0:
        return str(value)
    scale = min(1.0, 10.0 ** (floor(log10(value)) - 3))
    nudge = 1 - 1e-12 if towards is ceil else 1 + 1e-12
    return number(towards(value / scale * nudge) * scale)


def limit_value(value: LimitValue) -> str:
    """What a limit costs, as a sentence."""
    if not value.saves_usd_per_million_output_tokens:
        return f"{value.requirement}: costs nothing, no plan without it is cheaper"
    saves = f"saves {value.saves_fraction:.1%}"
    then = (
        f", {' and '.join(value.then_binding)} bind{'s' if len(value.then_binding) == 1 else ''}"
        if value.then_binding
        else ""
    )
    if value.limit is None or value.relaxed_to is None:
        upgrade = _upgrade(value.requirement)
        what = f"{upgrade} {saves} at most" if upgrade else f"a plan without the limit {saves}"
        return f"{value.requirement}: {what}; beyond it nothing{then}"
    enough = _rounded(value.relaxed_to, ceil if value.relaxed_to > value.limit else floor)
    moving = f"{value.requirement}: moving {number(value.limit)} to {enough} {value.unit} {saves}"
    moved = abs(value.relaxed_to - value.limit)
    rate = f", {value.saves_fraction / moved:.2%} for each ms of it on average" if value.unit == "ms" else ""
    return f"{moving}{rate}; beyond it nothing{then}"


def relaxation(limit: Relaxation) -> str:
    """What a looser limit would save, as a sentence: `tpot up to 53.1 ms would save 4.1%`."""
    saves = f"would save {limit.saves_fraction:.1%}"
    if limit.requirement not in RULES:
        return f"without {limit.requirement} a plan {saves}"
    if limit.relaxed_to is not None:
        return f"{change(Change(requirement=limit.requirement, key='', value=limit.relaxed_to))} {saves}"
    upgrade = _upgrade(limit.requirement)
    return f"{upgrade} {saves} at most" if upgrade else f"a larger {limit.requirement} {saves} at most"


def _upgrade(requirement: str) -> str:
    """What a machine that meets a requirement has more of; empty for one that no machine meets, as a constraint."""
    return RULES[requirement].upgrade if requirement in RULES else ""


def excluded_because(summary: SliceSummary) -> str:
    """Why a slice has no plan: the violations of its nearest plan."""
    return "; ".join(_violation(summary.plan, margin) for margin in summary.margins if not margin.holds)


def _violation(plan: Plan, margin: Margin) -> str:
    name = margin.requirement
    if name == Requirement.HBM and plan.weights_bytes / 1e9 > (margin.limit or 0.0):
        usable = f"{number(margin.limit or 0.0)} GB usable on {chips(plan.tp)}"
        what = "weights and adapters" if plan.adapter_bytes else "weights"
        return f"hbm: {what} take {gigabytes(plan.weights_bytes)}, {usable}"
    if name == Requirement.TPOT and plan.step_ms.weights > (margin.limit or 0.0):
        return (
            f"tpot: loading {gigabytes(plan.weights_bytes)} of weights over {chips(plan.tp)} takes "
            f"{plan.step_ms.weights:.3g} ms, the limit is {margin.limit:g} ms"
        )
    if name == Requirement.HEADS:
        return f"heads: {plan.tp} ways do not divide the query heads and d_ff"
    if margin.value is None:
        return f"{name}: {plan.tp} ways at batch {plan.batch}, weights {plan.weights}, compute {plan.compute}"
    relation = "under" if margin.value < (margin.limit or 0.0) else "over"
    figure = f"{number(margin.value)} {margin.unit}".strip()
    return f"{name}: {figure}, {relation} the limit of {number(margin.limit or 0.0)}, at batch {plan.batch}"
