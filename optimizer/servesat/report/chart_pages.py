"""Charts as self-contained HTML pages, by plotly."""

from math import ceil, floor, isnan, log10
from pathlib import Path
from typing import Any

from servesat.core.writing import write_bytes
from servesat.report.charts import Chart, Frame, Series, fraction, labels_of, tick_digits
from servesat.report.colours import COLOURS
from servesat.report.labels import Label


def write_page(chart: Chart, path: Path) -> None:
    """Write a chart as a page, with a slider over its frames. Raises ServesatError."""
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
    side = f"{'top' if is_low else 'bottom'} {'left' if fraction(x, chart.x_range, log=chart.log_x) > 0.7 else 'right'}"
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
    ticks = [digit * 10.0**decade for decade in decades for digit in tick_digits(span)]
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
        anchor = "right" if fraction(frame.rule_at, chart.x_range, log=chart.log_x) > 0.5 else "left"
        notes.append(_note(chart, frame.rule_at, frame.rule_label, {"y": 0.0, "yanchor": "bottom", "xanchor": anchor}))
    notes += [_annotation(chart, label) for label in labels_of(chart, frame)]
    return {"shapes": shapes, "annotations": notes}


def _annotation(chart: Chart, label: Label) -> dict[str, Any]:
    """A plotly annotation beside a point."""
    x, y = log10(label.x) if chart.log_x else label.x, log10(label.y) if chart.log_y else label.y
    side = {"xanchor": "right" if label.to_the_left else "left", "xshift": -8 if label.to_the_left else 8}
    up = {"yanchor": "top" if label.below else "bottom", "yshift": -4 if label.below else 0}
    text = {"text": label.text, "font": {"size": 12}, "bgcolor": "rgba(255, 255, 255, 0.6)"}
    return {"x": x, "y": y, "xref": "x", "yref": "y", "showarrow": False, **side, **up, **text}


def _note(chart: Chart, at: float, label: str, position: dict[str, Any]) -> dict[str, Any]:
    x = log10(at) if chart.log_x else at
    return {"x": x, "xref": "x", "yref": "paper", "xanchor": "right", "text": label, "showarrow": False, **position}


def save_html(figure: Any, path: Path) -> None:
    """Write a plotly figure as a page that works without a network. Raises ServesatError."""
    page = figure.to_html(include_plotlyjs=True, full_html=True, default_height="90vh", config={"displaylogo": False})
    write_bytes(path, page.encode())
