"""The calibrated cost model, by hand, and what its proof rests on."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesat.catalogue.load import load_calibration, load_chip, load_model
from servesat.cost_model.calibrated import (
    ChipConstants,
    Placed,
    StackConstants,
    Work,
    closed_loop_s,
    prompt_s,
    prompt_work_s,
    step_s,
    work_of,
)
from tests.strategies import examples

WORK = Work(
    layers=10.0, tp=2.0, groups=1.0, weights_s=4e-3, head_s=1e-3, sequence_flops_s=1e-4, sequence_head_flops_s=1e-5,
    sequence_kv_s=2e-4, sequence_sent_s=5e-5, prompt_weights_s=4e-3, prompt_flops_s=20e-3, prompt_attention_s=7e-3,
    prompt_sent_s=2e-3,
)  # fmt: skip
CHIP = ChipConstants(0.8, 0.5, 0.5, 0.25, 1e-6, 10e-6)
STACK = StackConstants(1e-3, 1e-5, 0.02, 0.25)


def test_a_step_by_hand() -> None:
    """Launches 10 · (8 + 20) us; weights 5 ms hide the FLOPs; the head 1.25 ms; 8 · (0.4 + 0.2 + 0.01) ms."""
    assert step_s(WORK, CHIP, STACK, 8.0) == pytest.approx(1e-3 + 280e-6 + 5e-3 + 1.25e-3 + 8 * 0.61e-3)
    alone = replace(WORK, tp=1.0)
    assert step_s(WORK, CHIP, STACK, 8.0) - step_s(alone, CHIP, STACK, 8.0) == pytest.approx(10 * 2 * 10e-6)
    busy = step_s(WORK, CHIP, STACK, 100.0)
    assert busy == pytest.approx(1e-3 + 280e-6 + 100 * 2e-4 + 100 * 2e-5 + 100 * 0.61e-3)


def test_a_prompt_by_hand() -> None:
    work = 20e-3 / 0.5 + 7e-3 / (0.7 * 0.5) + 2e-3 / 0.25
    assert prompt_work_s(WORK, CHIP) == pytest.approx(work)
    assert prompt_s(WORK, CHIP, STACK) == pytest.approx(1e-3 + 280e-6 + work)
    short = replace(WORK, prompt_flops_s=1e-4, prompt_attention_s=0.0)
    assert prompt_s(short, CHIP, STACK) == pytest.approx(1e-3 + 280e-6 + 4e-3 / 0.8 + 8e-3)


def test_the_prompts_of_others_are_waited_for_once() -> None:
    """Of 7 · work a part comes before the first token, the rest between the 50 others: together they are 7 · work."""
    ttft, tpot = closed_loop_s(WORK, CHIP, STACK, 8.0, 50.0)
    step, prompt, one = step_s(WORK, CHIP, STACK, 8.0), prompt_s(WORK, CHIP, STACK), prompt_work_s(WORK, CHIP)
    queue = ttft - 0.02 - step - prompt
    assert queue == pytest.approx(0.25 * 7 * one + one / 2 * 7 * one / (50 * step))
    assert queue + 50 * (tpot - step) == pytest.approx(7 * one)
    ttft, tpot = closed_loop_s(WORK, CHIP, STACK, 1.0, 50.0)
    assert (ttft, tpot) == (
        pytest.approx(0.02 + step_s(WORK, CHIP, STACK, 1.0) + prompt),
        pytest.approx(step_s(WORK, CHIP, STACK, 1.0)),
    )


def test_the_work_of_a_dense_model_by_hand() -> None:
    """Qwen3 8B in bf16 on two H100: 36 layers, 4,096 wide, 8 KV heads of 128, a head of 151,936 words."""
    model, chip = load_model("qwen3-8b"), load_chip("h100-sxm")
    work = work_of(model, chip, Placed(2, 1, "bf16", "bf16", "bf16"), batch=8, prompt_tokens=1000, output_tokens=200)
    head = 151_936 * 4096
    layer = 2 * 4096 * 32 * 128 + 2 * 4096 * 8 * 128 + 3 * 4096 * 12_288
    assert work.weights_s == pytest.approx(2 * 36 * layer / (2 * 3.35e12), rel=1e-3)
    assert work.head_s == pytest.approx(2 * head / (2 * 3.35e12))
    assert work.sequence_flops_s == pytest.approx(2 * 36 * layer / (2 * 989e12), rel=1e-3)
    assert work.sequence_kv_s == pytest.approx(36 * 2 * 8 * 128 * 2 * 1100 / (2 * 3.35e12))
    assert work.sequence_sent_s == pytest.approx(36 * 2 * 2 * (1 / 2) * 2 * 4096 / 450e9)
    assert work.prompt_flops_s == pytest.approx(1000 * work.sequence_flops_s)


def test_groups_that_attend_apart_share_experts() -> None:
    model, chip = load_model("deepseek-r1"), load_chip("h200")
    together = work_of(
        model, chip, Placed(8, 1, "fp8", "bf16", "fp8", 8.0), batch=64, prompt_tokens=1000, output_tokens=200
    )
    apart = work_of(model, chip, Placed(1, 8, "fp8", "bf16", "fp8"), batch=64, prompt_tokens=1000, output_tokens=200)
    assert apart.weights_s > together.weights_s  # each has all but the experts
    assert apart.sequence_kv_s == pytest.approx(together.sequence_kv_s / 8)  # which holds eight copies of a latent
    assert apart.sequence_sent_s == 0


@examples(60)
@given(
    st.sampled_from(["qwen3-8b", "llama-3.1-70b", "deepseek-r1", "gpt-oss-120b"]),
    st.sampled_from(sorted(load_calibration().chips)),
    st.sampled_from([1, 2, 8]),
    st.integers(1, 4095),
)
def test_the_cost_of_a_token_never_rises_with_the_batch(model: str, chip: str, tp: int, batch: int) -> None:
    ours = load_calibration()
    of_chip, stack = ours.chips[chip], ours.stacks[0]
    constants = ChipConstants(*(getattr(of_chip, name) for name in ChipConstants._fields))
    host = StackConstants(*(getattr(stack, name) for name in StackConstants._fields))

    def each(size: int) -> float:
        placed = Placed(tp, 1, "bf16", "bf16", "bf16")
        work = work_of(load_model(model), load_chip(chip), placed, batch=size, prompt_tokens=500, output_tokens=100)
        return float(step_s(work, constants, host, np.float64(size))) / size

    assert each(batch + 1) <= each(batch) * (1 + 1e-12)
