"""Charts as images, by matplotlib."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from servesat.core.writing import write_bytes
from servesat.report.charts import ALONE_PX, IN_A_ROW_PX, Chart, Frame, fraction, labels_of, tick_digits
from servesat.report.colours import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLAIN_TEXT: Literal["text.parse_math"] = "text.parse_math"
"""The setting by which matplotlib reads text between dollar signs as a formula; here they are dollars."""


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
    for label in labels_of(chart, frame, ALONE_PX if len(chart.frames) == 1 else IN_A_ROW_PX):
        panel.annotate(
            label.text, (label.x, label.y), (-6 if label.to_the_left else 6, -5 if label.below else 5),
            textcoords="offset points", fontsize=9,
            ha="right" if label.to_the_left else "left", va="top" if label.below else "bottom",
            bbox={"boxstyle": "square,pad=0", "facecolor": "white", "edgecolor": "none", "alpha": 0.6},
        )  # fmt: skip
    panel.set(xscale="log" if chart.log_x else "linear", yscale="log" if chart.log_y else "linear")
    for axis, log, span in ((panel.xaxis, chart.log_x, chart.x_range), (panel.yaxis, chart.log_y, chart.y_range)):
        if log:
            axis.set_major_locator(LogLocator(subs=tick_digits(span)))
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
        anchor = "right" if fraction(frame.rule_at, chart.x_range, log=chart.log_x) > 0.5 else "left"
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
    axis.set_major_locator(LogLocator(subs=tick_digits(chart.right_range[::-1])))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def save_image(figure: "Figure", path: Path) -> None:
    """Write a matplotlib figure in the format of the file's extension. Raises ServesatError."""
    image = BytesIO()
    figure.savefig(image, format=path.suffix[1:])
    write_bytes(path, image.getvalue())
