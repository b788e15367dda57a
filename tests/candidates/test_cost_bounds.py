from typing import Any

import numpy as np
import pytest
from hypothesis import given

from servesat import Spec
from servesat.candidates.cost_bounds import cost_bounds
from servesat.candidates.evaluation import evaluate
from servesat.candidates.rule import mask_of
from servesat.candidates.serving_modes import enumerate_layouts
from tests.helpers import toy_chip, toy_spec
from tests.strategies import SOME, calibrated, with_or_without_engines
from tests.whole_requests import small_specs

MOST = 12


def test_memory_bounds_the_cost_and_without_it_the_largest_batch_of_the_search() -> None:
    """8 GB hold 909 sequences of 8.8 MB beside the weights, and the search 4,000."""
    space = {"modes": ["decode_only"], "max_batch": 4000}
    spec = toy_spec(toy_chip(hbm_bytes=1e10), slo={"tpot_ms": 0.001}, headroom=0, search=space)
    bounds = cost_bounds(spec, enumerate_layouts(spec), 0)
    assert bounds.within.tolist() == pytest.approx([1e6 / 3600 * (2e-3 + 909 * 8.4e-6) / 909])
    assert bounds.beyond.tolist() == pytest.approx([1e6 / 3600 * (2e-6 + 8.4e-6)])


@SOME
@given(
    small_specs(["interleaved", "chunked", "disaggregated"], MOST).flatmap(
        lambda spec: with_or_without_engines(spec) | calibrated(spec)
    )
)
def test_no_batch_costs_less_than_the_bounds(keys: dict[str, Any]) -> None:
    spec = Spec.load(keys).in_means()
    layouts = enumerate_layouts(spec)
    bounds = cost_bounds(spec, layouts, 0)
    columns = evaluate(spec, layouts, batches=np.arange(1, spec.search.max_batch + 1))
    number, usd = columns.layouts.number, columns.usd_per_million * (1 + 1e-9)
    broken = [columns.violated & mask_of(name) > 0 for name in ("hbm", "ici", "chunk")]
    limits_broken = np.sum(broken, axis=0)
    legal = columns.batch % columns.layouts.batch_shards == 0
    assert np.all(usd >= bounds.within[number], where=legal & (limits_broken == 0))
    assert np.all(usd >= bounds.beyond[number], where=legal & (limits_broken == 1))
