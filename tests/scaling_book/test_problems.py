import pytest

from servesat.scaling_book.problems import footprints, modelling_choices, step_bounds, under_15_ms


def test_minimum_steps_of_405b() -> None:
    bounds = {row.topology: row for row in step_bounds()}
    assert bounds["8x8"].weights_ms == pytest.approx(405e9 / (64 * 8.2e11) * 1e3)
    assert bounds["4x8"].weights_fit
    assert bounds["4x8"].weights_ms > 15
    assert not bounds["4x4"].weights_fit


def test_footprints_of_8b() -> None:
    rows = {(row.context_tokens, row.headroom): row for row in footprints()}
    assert rows[8192, 0.0].kv_cache_bytes == 240 * 8192 * 65_536
    assert [rows[key].slice for key in ((2048, 0.0), (2048, 0.2), (8192, 0.0), (8192, 0.2))] == [
        "2x2",
        "2x2",
        "4x4",
        "4x4",
    ]


def test_405b_under_15_ms_over_context_and_interconnect() -> None:
    rows = under_15_ms()
    assert len(rows) == 24
    plans = {(row.context_tokens, row.ici, row.ici_axes): row.result.plan for row in rows}
    assert all(plan is not None and plan.tpot_ms <= 15 for plan in plans.values())

    def batch(*key: object) -> tuple[str, int]:
        plan = plans[key]  # type: ignore[index]
        assert plan is not None
        return plan.topology, plan.batch

    # the ICI allows floor(91.3) = 88 in eights with two axes, floor(45.7) = 40 with one
    assert batch(8192, "forbid", 2) == ("8x8", 88)
    assert batch(8192, "forbid", 1) == ("8x8", 40)
    # paid for, the ICI's 126 · 4 · 2 · B · 16,384 / 1.8e11 s pass the weights' 7.72 ms at B = 84.1, where cost is flat
    assert batch(8192, "pay", 2) == ("8x8", 88)
    # at 64k the KV cache of the batch no longer loads in time on 64 chips
    assert batch(65536, "forbid", 2)[0] == "8x16"


def test_choices_are_computed() -> None:
    says = " ".join(modelling_choices(under_15_ms()))
    assert "up to batch 91 on 8x8; with one, up to 45" in says
    assert "allow 182 on 8x8, but need 128 chips" in says
    assert "more than the 49" in says
    assert "costs 0.90 to 1.05 times as much" in says
    assert "tpot and ici at 16,384, tpot at 32,768, ici at 65,536 tokens" in says
