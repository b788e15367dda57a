import numpy as np
import pytest

from servesat.catalogue.chip import Axis
from servesat.catalogue.load import load_chip, load_model
from servesat.core.plan import KvLayout
from servesat.cost_model.sharding import (
    Sharding,
    dearest_stage,
    fills_rows,
    heads_divide,
    kv_batch_shards,
    kv_heads_per_chip,
    kv_heads_split,
    links_of,
    scales_divide,
    shardings,
)
from servesat.cost_model.storage import Storage
from tests.helpers import moe_model

BOOK = (KvLayout.HEADS, KvLayout.BATCH)


@pytest.mark.parametrize(
    ("chip", "topology", "axes"),
    [
        ("tpu-v5e", "1x1", [()]),
        ("tpu-v5e", "4x4", [(), (0,), (0, 1)]),  # axis 1 alone is axis 0 alone, turned round
        ("tpu-v5e", "4x8", [(), (0,), (1,), (0, 1)]),
        ("tpu-v5p", "2x2x1", [(), (0,), (0, 1)]),
        ("tpu-v5p", "2x4x4", [(), (0,), (1,), (0, 1), (1, 2), (0, 1, 2)]),
        ("h100-sxm", "8x8", [(), (0,), (1,), (0, 1)]),  # NVLink and network differ in bandwidth
        ("l4", "4", [(), (0,)]),
    ],
)
def test_a_dense_model_is_split_by_tensor_parallelism_alone(
    chip: str, topology: str, axes: list[tuple[int, ...]]
) -> None:
    found = shardings(load_model("llama-3-70b"), load_chip(chip), topology, BOOK)
    assert [(one.tp_axes, one.ep_axes) for one in found] == [(one, ()) for one in axes]


def test_experts_are_spread_over_axes_that_divide_their_number() -> None:
    chip = load_chip("tpu-v5e")
    assert [(one.tp_axes, one.ep_axes) for one in shardings(moe_model(experts=8), chip, "4x8", BOOK)] == [
        ((), ()), ((0,), ()), ((1,), ()), ((0, 1), ()),
        ((), (0,)), ((), (1,)), ((0,), (1,)), ((1,), (0,)),
    ]  # fmt: skip
    assert all(one.ep_axes == () for one in shardings(moe_model(experts=6), chip, "4x8", BOOK))


def test_beyond_the_kv_heads_a_cache_may_lie_in_several_ways() -> None:
    chip, every = load_chip("h100-sxm"), tuple(KvLayout)
    latent = moe_model(mla={"kv_lora_rank": 64, "nope_head_dim": 32, "rope_head_dim": 16, "v_head_dim": 32})
    beyond = [KvLayout.BATCH, KvLayout.SEQUENCE, KvLayout.COPIES]
    of_tp = [one.kv_layout for one in shardings(latent, chip, "8x1", every) if one.tp_axes == (0,)]
    assert of_tp == beyond
    heads = load_model("llama-3-70b")  # 8 KV heads
    assert {one.kv_layout for one in shardings(heads, chip, "8x1", every)} == {KvLayout.HEADS}
    assert shardings(heads, chip, "8x2", every)[-3:] == [Sharding((0, 1), (), layout) for layout in beyond]
    assert [one.tp_axes for one in shardings(heads, chip, "8x2", [KvLayout.COPIES])] == [(0, 1)]


def test_stages_lie_along_the_last_axes() -> None:
    model, chip = load_model("llama-3-70b"), load_chip("h100-sxm")
    found = shardings(model, chip, "8x2", BOOK, stages=None)
    assert [(one.tp_axes, one.pp_axes) for one in found] == [
        ((), ()), ((0,), ()), ((1,), ()), ((0, 1), ()), ((), (0,)), ((), (1,)), ((0,), (1,)), ((), (0, 1)),
    ]  # fmt: skip
    assert [one.pp_axes for one in shardings(model, chip, "8x2", BOOK, stages=(2,))] == [(1,), (1,)]
    assert {one.pp_axes for one in shardings(moe_model(layers=4), chip, "8x2", BOOK, stages=None)} == {(), (1,)}


def test_the_dearest_stage_has_whole_layers() -> None:
    """Of 126 layers over 4 stages 32 at most, 4 · 32 / 126; of 61 with 58 of experts over 2 at most 31, 62 / 58."""
    assert dearest_stage(load_model("llama-3.1-405b"), np.array([1, 2, 4])).tolist() == [1, 1, pytest.approx(128 / 126)]
    assert dearest_stage(load_model("deepseek-v3"), np.array([1, 2])).tolist() == [1, pytest.approx(62 / 58)]


def test_stages_of_layers_that_alternate_have_experts_alike() -> None:
    """Maverick: 24 of 48 layers, every second one; of 24 in a row 12 have experts, of 16 eight: no stage is dearer.

    Over 5 stages ten layers in a row at most, with five of 24: 5 · 5 / 24. Of Jamba's 16 of 32 over 3 stages 11 layers,
    six of them with experts: 3 · 6 / 16.
    """
    found = dearest_stage(load_model("llama-4-maverick"), np.array([1, 2, 3, 5]))
    assert found.tolist() == [1, 1, 1, pytest.approx(25 / 24)]
    assert dearest_stage(load_model("jamba-1.5-mini"), np.array([2, 3])).tolist() == [1, pytest.approx(18 / 16)]


def test_the_dearest_stage_has_no_less_than_its_layers() -> None:
    """Of 10 layers over 4 stages 3 at most, one of them with experts, as two in ten have: 4 · 1 / 2 > 4 · 3 / 10.

    Of 5 layers of which the first and the last have experts, two stages have 3 layers: 2 · 3 / 5 > 2 · 1 / 2.
    """
    experts = {"layers": 2, "experts": 8, "experts_per_token": 2, "d_ff": 64, "every": 4}
    assert dearest_stage(moe_model(layers=10, moe=experts), np.array([4])).tolist() == [2]
    assert dearest_stage(moe_model(layers=5, moe=experts), np.array([2])).tolist() == [pytest.approx(6 / 5)]


def test_heads_divide() -> None:
    ways = np.array([1, 32, 64, 128, 7])
    assert heads_divide(load_model("llama-3-70b"), ways).tolist() == [True, True, True, False, False]
    # 13,824 = 2^9 · 27 and 40 heads: 16 divides the first and not the second
    assert heads_divide(load_model("llama-2-13b"), np.array([8, 16])).tolist() == [True, False]


def test_kv_cache_splits_by_heads_and_then_over_the_batch() -> None:
    model = load_model("llama-3-70b")  # 8 KV heads
    ways = np.array([1, 4, 8, 16, 16, 32, 12, 3])
    batch = np.array([1, 1, 5, 2, 3, 4, 12, 3])
    assert kv_batch_shards(model, ways).tolist() == [1, 1, 1, 2, 2, 4, 1, 1]
    split = kv_heads_split(model, ways, batch, kv_batch_shards(model, ways))
    assert split.tolist() == [True, True, True, True, False, True, False, False]


def test_axes_of_another_kind_are_another_machine() -> None:
    axes = [Axis(name="x", bytes_per_s=5e9, wraps_every=16), Axis(name="y", bytes_per_s=5e9, wraps_every=4)]
    chip = load_chip("tpu-v5e").model_copy(update={"axes": tuple(axes)})
    found = shardings(load_model("llama-3-8b"), chip, "4x4", BOOK)
    assert [one.tp_axes for one in found] == [(), (0,), (1,), (0, 1)]


def test_the_links_of_a_sharding_are_those_of_its_axes() -> None:
    v5p, h100 = load_chip("tpu-v5p"), load_chip("h100-sxm")
    width = v5p.axes[0].bytes_per_s
    dense = links_of(v5p, "2x4x4", Sharding((1, 2)), exact_wraparound=False)
    assert dense == (2 * width, float("inf"), float("inf"))
    open_ended = links_of(v5p, "2x4x4", Sharding((1, 2)), exact_wraparound=True)  # of no whole cube
    assert open_ended.tp_bytes_per_s == 2 * width / 2
    assert links_of(v5p, "4x4x8", Sharding((1, 2)), exact_wraparound=True).tp_bytes_per_s == 2 * width
    spread = links_of(h100, "8x2", Sharding((0,), (1,)), exact_wraparound=False)
    assert spread == (h100.axes[0].bytes_per_s, 2 * h100.axes[1].bytes_per_s, float("inf"))
    staged = links_of(h100, "8x2", Sharding((0,), pp_axes=(1,)), exact_wraparound=False)
    assert staged.pp_bytes_per_s == h100.axes[1].bytes_per_s


def test_kv_heads_per_chip() -> None:
    assert kv_heads_per_chip(load_model("llama-3-70b"), 16) == 0.5


def test_the_fewest_kv_heads_of_all_layers_decide_how_the_batch_splits() -> None:
    other = {"layers": 1, "parameters": 1, "heads": 8, "kv_heads": 2, "head_dim": 16}
    mixed, ways = moe_model(other_layers=[other]), np.array([1, 2, 4, 8])  # 4 and 2 KV heads
    assert kv_batch_shards(mixed, ways).tolist() == [1, 1, 2, 4]
    assert kv_heads_split(mixed, ways, np.array([4, 4, 4, 2]), np.array([1, 1, 2, 4])).tolist() == [True] * 3 + [False]
    state = {"layers": 4, "parameters": 1, "heads": 6, "state_bytes": 8}
    only_states = moe_model(other_layers=[state])
    assert kv_batch_shards(only_states, ways).tolist() == [1, 1, 1, 1]
    assert heads_divide(only_states, ways).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("shape", "weights", "group", "tp", "loads"),
    [
        ({"experts": 1536}, "fp8", 128, 8, False),  # vllm#17569: Qwen3-235B-A22B-FP8, parts of 192
        ({"experts": 1536}, "fp8", 128, 4, True),  # vllm#21348
        ({"mlp": 18432, "experts": 2048}, "fp8", 128, 16, True),  # sglang#3345: DeepSeek-R1
        ({"mlp": 27392}, "int4", 128, 4, False),  # lmdeploy#1560: Qwen1.5-32B, AWQ
        ({"mlp": 11008}, "int4", 128, 4, False),  # vllm#1258: Llama-2-7B, AWQ
        ({"experts": 1536}, "int4", 128, 8, False),  # vllm#17604: Qwen3-235B-A22B, GPTQ
        ({"mlp": 11008}, "int4", None, 4, True),  # a scale for each row
        ({"mlp": 11000}, "fp8", 128, 1, True),  # nothing is split
    ],
)
def test_no_chip_cuts_weights_that_share_a_scale(
    shape: dict[str, int], weights: str, group: int | None, tp: int, loads: bool
) -> None:
    native = {"dtype": weights, **({"group": group} if group else {})}
    experts = {"layers": 1, "experts": 8, "experts_per_token": 2, "d_ff": shape.get("experts", 128 * 64)}
    model = moe_model(
        query_heads=64, kv_heads=4, head_dim=128, d_ff=shape.get("mlp", 128 * 64), moe=experts, native=native
    )
    assert scales_divide(Storage(model), weights, np.array([tp])).tolist() == [loads]


@pytest.mark.parametrize(
    ("model", "of_layout", "fills"),
    [
        ("llama-3.1-70b", ("heads", 8, 1, 1.0), False),  # one head of 8 on a chip: 2 bytes of 4
        ("llama-3.1-70b", ("heads", 4, 1, 1.0), True),
        ("llama-3.1-70b", ("heads", 8, 1, 2.0), True),
        ("llama-3.1-70b", ("heads", 8, 2, 2.0), False),  # the two devices of a chip would hold the same head
        ("llama-3.1-70b", ("copies", 16, 1, 2.0), True),
        ("llama-3.1-70b", ("copies", 16, 1, 1.0), False),
        ("llama-3-405b", ("batch", 64, 1, 1.0), True),  # two heads on a device, of half the sequences
        ("gpt-oss-120b", ("heads", 4, 1, 1.0), False),  # of 64 values: two heads, keys and values a byte each
        ("gpt-oss-120b", ("heads", 2, 1, 1.0), True),
        ("deepseek-v3", ("batch", 4, 2, 1.0), True),
    ],
)
def test_heads_fill_the_rows_of_a_tpu(model: str, of_layout: tuple[str, int, int, float], fills: bool) -> None:
    """kernels/ragged_paged_attention: 2 K rows of a device are aligned to 4 bytes, K of heads of 64."""
    kv_layout, tp, devices, value_bytes = of_layout
    device = {"devices": devices, "value_bytes": value_bytes}
    assert fills_rows(load_model(model), 4, KvLayout(kv_layout), tp, **device) is fills
    assert fills_rows(load_model(model), None, KvLayout(kv_layout), tp, **device)
