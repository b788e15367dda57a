"""The ways of serving whole requests, each with its best plan."""

import pytest

from servesat import Spec, SpecError
from servesat.core.plan import Mode
from servesat.deployment.solve import solve
from servesat.questions.mode_comparison import compare_modes, crossover
from tests.whole_requests import HARD, PAIRED


def test_modes_are_compared_each_with_its_best_plan() -> None:
    spec = Spec.load(HARD)
    found = compare_modes(spec)
    assert list(found) == ["interleaved", "chunked", "disaggregated"]
    for mode, result in found.items():
        assert result.plan == solve(spec.changed({"search.modes": [mode]})).plan
    at = crossover(spec, [0.5, 4.0])
    assert [(one.prompt_tokens, one.output_tokens) for one in at] == [(2901, 5803), (6963, 1741)]
    assert all(one.results[Mode.CHUNKED].plan is not None for one in at)
    with pytest.raises(SpecError, match="give prompt_tokens and output_tokens"):
        compare_modes({"cost_model": "ideal", "model": "llama-3-70b", "workload": {"context_tokens": 8192}})


def test_modes_without_a_network_are_compared_without_pools() -> None:
    spec = {**PAIRED, "search": {**PAIRED["search"], "chips": ["l4"], "modes": ["interleaved"]}, "price": {"l4": 0.7}}
    assert list(compare_modes(spec)) == ["interleaved", "chunked"]
