"""Faults of records, one line each: file, key, value, what was expected."""

from typing import Any

import numpy as np
import pytest

from servesat import Spec
from servesat.catalogue.price_book import UsdByRegion
from servesat.core.errors import SpecError
from servesat.core.validation import Positive, Strict, validate


class Axis(Strict):
    size: int


class Shape(Strict):
    axes: tuple[Axis, ...] = ()
    usd: UsdByRegion | None = None
    rate: Positive | None = None


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"axes": [{"size": 1, "sice": 2}]}, "f: axes.0.sice: unknown key; did you mean 'size'?"),
        ({"usd": {"eu": -1}}, "f: usd.eu = -1: expected at least 1e-09"),
        ({"usd": -1}, "f: usd = -1: expected at least 1e-09"),
        ({"usd": "much"}, "f: usd = 'much': expected a number"),
        ({"usd": {}}, "f: usd = {}: expected at least 1 entry"),
        ({"rate": 1e-30}, "f: rate = 1e-30: expected at least 1e-09"),
        ({"rate": 0.0}, "f: rate = 0.0: expected a number greater than 0.0"),
    ],
)
def test_a_fault_is_named_by_its_key(data: object, line: str) -> None:
    with pytest.raises(SpecError) as fault:
        validate(Shape, data, where="f", error=SpecError)
    assert str(fault.value) == line


def test_numbers_of_numpy_are_those_of_python() -> None:
    shape = Shape.model_validate({"axes": [{"size": np.int64(3)}], "usd": np.float32(0.5)})
    assert (shape.axes[0].size, type(shape.axes[0].size), shape.usd) == (3, int, 0.5)


@pytest.mark.parametrize("source", ["", " ", ["spec.yaml"], 7])
def test_what_is_no_spec_is_named(source: Any) -> None:
    with pytest.raises(SpecError, match=r"expected a mapping, or the path of a file"):
        Spec.load(source)
