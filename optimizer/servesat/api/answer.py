"""What every answer can be turned into: the document of `--json`, a table of pandas, text, and a page of a notebook."""

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servesat.report.chart_images import figure_of
from servesat.report.charts import Chart
from servesat.report.drawing import draw
from servesat.report.tornado import Tornado, draw_tornado, figure_of_tornado

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from servesat.report.terminal import Terminal

MAX_LINES = 16
"""Lines of a repr; `print` shows them all."""


class Answer(ABC):
    """An answer: `print` shows it as the command line does, `repr` its first lines, a notebook all of it."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or assumed, as the command line prints on standard error."""
        return ()

    def to_dict(self) -> dict[str, Any]:
        """The document that the command prints with `--json`; its keys name the units of their numbers."""
        from servesat.report.documents import dumps

        document: dict[str, Any] = json.loads(dumps(self._document()))
        return document

    @abstractmethod
    def to_pandas(self) -> "pd.DataFrame":
        """The table of the answer, with all of its rows, and numbers in the units that its columns name."""

    @abstractmethod
    def show(self, terminal: "Terminal") -> None:
        """Print the answer as the command line does."""

    @abstractmethod
    def _document(self) -> dict[str, Any]: ...

    def _summarise(self, terminal: "Terminal") -> None:
        self.show(terminal)

    def _show_with_notes(self, terminal: "Terminal") -> None:
        self.show(terminal)
        self._show_notes(terminal)

    def _show_notes(self, terminal: "Terminal") -> None:
        for note in self.notes:
            terminal.print(f"note: {note}", style="dim")

    def __str__(self) -> str:
        from servesat.report.terminal import text_of

        return text_of(self._show_with_notes)

    def __repr__(self) -> str:
        from servesat.report.terminal import text_of

        lines = text_of(self._summarise).splitlines()
        more = len(lines) - MAX_LINES
        if more > 1:
            lines = [*lines[:MAX_LINES], f"... {more} more lines: print() shows them"]
        return "\n".join([*lines, *text_of(self._show_notes).splitlines()])

    def _repr_html_(self) -> str:
        from servesat.report.terminal import html_of

        return html_of(self._show_with_notes)


class Drawn(Answer):
    """An answer with a figure."""

    def draw(self, path: str | Path) -> None:
        """Draw the answer into a file: .html, .svg, .png or .pdf. Raises ServesatError for nothing to draw."""
        picture = self._picture()
        if isinstance(picture, Tornado):
            draw_tornado(picture, Path(path))
        else:
            draw(picture, Path(path))

    def figure(self) -> "Figure":
        """The answer as a figure of matplotlib. Raises ServesatError where there is nothing to draw."""
        picture = self._picture()
        return figure_of_tornado(picture) if isinstance(picture, Tornado) else figure_of(picture)

    @abstractmethod
    def _picture(self) -> Chart | Tornado: ...
