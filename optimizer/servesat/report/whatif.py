"""Scenarios, breakpoints and robustness as tables and documents."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from rich.console import Console
from rich.text import Text

from servesat.core.plan import Mode, Plan
from servesat.core.quantities import change_of, dollars
from servesat.core.result import Result
from servesat.questions.breakpoints import BRACKET_RTOL, Breakpoint
from servesat.questions.robustness import Robustness, Survival
from servesat.questions.whatif import Question, Swing, swings, value_text
from servesat.report.documents import left_out_document, plan_document
from servesat.report.tables import Column, Fitted, columns
from servesat.report.words import best_left_out, decode_slices, left_out, pool, rare_columns, rented_as

FACTOR_FROM = 10.0
"""A regret from which it is shown as a factor: `80 times` rather than `7900%`."""

MAX_ROWS = 50
"""Scenarios shown on the terminal; a note says where the rest are."""


def base_document(question: Question) -> dict[str, Any]:
    """The head of the JSON of `servesat whatif`, before the rows: the answer to the spec as it stands."""
    result = question.answer
    return {
        "base": {
            "status": str(result.status),
            "plan": None if result.plan is None else plan_document(result.plan),
            "binding": list(map(str, result.binding)),
        },
        "varied": [factor.key for factor in question.scenarios.factors],
        "one_at_a_time": question.scenarios.one_at_a_time,
    }


def print_scenarios(console: Console, question: Question, rows: Iterable[Mapping[str, Any]], finished: int) -> None:
    """Print the base, the first rows, and the swings of one-at-a-time scenarios."""
    console.print(Text(f"as it stands: {_answer(question.answer)}\n"))
    scenarios = question.scenarios
    listed = list(rows if scenarios.one_at_a_time else islice(rows, MAX_ROWS))
    with_mode = Mode.DECODE_ONLY not in question.base.modes
    keys = [factor.key for factor in scenarios.factors]
    rare = rare_columns([row["plan"] for row in listed[:MAX_ROWS]])
    tpot = "tpot" if question.base.percentile is None else "tpot when full"  # which no limit on a share is on
    table = Fitted(
        [
            *([Column("key"), Column("value", right=True)] if scenarios.one_at_a_time else columns(*keys, right=True)),
            Column("plan"),
            *columns(*(["mode"] if with_mode else []), "weights", "KV cache", "compute", detail=True),
            *columns(*(name for name, _ in rare), detail=True),
            *columns("batch", tpot, "$/1M", "change", right=True),
            Column("bound by", detail=True),
        ]
    )
    for at, row in enumerate(listed[:MAX_ROWS]):
        values = {key: value_text(value) for key, value in scenarios[row["scenario"]].items()}
        varied = next(iter(values.items())) if scenarios.one_at_a_time else values.values()
        cells = _cells(row, [cells[at] for _, cells in rare], with_mode=with_mode)
        table.add_row([*varied, *cells], *(("dim", _conflicts(row)) if row["plan"] is None else ()))
    console.print(table)
    if finished > MAX_ROWS:
        console.print(Text(f"{MAX_ROWS} of {finished:,} scenarios shown; --json or --out has them all"))
    if any(row["plan_changed"] for row in listed[:MAX_ROWS]):
        console.print(Text("* the layout differs from that of the spec as it stands"))
    if scenarios.one_at_a_time and question.answer.plan is None:
        console.print(Text("the spec as it stands has no plan to compare with"))
    elif scenarios.one_at_a_time:
        by_factor = swings(listed, scenarios)
        _print_swings(console, by_factor)
        moved = {swing.key for swing in by_factor}
        for factor in scenarios.factors:
            if factor.key not in moved:
                console.print(Text(f"{factor.key} is left out: no value of it has a plan to compare"))


def _cells(row: Mapping[str, Any], rare: Sequence[str], *, with_mode: bool) -> list[str]:
    plan, modes = row["plan"], [] if row["plan"] is None or not with_mode else [str(row["plan"]["mode"])]
    if plan is None:
        return [row["status"], *[""] * (len(rare) + (9 if with_mode else 8))]
    change = "" if row["change"] is None else change_of(row["change"])
    return [
        f"{plan['chip']} {plan['topology']}" + (" *" if row["plan_changed"] else ""),
        *modes,
        plan["weights"],
        plan["kv_cache"],
        plan["compute"],
        *rare,
        str(plan["batch"]),
        f"{plan['tpot_ms']:.2f} ms",
        dollars(plan["usd_per_million_output_tokens"]),
        change,
        ", ".join(row["binding"]),
    ]


def _conflicts(row: Mapping[str, Any]) -> str:
    """What keeps a scenario without a plan from one."""
    told = (
        f"{' and '.join(members)} cannot hold{' together' * (len(members) > 1)}" for members in row["conflict"] or ()
    )
    return "; ".join(told) or "see the error below"


def _answer(result: Result, beside: Sequence[Plan] = ()) -> str:
    if result.plan is None:
        return str(result.status)
    return _plan(result.plan, beside)


def _plan(plan: Plan, beside: Sequence[Plan] = ()) -> str:
    """A plan in a line, with stages and drafts where it, or a plan that it stands beside, has some."""
    prefill = "" if plan.prefill is None else f" with {pool(plan)}"
    mode = "" if plan.mode is Mode.DECODE_ONLY else f" {plan.mode}{prefill},"
    rare = "".join(f"{name} {cells[0]}, " for name, cells in rare_columns([plan, *beside]))
    return (
        f"{plan.chip} {plan.topology},{mode} weights {plan.weights}, KV cache {plan.kv_cache}, "
        f"compute {plan.compute}, {rare}batch {plan.batch}, {plan.tpot_ms:.2f} ms, "
        f"{dollars(plan.usd_per_million_output_tokens)} per million"
    )


def _print_swings(console: Console, by_factor: Sequence[Swing]) -> None:
    figures = columns("least", "at", "greatest", "at", "swing", right=True)
    table = Fitted([Column("key"), *figures, Column("no plan at", detail=True)], "What moves the cost most")
    for swing in by_factor:
        table.add_row(
            [
                swing.key,
                change_of(swing.lowest),
                value_text(swing.lowest_at),
                change_of(swing.highest),
                value_text(swing.highest_at),
                f"{swing.width:.1%}",
                ", ".join(map(value_text, swing.without_plan)),
            ]
        )
    console.print(table)


def breakpoints_document(key: str, breakpoints: Sequence[Breakpoint]) -> dict[str, Any]:
    """The JSON of `servesat whatif --breakpoints`."""
    return {
        "key": key,
        "relative_tolerance": BRACKET_RTOL,
        "breakpoints": [
            {
                "below": change.below,
                "above": change.above,
                "before": _side_document(change.before),
                "after": _side_document(change.after),
            }
            for change in breakpoints
        ],
    }


def _side_document(result: Result) -> dict[str, Any]:
    return {
        "status": str(result.status),
        "plan": None if result.plan is None else plan_document(result.plan),
        "binding": list(map(str, result.binding)),
    }


def print_breakpoints(console: Console, key: str, values: Sequence[float], breakpoints: Sequence[Breakpoint]) -> None:
    """Print where the best plan changes along a key."""
    span = f"{key} from {min(values):g} to {max(values):g}"
    if not breakpoints:
        console.print(Text(f"the best layout is the same at all {len(values)} values of {span}"))
        return
    console.print(Text(f"where the best layout changes, {span}\n", style="bold"))
    answers = [breakpoints[0].before, *(change.after for change in breakpoints)]
    plans = [answer.plan for answer in answers if answer.plan is not None]
    console.print(Text(f"  up to {breakpoints[0].below:.6g}: {_answer(answers[0], plans)}"), soft_wrap=True)
    for position, change in enumerate(breakpoints, start=1):
        until = f" up to {breakpoints[position].below:.6g}" if position < len(breakpoints) else ""
        console.print(Text(f"  from {change.above:.6g}{until}: {_answer(change.after, plans)}"), soft_wrap=True)
    are_whole = all(isinstance(change.above, int) for change in breakpoints)
    within = "neighbouring whole numbers" if are_whole else f"within {BRACKET_RTOL:g} of each other, relatively"
    console.print(Text(f"\nboth sides of each change are proved optimal, {within}", style="green"))


def robustness_document(robustness: Robustness) -> dict[str, Any]:
    """The JSON of `servesat whatif --noise`."""
    return {
        "status": str(robustness.result.status),
        "noise": robustness.noise,
        "samples": robustness.samples,
        "seed": robustness.seed,
        "left_out": left_out_document(robustness.left_out),
        "layouts": [asdict(survival) for survival in robustness.survivals],
        "least_regret": None if robustness.least_regret is None else asdict(robustness.least_regret),
    }


def print_robustness(console: Console, robustness: Robustness) -> None:
    """Print the best layout and its rivals under errors."""
    if robustness.result.plan is None:
        console.print(Text(f"{robustness.result.status}: there is no plan to try", style="red"))
        return
    drawn = f"{robustness.samples:,} samples, seed {robustness.seed}"
    title = f"step times and HBM use off by up to {100 * robustness.noise:.3g}%, {drawn}{left_out(robustness.left_out)}"
    console.print(Text(title, style="bold"))
    plans = [survival.plan for survival in robustness.survivals]
    engines = [plan.engine or "" for plan in plans]
    rare = [*([("engine", engines)] if len(set(engines)) > 1 else []), *rare_columns(plans)]
    table = Fitted(
        [
            Column("slices"),
            *columns("weights", "KV cache", "compute", "mode", "chunk", "TP", detail=True),
            *columns(*(name for name, _ in rare), "batch", detail=True),
            *columns("$/1M", "best in", right=True),
            Column("plan in", right=True, detail=True),
            *columns("mean regret", "worst sampled", "worst", right=True),
        ]
    )
    for at, survival in enumerate(robustness.survivals):
        table.add_row(_survival_cells(survival, [cells[at] for _, cells in rare]))
    console.print(table)
    console.print(
        Text(
            "best in: samples in which nothing is cheaper, ties counted for each; plan in: those in which it keeps the "
            "limits; regret: what it costs beyond the cheapest of a sample; worst: the most that errors can make it.",
            style="dim",
        )
    )
    best, safest = robustness.survivals[0], robustness.least_regret
    console.print(Text(f"the best plan stays the best in {best.best_share:.1%} of the samples; {_worst(best)}"))
    if safest is None:
        console.print(Text("every layout has errors within the noise that leave it without a plan"))
    elif safest.plan == best.plan:
        console.print(Text("no layout has a smaller worst regret", style="green"))
    else:
        where = f", {rented}" if (rented := rented_as(safest.plan)) else ""
        console.print(Text(f"the least worst regret, {safest.worst_regret:.1%}: {_plan(safest.plan)}{where}"))
    if robustness.left_out is not None:
        console.print(Text(best_left_out(robustness.left_out)))


def _worst(survival: Survival) -> str:
    if survival.worst_regret is None:
        return "some errors within the noise leave it without a plan"
    return f"at worst another layout would have cost {survival.worst_regret / (1 + survival.worst_regret):.1%} less"


def _survival_cells(survival: Survival, rare: Sequence[str]) -> list[str]:
    plan = survival.plan

    def percent(share: float | None, missing: str) -> str:
        if share is None:
            return missing
        return f"{share:.1%}" if share < FACTOR_FROM else f"{1 + share:.3g} times"

    return [
        decode_slices(plan),
        plan.weights,
        plan.kv_cache,
        plan.compute,
        str(plan.mode),
        "" if plan.chunk_tokens is None else str(plan.chunk_tokens),
        str(plan.tp),
        *rare,
        str(plan.batch),
        dollars(plan.usd_per_million_output_tokens),
        f"{survival.best_share:.1%}",
        f"{survival.feasible_share:.1%}",
        percent(survival.mean_regret, ""),
        percent(survival.worst_sampled_regret, ""),
        percent(survival.worst_regret, "no plan"),
    ]
