"""What-if tables cell by cell against separate runs of `solve`."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from servesat import Spec, SpecError, what_if
from servesat.deployment.solve import solve
from servesat.questions.scenarios import Factor, Scenarios, as_written
from servesat.questions.whatif import Question, layout_of, swings
from tests import strategies
from tests.helpers import searching, spec_of, toy_engine, toy_spec
from tests.strategies import examples

VARIED: dict[str, list[Any]] = {
    "slo.tpot_ms": [8, 15.5, None],
    "search.weights": ["int8", "int4"],
    "price.tpu-v5e": [0.6, 1.2],
    "model.kv_heads": [8, 64],
    "chip.tpu-v5e.hbm_bytes_per_s": [8.2e11, 1.6e12],
}


def table_of(spec: Any, vary: dict[str, Any], **options: Any) -> pd.DataFrame:
    return what_if(spec, vary, **options).to_pandas()


def same(row: pd.Series, result: Any) -> None:
    assert row["status"] == result.status
    assert row["binding"] == "+".join(result.binding)
    if result.plan is None:
        assert pd.isna(row["chip"])
        return
    for name in ("chip", "topology", "chips", "tp", "weights", "kv_cache", "compute", "batch", "tpot_ms"):
        assert row[name] == getattr(result.plan, name)
    assert row["usd_per_million_output_tokens"] == result.plan.usd_per_million_output_tokens


def test_a_grid_agrees_with_separate_runs_cell_by_cell() -> None:
    base = spec_of()
    table = table_of(base, VARIED)
    assert len(table) == 3 * 2 * 2 * 2 * 2
    reference = solve(base).plan
    assert reference is not None
    for _, row in table.iterrows():
        changes = {key: as_written(key, None if pd.isna(row[key]) else row[key]) for key in VARIED}
        changes["model.kv_heads"] = int(changes["model.kv_heads"])
        result = solve(base.changed(changes))
        same(row, result)
        assert result.plan is not None
        change = result.plan.usd_per_million_output_tokens / reference.usd_per_million_output_tokens - 1
        assert row["change"] == change
        moved = (result.plan.topology, result.plan.weights) != (reference.topology, reference.weights)
        assert bool(row["plan_changed"]) is moved
    assert table["plan_changed"].nunique() == 2


def test_one_at_a_time_agrees_with_separate_runs() -> None:
    base = spec_of()
    table = table_of(base, VARIED, one_at_a_time=True)
    assert len(table) == 11
    number = 0
    for key, values in VARIED.items():
        for value in values:
            same(table.loc[number], solve(base.changed({key: as_written(key, value)})))
            number += 1


@pytest.mark.slow
@examples(60)
@given(strategies.specs(), st.lists(st.sampled_from([0.1, 1.0, 20.0, 1e6]), min_size=1, max_size=3, unique=True))
def test_random_specs_vary_as_they_solve(spec: dict[str, Any], limits: list[float]) -> None:
    table = table_of(spec, {"slo.tpot_ms": limits, "search.max_batch": [1, 17]})
    number = 0
    for limit in limits:
        for batch in (1, 17):
            result = solve(Spec.load(spec).changed({"slo.tpot_ms": limit, "search.max_batch": batch}))
            same(table.loc[number], result)
            conflict = "; ".join("+".join(members) for members in result.conflict or ())
            assert table.loc[number, "conflict"] == conflict
            number += 1


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing() -> None:
    vary = {"slo.tpot_ms": [8, 10, 12, 14, 16, 18], "search.weights": ["int8", "int4"]}
    pd.testing.assert_frame_equal(table_of(spec_of(), vary), table_of(spec_of(), vary, workers=2))


def test_the_table_is_tidy() -> None:
    table = table_of(spec_of(), {"slo.tpot_ms": [1, 20], "search.weights": ["int8", ["int8", "int4"]]})
    assert list(table.columns[:4]) == ["scenario", "slo.tpot_ms", "search.weights", "status"]
    assert list(table["search.weights"]) == ["int8", "int8+int4"] * 2
    assert list(table["status"]) == ["infeasible", "optimal", "optimal", "optimal"]
    assert table.loc[0, "conflict"] == "tpot+heads"
    assert table["batch"].dtype == "Int64"
    assert table["plan_changed"].dtype == "boolean"
    assert table["usd_per_million_output_tokens"].dtype == "float64"


def test_a_value_that_the_schema_refuses_is_a_row_and_the_others_run() -> None:
    table = table_of(spec_of(), {"slo.tpot_ms": [20, -1, "fast"]})
    assert list(table["status"]) == ["optimal", "error", "error"]
    assert "slo.tpot_ms = -1: expected a number greater than 0" in table.loc[1, "error"]
    assert "slo.tpot_ms = 'fast': expected a number" in table.loc[2, "error"]


def test_a_key_that_does_not_exist_is_refused_before_anything_runs() -> None:
    with pytest.raises(SpecError, match="did you mean 'tpot_ms'"):
        table_of(spec_of(), {"slo.tpott_ms": [1]})


def test_a_base_without_a_plan_compares_with_nothing() -> None:
    table = table_of(spec_of(slo={"tpot_ms": 0.1}), {"slo.tpot_ms": [0.1, 20]})
    assert list(table["status"]) == ["infeasible", "optimal"]
    assert table["change"].isna().all()
    assert table["plan_changed"].isna().all()


def test_swings_name_where_the_cost_is_least_and_greatest() -> None:
    base = searching(weights=["int8"])
    factors = (
        Factor("price.tpu-v5e", (0.6, 1.8)),
        Factor("slo.tpot_ms", (0.1, 12)),
        Factor("search.weights", ("int8",)),
        Factor("headroom", (0.999,)),
    )
    question = Question(base, Scenarios(factors, one_at_a_time=True))
    rows = [row for chunk in question.rows(range(len(question.scenarios))) for row in chunk]
    price, tpot, weights = swings(rows, question.scenarios)
    assert (price.key, price.lowest_at, price.highest_at) == ("price.tpu-v5e", 0.6, 1.8)
    assert (price.lowest, price.highest, price.width) == pytest.approx((-0.5, 0.5, 1.0))
    assert (tpot.key, tpot.without_plan, tpot.highest_at) == ("slo.tpot_ms", (0.1,), 12)
    assert tpot.highest > 0
    assert (weights.key, weights.width) == ("search.weights", 0.0)


def test_scenarios_that_share_layouts_differ_in_their_groups_of_int4() -> None:
    base = {
        "cost_model": "ideal",
        "model": "llama-3-8b",
        "workload": {"context_tokens": 4096},
        "search": {"chips": ["h100-sxm"], "weights": ["int4"]},
    }
    rows = table_of(base, {"int4_group": [8, 56, 128]}).to_dict("records")
    for row in rows:
        plan = solve({**base, "int4_group": row["int4_group"]}).plan
        assert plan is not None
        assert row["batch"] == plan.batch
        assert row["usd_per_million_output_tokens"] == plan.usd_per_million_output_tokens


def test_another_catalogue_is_another_question() -> None:
    base = Spec.load({"cost_model": "ideal", "model": "llama-3-8b", "workload": {"context_tokens": 1}})
    faster = Spec.load(
        {"cost_model": "ideal", "model": "llama-3-8b", "workload": {"context_tokens": 1}},
        {"chip.tpu-v5e.hbm_bytes_per_s": 9e11},
    )
    factors = Scenarios((Factor("slo.tpot_ms", (1, 2)),))
    assert Question(base, factors).identity == Question(base, factors).identity
    assert Question(base, factors).identity != Question(faster, factors).identity


def test_a_varied_engine_of_another_content_is_another_question(tmp_path: Path) -> None:
    file = tmp_path / "engine.toml"
    base = toy_spec()
    factors = Scenarios((Factor("engine", (str(file), None)),))
    identities = set()
    for version in ("1", "2"):
        engine = toy_engine(version=version)
        file.write_text(tomli_w.dumps({**engine, "checked": date(2026, 11, 30), "sources": {"default": "a test"}}))
        assert base.changed({"engine": str(file)}).engine[0].version == version
        identities.add(Question(base, factors).identity)
    assert len(identities) == 2


def test_another_engine_is_another_layout() -> None:
    plan = solve(toy_spec()).plan
    assert plan is not None
    assert layout_of(plan) != layout_of(replace(plan, engine="other"))
    assert layout_of(plan) == layout_of(replace(plan, batch=2, slices=3))


def test_a_varied_cloud_stands_in_the_table_without_a_plan_too() -> None:
    spec = {"cost_model": "ideal",
        "model": "llama-3-8b", "workload": {"prompt_tokens": 1000, "output_tokens": 100}, "price_book": "all",
        "search": {"chips": ["h100-sxm"], "modes": ["interleaved"]},
    }  # fmt: skip
    table = table_of(spec, {"cloud": ["aws", "oci"], "purchase": ["on_demand", "reserved"]})
    assert table["cloud"].tolist() == ["aws", "aws", "oci", "oci"]
    assert table["status"].tolist() == ["optimal", "error", "optimal", "error"]
    assert table["region"].tolist()[0] == "us-east-1"
    assert table["instances"].tolist()[0] == 0


def test_another_trace_at_the_same_path_is_another_question(tmp_path: Path) -> None:
    """Of a base and of a scenario: nine requests a second apart, and the same in one burst and a last one."""
    header = "time,prompt_tokens,output_tokens\n"
    texts = [header + "".join(f"{at},90,9\n" for at in times) for times in (range(9), (0,) * 8 + (8,))]
    workload = {"arrivals": {"trace": "a.csv"}}
    factors = Scenarios((Factor("workload.arrivals.trace", ("a.csv", "b.csv")),))

    def identity(*numbers: int) -> str:
        for name, number in zip(("a.csv", "b.csv"), numbers, strict=True):
            (tmp_path / name).write_text(texts[number])
        return Question(Spec.load({"model": "llama-3-8b", "workload": workload}, folder=tmp_path), factors).identity

    assert identity(0, 0) == identity(0, 0)
    assert len({identity(0, 0), identity(0, 1), identity(1, 0), identity(1, 1)}) == 4
