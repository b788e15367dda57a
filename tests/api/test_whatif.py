from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import servesat
from servesat import Spec, SpecError
from tests.helpers import searching, spec_of


def test_values_are_a_list_an_array_a_series_a_range_or_a_text() -> None:
    spec = spec_of()
    for values in ([8, 16], np.array([8, 16]), pd.Series([8, 16]), range(8, 17, 8), "8,16", (one for one in (8, 16))):
        table = servesat.what_if(spec, {"search.max_batch": values}).to_pandas()
        assert table["status"].tolist() == ["optimal", "optimal"]
        assert table["batch"].tolist() == [8, 16]


def test_what_varies_nothing_or_no_key_is_an_error() -> None:
    with pytest.raises(SpecError, match="nothing varies"):
        servesat.what_if(spec_of(), {})
    with pytest.raises(SpecError, match=r"slo\.tpott_ms: unknown key; did you mean 'tpot_ms'"):
        servesat.what_if(spec_of(), {"slo.tpott_ms": [1]})
    with pytest.raises(SpecError, match=r"slo\.tpot_ms = 5: expected a list of values"):
        servesat.what_if(spec_of(), {"slo.tpot_ms": 5})  # type: ignore[dict-item]


def test_scenarios_that_were_refused_are_noted() -> None:
    answer = servesat.what_if(spec_of(), {"slo.tpot_ms": [20, -1]})
    (note,) = answer.notes
    assert note.startswith("scenario 1: spec: slo.tpot_ms = -1: expected a number greater than 0")
    assert answer.base.status == "optimal"


def test_the_ranges_between_breakpoints_are_rows() -> None:
    table = servesat.breakpoints(spec_of(slo={"tpot_ms": 10}), "slo.tpot_ms", [5, 40]).to_pandas()
    assert table["from"].iloc[0] == 5
    assert table["up_to"].iloc[-1] == 40
    assert (table["up_to"].to_numpy()[:-1] < table["from"].to_numpy()[1:]).all()
    assert (table["topology"].to_numpy()[1:] != table["topology"].to_numpy()[:-1]).all()
    same = servesat.breakpoints(searching(topologies={"tpu-v5e": ["4x4"]}), "slo.tpot_ms", "30..40x2")
    assert len(same.to_pandas()) == 0
    assert "the best layout is the same at all 2 values of slo.tpot_ms from 30 to 40" in str(same)


def test_robustness_has_a_row_for_each_layout() -> None:
    answer = servesat.robustness(spec_of(), 0.05, samples=10)
    assert len(answer.to_pandas()) == len(answer.survivals)
    assert answer.to_pandas().loc[0, "best_share"] == answer.survivals[0].best_share
    with pytest.raises(SpecError, match="noise"):
        servesat.robustness(spec_of(), 2.0)
    with pytest.raises(SpecError, match="noise = 'ten': expected a fraction"):
        servesat.robustness(spec_of(), "ten")  # type: ignore[arg-type]


def test_a_trace_that_varies_leaves_the_means_of_the_workload(tmp_path: Path) -> None:
    for name, tokens in (("a", 100), ("b", 4000)):
        lines = [f"{second},{tokens},10" for second in range(5)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["time,prompt_tokens,output_tokens", *lines]))
    workload = {"arrivals": {"trace": "a.csv"}}
    spec = Spec.load({"model": "llama-3.1-8b", "workload": workload, "search": {"chips": ["l40s"]}}, folder=tmp_path)
    found = servesat.what_if(spec, {"workload.arrivals.trace": ["a.csv", "b.csv"]})
    kept = "prompt_tokens = 100, output_tokens = 10, requests_per_s = 1 of the workload stay as they are"
    assert f"{kept} though the trace changes: vary them too" in found.notes


def test_a_demand_that_is_added_leaves_room_as_that_of_a_spec_does() -> None:
    spec = Spec.load({"model": "llama-3.1-8b", "workload": {"prompt_tokens": 500, "output_tokens": 100}})
    assert (spec.utilisation, spec.changed({"workload.requests_per_s": 40}).utilisation) == (1.0, 0.85)
    assert spec.changed({"utilisation": 1.0, "workload.requests_per_s": 40}).utilisation == 1.0
