"""Both sides of every requirement's edge, on fixed assignments."""

from dataclasses import replace
from typing import Any

import pytest

from servesat import Requirement, Spec
from servesat.core.plan import Assignment, KvLayout, Mode, PrefillPool
from servesat.deployment.check.plan import rederive
from tests.helpers import AT, searching, spec_of, toy_chip, toy_spec

STEP_MS = (70e9 + 32 * 163_840 * 8192) / (16 * 8.2e11) * 1e3


def margin(spec: Spec, requirement: Requirement, **decisions: Any):
    _, margins = rederive(spec, replace(AT, **decisions))
    return next(margin for margin in margins if margin.requirement is requirement)


def test_hbm_edge() -> None:
    # (256e9 - 70e9) / (163,840 · 8192) = 138.58 sequences; with 20 % headroom 100.4
    assert margin(spec_of(), Requirement.HBM, batch=138).holds
    assert not margin(spec_of(), Requirement.HBM, batch=140).holds
    assert margin(spec_of(headroom=0.2), Requirement.HBM, batch=100).holds
    assert not margin(spec_of(headroom=0.2), Requirement.HBM, batch=102).holds


def test_hbm_filled_to_the_last_byte_holds() -> None:
    chip = {
        "name": "exact", "vendor": "test", "hbm_bytes": 70e9 + 163_840 * 8192, "hbm_bytes_per_s": 1e12,
        "flop_per_s": {"bf16": 1e15}, "axes": [{"name": "x", "bytes_per_s": 1e11}], "topologies": ["1"],
        "usd_per_chip_hour": 1.0,
    }  # fmt: skip
    spec = searching(chips=[chip])
    at = replace(AT, chip="exact", topology="1", tp_axes=(), kv_layout=KvLayout.HEADS)
    assert all(margin.holds for margin in rederive(spec, replace(at, batch=1))[1])
    assert not all(margin.holds for margin in rederive(spec, replace(at, batch=2))[1])


def test_tpot_edge() -> None:
    assert margin(spec_of(slo={"tpot_ms": STEP_MS}), Requirement.TPOT).holds
    assert not margin(spec_of(slo={"tpot_ms": STEP_MS * 0.9999}), Requirement.TPOT).holds


def test_ici_edge() -> None:
    # 405B on 8x8, worked problem 3: F · W_ici · m · b_w / (b_a · Y · W_hbm) = 91.3 sequences
    spec = spec_of(model="llama-3-405b")
    at = {"topology": "8x8", "tp_axes": (0, 1)}
    assert margin(spec, Requirement.ICI, batch=91, **at).holds
    assert not margin(spec, Requirement.ICI, batch=92, **at).holds
    _, margins = rederive(spec_of(model="llama-3-405b", ici="pay"), replace(AT, batch=92, **at))
    assert Requirement.ICI not in {margin.requirement for margin in margins}


def test_ici_compute_bound_edge() -> None:
    # 70B on v5e: F · m / alpha = 28,672 · 2 / 2188.9 = 26.2 ways at any batch
    assert margin(spec_of(), Requirement.ICI, batch=4096).holds  # 16 ways
    assert not margin(spec_of(), Requirement.ICI, batch=4096, topology="4x8").holds  # 32 ways


def test_heads_edge() -> None:
    spec = spec_of(model="llama-2-13b")  # 40 heads
    assert margin(spec, Requirement.HEADS, topology="2x4", kv_layout=KvLayout.HEADS).holds
    assert not margin(spec, Requirement.HEADS, topology="4x4", kv_layout=KvLayout.HEADS).holds


def test_kv_heads_edge() -> None:
    assert margin(spec_of(), Requirement.KV_HEADS, batch=32).holds
    assert not margin(spec_of(), Requirement.KV_HEADS, batch=33).holds
    assert margin(spec_of(), Requirement.KV_HEADS, batch=33, topology="2x4", kv_layout=KvLayout.HEADS).holds


def test_dtypes_edge() -> None:
    spec = searching(weights=["bf16", "int8"], compute=["bf16", "int8"])
    assert margin(spec, Requirement.DTYPES, compute="int8").holds
    assert not margin(spec, Requirement.DTYPES, compute="int8", weights="bf16").holds


def test_chips_edge() -> None:
    assert margin(searching(max_chips=16), Requirement.CHIPS).holds
    assert not margin(searching(max_chips=15), Requirement.CHIPS).holds


def test_slices_edge() -> None:
    assert margin(searching(max_slices=3), Requirement.SLICES, slices=3).holds
    assert not margin(searching(max_slices=2), Requirement.SLICES, slices=3).holds


def test_instances_edge() -> None:
    """7 slices of 2 chips are 2 instances of 8; with 2 that prefill on 4 chips, 22 chips are 3."""
    prices = {
        "name": "test", "instances": {"m": {"chip": "toy", "chips": 8, "source": "test"}},
        "offers": [{"instance": "m", "usd_per_instance_hour": 8.0, "source": "test"}],
    }  # fmt: skip
    chip = {**toy_chip(topologies=["2", "4"]), "usd_per_chip_hour": None}
    at = replace(AT, chip="toy", topology="2", tp_axes=(), kv_layout=KvLayout.HEADS, batch=1, slices=7)

    def instances(most: int, at: Assignment):
        search = {"chips": [chip], "max_instances": most, "weights": ["int8"], "kv_cache": ["int8"]}
        prompts = {"workload": {"prompt_tokens": 100, "output_tokens": 100}}
        plan, margins = rederive(toy_spec(search=search, price_book=prices, buy="instances", **prompts), at)
        return plan, next(margin for margin in margins if margin.requirement == Requirement.INSTANCES)

    alone = replace(at, mode=Mode.INTERLEAVED)
    plan, edge = instances(2, alone)
    assert (edge.value, edge.holds) == (2, True)
    assert not instances(1, alone)[1].holds
    assert (plan.usd_per_hour, plan.chips, plan.chips_used, plan.usd_per_hour_of_chips_used) == (16.0, 16, 14, 14.0)
    assert (plan.usd_per_month, plan.usd_per_year) == (16.0 * 730, 16.0 * 8760)
    pool = PrefillPool(chip="toy", topology="4", tp_axes=(), weights="int8", compute="bf16", slices=2)
    plan, edge = instances(3, replace(at, mode=Mode.DISAGGREGATED, prefill=pool))
    assert (edge.value, edge.holds) == (3, True)
    (bill,) = plan.bills
    assert (bill.instances, bill.chips, bill.chips_used) == (3, 24, 22)


def test_budget_edge() -> None:
    assert margin(searching(max_usd_per_hour=19.2), Requirement.BUDGET).holds
    assert not margin(searching(max_usd_per_hour=19.19), Requirement.BUDGET).holds


def test_throughput_edge() -> None:
    reached = 32 / STEP_MS * 1e3
    assert margin(spec_of(slo={"min_tokens_per_s": reached}), Requirement.THROUGHPUT).holds
    assert not margin(spec_of(slo={"min_tokens_per_s": reached * 1.0001}), Requirement.THROUGHPUT).holds


def test_quota_edge() -> None:
    assert margin(searching(quota={"tpu-v5e": 16}), Requirement.QUOTA).holds
    quotas = margin(searching(quota={"h100-sxm": 1, "tpu-v5e": 15}), Requirement.QUOTA)
    assert not quotas.holds
    assert (quotas.value, quotas.limit, quotas.unit) == (16, 15, "chips of tpu-v5e")


def test_quality_edge() -> None:
    spec = searching(weights=["bf16", "int8", "int4"], kv_cache=["bf16"], max_quality_loss=0.02)
    lossless = margin(spec, Requirement.QUALITY, weights="bf16", kv_cache="bf16")
    assert (lossless.value, lossless.holds) == (0, True)
    other = spec.changed({"model": "llama-2-7b"})  # 32 KV heads
    unknown = margin(other, Requirement.QUALITY, weights="int4", kv_cache="bf16", kv_layout=KvLayout.HEADS)
    assert (unknown.value, unknown.holds) == (None, False)


def test_context_edge() -> None:
    for tokens, holds in ((8192, True), (8191, False)):
        found = margin(spec_of().changed({"model.max_context_tokens": tokens}), Requirement.CONTEXT)
        assert (found.value, found.limit, found.holds) == (8192, tokens, holds)


POOLS = Assignment(
    chip="decode", topology="1", tp_axes=(), weights="bf16", kv_cache="bf16", compute="bf16", batch=10,
    mode=Mode.DISAGGREGATED,
    prefill=PrefillPool(chip="prefill", topology="1", tp_axes=(), weights="bf16", compute="bf16", slices=1),
)  # fmt: skip


@pytest.mark.parametrize("nearer", ["prefill", "decode"])
def test_of_two_pools_the_margin_is_that_of_the_one_nearer_to_its_limit(nearer: str) -> None:
    # the prefill pool holds 2 GB and a prompt of 8 MB, the decode pool 2 GB and ten caches of 8.8 MB
    sizes = {"prefill": 2.01e9, "decode": 100e9} if nearer == "prefill" else {"prefill": 100e9, "decode": 2.1e9}
    chips = [toy_chip(name, hbm_bytes=size) for name, size in sizes.items()]
    _, margins = rederive(toy_spec(*chips, search={"modes": ["disaggregated"]}), POOLS)
    hbm = next(margin for margin in margins if margin.requirement == Requirement.HBM)
    held = 2.008 if nearer == "prefill" else 2.088
    assert (hbm.value, hbm.limit) == (pytest.approx(held), pytest.approx(sizes[nearer] / 1e9))


def test_a_prefill_pool_that_is_too_small_violates_hbm() -> None:
    chips = [toy_chip("decode"), toy_chip("prefill", hbm_bytes=2.007e9)]
    _, margins = rederive(toy_spec(*chips, search={"modes": ["disaggregated"]}), POOLS)
    assert [margin.requirement for margin in margins if not margin.holds] == [Requirement.HBM]


def test_chunk_edge() -> None:
    # chunks of 100 for prompts of 1,000 and answers of 100: ten sequences a step
    chunked = replace(POOLS, chip="toy", mode=Mode.CHUNKED, chunk_tokens=100, prefill=None)
    spec = toy_spec(search={"modes": ["chunked"], "chunk_tokens": [100]})
    for batch, holds in ((10, True), (11, False)):
        _, margins = rederive(spec, replace(chunked, batch=batch))
        chunk = next(margin for margin in margins if margin.requirement == Requirement.CHUNK)
        assert (chunk.value, chunk.limit, chunk.holds) == (batch * 10, 100, holds)
