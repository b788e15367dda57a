"""Charts written to files: as pages or as images, by the extension."""

from pathlib import Path

from servesat.core.errors import ServesatError
from servesat.report.chart_images import figure_of, save_image
from servesat.report.chart_pages import write_page
from servesat.report.charts import Chart

IMAGES = (".png", ".svg", ".pdf")

FIGURES = (".html", *IMAGES)
"""Extensions of figure files."""


def draw(chart: Chart, path: Path) -> None:
    """Write a chart in the format of the file's extension. Raises ServesatError for an unknown extension."""
    if is_html(path):
        write_page(chart, path)
    else:
        save_image(figure_of(chart), path)


def is_html(path: Path) -> bool:
    """Whether the extension is that of an HTML page, not an image. Raises ServesatError for an unknown extension."""
    if path.suffix not in FIGURES:
        raise ServesatError(f"{path}: cannot draw a '{path.suffix}' file; expected {', '.join(FIGURES)}")
    return path.suffix == ".html"
