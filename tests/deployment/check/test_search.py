"""Decisions that are not those of the search are refused."""

from dataclasses import replace
from typing import Any

import pytest

from servesat import SolverError
from servesat.deployment.check.search import offer_in_search
from tests.helpers import AT, spec_of


@pytest.mark.parametrize(
    "decision",
    [
        {"chip": "tpu-v5p"},
        {"topology": "4x5"},
        {"tp_axes": (0, 0)},
        {"tp_axes": (0, 7)},
        {"topology": "1x1", "tp_axes": (0,)},
        {"weights": "bf16"},
        {"kv_cache": "int4"},
        {"compute": "fp8"},
        {"batch": 0},
        {"batch": 4097},
    ],
)
def test_an_assignment_that_is_not_on_offer_is_refused(decision: dict[str, Any]) -> None:
    with pytest.raises(SolverError, match="not on offer"):
        offer_in_search(spec_of(), replace(AT, **decision))
