"""Tornado charts: how far each factor moves a result, as horizontal bars about the base."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from servesat.report.chart_images import PLAIN_TEXT, save_image
from servesat.report.chart_pages import save_html
from servesat.report.colours import COLOURS
from servesat.report.drawing import is_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_BARS_PER_SCREEN, BAR_HEIGHT = 15, 32
"""A page with more bars is higher than a screen: so many pixels for each."""

LOWER_COLOUR, HIGHER_COLOUR = COLOURS[2], COLOURS[1]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A horizontal bar about zero, with a label at each end; of its own colour, or by the sides of zero."""

    name: str
    low: float
    high: float
    low_label: str
    high_label: str
    colour: str = ""


@dataclass(frozen=True, kw_only=True)
class Tornado:
    """Horizontal bars about a common zero, the widest at the top."""

    title: str
    x_title: str
    bars: tuple[Bar, ...]
    base_label: str = ""

    @property
    def x_range(self) -> tuple[float, float]:
        """The ends of the axis, with room for the labels at the bars."""
        left = min([0.0, *(bar.low for bar in self.bars)])
        right = max([0.0, *(bar.high for bar in self.bars)])
        room = 0.25 * ((right - left) or 1.0)
        return left - (room if left < 0 else 0.0), right + room


def draw_tornado(tornado: Tornado, path: Path) -> None:
    """Write a tornado in the format of the file's extension. Raises ServesatError for an unknown extension."""
    if is_html(path):
        _write_html(tornado, path)
    else:
        save_image(figure_of_tornado(tornado), path)


def _halves(tornado: Tornado) -> list[tuple[list[str], list[float], list[str]]]:
    """The colours, ends and labels of the bars, below the base and above; the widest last, which is drawn on top."""
    bars = tornado.bars[::-1]
    return [
        (
            [bar.colour or LOWER_COLOUR for bar in bars],
            [min(bar.low, 0.0) for bar in bars],
            [bar.low_label for bar in bars],
        ),
        (
            [bar.colour or HIGHER_COLOUR for bar in bars],
            [max(bar.high, 0.0) for bar in bars],
            [bar.high_label for bar in bars],
        ),
    ]


def _write_html(tornado: Tornado, path: Path) -> None:
    import plotly.graph_objects as go

    names = [bar.name for bar in tornado.bars[::-1]]
    figure = go.Figure()
    for colour, values, labels in _halves(tornado):
        figure.add_trace(
            go.Bar(
                x=values,
                y=names,
                orientation="h",
                text=labels,
                textposition="outside",
                marker={"color": colour},
                hovertemplate="%{y}: %{text}<extra></extra>",
                cliponaxis=False,
            )
        )
    if tornado.base_label:
        label = {"text": tornado.base_label, "x": 0, "y": 1, "yref": "paper", "yanchor": "bottom", "showarrow": False}
        figure.add_annotation(label)
    figure.update_layout(
        title={"text": tornado.title.replace("\n", "<br>"), "x": 0.5, "xanchor": "center"},
        template="plotly_white",
        font={"size": 15},
        barmode="overlay",
        showlegend=False,
        xaxis={"title": tornado.x_title, "range": list(tornado.x_range), "zerolinecolor": "#444444"},
        yaxis={"automargin": True, "dtick": 1},
        height=None if len(names) <= MAX_BARS_PER_SCREEN else BAR_HEIGHT * len(names) + 200,
    )
    save_html(figure, path)


def figure_of_tornado(tornado: Tornado) -> "Figure":
    """A tornado as a figure of matplotlib."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({PLAIN_TEXT: False}):
        return _figure(tornado, Figure)


def _figure(tornado: Tornado, figure_type: "type[Figure]") -> "Figure":
    figure = figure_type(figsize=(12, 1.5 + 0.7 * len(tornado.bars)), dpi=100, layout="constrained")
    panel = figure.subplots()
    names = [bar.name for bar in tornado.bars[::-1]]
    for colour, values, labels in _halves(tornado):
        drawn = panel.barh(names, values, color=colour, height=0.6)
        panel.bar_label(drawn, labels=labels, padding=4, fontsize=9)
    panel.axvline(0, color="#444444", linewidth=1)
    if tornado.base_label:
        panel.annotate(
            tornado.base_label, (0, 1), (0, 3), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="center", fontsize=9,
        )  # fmt: skip
    panel.set_title(tornado.title, pad=18 if tornado.base_label else None)
    panel.set(xlabel=tornado.x_title, xlim=tornado.x_range)
    panel.grid(axis="x", alpha=0.3)
    return figure
