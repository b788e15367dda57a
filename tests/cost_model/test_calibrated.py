"""The calibrated cost model, by hand, and what its proof rests on."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesat import Spec
from servesat.candidates.replicas import replica_of
from servesat.catalogue.load import load_calibration, load_chip, load_model
from servesat.core.plan import Assignment, KvLayout, Mode
from servesat.cost_model.calibrated import (
    Constants,
    Request,
    Work,
    closed_loop_s,
    prompt_s,
    prompt_work_s,
    step_curve,
    work_of,
)
from tests.strategies import examples

WORK = Work(
    kernels=80.0, host_kernels=80.0, collectives=20.0, groups=1.0, stages=1.0, resident_s=4e-3, experts_s=0.0,
    not_visited=0.0, head_s=1e-3, sequence_flops_s=1e-4, sequence_experts_flops_s=0.0, sequence_head_flops_s=1e-5,
    sequence_kv_s=2e-4, sequence_sent_s=5e-5, sequence_exchange_s=0.0, prompt_tokens=1000.0, prompt_flops_s=20e-3,
    prompt_experts_flops_s=0.0, prompt_attention_s=7e-3, prompt_sent_s=2e-3,
)  # fmt: skip
CONSTANTS = Constants(
    weights=0.8, kv_cache=0.5, flops=0.5, link=0.25, launch_s=1e-6, collective_s=10e-6, experts=0.5,
    step_s=1e-3, sequence_s=1e-5, request_s=0.02, prompts_first=0.25, prompt_s=3e-3,
    host_launch_s=1e-6,
)  # fmt: skip


def step_s(work: Work, batch: float) -> float:
    return float(step_curve(work, CONSTANTS).at(batch))


def work_on(model: str, chip: str, topology: str, ep_axes: tuple[int, ...] = (), **decisions: Any) -> Work:
    """The work of requests of 1,000 tokens and 200 of output."""
    spec = Spec.load({"cost_model": "ideal", "model": model, "workload": {"prompt_tokens": 1000, "output_tokens": 200}})
    axes = () if ep_axes else (0,)
    assignment = Assignment(
        chip=chip, topology=topology, tp_axes=axes, ep_axes=ep_axes, batch=8, mode=Mode.INTERLEAVED, **decisions
    )  # fmt: skip
    replica = replica_of(spec, load_chip(chip), assignment)
    return work_of(load_model(model), replica, Request(0.0, 1000.0, 1100.0))


def test_a_step_by_hand() -> None:
    """Launches 80 · 1 + 20 · 10 us; weights 5 ms hide the FLOPs; the head 1.25 ms; 8 · (0.4 + 0.2 + 0.01) ms."""
    assert step_s(WORK, 8.0) == pytest.approx(1e-3 + 280e-6 + 5e-3 + 1.25e-3 + 8 * 0.61e-3)
    assert step_s(WORK, 100.0) == pytest.approx(1e-3 + 280e-6 + 100 * 2e-4 + 100 * 2e-5 + 100 * 0.61e-3)
    split = replace(WORK, sequence_exchange_s=1e-5)
    assert step_s(split, 8.0) - step_s(WORK, 8.0) == pytest.approx(8 * 1e-5 / 0.25)


def test_experts_are_loaded_as_they_are_visited() -> None:
    """Of 12 ms of experts 1 - 0.75^2 for two tokens; where each token visits all, all."""
    some = replace(WORK, experts_s=12e-3, not_visited=0.75)
    assert step_s(some, 2.0) - step_s(WORK, 2.0) == pytest.approx(12e-3 * (1 - 0.75**2) / 0.8)
    every = replace(WORK, experts_s=12e-3, not_visited=0.0)
    assert step_s(every, 2.0) - step_s(WORK, 2.0) == pytest.approx(12e-3 / 0.8)


def test_a_prompt_by_hand() -> None:
    work = 20e-3 / 0.5 + 7e-3 / (0.7 * 0.5) + 2e-3 / 0.25
    assert prompt_work_s(WORK, CONSTANTS) == pytest.approx(3e-3 + work)
    assert prompt_s(WORK, CONSTANTS) == pytest.approx(3e-3 + 1e-3 + 280e-6 + work)
    short = replace(WORK, prompt_flops_s=1e-4, prompt_attention_s=0.0)
    assert prompt_s(short, CONSTANTS) == pytest.approx(3e-3 + 1e-3 + 280e-6 + 4e-3 / 0.8 + 8e-3)


def test_matmuls_of_experts_take_longer() -> None:
    """At half of what other matmuls reach, 10 us of a token count for 20, over 0.5; and 4 ms of a prompt for 8."""
    mixed = replace(WORK, sequence_experts_flops_s=1e-5, prompt_experts_flops_s=4e-3)
    assert step_s(mixed, 100.0) - step_s(WORK, 100.0) == pytest.approx(100 * 1e-5 / (0.5 * 0.5))
    assert prompt_work_s(mixed, CONSTANTS) - prompt_work_s(WORK, CONSTANTS) == pytest.approx(4e-3 / (0.5 * 0.5))


def test_a_step_takes_no_less_than_its_host_to_launch_it() -> None:
    """80 launches of 1 us hide behind a step of 12 ms; of 200 us they are 16 ms, until the batch takes longer."""
    slow = replace(CONSTANTS, host_launch_s=2e-4)
    assert step_s(WORK, 8.0) == pytest.approx(12.41e-3)
    assert float(step_curve(WORK, slow).at(8.0)) == pytest.approx(16e-3)
    assert float(step_curve(WORK, slow).at(64.0)) == step_s(WORK, 64.0)
    short = replace(WORK, prompt_flops_s=1e-4, prompt_attention_s=0.0, prompt_sent_s=0.0)
    assert prompt_s(short, slow) == pytest.approx(16e-3 + 3e-3)


def test_the_prompts_of_others_are_waited_for_once() -> None:
    """Of 7 · work a part comes before the first token, the rest beside each of the 50: together they are 7 · work."""
    ttft, tpot = closed_loop_s(WORK, CONSTANTS, 8.0, 50.0)
    step, prompt, one = step_s(WORK, 8.0), prompt_s(WORK, CONSTANTS), prompt_work_s(WORK, CONSTANTS)
    queue = ttft - 0.02 - prompt - tpot
    assert queue == pytest.approx(0.25 * 7 * one + one / 2 * 7 * one / (50 * step))
    assert queue + 50 * (tpot - step) == pytest.approx(7 * one)
    for output_tokens in (1.0, 2.0, 3.0):
        ttft, tpot = closed_loop_s(WORK, CONSTANTS, 1000.0, output_tokens)
        assert (
            1000 / (ttft + (output_tokens - 1) * tpot) < 1 / one
        )  # however short answers are, each prompt is computed
    ttft, tpot = closed_loop_s(WORK, CONSTANTS, 1.0, 50.0)
    assert (ttft, tpot) == (pytest.approx(0.02 + step_s(WORK, 1.0) + prompt), pytest.approx(step_s(WORK, 1.0)))


def test_the_work_of_a_dense_model_by_hand() -> None:
    """Qwen3 8B in bf16 on two H100: 36 layers, 4,096 wide, 8 KV heads of 128, a head of 151,936 words."""
    work = work_on("qwen3-8b", "h100-sxm", "2x1", weights="bf16", kv_cache="bf16", compute="bf16")
    head = 151_936 * 4096
    layer = 2 * 4096 * 32 * 128 + 2 * 4096 * 8 * 128 + 3 * 4096 * 12_288
    assert (work.kernels, work.host_kernels, work.collectives) == (36 * 8, 36 * 8, 36 * 2)
    assert work.resident_s == pytest.approx(2 * 36 * layer / (2 * 3.35e12), rel=1e-3)
    assert work.head_s == pytest.approx(2 * head / (2 * 3.35e12))
    assert work.sequence_flops_s == pytest.approx(2 * 36 * layer / (2 * 989e12), rel=1e-3)
    assert work.sequence_kv_s == pytest.approx(36 * 2 * 8 * 128 * 2 * 1100 / (2 * 3.35e12))
    assert work.sequence_sent_s == pytest.approx(36 * 2 * 2 * (1 / 2) * 2 * 4096 / 450e9)
    assert work.prompt_flops_s == pytest.approx(1000 * work.sequence_flops_s)


def test_stages_load_their_layers_in_turn_and_share_all_else() -> None:
    """Llama 3.1 405B on two nodes of 8: two stages of 63 layers, 16,384 wide, a head of 128,256 words in the last."""
    dtypes = {"weights": "bf16", "kv_cache": "bf16", "compute": "bf16"}
    one = work_on("llama-3.1-405b", "h100-sxm", "8x1", **dtypes)
    two = work_on("llama-3.1-405b", "h100-sxm", "8x2", pp_axes=(1,), **dtypes)
    assert (two.stages, two.kernels, two.collectives) == (2, one.kernels, one.collectives + 2)
    assert two.resident_s == pytest.approx(one.resident_s)  # each half by its own eight chips, one after the other
    assert two.head_s == pytest.approx(2 * 2 * 128_256 * 16_384 / (8 * 3.35e12))  # for each of two micro-batches
    assert two.sequence_flops_s == pytest.approx(one.sequence_flops_s / 2)
    assert two.sequence_kv_s == pytest.approx(one.sequence_kv_s / 2)
    hop = 2 * 2 * 16_384 / (8 * 50e9)
    assert two.sequence_sent_s == pytest.approx(one.sequence_sent_s / 2 + hop)
    half = (prompt_work_s(one, CONSTANTS) - 3e-3) / 2 + 1000 * hop / 0.25
    assert prompt_work_s(two, CONSTANTS) == pytest.approx(3e-3 + half)
    alone = prompt_s(one, CONSTANTS) + 3e-3 + 1e-3 + 2 * 10e-6 + 2 * 1000 * hop / 0.25  # prepared twice, and handed on
    assert prompt_s(two, CONSTANTS) == pytest.approx(alone)


def test_micro_batches_visit_fewer_experts() -> None:
    """With 16 sequences over two stages a step loads the experts that 8 tokens visit."""
    work = replace(WORK, stages=np.float64(2), experts_s=12e-3, not_visited=0.75)
    bare = replace(WORK, stages=np.float64(2))
    assert step_s(work, 16.0) - step_s(bare, 16.0) == pytest.approx(12e-3 * (1 - 0.75**8) / 0.8)
    assert step_s(bare, 16.0) - step_s(WORK, 16.0) == pytest.approx(1e-3)  # the host prepares each micro-batch


def test_groups_that_attend_apart_share_experts() -> None:
    """Of DeepSeek-R1 58 layers have experts: 2 · 58 exchanges of 8 · 7,168 values over the links of all chips."""
    dtypes = {"weights": "fp8", "kv_cache": "bf16", "compute": "fp8"}
    together = work_on("deepseek-r1", "h200", "8x1", kv_layout=KvLayout.COPIES, **dtypes)
    apart = work_on("deepseek-r1", "h200", "8x1", ep_axes=(0,), **dtypes)
    assert apart.resident_s > together.resident_s  # each has all but the experts
    assert together.host_kernels == 61 * 8 + 58 * 12
    assert together.sequence_experts_flops_s == pytest.approx(2 * 58 * 8 * 3 * 7168 * 2048 / (8 * 1979e12))
    assert apart.sequence_kv_s == pytest.approx(together.sequence_kv_s / 8)  # which holds eight copies of a latent
    assert (together.collectives, apart.collectives) == (2 * 61, 2 * 58)
    assert apart.sequence_sent_s == pytest.approx(2 * 58 * 2 * 8 * 7168 / (8 * 450e9))


@examples(60)
@given(
    st.sampled_from(["qwen3-8b", "llama-3.1-70b", "deepseek-r1", "gpt-oss-120b"]),
    st.sampled_from(sorted(chip for chip in load_calibration().chips if len(load_chip(chip).axes) > 1)),
    st.tuples(st.sampled_from([1.0, 16.0, 4000.0]), st.floats(1.0, 2000.0)),
    st.integers(1, 4095),
    st.booleans(),
)
def test_the_cost_of_a_token_never_rises_with_the_batch(
    model: str, chip: str, tokens: tuple[float, float], batch: int, staged: bool
) -> None:
    prompt, output = tokens
    ours, of_chip = load_calibration(), load_chip(chip)
    constants = Constants(*ours.reach_of(chip, "bf16"), *ours.stacks[0].constants)
    assignment = Assignment(
        chip=chip, topology=of_chip.topologies[-1], tp_axes=(0,), batch=1, mode=Mode.INTERLEAVED, weights="bf16",
        kv_cache="bf16", compute="bf16", kv_layout=KvLayout.COPIES, pp_axes=(1,) if staged else (),
    )  # fmt: skip
    spec = Spec.load(
        {
            "cost_model": "ideal",
            "model": model,
            "workload": {"prompt_tokens": int(prompt), "output_tokens": int(output)},
        }
    )
    work = work_of(spec.model, replica_of(spec, of_chip, assignment), Request(0.0, prompt, prompt + output / 2))

    def each(size: int) -> tuple[float, float]:
        ttft, tpot = closed_loop_s(work, constants, np.float64(size), output)
        return float(step_curve(work, constants).at(size)) / size, float(ttft + (output - 1) * tpot) / size

    assert all(more <= less * (1 + 1e-12) for more, less in zip(each(batch + 1), each(batch), strict=True))


@examples(60)
@given(
    st.integers(1, 4095), st.floats(0.0, 1.0), st.sampled_from([1e-4, 1e-2, 1.0]), st.sampled_from([1.0, 8.0, 900.0])
)
def test_times_never_fall_as_the_batch_grows(batch: int, first: float, flops: float, output: float) -> None:
    work, constants = replace(WORK, prompt_flops_s=flops), replace(CONSTANTS, prompts_first=first)
    less, more = (closed_loop_s(work, constants, float(size), output) for size in (batch, batch + 1))
    assert all(after >= before * (1 - 1e-12) for before, after in zip(less, more, strict=True))
