"""The second cost model by hand, on a mixture of experts in groups."""

import pytest

from tests.deployment.check.replicas import OF_EXPERTS, OTHERS, replica
from tests.helpers import moe_model


def test_a_step_by_hand() -> None:
    step = replica().step(8, 100, chunk_tokens=8, chunk_s=1e-3)
    visited = 1 - 0.75**16
    assert step.weights_s == pytest.approx(2 * (4 * OTHERS + OF_EXPERTS * visited) / 8e12)
    assert step.flops_s == pytest.approx(2 * 8 * (OTHERS + OF_EXPERTS / 4) / 8e12 + 1e-3)
    gather, exchange = 2 * 4 * 256 / 1e9, 2 * 16 * 2 * 256 / 4e9  # 16 tokens: 4 a group, to 2 groups each
    way = exchange + 2 * 16 * 3 / 4 * 256 / 1e9
    assert step.ici_s == pytest.approx(10 * gather + 6 * way)
    assert step.kv_cache_s == pytest.approx(8 * 2 * 4 * 32 * 4 * 100 / 8e12)
    assert step.total_s == max(step.weights_s, step.flops_s, step.ici_s) + step.kv_cache_s


def test_stages_share_experts_that_alternate() -> None:
    """Three of 6 layers have experts, every second one: of 4 stages of 2 layers none has more than one, 4 / 3."""
    experts = {"layers": 3, "every": 2, "experts": 8, "experts_per_token": 2, "d_ff": 128}
    four = replica(moe_model(layers=6, moe=experts), ep_axes=(), pp_axes=(1,), pays_ici=False)
    two = replica(moe_model(layers=6, moe=experts), topology="2x2", ep_axes=(), pp_axes=(1,), pays_ici=False)
    assert four.held_kv_bytes(10) == pytest.approx(4 / 3 * four.sequence_bytes(10))
    assert two.held_kv_bytes(10) == pytest.approx(4 / 3 * two.sequence_bytes(10))  # of 3 layers in a row two


def test_stages_have_a_part_of_the_layers_and_of_the_batch() -> None:
    """Two chips a stage, four stages: each has one layer of 4, of which 3 have experts, so 4 / 3 of the mean."""
    staged = replica(ep_axes=(), pp_axes=(1,), pays_ici=False)
    tables, routers = 256 * 1000, 3 * 256 * 8
    layers = OTHERS - 2 * tables
    assert (staged.tp, staged.pp, staged.chips, staged.batch_multiple) == (2, 4, 8, 4)
    assert staged.weights_bytes == pytest.approx(2 * (4 / 3 * (layers + OF_EXPERTS) + 4 * tables))
    assert layers > routers
    assert staged.held_kv_bytes(10) == pytest.approx(4 / 3 * 2 * 4 * 32 * 4 * 10)
    step = staged.step(8, 100)
    visited = 1 - 0.75**2
    read = 2 * (4 / 3 * (layers + OF_EXPERTS * visited) + 4 * tables)
    assert step.weights_s == pytest.approx(read / 2e12)  # of the 1e12 bytes/s of two chips, one stage after another
    assert step.flops_s == pytest.approx(4 / 3 * 2 * 8 * (OTHERS + OF_EXPERTS / 4) / 8e12)
    assert step.pipeline_s == pytest.approx(8 * 2 * 2 * 256 / (2 * 1e9))


def test_a_prompt_by_hand() -> None:
    pairs = (100**2 - 40**2) / 2
    flop = 2 * 60 * (OTHERS + OF_EXPERTS / 4) + 4 * 8 * 32 * 4 * pairs
    assert replica(pays_ici=False).prompt_flops_s(40, 60, 0.5) == pytest.approx(flop / (0.5 * 8e12))


def test_matmuls_of_dense_layers_and_of_experts() -> None:
    (dense, hidden_dense), (experts, hidden_experts) = replica().matmuls(8)
    assert dense == pytest.approx(2 * 2 * 256 / 1e9)
    assert hidden_dense == pytest.approx(max(2 * 256 * 1024 / 2e12, 2 * 2 * 256 * 1024 / 2e12))
    assert experts == pytest.approx(2 * 8 * 2 * 256 / 4e9 + 2 * 6 * 256 / 1e9)
    loaded = 2 * 256 * 256 / 2e12 + 2 * 256 * 512 * 8 * (1 - 0.75**8) / 8e12
    assert hidden_experts == pytest.approx(max(loaded, 2 * 2 * 256 * (2 * 512 + 256) / 2e12))
