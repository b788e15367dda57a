import pytest

from servesat import SpecError
from servesat.candidates import enumeration
from servesat.deployment.solve import solve
from tests.helpers import searching


def test_a_search_with_too_many_layouts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enumeration, "MAX_LAYOUTS", 20)
    assert solve(searching(topologies={"tpu-v5e": ["4x4"]})).status == "optimal"
    with pytest.raises(SpecError, match=r"the search has \d+ layouts, expected at most 20: list fewer chips"):
        solve(searching())
