from itertools import combinations
from typing import Any

import pytest

from servesat import Spec, Status
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.questions import replayed_conflicts as module
from servesat.questions.replayed_conflicts import replayed_conflicts

LEFT_OUT = {"ttft": ("slo.ttft_ms", None), "tpot": ("slo.tpot_ms", None), "budget": ("search.max_usd_per_hour", None)}


def spec_of(**keys: Any) -> Spec:
    return Spec.load(
        {
            "model": "qwen3-14b", "engine": "vllm",
            "workload": {"prompt_tokens": 6000, "output_tokens": 150, "requests_per_s": 4},
            "slo": {"ttft_ms": {"p95": 200}, "tpot_ms": {"p90": 15}},
            "search": {"chips": ["l40s", "a100-80gb"], "max_usd_per_hour": 8, "modes": ["interleaved", "chunked"]},
        }
    ).changed(keys)  # fmt: skip


def test_every_minimal_conflict_is_found() -> None:
    """Proposals broke ttft, and tpot; no plan keeps the first at all, and none the second for $8 an hour."""
    spec = spec_of()
    found = replayed_conflicts(spec, solve(spec), Settings()).conflict
    infeasible = [
        set(held)
        for size in range(4)
        for held in combinations(LEFT_OUT, size)
        if solve(spec.changed(dict(change for name, change in LEFT_OUT.items() if name not in held))).plan is None
    ]
    minimal = [one for one in infeasible if not any(other < one for other in infeasible)]
    assert [set(members) for members in found] == minimal == [{"ttft"}, {"tpot", "budget"}]


def test_constraints_are_left_out_too() -> None:
    spec = spec_of(**{"slo.ttft_ms": None, "constraints": ["usd_per_hour <= 8"], "search.max_usd_per_hour": None})
    found = replayed_conflicts(spec, solve(spec), Settings()).conflict
    assert [set(members) for members in found] == [{"tpot", "usd_per_hour <= 8"}]


def test_goodput_is_a_limit_beside_others() -> None:
    """Nine of ten requests within both limits at once are as many as keep the first: none."""
    spec = Spec.load(
        {
            "model": "qwen3-14b", "engine": "vllm", "slo": {"ttft_ms": 200, "tpot_ms": 15, "goodput": 0.9},
            "workload": {"prompt_tokens": 6000, "output_tokens": 150, "requests_per_s": 4},
            "search": {"chips": ["l40s", "a100-80gb"], "max_usd_per_hour": 8, "modes": ["interleaved", "chunked"]},
        }
    )  # fmt: skip
    result = solve(spec)
    assert result.status is Status.INFEASIBLE
    found = replayed_conflicts(spec, result, Settings()).conflict
    assert {"ttft"} in [set(members) for members in found]


def test_what_is_not_found_in_time_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKING_S", 0.0)
    spec = spec_of()
    result = solve(spec)
    assert result.status is Status.INFEASIBLE
    assert replayed_conflicts(spec, result, Settings()) == result
