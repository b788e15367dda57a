"""Portfolios: a table, a document, and a figure of what deciding together costs each deployment."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from servesat.core.errors import ServesatError
from servesat.core.quantities import dollars
from servesat.core.result import Status
from servesat.questions.portfolio import LimitChange, Portfolio
from servesat.report.documents import plan_document
from servesat.report.limit_words import conflict
from servesat.report.tables import Column, Fitted, columns
from servesat.report.tornado import Bar, Tornado
from servesat.report.words import decode_slices, rare_columns, rented_as
from servesat.spec.portfolio import PortfolioSpec


def portfolio_document(answer: Portfolio) -> dict[str, Any]:
    """The JSON of `servesat portfolio`."""
    names = dict.fromkeys([*answer.alone, *answer.conflicts_alone])
    return {
        "status": str(answer.status),
        "usd_per_hour": answer.usd_per_hour,
        "bound_usd_per_hour": answer.bound_usd_per_hour,
        "gap": answer.gap,
        "alone_usd_per_hour": answer.alone_usd_per_hour,
        "sharing_costs_usd_per_hour": answer.sharing_costs_usd_per_hour,
        "deployments": [
            {
                "deployment": name,
                "plan": plan_document(answer.plans[name]) if name in answer.plans else None,
                "alone": plan_document(answer.alone[name]) if name in answer.alone else None,
                "conflict": [list(map(str, members)) for members in answer.conflicts_alone.get(name, ())] or None,
            }
            for name in names
        ],
        "conflict": None if answer.conflict is None else list(answer.conflict),
        "corrections": [asdict(correction) for correction in answer.corrections],
        "left_out": list(answer.left_out),
        "in_means": list(answer.in_means),
        "solve_s": answer.solve_s,
    }


def print_portfolio(console: Console, answer: Portfolio, spec: PortfolioSpec) -> None:
    """Print the plan of each deployment with its bill beside that alone, and what is proved."""
    if not answer.plans:
        console.print(_no_plan(answer, spec))
        return
    rented = any(plan.instance for plan in answer.plans.values())
    rare = rare_columns(list(answer.plans.values()))
    table = Fitted(
        [
            *columns("deployment", "runs on"),
            *columns(*(name for name, _ in rare), detail=True),
            Column("batch", right=True),
            *columns("ttft", "tpot", right=True, detail=True),
            *columns("$/h", "alone", right=True),
            *([Column("rented as", detail=True)] if rented else []),
            Column("alone on", detail=True),
        ]
    )
    for at, (name, plan) in enumerate(answer.plans.items()):
        alone = answer.alone[name]
        table.add_row(
            [
                name,
                decode_slices(plan),
                *(cells[at] for _, cells in rare),
                str(plan.batch),
                "" if plan.ttft_ms is None else f"{plan.ttft_ms:,.0f} ms",
                f"{plan.tpot_ms:.2f} ms",
                dollars(plan.usd_per_hour),
                dollars(alone.usd_per_hour),
                *([rented_as(plan)] if rented else []),
                decode_slices(alone),
            ]
        )
    console.print(table)
    usd, sharing = answer.usd_per_hour or 0.0, answer.sharing_costs_usd_per_hour or 0.0
    console.print(Text(f"{dollars(usd)} an hour; deciding together costs {dollars(sharing)} more than each alone"))
    whose = ", with limits on means" if answer.in_means else ""
    if answer.status is Status.OPTIMAL:
        proved = f"optimal: proved that no plans together cost less than {dollars(usd)} an hour{whose}"
    else:
        bound = dollars(answer.bound_usd_per_hour or 0.0)
        proved = f"feasible: the time limit was reached; no plans together cost less than {bound} an hour{whose}"
    console.print(Text(f"{proved} ({answer.solve_s:.2f} s)"))


def _no_plan(answer: Portfolio, spec: PortfolioSpec) -> Text:
    lines = [f"{answer.status}: no plans of all deployments together"]
    if answer.status is Status.UNKNOWN:
        lines = ["unknown: the time limit was reached before a plan of each was found"]
    for name, members in answer.conflicts_alone.items():
        reasons = (conflict(one, spec.deployments[name].in_means()) for one in members)
        lines.append(f"  {name} has no plan alone: {'; '.join(reasons)}")
    if answer.conflict is None and answer.status is Status.INFEASIBLE:
        lines.append("  the time limit was reached before it was known which limits are in conflict")
    if answer.conflict is not None and not answer.conflicts_alone:
        cannot = "cannot be met" if len(answer.conflict) == 1 else "cannot hold together"
        lines.append(f"  {' and '.join(answer.conflict)} {cannot}")
    if answer.corrections:
        lines += ["", "With any one of these plans exist", *(f"  {change_words(one)}" for one in answer.corrections)]
    return Text("\n".join(lines))


def change_words(change: LimitChange) -> str:
    """A new limit in words: `max_chips of 27`, `quota.h100-sxm of 8`."""
    value = dollars(change.value) if change.limit == "max_usd_per_hour" else f"{change.value:,.0f}"
    return f"{change.limit} of {value}"


def portfolio_chart(answer: Portfolio) -> Tornado:
    """Chart what deciding together adds to the bill of each deployment, or saves of it. Raises ServesatError."""
    if not answer.plans:
        raise ServesatError(f"nothing to draw: the result is {answer.status}")
    bars = []
    for name, plan in answer.plans.items():
        more = plan.usd_per_hour - answer.alone[name].usd_per_hour
        label = f"{decode_slices(plan)}, {dollars(plan.usd_per_hour)}"
        bars.append(
            Bar(
                name=name,
                low=min(0.0, more),
                high=max(0.0, more),
                low_label=label if more < 0 else "",
                high_label=label if more >= 0 else "",
            )
        )
    return Tornado(
        title=f"{dollars(answer.usd_per_hour or 0.0)} an hour together, "
        f"{dollars(answer.alone_usd_per_hour or 0.0)} if each chose for itself",
        x_title="$ an hour more than alone",
        base_label="alone",
        bars=tuple(sorted(bars, key=lambda bar: bar.low - bar.high)),
    )
