"""Specs of whole requests, fixed and random, and the comparison of their answers with enumeration."""

from typing import Any

import pytest
from hypothesis import assume
from hypothesis import strategies as st

from servesat import Spec, Status
from servesat.deployment.solve import solve
from tests import strategies
from tests.oracles import requests as requests_oracle
from tests.oracles.machine import machines

BOOK: dict[str, Any] = {"cost_model": "ideal",
    "model": "llama-3-70b",
    "workload": {"prompt_tokens": 8192, "output_tokens": 512, "context_tokens": 8192},
    "search": {
        "chips": ["tpu-v5e"], "topologies": {"tpu-v5e": ["4x4"]}, "weights": ["bf16"], "kv_cache": ["bf16"],
    },
    "prefill_mfu": 0.4,
}  # fmt: skip
MATMULS_S = 2 * 70e9 * 8192 / (16 * 1.97e14 * 0.4)
ATTENTION_S = 4 * 64 * 128 * 80 * 8192**2 / 2 / (16 * 1.97e14 * 0.4)
HARD = {
    "cost_model": "ideal",
    "model": "llama-3-70b",
    "workload": {"prompt_tokens": 8192, "output_tokens": 512},
    "search": {"chips": ["tpu-v5e"], "weights": ["int8"], "kv_cache": ["int8"], "modes": ["interleaved", "chunked"]},
    "prefill_mfu": 0.4,
}
PAIRED = {"cost_model": "ideal",
    "model": "llama-3-8b",
    "workload": {"prompt_tokens": 2048, "output_tokens": 256},
    "search": {
        "chips": ["tpu-v5e", "h100-sxm"], "weights": ["bf16", "int8"], "kv_cache": ["int8"], "modes": ["disaggregated"],
    },
    "prefill_mfu": 0.4,
}  # fmt: skip


def in_mode(mode: str, **search: Any) -> dict[str, Any]:
    return {**BOOK, "search": {**BOOK["search"], "modes": [mode], **search}}


def plan_of(spec: dict[str, Any] | Spec):
    plan = solve(spec).plan
    assert plan is not None
    return plan


def small_specs(modes: list[str], largest_batch: int):
    """Specs of whole requests that are quick to enumerate."""

    def with_network(chip):
        networks, hosts = st.sampled_from([1e9, 2.5e10, 5e10]), st.sampled_from([1e7, 5e10])
        return st.builds(
            lambda network, host: {**chip, "network_bytes_per_s": network, "host_bytes_per_s": host}, networks, hosts
        )

    chips = st.lists(st.sampled_from(["chip0", "chip1"]), min_size=1, max_size=2, unique=True).flatmap(
        lambda names: st.tuples(*(strategies.chips(name).flatmap(with_network) for name in sorted(names))).map(list)
    )
    outputs = [64, 1, 512] if len(modes) > 1 else [64, 512]
    hosts = st.sampled_from([0.05, 0.09]).map(lambda hit: {"tokens": 10**6, "hit": hit})
    workload = st.fixed_dictionaries(
        {
            "prompt_tokens": st.sampled_from([1000, 100, 4096]),
            "output_tokens": st.sampled_from(outputs),
        },
        optional={
            "prefix_cache_hit": st.sampled_from([0.5, 0.9]),
            "requests_per_s": st.sampled_from([1.0, 0.01, 40.0]),
            "context_tokens": st.sampled_from([2000]),
            **({} if "disaggregated" in modes else {"host_cache": hosts}),
        },
    )
    slo = st.fixed_dictionaries(
        {},
        optional={
            "tpot_ms": st.sampled_from([1.0, 20.0, 400.0]),
            "ttft_ms": st.sampled_from([10.0, 200.0, 5000.0]),
            "e2e_ms": st.sampled_from([100.0, 3000.0]),
            "stall_ms": st.sampled_from([20.0, 400.0]),
            "min_tokens_per_s": st.sampled_from([50.0]),
        },
    )
    search = st.fixed_dictionaries(
        {
            "chips": chips,
            "modes": st.just(modes),
            "max_batch": st.sampled_from([largest_batch, 1, largest_batch // 2]),
            "weights": strategies.some_dtypes(),
            "kv_cache": st.sampled_from([["bf16"], ["int8"]]),
        },
        optional={
            "chunk_tokens": st.sampled_from([[64], [256, 16], [2000, 512]]),
            "max_chips": st.sampled_from([4, 30, 200]),
            "max_usd_per_hour": st.sampled_from([2.0, 20.0, 400.0]),
            "kv_layouts": st.sampled_from(strategies.KV_LAYOUTS),
            "pp": st.sampled_from(strategies.STAGES),
            "min_batch": st.sampled_from([1, 2]),
            "quota": st.sampled_from([{"chip0": 8}, {"chip0": 0}, {"chip0": 100}]),
        },
    )
    return (
        st.fixed_dictionaries(
            {"cost_model": st.just("ideal"), "model": strategies.models(), "workload": workload, "search": search},
            optional={
                "slo": slo,
                "ici": st.sampled_from(["forbid", "pay"]),
                "prefill_mfu": st.sampled_from([0.4]),
                "utilisation": st.sampled_from([0.7]),
                "speculative": strategies.DRAFTS,
                "lora": strategies.LORA,
            },
        )
        .map(strategies.drafting)
        .filter(is_possible)
        .filter(lambda spec: is_quick(spec, modes))
    )


def is_quick(spec: dict[str, Any], modes: list[str]) -> bool:
    """Whether plain loops take a moment: pools are paired."""
    count = len(list(machines(spec)))
    return count <= (12 if "disaggregated" in modes else 60)


def is_possible(spec: dict[str, Any]) -> bool:
    search = spec["search"]
    names = [chip["name"] for chip in search["chips"]]
    if "min_tokens_per_s" in spec.get("slo", {}) and "requests_per_s" in spec["workload"]:
        return False
    return search.get("min_batch", 1) <= search["max_batch"] and set(search.get("quota", {})) <= set(names)


def agrees(spec: dict[str, Any]) -> None:
    result = solve(spec)
    expected, conflicts = requests_oracle.solve(spec)
    if expected is None:
        assert result.status is Status.INFEASIBLE
        assert {frozenset(map(str, members)) for members in result.conflict or ()} == conflicts
        return
    assert result.status is Status.OPTIMAL
    plan = result.plan
    assert plan is not None
    assume(max(plan.slices, plan.prefill.slices if plan.prefill else 0) <= requests_oracle.MOST)
    assert plan.usd_per_million_output_tokens == pytest.approx(expected["usd"], rel=1e-6)
    pool = plan.prefill
    found = (plan.mode, plan.chip, plan.topology, plan.batch, plan.chunk_tokens, plan.slices, pool and pool.slices)
    wanted = (expected["mode"], *expected["id"][:2], expected["batch"], expected["chunk"], expected["slices"])
    assert found == (*wanted, expected["pool_slices"] or None)
    assert plan.tpot_ms == pytest.approx(expected["tpot_s"] * 1e3, rel=1e-9)
    assert plan.ttft_ms == pytest.approx(expected["ttft_s"] * 1e3, rel=1e-9)
    assert plan.stall_ms == pytest.approx(expected["stall_s"] * 1e3, rel=1e-9)
    assert plan.chips == expected["chips"]
    assert plan.usd_per_hour == pytest.approx(expected["usd_per_hour"], rel=1e-12)
    assert plan.tokens_per_s == pytest.approx(expected["tokens_per_s"], rel=1e-9)
