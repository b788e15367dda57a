"""Every figure of the five documents: reproduced, or explained."""

import csv
import re
from pathlib import Path

import pytest

from servesat.scaling_book.claims import Verdict, claims
from tests.helpers import ROOT


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
