"""Two plans compared term by term."""

from collections.abc import Callable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from servesat.core.plan import Mode, Plan
from servesat.core.quantities import dollars, gigabytes
from servesat.core.tolerances import COST_TIE_RTOL
from servesat.questions.why_not import Comparison
from servesat.report.documents import result_document
from servesat.report.limit_words import conflict
from servesat.report.words import pool, ways

_TERMS: tuple[tuple[str, Callable[[Plan], str], Callable[[Plan], float] | None], ...] = (
    ("slice", lambda plan: f"{plan.chip} {plan.topology}", None),
    ("sharding", ways, None),
    ("mode", lambda plan: str(plan.mode), None),
    ("slices", lambda plan: str(plan.slices), lambda plan: plan.slices),
    ("prefill pool", pool, None),
    ("weights, KV cache, compute", lambda plan: f"{plan.weights}, {plan.kv_cache}, {plan.compute}", None),
    ("engine", lambda plan: plan.engine or "none", None),
    ("draft", lambda plan: f"{plan.draft}, {plan.draft_tokens}" if plan.draft else "none", None),
    ("price of a chip", lambda plan: f"{dollars(plan.usd_per_chip_hour)}/h", lambda plan: plan.usd_per_chip_hour),
    ("chips", lambda plan: str(plan.chips), lambda plan: plan.chips),
    ("price of all", lambda plan: f"{dollars(plan.usd_per_hour)}/h", lambda plan: plan.usd_per_hour),
    ("replicas x batch", lambda plan: f"{plan.replicas} x {plan.batch}", lambda plan: plan.replicas * plan.batch),
    ("  weights", lambda plan: f"{plan.step_ms.weights:.2f} ms", lambda plan: plan.step_ms.weights),
    ("  FLOPs", lambda plan: f"{plan.step_ms.flops:.2f} ms", lambda plan: plan.step_ms.flops),
    ("  ICI", lambda plan: f"{plan.step_ms.ici:.2f} ms", lambda plan: plan.step_ms.ici),
    ("  KV cache", lambda plan: f"{plan.step_ms.kv_cache:.2f} ms", lambda plan: plan.step_ms.kv_cache),
    ("  KV exchange", lambda plan: f"{plan.step_ms.kv_exchange:.2f} ms", lambda plan: plan.step_ms.kv_exchange),
    ("  pipeline", lambda plan: f"{plan.step_ms.pipeline:.2f} ms", lambda plan: plan.step_ms.pipeline),
    ("  draft", lambda plan: f"{plan.step_ms.draft:.2f} ms", lambda plan: plan.step_ms.draft),
    ("  head", lambda plan: f"{plan.step_ms.head:.2f} ms", lambda plan: plan.step_ms.head),
    ("  launches", lambda plan: f"{plan.step_ms.launches:.2f} ms", lambda plan: plan.step_ms.launches),
    ("  host", lambda plan: f"{plan.step_ms.host:.2f} ms", lambda plan: plan.step_ms.host),
    ("  prefill", lambda plan: f"{plan.step_ms.prefill:.2f} ms", lambda plan: plan.step_ms.prefill),
    ("time per token", lambda plan: f"{plan.tpot_ms:.2f} ms", lambda plan: plan.tpot_ms),
    ("time to the first", lambda plan: f"{plan.ttft_ms or 0.0:.1f} ms", lambda plan: plan.ttft_ms or 0.0),
    ("HBM used", lambda plan: f"{plan.hbm_used_fraction:.1%} of {gigabytes(plan.hbm_bytes)}", None),
    ("tokens/s", lambda plan: f"{plan.tokens_per_s:,.0f}", lambda plan: plan.tokens_per_s),
    (
        "$/1M output tokens",
        lambda plan: dollars(plan.usd_per_million_output_tokens),
        lambda plan: plan.usd_per_million_output_tokens,
    ),
)

_CALIBRATED_TERMS = ("  head", "  launches", "  host")
"""Terms that the calibrated cost model knows."""

_RARE_TERMS = ("  pipeline", "  draft")
"""Terms shown where one of the plans has them."""

_REQUEST_TERMS = ("mode", "slices", "prefill pool", "  prefill", "time to the first")
"""Terms shown for plans that serve whole requests."""


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """The JSON of `servesat why`."""
    return {
        "best": result_document(comparison.best),
        "alternative": result_document(comparison.alternative),
        "break_even_usd_per_chip_hour": comparison.break_even_usd_per_chip_hour,
        "verified": comparison.verified,
    }


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print the two plans with their ratios, or what excludes the alternative."""
    best, alternative = comparison.best.plan, comparison.alternative.plan
    if alternative is None:
        console.print(Text("No plan meets these decisions:", style="red"))
        for members in comparison.alternative.conflict or ():
            console.print(Text(f"  {conflict(members, comparison.spec)}"))
        return
    if best is None:
        console.print(
            Text(f"The spec itself has no plan ({comparison.best.status}); under the decisions there is one:")
        )
        console.print(_table(alternative, None))
        return
    console.print(_table(best, alternative))
    console.print(Text(_verdict(comparison, best, alternative)))


def _table(best: Plan, alternative: Plan | None) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for column in ("best plan", "alternative", "ratio") if alternative else ("plan",):
        table.add_column(column, justify="right")
    for name, show, measure in _TERMS:
        ratio = ""
        if name in _REQUEST_TERMS and best.mode is Mode.DECODE_ONLY:
            continue
        if name in _CALIBRATED_TERMS and not best.step_ms.launches:
            continue
        both = [plan for plan in (best, alternative) if plan is not None]
        if name in _RARE_TERMS and not any(getattr(plan.step_ms, name.strip()) for plan in both):
            continue
        if name == "draft" and not any(plan.draft for plan in both):
            continue
        if name == "engine" and best.engine is None and (alternative is None or alternative.engine is None):
            continue
        if alternative is None:
            table.add_row(name, show(best))
            continue
        if measure is not None and measure(best):
            ratio = f"{measure(alternative) / measure(best):.2f}x"
        table.add_row(name, show(best), show(alternative), ratio)
    return table


def _verdict(comparison: Comparison, best: Plan, alternative: Plan) -> str:
    if alternative == best:
        return "the decisions are those of the best plan"
    extra_cost = alternative.usd_per_million_output_tokens / best.usd_per_million_output_tokens - 1
    if comparison.verified and extra_cost <= COST_TIE_RTOL:
        found = f"costs {-extra_cost:.1%} less" if extra_cost < -COST_TIE_RTOL else "costs the same"
        return f"the alternative {found} a token; both are verified by replay"
    if abs(extra_cost) <= COST_TIE_RTOL:
        return "both cost the same a token; the best plan is faster, uses fewer chips, or comes first by name"
    if extra_cost < 0:
        return f"the alternative costs {-extra_cost:.1%} less a token: it lies outside what the spec searches"
    price = comparison.break_even_usd_per_chip_hour
    if comparison.verified:
        chip, now = alternative.chip, dollars(alternative.usd_per_chip_hour)
        as_much = "" if price is None else f", and as much with {chip} at {dollars(price)} a chip-hour (now {now})"
        return f"the alternative costs {extra_cost:.1%} more a token{as_much}; both are verified by replay"
    return f"the alternative costs {extra_cost:.1%} more a token{_when_it_wins(price, best, alternative)}"


def _when_it_wins(price: float | None, best: Plan, alternative: Plan) -> str:
    """Below which price of its chip, if any, an alternative that costs more wins."""
    chip, now = alternative.chip, dollars(alternative.usd_per_chip_hour)
    if price is not None:
        alike = "" if alternative.instance is None else ", all its offers in proportion"
        return f"; it wins when {chip} costs less than {dollars(price)} a chip-hour (now {now}){alike}"
    paid = {(bill.chip, bill.usd_per_chip_hour) for plan in (best, alternative) for bill in plan.bills}
    if len(paid) == 1:
        return f", at any price of {chip}, which both take"
    if {billed for billed, _ in paid} == {chip}:
        of_best = dollars(best.usd_per_chip_hour)
        return f"; both take {chip}, the best plan at {of_best} a chip-hour and the alternative at {now}"
    return f"; no price of {chip} makes it win, because another plan on {chip} stays cheaper"
