import numpy as np
import pandas as pd
import pytest

import servesat
from servesat import SpecError
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
