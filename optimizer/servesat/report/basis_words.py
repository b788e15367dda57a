"""What the times of a plan rest on, and what to expect of it in practice, as sentences."""

from collections.abc import Iterator

from servesat.candidates.requirements import RULES
from servesat.candidates.rule import Requirement
from servesat.core.plan import Plan
from servesat.core.quantities import dollars, number
from servesat.core.result import Basis, Expected
from servesat.report.words import decode_slices, duration
from servesat.spec.keys import CALIBRATED, IDEAL
from servesat.spec.spec import Spec


def in_practice(expected: Expected) -> str:
    """What to expect of a plan: `tpot 14.20 ms, 210 ms to the first token, 4,100 tokens/s: taken for vllm 0.19.0`."""
    first = "" if expected.ttft_ms is None else f", {duration(expected.ttft_ms)} to the first token"
    basis = f"from measurements of {expected.stack}" if expected.stack_is_calibrated else f"taken for {expected.stack}"
    chip = "" if expected.chip_is_calibrated else ", the chip not calibrated"
    return f"tpot {expected.tpot_ms:.2f} ms{first}, {expected.tokens_per_s:,.0f} tokens/s: {basis}{chip}"


def cost_model(spec: Spec) -> str:
    """The cost model of a spec: `ideal cost model`, `calibrated cost model`, `cost model mine.toml`."""
    name = spec.cost_model_name
    return f"{name} cost model" if name in {IDEAL, CALIBRATED} else f"cost model {name}"


def errors(plan: Plan, basis: Basis) -> tuple[str, str]:
    """How far the times of a plan are off, per output token and to the first one: ` ± 4.1 ms`, ` ± 0.2 s`."""
    tpot, ttft = plan.tpot_ms * basis.tpot_error, (plan.ttft_ms or 0.0) * basis.ttft_error
    return (f" ± {tpot:.2f}" if tpot else "", f" ± {duration(ttft)}" if ttft else "")


def rests_on(plan: Plan, basis: Basis) -> Iterator[str]:
    """What the times of a plan rest on, and the best plan on a chip that was measured, where its own was not."""
    chip = plan.chip if basis.chip_is_calibrated else f"{plan.chip} is not calibrated"
    stack = basis.stack if basis.stack_is_calibrated else f"{basis.stack} in place of {plan.engine or 'an engine'}"
    yield f"{chip}; {stack} (docs/accuracy.md)"
    other = basis.best_calibrated
    if other is not None:
        dollars_of = other.usd_per_million_output_tokens
        more = dollars_of / plan.usd_per_million_output_tokens - 1
        yield f"of calibrated chips {decode_slices(other)} is best: {dollars(dollars_of)} a million, {more:.1%} more"


def broken_in_practice(spec: Spec, expected: Expected) -> Iterator[str]:
    """The limits and the demand that a plan would miss in practice: `tpot ≤ 20 ms, and 28.1 ms are to be expected`."""
    figures = {
        Requirement.TPOT: (spec.slo.tpot_ms, expected.tpot_ms),
        Requirement.TTFT: (spec.slo.ttft_ms, expected.ttft_ms),
    }
    for name, (limit, figure) in figures.items():
        if limit is not None and figure is not None and figure > limit:
            yield f"{RULES[name].say(spec)}, and {number(figure)} ms are to be expected in practice (docs/accuracy.md)"
    demand, output = spec.workload.requests_per_s, spec.workload.output_tokens
    if demand is not None and output is not None and expected.tokens_per_s < demand * output:
        served = number(expected.tokens_per_s / output)
        yield f"{number(demand)} requests/s are asked, and {served} are to be expected in practice (docs/accuracy.md)"
