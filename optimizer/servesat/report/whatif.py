"""Scenarios, breakpoints and robustness as tables and documents."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from servesat.core.plan import Mode, Plan
from servesat.core.quantities import change_of, dollars
from servesat.core.result import Result
from servesat.questions.breakpoints import BRACKET_RTOL, Breakpoint
from servesat.questions.robustness import Robustness, Survival
from servesat.questions.whatif import Question, Swing, shown, swings
from servesat.report.documents import plan_document
from servesat.report.words import pool

ROWS = 50
"""Scenarios that a terminal shows; the rest are in the file, and said to be."""


def base_document(question: Question) -> dict[str, Any]:
    """What stands before the rows in the answer to `servesat whatif --json`: the spec as it is."""
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
    """Print the base, the first rows, and for one-at-a-time scenarios the swing of each factor."""
    console.print(Text(f"as it stands: {_answer(question.answer)}\n"))
    asked = question.scenarios
    listed = list(rows if asked.one_at_a_time else islice(rows, ROWS))
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("key", "value") if asked.one_at_a_time else (factor.key for factor in asked.factors):
        table.add_column(column, justify="left" if column == "key" else "right", overflow="fold")
    whole = Mode.DECODE_ONLY not in question.base.modes
    for column in ("plan", *(["mode"] if whole else []), "weights", "KV cache", "compute"):
        table.add_column(column)
    for column in ("batch", "tpot", "$/1M", "change"):
        table.add_column(column, justify="right")
    table.add_column("binds, or conflicts")
    for row in listed[:ROWS]:
        values = {key: shown(value) for key, value in asked[row["scenario"]].items()}
        varied = next(iter(values.items())) if asked.one_at_a_time else values.values()
        table.add_row(*varied, *_cells(row, whole=whole), style="dim" if row["plan"] is None else "")
    console.print(table)
    if finished > ROWS:
        console.print(Text(f"{ROWS} of {finished:,} scenarios shown; --json or --out has them all"))
    console.print(Text("* another layout than the spec's as it stands"))
    if asked.one_at_a_time:
        _print_swings(console, swings(listed, asked))


def _cells(row: Mapping[str, Any], *, whole: bool) -> list[str]:
    plan, modes = row["plan"], [] if row["plan"] is None or not whole else [str(row["plan"]["mode"])]
    if plan is None:
        reasons = "; ".join(" and ".join(members) for members in row["conflict"] or ())
        empty = [""] * (8 if whole else 7)
        return [row["status"], *empty, reasons or "see the error below"]
    change = "" if row["change"] is None else change_of(row["change"])
    return [
        f"{plan['chip']} {plan['topology']}" + (" *" if row["plan_changed"] else ""),
        *modes,
        plan["weights"],
        plan["kv_cache"],
        plan["compute"],
        str(plan["batch"]),
        f"{plan['tpot_ms']:.2f} ms",
        dollars(plan["usd_per_million_output_tokens"]),
        change,
        ", ".join(row["binding"]),
    ]


def _answer(result: Result) -> str:
    if result.plan is None:
        return str(result.status)
    return _plan(result.plan)


def _plan(plan: Plan) -> str:
    beside = "" if plan.prefill is None else f" with {pool(plan)}"
    served = "" if plan.mode is Mode.DECODE_ONLY else f" {plan.mode}{beside},"
    return (
        f"{plan.chip} {plan.topology},{served} weights {plan.weights}, KV cache {plan.kv_cache}, "
        f"compute {plan.compute}, batch {plan.batch}, {plan.tpot_ms:.2f} ms, "
        f"{dollars(plan.usd_per_million_output_tokens)} per million"
    )


def _print_swings(console: Console, found: Sequence[Swing]) -> None:
    table = Table(box=box.SIMPLE_HEAD, title="What moves the cost most", title_justify="left", title_style="bold")
    table.add_column("key")
    for column in ("least", "at", "greatest", "at", "swing"):
        table.add_column(column, justify="right")
    table.add_column("no plan at")
    for swing in found:
        table.add_row(
            swing.key,
            change_of(swing.least),
            shown(swing.least_at),
            change_of(swing.greatest),
            shown(swing.greatest_at),
            f"{swing.width:.1%}",
            ", ".join(map(shown, swing.without_plan)),
        )
    console.print(table)


def breakpoints_document(key: str, found: Sequence[Breakpoint]) -> dict[str, Any]:
    """The answer to `servesat whatif --breakpoints --json`."""
    return {
        "key": key,
        "relative_tolerance": BRACKET_RTOL,
        "breakpoints": [
            {
                "below": one.below,
                "above": one.above,
                "before": _side_document(one.before),
                "after": _side_document(one.after),
            }
            for one in found
        ],
    }


def _side_document(result: Result) -> dict[str, Any]:
    return {
        "status": str(result.status),
        "plan": None if result.plan is None else plan_document(result.plan),
        "binding": list(map(str, result.binding)),
    }


def print_breakpoints(console: Console, key: str, values: Sequence[float], found: Sequence[Breakpoint]) -> None:
    """Print where the best plan changes along a key."""
    span = f"{key} from {min(values):g} to {max(values):g}"
    if not found:
        console.print(Text(f"the best layout is the same at all {len(values)} values of {span}"))
        return
    console.print(Text(f"where the best layout changes, {span}\n", style="bold"))
    console.print(Text(f"  up to {found[0].below:.12g}: {_answer(found[0].before)}"), soft_wrap=True)
    for position, one in enumerate(found):
        until = f" up to {found[position + 1].below:.12g}" if position + 1 < len(found) else ""
        console.print(Text(f"  from {one.above:.12g}{until}: {_answer(one.after)}"), soft_wrap=True)
    whole = all(isinstance(one.above, int) for one in found)
    within = "neighbouring whole numbers" if whole else f"within {BRACKET_RTOL:g} of each other, relatively"
    console.print(Text(f"\nboth sides of each change are proved optimal, {within}", style="green"))


def robustness_document(found: Robustness) -> dict[str, Any]:
    """The answer to `servesat whatif --noise --json`."""
    return {
        "status": str(found.result.status),
        "noise": found.noise,
        "samples": found.samples,
        "seed": found.seed,
        "layouts": [asdict(survival) for survival in found.survivals],
        "least_regret": None if found.least_regret is None else asdict(found.least_regret),
    }


def print_robustness(console: Console, found: Robustness) -> None:
    """Print how the best plan's layout and its rivals fare under errors."""
    if found.result.plan is None:
        console.print(Text(f"{found.result.status}: there is no plan to try", style="red"))
        return
    console.print(
        Text(
            f"step times and HBM use off by up to {found.noise:.3g}, {found.samples:,} samples, seed {found.seed}\n",
            style="bold",
        )
    )
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("slice", "weights", "KV cache", "compute"):
        table.add_column(column)
    for column in ("TP", "$/1M", "best in", "has a plan in", "mean regret", "worst sampled", "worst possible"):
        table.add_column(column, justify="right")
    for survival in found.survivals:
        table.add_row(*_survival_cells(survival))
    console.print(table)
    own = found.survivals[0]
    console.print(Text(f"the best plan stays the best in {own.best_share:.1%} of the samples; {_worst(own)}"))
    least = found.least_regret
    if least is None:
        console.print(Text("every layout has errors within the noise that leave it without a plan"))
    elif least.plan == own.plan:
        console.print(Text("no layout has a smaller worst regret", style="green"))
    else:
        console.print(Text(f"the least worst regret, {least.worst_regret:.1%}: {_plan(least.plan)}"))


def _worst(survival: Survival) -> str:
    if survival.worst_regret is None:
        return "within the noise are errors that leave it without a plan"
    return f"at worst another would have cost {survival.worst_regret / (1 + survival.worst_regret):.1%} less"


def _survival_cells(survival: Survival) -> list[str]:
    plan = survival.plan

    def percent(share: float | None, missing: str) -> str:
        return missing if share is None else f"{share:.1%}"

    return [
        f"{plan.chip} {plan.topology}",
        plan.weights,
        plan.kv_cache,
        plan.compute,
        str(plan.tp),
        dollars(plan.usd_per_million_output_tokens),
        f"{survival.best_share:.1%}",
        f"{survival.feasible_share:.1%}",
        percent(survival.mean_regret, ""),
        percent(survival.worst_sampled_regret, ""),
        percent(survival.worst_regret, "no plan"),
    ]
