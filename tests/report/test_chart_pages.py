import pytest

from servesat.report.chart_pages import _axis


@pytest.mark.parametrize("ratio", [1.6, 2.1, 3.0, 9.0, 50.0, 5e3, 1e6])
@pytest.mark.parametrize("least", [1.0, 0.055, 0.61, 3300.0])
def test_a_logarithmic_axis_can_be_read_whatever_it_spans(ratio: float, least: float) -> None:
    axis = _axis("", (least, ratio * least), log=True)
    within = [tick for tick in axis["tickvals"] if least <= tick <= ratio * least]
    assert 2 <= len(within) <= 24
