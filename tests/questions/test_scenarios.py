import re

import numpy as np
import pytest

from servesat import SpecError
from servesat.questions.scenarios import (
    Factor,
    Scenarios,
    make_scenarios,
    parse_factor,
    takes_list,
    takes_whole_number,
    type_at,
)
from tests.helpers import spec_of


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("slo.tpot_ms=8:40:8", (8, 16, 24, 32, 40)),
        ("slo.tpot_ms=8:41:8", (8, 16, 24, 32, 40)),
        ("headroom=0:0.3:0.1", (0, 0.1, 0.2, 0.3)),
        ("price.tpu-v5e=0.6..1.8x5", (0.6, 0.9, 1.2, 1.5, 1.8)),
        ("workload.context_tokens=1024..4096x4", (1024, 2048, 3072, 4096)),
        ("price.tpu-v5e=1..2x3", (1, 1.5, 2)),
        ("search.weights=int8,int4", ("int8", "int4")),
        ("search.weights=[int8,int4],int4", (["int8", "int4"], "int4")),
        ("slo.tpot_ms=null,15,20.5", (None, 15, 20.5)),
        ("search.topologies.tpu-v5e=4x4,4x8", ("4x4", "4x8")),
        ("chip.tpu-v5e.hbm_bytes=16e9, 32.5e9", (16_000_000_000, 32_500_000_000)),
        ("model=../mine.toml", ("../mine.toml",)),
        ("price.tpu-v5e=0.1234567890123456..0.2x2", (0.1234567890123456, 0.2)),
        ("model.checked=2024-01-01,2025-01-01", ("2024-01-01", "2025-01-01")),
        ("slo.tpot_ms=1e1:3e1:1e1", (10, 20, 30)),
    ],
)
def test_values(text: str, values: tuple[object, ...]) -> None:
    factor = parse_factor(text)
    assert factor == Factor(text.partition("=")[0], values)
    assert [type(value) for value in factor.values] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("slo.tpot_ms", "expected KEY=VALUES"),
        ("slo.tpot_ms=", "expected KEY=VALUES"),
        ("=3", "expected KEY=VALUES"),
        ("a..b=3", "expected KEY=VALUES"),
        ("slo.tpot_ms=40:8:2", "from 40 to 8 is reversed"),
        ("slo.tpot_ms=8:8:2", "from 8 to 8 is empty"),
        ("slo.tpot_ms=8:40:0", "a step of 0: expected more than 0"),
        ("slo.tpot_ms=8:40:-2", "a step of -2: expected more than 0"),
        ("slo.tpot_ms=8:inf:2", "'inf': expected a finite number"),
        ("slo.tpot_ms=nan:9:2", "'nan': expected a finite number"),
        ("slo.tpot_ms=a:9:2", "'a': expected a number"),
        ("slo.tpot_ms=0:1e12:1", "expected at most 1,000,000"),
        ("price.tpu-v5e=1.8..0.6x3", "from 1.8 to 0.6 is reversed"),
        ("price.tpu-v5e=0.6..1.8", "expected START..STOPxCOUNT"),
        ("price.tpu-v5e=0.6..1.8x1", "expected from 2 to 1,000,000 values"),
        ("price.tpu-v5e=0.6..infx3", "expected a finite number"),
        ("slo.tpot_ms=8,9,8", "slo.tpot_ms: 8 is listed twice"),
        ("slo.tpot_ms=10,10.0", "10 is listed twice"),
        ("ici=forbid,forbid", "'forbid' is listed twice"),
        ("slo.tpot_ms=1..1.0000000000000002x5", "is listed twice"),
        ("slo.tpot_ms=1:1e308:1e-300", "expected at most 1,000,000"),
        ("slo.tpot_ms=.inf,10", "inf: expected a finite number"),
        ("slo.tpot_ms=.nan,10", "nan: expected a finite number"),
        ("search.max_batch=99999999999999999999,10", "expected a finite number"),
        ("slo={2024-01-01: 3}", "expected a finite number, text, a list or a mapping"),
        ("slo.tpot_ms=1,2]#", "malformed YAML"),
        ("slo.tpot_ms=[8", "malformed YAML"),
    ],
)
def test_values_that_make_no_sense_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_factor(text)
    assert complaint in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_grid_has_every_combination_the_last_factor_fastest() -> None:
    grid = Scenarios((Factor("a", (1, 2)), Factor("b", ("x", "y", "z"))))
    assert [grid[number] for number in range(len(grid))] == [{"a": a, "b": b} for a in (1, 2) for b in "xyz"]


def test_one_at_a_time_varies_each_factor_alone() -> None:
    alone = Scenarios((Factor("a", (1, 2)), Factor("b", ("x", "y", "z"))), one_at_a_time=True)
    assert [alone[number] for number in range(len(alone))] == [*({"a": a} for a in (1, 2)), *({"b": b} for b in "xyz")]


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        (["slo.tpott_ms"], "slo.tpott_ms: unknown key; did you mean 'tpot_ms'"),
        (["price.tpu-v5ee"], "price.tpu-v5ee: no chip 'tpu-v5ee'; did you mean 'tpu-v5e'"),
        (["chip.tpu-v5e.hbm"], "chip.tpu-v5e.hbm: unknown key"),
        (["search.topologies.v5e"], "no chip 'v5e'"),
        (["headroom", "headroom"], "headroom: is varied twice"),
    ],
)
def test_keys_that_do_not_exist_are_refused_at_once(keys: list[str], complaint: str) -> None:
    with pytest.raises(SpecError) as error:
        make_scenarios(spec_of(), [Factor(key, (1,)) for key in keys])
    assert complaint in str(error.value)


def test_one_entry_stands_for_a_list_of_one() -> None:
    grid = Scenarios((Factor("search.weights", ("int4", ["int8", "int4"])),))
    assert [grid.applied(spec_of(), number).search.weights for number in range(2)] == [("int4",), ("int8", "int4")]


def test_values_of_numpy_and_tuples_are_plain_ones() -> None:
    factor = Factor("workload.context_tokens", tuple(np.arange(1024, 4096, 1024)))
    assert [type(value) for value in factor.values] == [int] * 3
    assert Factor("slo.tpot_ms", (np.float64(2.5), ("a", "b"))).values == (2.5, ["a", "b"])


@pytest.mark.parametrize(
    ("key", "is_list", "is_whole"),
    [
        ("search.weights", True, False),
        ("search.chips", True, False),
        ("search.topologies.tpu-v5e", True, False),
        ("search.max_batch", False, True),
        ("workload.context_tokens", False, True),
        ("model.kv_heads", False, True),
        ("chip.tpu-v5e.axes.0.bytes_per_s", False, False),
        ("price.tpu-v5e", False, False),
        ("slo.tpot_ms", False, False),
    ],
)
def test_the_type_of_a_key(key: str, is_list: bool, is_whole: bool) -> None:
    assert (takes_list(key), takes_whole_number(key)) == (is_list, is_whole)


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ("slo.tpott", "slo.tpott: unknown key; did you mean 'tpot_ms'?"),
        ("sla", "sla: unknown key; did you mean 'slo'"),
        ("chip.tpu-v5e.hbm", "chip.tpu-v5e.hbm: unknown key; did you mean 'hbm_bytes' or 'hbm_bytes_per_s'?"),
        ("slo.tpot_ms.x", "slo.tpot_ms.x: no keys below, so no x"),
        ("chip.tpu-v5e", "expected a field of the chip"),
        ("price_book.chips.tpu-v5e.usd_per_chip_hour", "give one of yours, as in price.tpu-v5e"),
        ("search.chips.0.hbm_bytes", "expected a whole list"),
        ("chip.tpu-v5e.axes.².bytes_per_s", "no keys below, so no ²"),
    ],
)
def test_a_key_that_does_not_exist_has_no_type(key: str, complaint: str) -> None:
    with pytest.raises(SpecError, match=re.escape(complaint)):
        type_at(key)


def test_a_number_that_no_float_holds_is_refused() -> None:
    with pytest.raises(SpecError, match=r"headroom: 9{57}\.\.\.: expected a finite number"):
        Factor("headroom", (1, int("9" * 400)))
    assert Factor("headroom", (2**53, 2.0**60)).values == (2**53, 2.0**60)


def test_a_run_of_too_many_scenarios_is_refused() -> None:
    many = [Factor(key, tuple(range(1, 10**4 + 1))) for key in ("slo.tpot_ms", "workload.context_tokens")]
    with pytest.raises(SpecError, match=r"100,000,000 scenarios, expected at most 10,000,000"):
        make_scenarios(spec_of(), many)


def test_a_key_that_is_no_text_is_refused() -> None:
    with pytest.raises(SpecError, match="1: expected the name of a key"):
        Factor(1, (1,))  # type: ignore[arg-type]
