"""Charts as data, and what pages and images of them have in common.

A chart has a frame for each position of a slider: an HTML page shows them in turn, an image as panels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log10
from typing import Literal

from servesat.report.labels import Label, placed

ALONE_PX, IN_A_ROW_PX = (1100, 500), (330, 320)
"""The width and height inside the axes of a panel that has the figure to itself, and of one of three in a row."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line through points, in steps or straight, or the points alone, with a hover text for each point.

    `colour` is the next one of the figure's if it is empty. `labels` stand beside the points.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    hover: Sequence[str]
    dashed: bool = False
    points: bool = False
    steps: Literal["", "hv", "vh"] = ""  # across and then up, or up and then across, from one point to the next
    star: bool = False
    colour: str = ""
    width: float = 2.0
    labels: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The content of a slider position: series, a region shaded from `shade_from` on, a vertical rule.

    An HTML page shows the points of `stops` one at a time, with a slider of their own over their labels. All frames
    have the same labels; what a frame lacks is NaN.
    """

    label: str
    series: tuple[Series, ...]
    stops: Series | None = None
    shade_from: float | None = None
    shade_label: str = ""
    rule_at: float | None = None
    rule_label: str = ""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A title, axes shared by all frames, and the frames.

    With a `right_title` a logarithmic y axis has another on the right, of `right_scale` / y.
    """

    title: str
    x_title: str
    y_title: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    log_x: bool
    log_y: bool
    slider: str
    frames: tuple[Frame, ...]
    first_frame: int = 0
    stop_slider: str = ""
    right_title: str = ""
    right_scale: float = 1.0

    @property
    def right_range(self) -> tuple[float, float]:
        """The right axis at the bottom and the top."""
        low, high = self.y_range
        return self.right_scale / low, self.right_scale / high


def labels_of(chart: Chart, frame: Frame, size_px: tuple[int, int] = ALONE_PX) -> Iterator[Label]:
    """The labels of a frame that a panel of a size has room for."""
    points = (
        (Label(x, y, text), fraction(x, chart.x_range, log=chart.log_x), fraction(y, chart.y_range, log=chart.log_y))
        for series in frame.series
        for x, y, text in zip(series.x, series.y, series.labels, strict=bool(series.labels))
        if text
    )
    return placed(points, *size_px)


def fraction(at: float, span: tuple[float, float], *, log: bool) -> float:
    """The position of a value along an axis, from 0 to 1."""
    low, high, value = (log10(one) for one in (*span, at)) if log else (*span, at)
    return (value - low) / ((high - low) or 1.0)


def tick_digits(span: tuple[float, float]) -> tuple[float, ...]:
    """Digits that label a logarithmic axis: fewer over many decades, more over part of a decade."""
    ratio = span[1] / span[0]
    if ratio > 1e4:
        return (1,)
    if ratio > 10:
        return (1, 2, 5)
    return (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9) if ratio > 2 else tuple(tenths / 10 for tenths in range(10, 100, 2))
