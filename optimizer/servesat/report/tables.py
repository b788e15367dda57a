"""Tables that fit a line: what is the same in all rows is said once, and details move to a line of their own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

GAP = 3
"""Spaces between two columns."""

INDENT = 4
"""Spaces before the details of a row."""


@dataclass(frozen=True)
class Column:
    """A column: its name, whether it is aligned right, and whether it may give way on a narrow line."""

    name: str
    right: bool = False
    detail: bool = False


def columns(*names: str, right: bool = False, detail: bool = False) -> list[Column]:
    """Columns that are alike but for their names."""
    return [Column(name, right=right, detail=detail) for name in names]


def titled(title: str, left: Sequence[str], right: Sequence[str], last: str = "") -> Table:
    """An empty table with its title above: columns aligned left, then right, and the `last` one left again."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for column in left:
        table.add_column(column, overflow="fold")
    for column in right:
        table.add_column(column, justify="right", no_wrap=True)
    if last:
        table.add_column(last, overflow="fold")
    return table


@dataclass
class Fitted:
    """A table for `Console.print`.

    On a line too short for all columns, details that are the same in every row are said once above the table; if that
    is not enough, details move, the last ones first, to a second line below each row, where a row's note stands too. No
    cell is cut off.
    """

    columns: Sequence[Column]
    title: str = ""
    rows: list[tuple[list[str], str, str]] = field(default_factory=list)

    def add_row(self, cells: Iterable[str], style: str = "", note: str = "") -> None:
        """Add a row, with a cell for each column, and what is said of it below."""
        self.rows.append((list(cells), style, note))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown, below, said = self._fitted(options.max_width)
        widths = {at: self._width(at) for at in shown}
        if self.title:
            yield Text(f"\n{self.title}", style="bold")
        if said:
            yield Text("everywhere: " + ", ".join(f"{self.columns[at].name} {value}".strip() for at, value in said))
        yield Text()
        yield self._line([self.columns[at].name for at in shown], shown, widths, "bold")
        yield Text("─" * min(sum(widths.values()) + GAP * (len(shown) - 1), options.max_width))
        for cells, style, note in self.rows:
            yield self._line([cells[at] for at in shown], shown, widths, style)
            details = [f"{self.columns[at].name} {cells[at]}".strip() for at in below if cells[at]]
            details += [note] if note else []
            if details:
                yield Padding(Text(" · ".join(details), style="dim", overflow="fold"), (0, 0, 0, INDENT))
        yield Text()

    def _fitted(self, width: int) -> tuple[list[int], list[int], list[tuple[int, str]]]:
        """The columns in the table, those below its rows, and those that are said once with their value."""
        shown, below, said = list(range(len(self.columns))), list[int](), list[tuple[int, str]]()
        details = [at for at in shown if self.columns[at].detail]
        for at in details if len(self.rows) > 1 else ():
            values = {cells[at] for cells, _, _ in self.rows}
            if self._total(shown) > width and len(values) == 1:
                shown.remove(at)
                said += [(at, value) for value in values if value]
        for at in reversed(details):
            if self._total(shown) > width and at in shown:
                shown.remove(at)
                below.insert(0, at)
        return shown, below, said

    def _total(self, shown: Sequence[int]) -> int:
        return sum(map(self._width, shown)) + GAP * (len(shown) - 1)

    def _width(self, at: int) -> int:
        return max([cell_len(self.columns[at].name), *(cell_len(cells[at]) for cells, _, _ in self.rows)])

    def _line(self, cells: Sequence[str], shown: Sequence[int], widths: dict[int, int], style: str) -> Text:
        padded = []
        for cell, at in zip(cells, shown, strict=True):
            space = " " * (widths[at] - cell_len(cell))
            padded.append(space + cell if self.columns[at].right else cell + space)
        return Text((" " * GAP).join(padded).rstrip(), style=style, overflow="fold")
