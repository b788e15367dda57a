"""The catalogue: its models, chips, engines and prices, listed, or one of them."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from servesat.api.answer import Answer
from servesat.report import listings
from servesat.report.terminal import Terminal, print_entry, print_rows

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, repr=False)
class Listing(Answer):
    """Entries of the catalogue, a row for each; `details` give way on a narrow line, `hidden` columns are not shown."""

    name: str
    rows: list[dict[str, Any]]
    document: Row | None = None
    details: Collection[str] = ()
    hidden: Collection[str] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each entry."""
        import pandas as pd

        return pd.DataFrame.from_records([dict(row) for row in self.rows])

    def show(self, terminal: Terminal) -> None:
        """Print the entries as a table."""
        print_rows(terminal, listings.without_columns(self.rows, *self.hidden), self.details)

    def _document(self) -> dict[str, Any]:
        return {self.name: self.rows} if self.document is None else dict(self.document)


@dataclass(frozen=True, kw_only=True, repr=False)
class Entry(Answer):
    """An entry of the catalogue, with all of its fields."""

    fields: Row
    printed: Callable[[Terminal, Row], None] = print_entry

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def to_pandas(self) -> "pd.DataFrame":
        """A row with the fields."""
        import pandas as pd

        return pd.DataFrame.from_records([dict(self.fields)])

    def show(self, terminal: Terminal) -> None:
        """Print the fields, a line for each, and the tables that belong to them."""
        self.printed(terminal, self.fields)

    def _document(self) -> dict[str, Any]:
        return dict(self.fields)


@overload
def models() -> Listing: ...
@overload
def models(model: str | Path) -> Entry: ...
def models(model: str | Path | None = None) -> Listing | Entry:
    """The models of the catalogue, or one by its id or the path of a file. Raises CatalogueError."""
    if model is None:
        return Listing(name="models", rows=listings.model_rows(), details=listings.MODEL_DETAILS)
    return Entry(fields=listings.model_entry(model), printed=_print_model)


@overload
def chips() -> Listing: ...
@overload
def chips(chip: str | Path) -> Entry: ...
def chips(chip: str | Path | None = None) -> Listing | Entry:
    """The chips of the catalogue, or one by its id or the path of a file. Raises CatalogueError."""
    if chip is None:
        rows = listings.chip_rows()
        return Listing(name="chips", rows=rows, details=listings.CHIP_DETAILS, hidden=listings.PEAKS)
    return Entry(fields=listings.chip_entry(chip))


@overload
def engines() -> Listing: ...
@overload
def engines(engine: str | Path) -> Entry: ...
def engines(engine: str | Path | None = None) -> Listing | Entry:
    """The engines of the catalogue, or one by its id or the path of a file. Raises CatalogueError."""
    if engine is None:
        return Listing(name="engines", rows=listings.engine_rows(), details=listings.ENGINE_DETAILS)
    return Entry(fields=listings.engine_entry(engine), printed=partial(_print_engine, engine))


def prices(
    book: str | Path | None = None,
    *,
    chip: str | None = None,
    cloud: str | None = None,
    region: str | None = None,
    purchase: str | None = None,
) -> Listing:
    """The prices of every price book, or of one; those of a `chip` are sorted, the cheapest first.

    Raises CatalogueError when no price remains.
    """
    rows = listings.price_rows(book=book, chip=chip, cloud=cloud, region=region, purchase=purchase)
    whole = None if book is None or chip or cloud or region or purchase else listings.price_book_entry(book)
    hidden = ("source", "note")
    return Listing(name="prices", rows=rows, document=whole, details=listings.PRICE_DETAILS, hidden=hidden)


def _print_model(terminal: Terminal, fields: Row) -> None:
    apart = ("tensors", "accuracy", "accuracy_of_kv_cache")
    print_entry(terminal, {name: value for name, value in fields.items() if name not in apart})
    print_rows(terminal, listings.tensor_table(fields["tensors"]))
    for rows in filter(None, (fields["accuracy"], fields["accuracy_of_kv_cache"])):
        shown = listings.without_columns(rows, "source")
        print_rows(terminal, shown, shown[0])


def _print_engine(engine: str | Path, terminal: Terminal, fields: Row) -> None:
    print_entry(terminal, {name: value for name, value in fields.items() if name != "runs"})
    print_rows(terminal, listings.support_rows(engine), listings.SUPPORT_DETAILS)
