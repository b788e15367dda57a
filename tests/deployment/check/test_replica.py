"""The second cost model by hand, on a mixture of experts in groups."""

from typing import Any

import pytest

from servesat.catalogue.chip import Chip
from servesat.catalogue.model import ModelSpec
from servesat.core.plan import KvLayout
from servesat.deployment.check.replica import CheckedReplica
from tests.helpers import moe_model

CHIP = Chip.model_validate(
    {
        "name": "grid", "vendor": "test", "hbm_bytes": 1e9, "hbm_bytes_per_s": 1e12, "flop_per_s": {"bf16": 1e12},
        "axes": [{"name": "x", "bytes_per_s": 1e9}, {"name": "y", "bytes_per_s": 1e9}], "topologies": ["2x4"],
    }
)  # fmt: skip
OF_EXPERTS = 3 * 8 * 3 * 256 * 512
OTHERS = 4 * 2 * 256 * 32 * (8 + 4) + 3 * 256 * 1024 + 3 * (3 * 256 * 256 + 256 * 8) + 2 * 256 * 1000
TABLES = 2 * 256 * 1000 + 3 * 256 * 8  # embedding, head and routers, of the others


def replica(model: ModelSpec | None = None, **keys: Any) -> CheckedReplica:
    """Two chips share each matrix, over axis 0; four groups share eight experts, over axis 1."""
    return CheckedReplica(
        **{
            "model": model or moe_model(), "chip": CHIP, "topology": "2x4", "tp_axes": (0,), "ep_axes": (1,),
            "pp_axes": (), "kv_layout": KvLayout.BATCH, "weights": "bf16", "kv_cache": "int8", "compute": "bf16",
            "int4_group": None,
            "exact_wraparound": False, "pays_ici": True, "usable_bytes": 1e9,
        } | keys
    )  # fmt: skip


def test_the_shape_of_a_replica() -> None:
    assert (replica().tp, replica().ep, replica().chips, replica().batch_multiple) == (2, 4, 8, 4)
    wide = replica(tp_axes=(0, 1), ep_axes=())
    assert (wide.tp, wide.batch_multiple) == (8, 2)  # 4 KV heads over 8 chips


def test_weights_are_held_once_and_the_rest_in_each_group() -> None:
    assert replica().weights_bytes == 2 * (4 * OTHERS + OF_EXPERTS)
    grouped = replica(weights="int4", int4_group=64)
    in_blocks = 4 * (OTHERS - TABLES) + OF_EXPERTS
    assert grouped.weights_bytes == (4 + 0.5) / 8 * in_blocks + 2 * 4 * TABLES


def test_experts_alone_may_be_narrow() -> None:
    mixed = replica(
        moe_model(native={"dtype": "mxfp4", "wider": {"attention": {}, "mlp": {}, "shared_experts": {}}}),
        weights="mxfp4",
    )
    assert mixed.weights_bytes == 2 * 4 * OTHERS + 4.25 / 8 * OF_EXPERTS
    assert not replica(mixed.model, weights="mxfp4", compute="fp8").computes


def test_weights_that_share_a_scale_stay_on_one_chip() -> None:
    grouped = {
        "dtype": "int4",
        "group": 128,
    }  # tp 2: 128 of a chip's 8 · 32 outputs, 512 of d_ff, 256 and 128 of experts
    assert not replica(moe_model(native=grouped), weights="int4").cuts_scales
    assert replica(moe_model(native=grouped | {"group": 256}), weights="int4").cuts_scales
    left = {"wider": {"attention": {}, "shared_experts": {}}}
    assert not replica(moe_model(native=grouped | {"group": 256} | left), weights="int4").cuts_scales
    assert not replica(moe_model(native=grouped | {"group": 256}), weights="int8").cuts_scales
    assert replica(weights="int4", int4_group=96).cuts_scales


def test_a_sequence_holds_its_windows_and_groups_add_nothing_to_a_cache() -> None:
    assert replica(int4_group=64, kv_cache="int4").sequence_bytes(100) == 0.5 * 2 * 4 * 32 * 4 * 100
    windowed = moe_model(window_tokens=10, window_layers=3)
    assert replica(windowed).sequence_bytes(100) == 2 * 4 * 32 * (100 + 3 * 10)


def test_copies_of_a_latent_are_held_and_read_by_every_chip() -> None:
    latent = moe_model(mla={"kv_lora_rank": 64, "nope_head_dim": 32, "rope_head_dim": 16, "v_head_dim": 24})
    copied = replica(latent, kv_layout=KvLayout.COPIES)
    assert copied.held_kv_bytes(100) == 2 * copied.sequence_bytes(100) == 2 * (64 + 16) * 4 * 100
    assert (copied.batch_multiple, replica(latent).batch_multiple) == (4, 4 * 2)


def test_copies_of_heads_lie_on_the_chips_that_share_them() -> None:
    assert replica(tp_axes=(0, 1), ep_axes=(), kv_layout=KvLayout.COPIES).held_kv_bytes(10) == 2 * 2 * 4 * 32 * 4 * 10
    assert replica(kv_layout=KvLayout.COPIES).held_kv_bytes(10) == 2 * 4 * 32 * 4 * 10  # each chip has two of its own


def test_split_sequences_exchange_queries_and_results() -> None:
    split = replica(tp_axes=(0, 1), ep_axes=(), kv_layout=KvLayout.SEQUENCE)
    assert (split.batch_multiple, split.held_kv_bytes(10)) == (1, 2 * 4 * 32 * 4 * 10)
    # 4 layers of 8 heads a KV head / 4, 32 wide, to gather and to combine, and 4 bytes of a sum, over two axes
    assert split.step(3, 100).kv_exchange_s == pytest.approx(3 * 4 * 2 * (2 * 2 * 32 + 4) / 2e9)
    assert replica(kv_layout=KvLayout.SEQUENCE).step(3, 100).kv_exchange_s == 0


def test_an_indexer_reads_every_key_and_the_tokens_that_it_selects() -> None:
    sparse = moe_model(
        mla={"kv_lora_rank": 64, "nope_head_dim": 32, "rope_head_dim": 16, "v_head_dim": 24},
        sparse={"tokens": 50, "index_heads": 3, "index_head_dim": 7},
    )
    assert replica(sparse).sequence_bytes(100) == 4 * (80 + 7 * 33 / 32) * 100
    assert replica(sparse).step(1, 100).kv_cache_s == pytest.approx(4 * (80 * 50 + 7 * 33 / 32 * 100) / 8e12)


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


def test_axes_of_one_speed_add_up_and_open_torus_axes_have_half() -> None:
    ring = [{"name": name, "bytes_per_s": 1e9, "wraps_every": 4} for name in "xy"]
    torus = CHIP.model_copy(update={"axes": tuple(type(CHIP.axes[0]).model_validate(axis) for axis in ring)})
    dense = {"tp_axes": (0, 1), "ep_axes": (), "model": moe_model(moe=None, d_ff=1024), "chip": torus}
    both, exact = replica(**dense), replica(**dense, exact_wraparound=True)
    (closed,), (half,) = both.matmuls(8), exact.matmuls(8)
    assert closed[0] == pytest.approx(2 * 8 * 256 / 2e9)
    assert half[0] == pytest.approx(2 * closed[0])  # the axis of 2 chips closes to no ring, and sets the pace


def test_matmuls_of_dense_layers_and_of_experts() -> None:
    (dense, hidden_dense), (experts, hidden_experts) = replica().matmuls(8)
    assert dense == pytest.approx(2 * 2 * 256 / 1e9)
    assert hidden_dense == pytest.approx(max(2 * 256 * 1024 / 2e12, 2 * 2 * 256 * 1024 / 2e12))
    assert experts == pytest.approx(2 * 8 * 2 * 256 / 4e9 + 2 * 6 * 256 / 1e9)
    loaded = 2 * 256 * 256 / 2e12 + 2 * 256 * 512 * 8 * (1 - 0.75**8) / 8e12
    assert hidden_experts == pytest.approx(max(loaded, 2 * 2 * 256 * (2 * 512 + 256) / 2e12))


@pytest.mark.parametrize(("heads", "kv_heads", "divides", "splits"), [(8, 4, True, True), (6, 3, False, False)])
def test_heads(heads: int, kv_heads: int, divides: bool, splits: bool) -> None:
    shape = replica(moe_model(query_heads=heads, kv_heads=kv_heads), tp_axes=(1,), ep_axes=())
    assert (shape.divides_heads, shape.splits_kv_heads) == (divides, splits)
