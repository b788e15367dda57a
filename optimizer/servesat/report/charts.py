"""Charts as data, drawn as a self-contained HTML page (plotly) or as an image (matplotlib).

A chart has a frame for each position of a slider: an HTML page shows them in turn, an image as panels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from math import ceil, floor, isnan, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from servesat.core.errors import ServesatError
from servesat.core.writing import write_bytes
from servesat.report.colours import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

IMAGES = (".png", ".svg", ".pdf")

PLAIN_TEXT: Literal["text.parse_math"] = "text.parse_math"
"""The setting by which matplotlib reads text between dollar signs as a formula; here they are dollars."""


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


FIGURES = (".html", *IMAGES)
"""Extensions of figure files."""


def draw(chart: Chart, path: Path) -> None:
    """Write a chart in the format of the file's extension. Raises ServesatError for an unknown extension."""
    if is_html(path):
        _write_html(chart, path)
    else:
        save_image(figure_of(chart), path)


def is_html(path: Path) -> bool:
    """Whether the extension is that of an HTML page, not an image. Raises ServesatError for an unknown extension."""
    if path.suffix not in FIGURES:
        raise ServesatError(f"{path}: cannot draw a '{path.suffix}' file; expected {', '.join(FIGURES)}")
    return path.suffix == ".html"


def _write_html(chart: Chart, path: Path) -> None:
    import plotly.graph_objects as go

    figure = go.Figure()
    frame_of_trace, traces_of_stops = [], []
    for number, frame in enumerate(chart.frames):
        for line, series in enumerate(frame.series):
            frame_of_trace.append(number)
            trace = _scatter(series, series.colour or COLOURS[line % len(COLOURS)])
            figure.add_trace(go.Scatter(**trace, visible=number == chart.first_frame))
        if frame.stops is not None:
            traces_of_stops.append(len(frame_of_trace))
            frame_of_trace.append(number)
            stop = _stop_of(chart, frame.stops, 0) | {"mode": "markers+text", "hoverinfo": "skip"}
            style = {"marker": {"color": "#222222", "size": 13}, "name": frame.stops.name}
            figure.add_trace(go.Scatter(**stop, **style, visible=number == chart.first_frame))
    layouts = [_decorations(chart, frame) for frame in chart.frames]
    if chart.right_title:  # an axis is drawn only with a trace that is visible
        figure.add_trace(go.Scatter(x=[None], y=[None], yaxis="y2", showlegend=False, hoverinfo="skip"))
    always = [True] if chart.right_title else []
    steps = [
        {
            "label": frame.label,
            "method": "update",
            "args": [{"visible": [owner == number for owner in frame_of_trace] + always}, layouts[number]],
        }
        for number, frame in enumerate(chart.frames)
    ]
    sliders = [
        _slider(chart.slider, steps, chart.first_frame, 70),
        _slider(chart.stop_slider, _stop_steps(chart, traces_of_stops), 0, 160),
    ]
    figure.update_layout(
        title=_title(chart.title),
        template="plotly_white",
        font={"size": 15},
        margin={"t": 180 if chart.right_title else 110, "b": 40},  # of which the legend takes up to three lines
        hovermode="closest",
        sliders=[slider for slider in sliders if len(slider["steps"]) > 1],
        xaxis=_axis(chart.x_title, chart.x_range, chart.log_x),
        yaxis=_axis(chart.y_title, chart.y_range, chart.log_y),
        **(
            {"yaxis2": _right_axis(chart), "legend": {"orientation": "h", "y": 1.01, "yanchor": "bottom"}}
            if chart.right_title
            else {}
        ),
        **layouts[chart.first_frame],
    )
    save_html(figure, path)


def _title(text: str) -> dict[str, Any]:
    """A title in lines that narrow windows hold, below the buttons of the page."""
    lines = text.replace(", ", ",<br>", 1).replace(": ", ":<br>")
    return {
        "text": lines,
        "x": 0.5,
        "xanchor": "center",
        "y": 1,
        "yanchor": "top",
        "pad": {"t": 36},
        "font": {"size": 15},
    }


def _slider(name: str, steps: list[dict[str, Any]], active: int, below: int) -> dict[str, Any]:
    """A slider of plotly's, `below` the x axis [px]."""
    return {"steps": steps, "active": active, "pad": {"t": below}, "currentvalue": {"prefix": name}}


def _stop_of(chart: Chart, stops: Series, at: int) -> dict[str, list[Any]]:
    """One point of a series, with its text on the side with more room; none where it is NaN."""
    x, y = stops.x[at], stops.y[at]
    if isnan(x):
        return {"x": [None], "y": [None], "text": [""], "textposition": ["bottom right"]}
    low, high = (log10(end) if chart.log_y else end for end in chart.y_range)
    is_low = ((log10(y) if chart.log_y else y) - low) < 0.25 * (high - low)
    side = f"{'top' if is_low else 'bottom'} {'left' if _fraction_of_x_axis(chart, x) > 0.7 else 'right'}"
    return {"x": [x], "y": [y], "text": [stops.hover[at]], "textposition": [side]}


def _stop_steps(chart: Chart, traces: list[int]) -> list[dict[str, Any]]:
    """The positions of the slider of stops, each of which moves the points of all frames."""
    every = [frame.stops for frame in chart.frames if frame.stops is not None]
    steps = []
    for at, label in enumerate(every[0].labels if every else ()):
        points = [_stop_of(chart, stops, at) for stops in every]
        moved = {key: [point[key] for point in points] for key in points[0]}
        steps.append({"label": label, "method": "restyle", "args": [moved, traces]})
    return steps


def _scatter(series: Series, colour: str) -> dict[str, Any]:
    """The arguments of plotly's Scatter for a series."""
    return {
        "x": list(series.x),
        "y": list(series.y),
        "name": series.name,
        "text": list(series.hover),
        "hovertemplate": "%{text}<extra>" + series.name + "</extra>",
        "mode": "lines" if len(series.x) > 1 and not series.points else "markers",
        "marker": {"color": colour, "size": 14 if series.star else 6, "symbol": "star" if series.star else "circle"},
        "line": {
            "color": colour,
            "width": 1.25 * series.width,
            "dash": "dot" if series.dashed else "solid",
            "shape": series.steps or "linear",
        },
    }


def _axis(title: str, span: tuple[float, float], log: bool) -> dict[str, Any]:
    limits = [log10(end) for end in span] if log else list(span)
    axis = {"title": title, "range": limits, "showline": True, "mirror": True, "linecolor": "#888888"}
    if not log:
        return axis
    decades = range(floor(limits[0]), ceil(limits[1]) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in _ticks(span)]
    return axis | {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:,g}" for tick in ticks]}


def _right_axis(chart: Chart) -> dict[str, Any]:
    low, high = chart.right_range
    axis = _axis(chart.right_title, (high, low), log=True)
    return axis | {"range": [log10(low), log10(high)], "overlaying": "y", "side": "right", "showgrid": False}


def _decorations(chart: Chart, frame: Frame) -> dict[str, Any]:
    """Plotly shapes and annotations of a frame: the shaded region and the vertical rule, with their labels."""
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    full_height = {"y0": 0, "y1": 1, "yref": "paper", "xref": "x"}
    left, right = chart.x_range
    if frame.shade_from is not None and frame.shade_from < right:
        fill = {"type": "rect", "fillcolor": "#d62728", "opacity": 0.10, "line": {"width": 0}, "layer": "below"}
        shapes.append({**fill, "x0": max(frame.shade_from, left), "x1": right, **full_height})
        notes.append(_note(chart, right, frame.shade_label, {"y": 1.0, "yanchor": "top", "font": {"color": "#d62728"}}))
    if frame.rule_at is not None and frame.rule_at <= right:
        line = {"type": "line", "line": {"color": "#555555", "dash": "dash"}}
        shapes.append({**line, "x0": frame.rule_at, "x1": frame.rule_at, **full_height})
        anchor = "right" if _fraction_of_x_axis(chart, frame.rule_at) > 0.5 else "left"
        notes.append(_note(chart, frame.rule_at, frame.rule_label, {"y": 0.0, "yanchor": "bottom", "xanchor": anchor}))
    notes += [_label(chart, *labelled) for series in frame.series for labelled in _labelled(series) if labelled[2]]
    return {"shapes": shapes, "annotations": notes}


def _labelled(series: Series) -> Iterator[tuple[float, float, str]]:
    """The points of a series that have a label, if any do."""
    yield from zip(series.x, series.y, series.labels, strict=bool(series.labels))


def _label(chart: Chart, x: float, y: float, text: str) -> dict[str, Any]:
    """A plotly annotation beside a point, on the side with more room."""
    right = _fraction_of_x_axis(chart, x) > 0.7
    at = {"x": log10(x) if chart.log_x else x, "y": log10(y) if chart.log_y else y, "xref": "x", "yref": "y"}
    side = {"xanchor": "right" if right else "left", "xshift": -8 if right else 8, "yshift": 8}
    return {**at, **side, "text": text, "showarrow": False, "font": {"size": 12}}


def _fraction_of_x_axis(chart: Chart, at: float) -> float:
    """The position of a value along the x axis, from 0 to 1; a label goes to the side with more room."""
    ends = [log10(end) for end in chart.x_range] if chart.log_x else list(chart.x_range)
    return ((log10(at) if chart.log_x else at) - ends[0]) / ((ends[1] - ends[0]) or 1.0)


def _ticks(span: tuple[float, float]) -> tuple[float, ...]:
    """Digits that label a logarithmic axis: fewer over many decades, more over part of a decade."""
    ratio = span[1] / span[0]
    if ratio > 1e4:
        return (1,)
    if ratio > 10:
        return (1, 2, 5)
    return (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9) if ratio > 2 else tuple(tenths / 10 for tenths in range(10, 100, 2))


def _note(chart: Chart, at: float, label: str, position: dict[str, Any]) -> dict[str, Any]:
    x = log10(at) if chart.log_x else at
    return {"x": x, "xref": "x", "yref": "paper", "xanchor": "right", "text": label, "showarrow": False, **position}


def figure_of(chart: Chart) -> "Figure":
    """A chart as a figure of matplotlib."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({PLAIN_TEXT: False}):
        return _figure(chart, Figure)


def _figure(chart: Chart, figure_type: "type[Figure]") -> "Figure":
    columns = min(3, len(chart.frames))
    rows = -(-len(chart.frames) // columns)
    height = 4.2 * rows + 0.8 if columns > 1 else 7.0
    figure = figure_type(figsize=(12, height), dpi=100, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat[len(chart.frames) :]:
        panel.set_visible(False)
    for panel, frame in zip(panels.flat, chart.frames, strict=False):
        _draw_panel(chart, frame, panel)
    if len({tuple(series.name for series in frame.series) for frame in chart.frames}) == 1:
        handles, labels = panels[0, 0].get_legend_handles_labels()
        if len(handles) > 1:
            figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)))
    else:
        for panel, frame in zip(panels.flat, chart.frames, strict=False):
            if not any(any(series.labels) for series in frame.series):  # labels on the lines do the work of a legend
                panel.legend(fontsize=8)
    figure.suptitle(chart.title, wrap=True)
    for panel in panels.flat[max(0, len(chart.frames) - columns) : len(chart.frames)]:
        panel.set_xlabel(chart.x_title)
    for panel in panels[:, 0]:
        panel.set_ylabel(chart.y_title)
    for row in panels if chart.right_title else ():
        [*_, last] = (panel for panel in row if panel.get_visible())
        last.child_axes[0].set_ylabel(chart.right_title)
    return figure


def _draw_panel(chart: Chart, frame: Frame, panel: "Axes") -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for line, series in enumerate(frame.series):
        dash, colour = ":" if series.dashed else "-", series.colour or COLOURS[line % len(COLOURS)]
        marker, dash = ("*" if series.star else "o", "") if series.points or len(series.x) == 1 else ("", dash)
        panel.plot(
            series.x,
            series.y,
            label=series.name,
            color=colour,
            linestyle=dash,
            linewidth=series.width,
            marker=marker,
            markersize=14 if series.star else 4,
            drawstyle={"hv": "steps-post", "vh": "steps-pre", "": "default"}[series.steps],
        )
        for x, y, text in _labelled(series):
            to_the_left = _fraction_of_x_axis(chart, x) > 0.7
            panel.annotate(
                text, (x, y), (-6 if to_the_left else 6, 5), textcoords="offset points", fontsize=9,
                ha="right" if to_the_left else "left",
            )  # fmt: skip
    panel.set(xscale="log" if chart.log_x else "linear", yscale="log" if chart.log_y else "linear")
    for axis, log, span in ((panel.xaxis, chart.log_x, chart.x_range), (panel.yaxis, chart.log_y, chart.y_range)):
        if log:
            axis.set_major_locator(LogLocator(subs=_ticks(span)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
    if len(chart.frames) > 1:
        panel.set(title=f"{chart.slider}{frame.label}")
    panel.set(xlim=chart.x_range, ylim=chart.y_range)
    if chart.right_title:
        _add_right_axis(chart, panel)
    panel.grid(alpha=0.3)
    right, top = chart.x_range[1], chart.y_range[1]
    if frame.shade_from is not None and frame.shade_from < right:
        panel.axvspan(max(frame.shade_from, chart.x_range[0]), right, color="#d62728", alpha=0.10)
        panel.text(right, top, f"{frame.shade_label} ", color="#d62728", ha="right", va="top", fontsize=8)
    if frame.rule_at is not None and frame.rule_at <= right:
        anchor = "right" if _fraction_of_x_axis(chart, frame.rule_at) > 0.5 else "left"
        panel.axvline(frame.rule_at, color="#555555", linestyle="--", linewidth=1)
        panel.text(
            frame.rule_at, chart.y_range[0], f" {frame.rule_label} ", ha=anchor, va="bottom", fontsize=8,
            in_layout=False,
        )  # fmt: skip


def _add_right_axis(chart: Chart, panel: "Axes") -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
    from numpy import maximum

    def other_side(values: Any) -> Any:
        return chart.right_scale / maximum(values, 1e-300)

    axis = panel.secondary_yaxis("right", functions=(other_side, other_side)).yaxis
    axis.set_major_locator(LogLocator(subs=_ticks(chart.right_range[::-1])))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def save_html(figure: Any, path: Path) -> None:
    """Write a plotly figure as a page that works without a network. Raises ServesatError."""
    page = figure.to_html(include_plotlyjs=True, full_html=True, default_height="90vh", config={"displaylogo": False})
    write_bytes(path, page.encode())


def save_image(figure: "Figure", path: Path) -> None:
    """Write a matplotlib figure in the format of the file's extension. Raises ServesatError."""
    image = BytesIO()
    figure.savefig(image, format=path.suffix[1:])
    write_bytes(path, image.getvalue())
