"""Every figure of the five documents: reproduced, or explained."""

import csv
import re
from pathlib import Path

import pytest

from servesat.scaling_book.claims import Verdict, claims
from servesat.scaling_book.problems import choices, footprints, step_bounds, under_15_ms

ROOT = Path(__file__).parents[1]


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


PUBLISHED = {row["id"]: row for row in read(ROOT / "tests/published/scaling_book.csv")}
ANSWERS = {claim.id: claim for claim in claims()}
ERRATA = (ROOT / "docs" / "scaling-book.md").read_text()

# The published values have six significant digits; a tolerance of 0 means that many.
SIX_DIGITS = 5e-6


def test_all_148_claims_are_accounted_for() -> None:
    assert len(PUBLISHED) == 148
    assert set(ANSWERS) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_answer_is_the_published_arithmetic(name: str) -> None:
    expected = float(PUBLISHED[name]["value"])
    tolerance = max(float(PUBLISHED[name]["rel_tol"]), SIX_DIGITS)
    assert ANSWERS[name].answer == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_verdict_follows_from_the_figures(name: str) -> None:
    claim = ANSWERS[name]
    assert claim.verdict == PUBLISHED[name]["verdict"]
    assert claim.printed == (float(PUBLISHED[name]["printed"]) if PUBLISHED[name]["printed"] else None)
    if claim.verdict is Verdict.SEED_ERROR:
        assert claim.remark
    if claim.verdict is Verdict.ASSUMPTION:
        assert claim.assumes


@pytest.mark.parametrize(
    ("name", "printed", "right"),
    re.findall(r"^\| `([\w.-]+)` \| [^|]+ \| ([\d.]+)[^|]* \| ([\d.]+)[^|]* \|", ERRATA, re.MULTILINE),
)
def test_the_errata_state_the_answers(name: str, printed: str, right: str) -> None:
    """A row prints both figures in one unit: the printed one gives the scale, the right one is the answer, rounded."""
    claim = ANSWERS[name]
    assert claim.printed is not None
    in_unit_of_row = claim.answer * float(printed) / claim.printed
    decimals = len(right.partition(".")[2])
    assert round(in_unit_of_row, decimals) == float(right)


def test_every_error_has_a_row_in_the_errata() -> None:
    rows = re.findall(r"^\| `([\w.-]+)` \| [^|]+ \| [\d.]+[^|]* \| [\d.]+", ERRATA, re.MULTILINE)
    assert sorted(rows) == sorted(name for name, row in PUBLISHED.items() if row["verdict"] == "seed-error")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cost-usd-int8-4x4", "20.2 ms: 0.85 QPS/chip, $0.77 a million"),
        ("cost-usd-bf16-4x8", "20.4 ms: 0.85 QPS/chip, $0.77 a million"),
        ("dbl-qps-int8", "0.84 QPS/chip"),
        ("dbl-qps-int4", "1.29 QPS/chip"),
        ("kvheads-gather-time", "119 ms a step over 80 layers"),
        ("chunked-total", "it is 4.7 s, longer than one blocking prefill"),
        ("ici-beta", "the limit is 49"),
        ("ici-alpha-v5p", "v5e's is 2189"),
        ("ici-limit-70b-2550", "on v5e 26.2"),
        ("fleet-10k-qps", "it costs 1,530 M$ a year; what the printed figure leaves pays for prompts of 138 tokens"),
    ],
)
def test_a_remark_says_what_the_errata_repeat(name: str, says: str) -> None:
    assert says in ANSWERS[name].remark


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
    says = " ".join(choices(under_15_ms()))
    assert "up to batch 91 on 8x8; with one, up to 45" in says
    assert "allow 182 on 8x8, but need 128 chips" in says
    assert "more than the 49" in says
    assert "costs 0.90 to 1.05 times as much" in says
    assert "tpot and ici at 16,384, tpot at 32,768, ici at 65,536 tokens" in says
