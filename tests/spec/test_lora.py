"""Adapters in a spec: what they change of a plan, and what is refused."""

from typing import Any

import pytest

import servesat
from servesat import Spec, SpecError, solve

CHAT: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "workload": {"prompt_tokens": 1000, "output_tokens": 300},
    "search": {"chips": ["h100-sxm"], "weights": ["bf16"], "modes": ["interleaved"]},
    "slo": {"percentile": "mean"},
    "constraints": ["batch == 64", "chips == 1"],
}


def test_steps_take_so_many_times_as_long_and_adapters_so_much_memory() -> None:
    """At the same batch; of 1,000 ms to the first token, only what the engine waits for first does not grow."""
    alone = solve({**CHAT, "speculative": "none", "engine": "vllm"}).plan
    beside = solve({**CHAT, "engine": "vllm", "lora": {"adapters": 4, "rank": 8, "step_factor": 1.5}}).plan
    assert alone is not None
    assert beside is not None
    assert beside.tpot_ms == pytest.approx(1.5 * alone.tpot_ms)
    assert beside.prefill_ms == pytest.approx(1.5 * (alone.prefill_ms or 0))
    assert beside.weights_bytes - alone.weights_bytes == beside.adapter_bytes == 32 * 2 * 2_886_144


def test_engines_and_drafts_that_serve_no_adapters_are_left_out() -> None:
    spec = Spec.load({**CHAT, "lora": {"adapters": 1}})
    assert spec.drafts == ()
    found = solve(spec)
    assert found.plan is not None
    assert found.plan.engine in {"vllm-0.32", "sglang-0.5.23"}
    assert Spec.load({**CHAT, "lora": {"adapters": 1}, "speculative": {"draft": "eagle3"}}).drafts != ()


def test_a_presumed_factor_is_noted() -> None:
    presumed, left_out = [note for note in Spec.load({**CHAT, "lora": {"adapters": 1}}).notes if "lora" in note]
    assert presumed.startswith("lora.step_factor = 1.2 is assumed")
    assert left_out == "not searched beside lora: TensorRT-LLM 1.3, published drafts"
    stated = Spec.load({**CHAT, "lora": {"adapters": 1, "step_factor": 1}}).notes
    assert [note for note in stated if "lora" in note] == [left_out]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"lora": {"rank": 16}}, r"lora.adapters is missing"),
        ({"lora": {"adapters": 0}}, r"lora.adapters = 0: expected at least 1"),
        ({"lora": {"adapters": 2, "rank": 24}}, r"lora.rank = 24"),
        ({"lora": {"adapters": 2, "rank": True}}, r"lora.rank: expected a whole number"),
        (
            {"lora": {"adapters": 2}, "engine": "trtllm"},
            r"lora: no adapters are planned beside llama-3.1-8b under TensorRT-LLM 1.3",
        ),
        (
            {"lora": {"adapters": 2}, "model": "kimi-k2.5"},
            r"lora: no adapters are planned beside kimi-k2.5 under vLLM 0.32",
        ),
        (
            {"lora": {"adapters": 2, "step_factor": 1.3}, "cost_model": "ideal"},
            r"lora.step_factor: is of the calibrated cost model",
        ),
        (
            {
                "model": "qwen3-32b",
                "lora": {"adapters": 2},
                "speculative": {"draft": "qwen3-8b", "tokens": 3, "accepted": 2.5},
            },
            r"speculative.draft = qwen3-8b: expected mtp, eagle3 or none beside lora",
        ),
    ],
)
def test_bad_adapters_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Spec.load(CHAT | {"engine": "vllm"} | keys)


def test_none_has_no_adapters() -> None:
    assert Spec.load({**CHAT, "lora": "none"}).lora is None


def test_an_explanation_says_of_engines_without_adapters_that_they_have_no_plan() -> None:
    explained = servesat.solve({**CHAT, "engine": "vllm", "lora": {"adapters": 1, "step_factor": 1}}, explain=True)
    costs = {one.engine: one.plan for one in explained.engines}
    assert costs["TensorRT-LLM 1.3"] is None
    assert costs["SGLang 0.5.23"] is not None


def test_a_change_within_adapters_keeps_the_rest() -> None:
    spec = Spec.load({**CHAT, "lora": {"adapters": 4, "rank": 8}}).changed({"lora.adapters": 9})
    assert spec.lora is not None
    assert (spec.lora.adapters, spec.lora.rank) == (9, 8)
