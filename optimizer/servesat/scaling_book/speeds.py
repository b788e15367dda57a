"""The chapter's figures on speed and cost: latency, throughput, and the frontier between them."""

from servesat.catalogue.chip import chips_in
from servesat.catalogue.load import load_model
from servesat.catalogue.model import ModelSpec
from servesat.cost_model.decode import usd_per_million_tokens
from servesat.cost_model.figures_of_merit import critical_batch
from servesat.cost_model.memory import parameters
from servesat.cost_model.prefill import prefill_s
from servesat.cost_model.roofline import load_s
from servesat.cost_model.storage import BYTES_PER_VALUE
from servesat.scaling_book.documents import (
    ARTICLE_KV,
    CHAPTER_KV,
    Answer,
    Answers,
    llama_70b,
    plan_at,
    usd_per_chip_hour,
    v5e,
)
from servesat.scaling_book.sizes import SMALLEST, capacity, weights

OUTPUT_TOKENS = 512
"""The chapter's median output [tokens]."""
PROMPT_TOKENS = 8192
"""The chapter's median prompt [tokens]."""


def latency() -> Answers:
    """Times of decode steps and their parts."""
    model, chip = llama_70b(), v5e()
    eight, sixteen = plan_at(model, "2x4", 32), plan_at(model, "4x4", 32)
    large = plan_at(load_model("llama-3-405b"), "4x8", 50)
    return {
        "step-70b-b32-4x2": eight.tpot_ms / 1e3,
        "tput-70b-b32-4x2": eight.tokens_per_s_per_chip,
        "step-art-70b-b32-4x2": eight.tpot_ms / 1e3,
        "step-art-params": eight.step_ms.weights / 1e3,
        "step-art-kv": eight.step_ms.kv_cache / 1e3,
        "step-art-compute": eight.step_ms.flops / 1e3,
        "step-70b-b32-4x4": sixteen.tpot_ms / 1e3,
        "step-full-hbm": full_chip_s(),
        "step-int4-params-only": plan_at(model, "2x2", 1, "int4").step_ms.weights / 1e3,
        "step-min-int4-4x4": float(load_s(weights(model, "int4"), 16, chip.hbm_bytes_per_s)),
        "step-405b-b50-4x8": large.tpot_ms / 1e3,
    }


def full_chip_s() -> float:
    """Time to read the full HBM of a v5e once [s]."""
    return float(load_s(v5e().hbm_bytes, 1, v5e().hbm_bytes_per_s))


def throughput() -> Answers:
    """Critical batches, queries per second, and the cost of a million tokens."""
    chip = v5e()
    answers: dict[str, Answer | float] = {
        "bcrit-bf16": critical_batch(chip, "bf16", BYTES_PER_VALUE["bf16"]),
        "bcrit-int8w": critical_batch(chip, "bf16", BYTES_PER_VALUE["int8"]),
        "bcrit-int4w": critical_batch(chip, "bf16", BYTES_PER_VALUE["int4"]),
        "bcrit-int8-int8": critical_batch(chip, "int8", BYTES_PER_VALUE["int8"]),
        "bcrit-8b-60": Answer(
            critical_batch(chip, "bf16", BYTES_PER_VALUE["int8"]), "int8 weights, bf16 FLOPs: as for any other model"
        ),
    }
    for dtype, topology in SMALLEST.items():
        answers[f"qps-70b-{dtype}"] = Answer(
            qps(dtype, topology, 43), "the article prints it beside another batch; it follows from 43 sequences"
        )
    answers["qps-70b-int8-0.66"] = Answer(qps("int8", "2x4", 43), "0.66 follows from 52 sequences; 43 fit")
    answers["qps-70b-int4-1.72"] = Answer(qps("int4", "2x2", 43), "1.72 follows from 67 sequences; 43 fit")
    article = llama_70b(ARTICLE_KV)
    for dtype, topology, printed in (
        ("bf16", "4x4", "bf16-4x4"),
        ("int8", "2x4", "int8-4x2"),
        ("int4", "2x2", "int4-2x2"),
        ("int8", "4x4", "int8-4x4"),
        ("bf16", "4x8", "bf16-4x8"),
    ):
        batch = 140 if printed == "int8-4x4" else capacity(article, dtype, topology, "int8")
        tokens_per_s = batch / full_chip_s()
        answers[f"cost-tps-{printed}"] = tokens_per_s
        price = usd_per_chip_hour(chip) * chips_in(topology)
        answers[f"cost-usd-{printed}"] = Answer(
            float(usd_per_million_tokens(price, tokens_per_s)),
            _beyond_critical(article, dtype, topology, batch, "int8"),
        )
    best = plan_at(article, "4x4", 120)
    large = plan_at(load_model("llama-3-405b"), "4x8", 50)
    yearly = 10e3 * OUTPUT_TOKENS * 365 * 86400 / 1e6 * best.usd_per_million_output_tokens
    prompt_s = float(prefill_s(parameters(article), PROMPT_TOKENS, 16, chip.flop_per_s.by_dtype()["bf16"], 0.4))
    prefill = 10e3 * prompt_s * 16 * usd_per_chip_hour(chip) * 24 * 365
    trained = 40e6 / best.usd_per_million_output_tokens * 1e6
    return answers | {
        "cost-405b-ratio": large.usd_per_million_output_tokens / best.usd_per_million_output_tokens,
        "train-crossover-tokens": trained / 15e12,
        "fleet-10k-qps": Answer(
            yearly,
            f"prefill comes on top: at {PROMPT_TOKENS:,} tokens a prompt ({prompt_s:.2f} s of 16 v5e at 40 % MFU) it "
            f"costs {prefill / 1e6:,.0f} M$ a year; what the printed figure leaves pays for prompts of "
            f"{(1.5e8 - yearly) / prefill * PROMPT_TOKENS:.0f} tokens",
            assumes=f"decode only, {OUTPUT_TOKENS} output tokens, full batches of 120 on 4x4, int8",
        ),
    }


def _beyond_critical(model: ModelSpec, dtype: str, topology: str, batch: int, kv_cache: str | None = None) -> str:
    """The exact figures of a full slice with a batch beyond the critical batch; empty for a smaller batch."""
    plan = plan_at(model, topology, batch, dtype, kv_cache)
    if plan.step_ms.flops <= plan.step_ms.weights:
        return ""
    critical = critical_batch(v5e(), "bf16", BYTES_PER_VALUE[dtype])
    return (
        f"batch {batch} is beyond the critical {critical:.0f}: FLOPs take {plan.step_ms.flops:.2f} ms against "
        f"{plan.step_ms.weights:.2f} for the weights, so the step is {plan.tpot_ms:.1f} ms: "
        f"{plan.tokens_per_s_per_chip / OUTPUT_TOKENS:.2f} QPS/chip, "
        f"${plan.usd_per_million_output_tokens:.2f} a million tokens"
    )


def qps(dtype: str, topology: str, batch: int) -> float:
    """Queries of 512 output tokens per second and chip."""
    return plan_at(llama_70b(), topology, batch, dtype).tokens_per_s_per_chip / OUTPUT_TOKENS


def doubled() -> Answers:
    """Queries per second and chip on slices of twice the size with full HBM."""
    rounded = llama_70b(CHAPTER_KV)
    answers: dict[str, Answer | float] = {}
    for dtype, topology in (("bf16", "4x8"), ("int8", "4x4"), ("int4", "2x4")):
        batch = capacity(rounded, dtype, topology)
        full = batch / full_chip_s() / OUTPUT_TOKENS / chips_in(topology)
        answers[f"dbl-qps-{dtype}"] = Answer(full, _beyond_critical(rounded, dtype, topology, batch))
        if dtype == "bf16":
            answers["dbl-qps-bf16-0.51"] = Answer(full, f"0.51 follows from 161 sequences; {batch} fit")
    return answers


def pareto() -> Answers:
    """The article's table of int8 on 4x4, and its summary."""
    answers: dict[str, Answer | float] = {}
    plans = {batch: plan_at(llama_70b(ARTICLE_KV), "4x4", batch) for batch in (1, 8, 32, 64, 120)}
    for batch, plan in plans.items():
        answers[f"pareto-kv-b{batch}"] = plan.kv_cache_bytes / 1e9
        answers[f"pareto-step-b{batch}"] = plan.tpot_ms / 1e3
        answers[f"pareto-tps-b{batch}"] = plan.tokens_per_s
        answers[f"pareto-usd-b{batch}"] = plan.usd_per_million_output_tokens
    last = plans[120]
    change = last.usd_per_million_output_tokens / plans[32].usd_per_million_output_tokens - 1
    return answers | {
        "pareto-art-summary": Answer(
            last.tokens_per_s_per_chip, f"its own table: 120 sequences in {last.tpot_ms:.1f} ms on 16 chips"
        ),
        "pareto-min-latency": plan_at(llama_70b(), "4x4", 1).step_ms.weights / 1e3,
        "sens-b32-b120": change,
    }
