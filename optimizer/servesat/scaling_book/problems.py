"""The chapter's three worked problems."""

from dataclasses import dataclass
from math import floor

from servesat.catalogue.chip import Chip, chips_in
from servesat.catalogue.load import load_model
from servesat.catalogue.model import ModelSpec
from servesat.core.result import Result
from servesat.cost_model.decode import Replica, decode_step
from servesat.cost_model.figures_of_merit import alpha, bandwidth_bound_ways, beta, compute_bound_ways, critical_batch
from servesat.cost_model.memory import activation_bytes, chips_to_hold, parameters, smallest_slice
from servesat.cost_model.roofline import flops_s, load_s
from servesat.cost_model.step_curve import AffineTime, StepTime, WeightLoadTime
from servesat.cost_model.storage import Storage
from servesat.deployment.solve import solve
from servesat.scaling_book.documents import PRICES, Answers, v5e
from servesat.scaling_book.sizes import kv, weights

TPOT_MS = 15.0
CONTEXTS = (2048, 4096, 8192, 16384, 32768, 65536)


def problems() -> Answers:
    """The answers to the three problems."""
    large, small, chip = load_model("llama-3-405b"), load_model("llama-3-8b"), v5e()
    flop_per_s = chip.flop_per_s.by_dtype()["bf16"]
    batch_bytes = 240 * kv(small, "int8", 8192)
    return {
        "wp1-flops": 2 * parameters(large),
        "wp1-flops-bound": float(flops_s(parameters(large), 1, 1, flop_per_s)),
        "wp1-hbm-bound": float(load_s(weights(large, "int8"), 1, chip.hbm_bytes_per_s)),
        "wp2-params": weights(small, "int8"),
        "wp2-kv-8k": batch_bytes,
        "wp2-activations": activation_bytes(240, small.d_ff),
        "wp2-chips": chips_to_hold(weights(small, "int8") + batch_bytes, chip),
        "wp3-min-chips": float(load_s(weights(large, "int8"), 1, chip.hbm_bytes_per_s)) / (TPOT_MS / 1e3),
        "wp3-min-step-8x8": float(load_s(weights(large, "int8"), 64, chip.hbm_bytes_per_s)),
        "wp3-ici-batch": ici_batch(large, chip, axes=2, ways=64),
        "wp3-roofline-batch-8k": floor(_batch_without_ici(large, chip, ways=64)),
    }


def ici_batch(model: ModelSpec, chip: Chip, *, axes: int, ways: int, weights_value_bytes: float = 1.0) -> float:
    """The largest batch whose memory-bound matmuls do not wait for the interconnect, not rounded."""
    return bandwidth_bound_ways(model, axes, beta(chip), 1, weights_value_bytes) / ways


def _batch_without_ici(model: ModelSpec, chip: Chip, *, ways: int) -> float:
    """The largest batch within 15 ms at 8,192 tokens on an infinitely fast interconnect, int8 weights and KV cache."""
    replica = Replica(
        tp=ways,
        hbm_bytes_per_s=chip.hbm_bytes_per_s,
        flop_per_s=chip.flop_per_s.by_dtype()["bf16"],
        tp_bytes_per_s=float("inf"),
        weights=Storage(model).weights("int8"),
        kv_token_bytes=Storage(model).kv_token_bytes("int8"),
    )
    step = decode_step(model, 8192, replica, 1.0, pay_ici=False)
    shape = StepTime(
        WeightLoadTime(step.weights_s, 0.0, 0.0), AffineTime(0.0, step.flops_s), AffineTime(0.0, 0.0), step.kv_cache_s
    )
    return float(shape.largest_batch_within(TPOT_MS / 1e3))


@dataclass(frozen=True, kw_only=True)
class StepBounds:
    """Lower bounds on the time of a token: LLaMA 3-405B, int8 weights, on a v5e slice [ms]."""

    topology: str
    chips: int
    flops_ms: float
    weights_ms: float
    weights_fit: bool


def step_bounds() -> list[StepBounds]:
    """Problems 1 and 3: the theoretical minimum of a step on every slice."""
    model, chip = load_model("llama-3-405b"), v5e()
    held = weights(model, "int8")
    return [
        StepBounds(
            topology=topology,
            chips=chips_in(topology),
            flops_ms=float(flops_s(parameters(model), 1, chips_in(topology), chip.flop_per_s.by_dtype()["bf16"])) * 1e3,
            weights_ms=float(load_s(held, chips_in(topology), chip.hbm_bytes_per_s)) * 1e3,
            weights_fit=chips_to_hold(held, chip) <= chips_in(topology),
        )
        for topology in chip.topologies
    ]


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """The memory of LLaMA 3-8B at 240 sequences in int8, and the smallest v5e slice that holds it."""

    context_tokens: int
    headroom: float
    weights_bytes: float
    kv_cache_bytes: float
    activation_bytes: float
    chips: float
    slice: str | None


def footprints() -> list[Footprint]:
    """Problem 2: at 2k and 8k of context, without headroom and with 20 %."""
    model, chip = load_model("llama-3-8b"), v5e()
    rows = []
    for context in (2048, 8192):
        cached = 240 * kv(model, "int8", context)
        held = weights(model, "int8") + cached
        rows += [
            Footprint(
                context_tokens=context,
                headroom=headroom,
                weights_bytes=weights(model, "int8"),
                kv_cache_bytes=cached,
                activation_bytes=activation_bytes(240, model.d_ff),
                chips=chips_to_hold(held, chip, headroom),
                slice=smallest_slice(held, chip, headroom),
            )
            for headroom in (0.0, 0.2)
        ]
    return rows


@dataclass(frozen=True, kw_only=True)
class Under15Ms:
    """Problem 3 under a set of modelling choices, with its proved answer."""

    context_tokens: int
    ici: str
    ici_axes: int
    result: Result


def under_15_ms() -> list[Under15Ms]:
    """Problem 3: the best plan for LLaMA 3-405B under 15 ms, for each context and model of the interconnect."""
    return [
        Under15Ms(context_tokens=context, ici=ici, ici_axes=axes, result=_solve_405b(context, ici, axes))
        for axes in (2, 1)
        for ici in ("forbid", "pay")
        for context in CONTEXTS
    ]


def _solve_405b(context_tokens: int, ici: str = "forbid", axes: int = 2, weights: str = "int8") -> Result:
    return solve(
        {
            "cost_model": "ideal",
            "model": "llama-3-405b",
            "workload": {"context_tokens": context_tokens},
            "slo": {"tpot_ms": TPOT_MS},
            "search": {"chips": [_with_ici_axes(axes)], "weights": [weights], "kv_cache": ["int8"]},
            "ici": ici,
            "price_book": PRICES,
        }
    )


def modelling_choices(rows: list[Under15Ms]) -> list[str]:
    """How modelling choices change the answer to problem 3, as sentences; `rows` comes from `under_15_ms`."""
    model, chip = load_model("llama-3-405b"), v5e()
    plans = {(row.context_tokens, row.ici, row.ici_axes): row.result.plan for row in rows}
    ratios = [
        one_axis.usd_per_million_output_tokens / two_axes.usd_per_million_output_tokens
        for (context, ici, axes), two_axes in plans.items()
        if axes == 2 and two_axes is not None and (one_axis := plans[context, ici, 1]) is not None
    ]
    paid = [
        pay.usd_per_million_output_tokens / forbidden.usd_per_million_output_tokens
        for (context, ici, axes), pay in plans.items()
        if (ici, axes) == ("pay", 2) and pay is not None and (forbidden := plans[context, "forbid", 2]) is not None
    ]
    binds = [
        f"{' and '.join(row.result.binding)} at {row.context_tokens:,}"
        for row in rows
        if (row.ici, row.ici_axes) == ("forbid", 2)
    ]
    bf16_plan = _solve_405b(8192, weights="bf16").plan
    bf16_chips = f"{bf16_plan.chips} chips" if bf16_plan else "more chips than any slice has"
    ways = compute_bound_ways(model, 2, alpha(chip, "bf16"))
    hidden = {axes: floor(ici_batch(model, chip, axes=axes, ways=64)) for axes in (1, 2)}
    hidden_bf16 = floor(ici_batch(model, chip, axes=2, ways=64, weights_value_bytes=2.0))
    return [
        f"ICI axes: with both, matmuls hide behind the weights up to batch {hidden[2]} on 8x8; with one, up to "
        f"{hidden[1]}, and a token costs {min(ratios):.2f} to {max(ratios):.2f} times as much.",
        "Int8 weights load in half the time, which halves the batch that the interconnect can hide: bf16 weights would "
        f"allow {hidden_bf16} on 8x8, but need {bf16_chips} to load within {TPOT_MS:g} ms.",
        f"64 ways are more than the {ways:.0f} that large batches could hide, so the interconnect limits the batch "
        f"before the matmuls are compute-bound, at {critical_batch(chip, 'bf16', 1.0):.0f}. Paying for it rather than "
        f"forbidding it to bind costs {min(paid):.2f} to {max(paid):.2f} times as much, depending on the context.",
        f"Context: what binds is {', '.join(binds)} tokens.",
    ]


def _with_ici_axes(axes: int) -> Chip:
    """TPU v5e whose collectives use 1 or 2 axes at a time; with 1, both axes share the bandwidth of a single axis."""
    chip = v5e()
    shared = tuple(
        axis.model_copy(update={"bytes_per_s": axis.bytes_per_s * axes / len(chip.axes)}) for axis in chip.axes
    )
    return chip.model_copy(update={"axes": shared})
