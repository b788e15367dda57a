"""A fleet's plan as one HTML page: the tables, the chips over time, and maps of where slices are placed in pods."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from io import StringIO
from itertools import accumulate
from math import ceil, fsum, sqrt
from typing import TYPE_CHECKING

from rich.console import Console

from servesat.fleet.instance import WorkloadDemand
from servesat.fleet.placement_map import PlacementMap
from servesat.fleet.policies import Comparison
from servesat.fleet.result import FleetResult
from servesat.report.colours import COLOURS
from servesat.report.fleet import print_fleet
from servesat.report.fleet_document import size_shares

if TYPE_CHECKING:
    import plotly.graph_objects as go

Rectangle = tuple[float, float, float, float]
"""Left, top, width and height."""

POD_GAP = 1.0
"""Distance between pods on a map, in chips."""

MAX_MAP_WIDTH = 1100
"""Pixels."""

MAX_CHIP_WIDTH = 40.0
"""Pixels."""

MARGIN = 200
"""Pixels, above and below together, and half of that beside."""

LEGEND_BELOW = {"orientation": "h", "y": -0.2}
"""Beside a figure a legend would be cut off on a narrow screen."""

LETTER_WIDTH = 6.5
"""Pixels."""


def fleet_page(result: FleetResult, comparison: Comparison | None) -> str:
    """One self-contained page of HTML."""
    recorder = Console(record=True, width=130, file=StringIO(), highlight=False, markup=False)
    print_fleet(recorder, result, comparison)
    tables = recorder.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
    workloads = result.instance.workloads
    colours = {workload.name: COLOURS[number % len(COLOURS)] for number, workload in enumerate(workloads)}
    by_size = [_by_size(result, workload) for workload in workloads if workload.sizes]
    figures = [
        _over_time(result, colours),
        *by_size,
        *(_placement_figure(placement, colours) for placement in result.placement_maps if placement.placed),
    ]
    responsive = {"responsive": True}
    charts = [
        figure.to_html(full_html=False, include_plotlyjs=number == 0, config=responsive)
        for number, figure in enumerate(figures)
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>servesat fleet</title></head>'
        f"<body>{''.join(charts)}{tables}</body></html>\n"
    )


def _over_time(result: FleetResult, colours: Mapping[str, str]) -> "go.Figure":
    """The chips of each workload over the hours, stacked, and what all workloads ask for together as a line."""
    import plotly.graph_objects as go

    figure, chips = go.Figure(), _chips_by_workload(result)
    max_chips = max(map(sum, zip(*chips.values(), strict=True)))
    hours = result.instance.hours
    starts = list(accumulate(hours, initial=0.0))
    for name, counts in chips.items():
        figure.add_bar(
            x=starts[:-1], y=counts, width=list(hours), offset=0, name=escape(name), marker={"color": colours[name]},
            customdata=list(range(len(hours))), hovertemplate="%{y} chips in period %{customdata}, from %{x:g} h",
        )  # fmt: skip
    demand = [fsum(rates) for rates in zip(*(w.requests_per_s for w in result.instance.workloads), strict=True)]
    figure.add_scatter(
        x=starts, y=[*demand, demand[-1]], yaxis="y2", name="demand", mode="lines",
        line={"color": "#222222", "width": 2, "shape": "hv"}, hovertemplate="%{y:g} requests/s",
    )  # fmt: skip
    figure.update_layout(
        barmode="stack",
        template="plotly_white",
        title="Chips of each workload, and the demand of all",
        showlegend=True,
        legend=LEGEND_BELOW,
        bargap=0.05,
        xaxis={"title": "hours", "range": [0, starts[-1]]},
        yaxis={"title": "chips", "rangemode": "tozero", "dtick": 1 if max_chips <= 10 else None},
        yaxis2={
            "title": "requests/s",
            "overlaying": "y",
            "side": "right",
            "rangemode": "tozero",
            "showgrid": False,
            "tickmode": "auto",
        },
    )
    return figure


def _by_size(result: FleetResult, workload: WorkloadDemand) -> "go.Figure":
    """Which configurations serve each size of a workload's requests: the share of each, stacked."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for number, (name, shares) in enumerate(size_shares(result, workload).items()):
        percent = [100 * share for share in shares]
        colour = {"color": COLOURS[number % len(COLOURS)]}
        figure.add_bar(
            y=list(map(escape, workload.sizes)), x=percent, name=escape(name), marker=colour, orientation="h"
        )
    figure.update_layout(
        barmode="stack",
        template="plotly_white",
        title=f"Which replicas serve which requests of {escape(workload.name)}",
        showlegend=True,
        legend=LEGEND_BELOW | {"traceorder": "normal"},
        xaxis={"title": "% of what is served of each size", "range": [0, 100]},
        yaxis={"autorange": "reversed"},
        height=260 + 40 * len(workload.sizes),
    )
    return figure


def _chips_by_workload(result: FleetResult) -> Mapping[str, list[int]]:
    periods = len(result.instance.hours)
    chips: dict[str, list[int]] = {workload.name: [0] * periods for workload in result.instance.workloads}
    for allocation in result.allocations:
        chips[allocation.workload][allocation.period] += allocation.replicas * allocation.option.chips
    return chips


def _placement_figure(placement: PlacementMap, colours: Mapping[str, str]) -> "go.Figure":
    """A placement map: the pods side by side, cubes as their layers, and each slice with its workload."""
    import plotly.graph_objects as go

    across, down, layers = (*placement.pods.shape, 1)[:3]
    wide, high = (across + POD_GAP / 2) * layers + POD_GAP, down + POD_GAP
    columns = min(placement.pods.count, ceil(sqrt(2 * placement.pods.count * high / wide)))
    pixels = min(MAX_MAP_WIDTH / (columns * wide), MAX_CHIP_WIDTH)

    def corner(pod: int, layer: int) -> tuple[float, float]:
        return (pod % columns) * wide + layer * (across + POD_GAP / 2), (pod // columns) * high

    figure = go.Figure()
    outlines = [(*corner(pod, layer), across, down) for pod in range(placement.pods.count) for layer in range(layers)]
    x, y = _path(outlines)
    figure.add_scatter(x=x, y=y, mode="lines", line={"color": "#bbb", "width": 1}, showlegend=False, hoverinfo="skip")
    blocks: dict[str, list[tuple[Rectangle, str]]] = defaultdict(list)
    for option, block in placement.placed:
        x_in, y_in, first = (*block.at, 0)[:3]
        w, h, deep = (*block.sizes, 1)[:3]
        for layer in range(first, first + deep):
            left, top = corner(block.pod, layer)
            label = (
                f"{escape(option.workload)}<br>{escape(option.configuration.name)}<br>{block.slice} in pod {block.pod}"
            )
            blocks[option.workload].append(((left + x_in, top + y_in, w, h), label))
    _add_slices(figure, blocks, colours, pixels)
    rows = ceil(placement.pods.count / columns)
    as_layers = ", layer by layer" if layers > 1 else ""
    pods = f"{placement.pods} {placement.chip} in {escape(placement.region)}"
    figure.update_layout(
        template="plotly_white",
        title=f"{pods}, in period {placement.period}{as_layers}",
        showlegend=True,
        legend=LEGEND_BELOW | {"y": -0.05},
        width=columns * wide * pixels + MARGIN // 2,
        height=rows * high * pixels + MARGIN,
        margin={"l": MARGIN // 4, "r": MARGIN // 4, "t": MARGIN // 2, "b": MARGIN // 2},
        xaxis={"visible": False, "constrain": "domain"},
        yaxis={"visible": False, "scaleanchor": "x", "autorange": "reversed"},
    )
    return figure


def _add_slices(
    figure: "go.Figure",
    blocks: Mapping[str, list[tuple[Rectangle, str]]],
    colours: Mapping[str, str],
    pixels: float,
) -> None:
    """Draw the labelled rectangles of each workload, given the pixels of a chip."""
    for workload, labelled in blocks.items():
        x, y = _path([rectangle for rectangle, _ in labelled])
        line = {"color": "white", "width": min(1.5, pixels / 8)}
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            fill="toself",
            fillcolor=colours[workload],
            line=line,
            name=escape(workload),
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=[left + w / 2 for (left, _, w, _), _ in labelled],
            y=[top + h / 2 for (_, top, _, h), _ in labelled],
            text=[
                escape(workload) if w * pixels > LETTER_WIDTH * len(workload) else "" for (_, _, w, _), _ in labelled
            ],
            mode="text",
            textfont={"color": "white", "size": 11},
            hovertext=[label for _, label in labelled],
            hoverinfo="text",
            showlegend=False,
        )


def _path(rectangles: Sequence[Rectangle]) -> tuple[list[float | None], list[float | None]]:
    """The outlines of rectangles as one line with gaps."""
    x: list[float | None] = []
    y: list[float | None] = []
    for left, top, w, h in rectangles:
        x += [left, left + w, left + w, left, left, None]
        y += [top, top, top + h, top + h, top, None]
    return x, y
