"""Loading of models, chips, price books and engines by id or path."""

from functools import cache
from os.path import isfile
from pathlib import Path
from typing import Any, TypeVar, get_args

from servesat.catalogue.calibration import Calibration
from servesat.catalogue.chip import Chip
from servesat.catalogue.engine import Engine, Program
from servesat.catalogue.model import ModelSpec
from servesat.catalogue.price_book import PriceBook, merged
from servesat.catalogue.record import Sourced
from servesat.core.errors import CatalogueError
from servesat.core.reading import MAX_FILE_BYTES, read_json, read_toml
from servesat.core.validation import nearest, shorten, validate

MAX_CONFIG_BYTES = 20_000_000
"""A configuration may list every module that is not quantised, layer by layer."""

MAX_BOOK_BYTES = 10_000_000
"""A price book may hold every offer of a list of thousands."""

PRICES = "hardware/prices"
ENGINES = "engines"
CALIBRATIONS = "hardware/calibrations"

EVERY_OFFER = "all"
"""Stands for every price book of the catalogue that has offers."""

Record = TypeVar("Record", bound=Sourced)


def load_model(reference: str | Path, folder: Path = Path()) -> ModelSpec:
    """Load a model by catalogue id, or from the path of a `.toml`, a Hugging Face `config.json`, or the folder of one.

    Paths are relative to `folder`. Raises CatalogueError for a missing or malformed model.
    """
    reference = _named(reference)
    path = Path(reference)
    if isfile(folder / path / "config.json"):
        path /= "config.json"
    if path.suffix == ".json":
        from servesat.catalogue.huggingface import model_fields

        where = folder / path
        config = _config(where)
        fields = model_fields(config, str(where))
        if isinstance(config, dict) and fields["name"] == config.get("model_type"):  # it names no repository
            fields["name"] = name_of_file(where)
        return validate(ModelSpec, fields, where=str(where), error=CatalogueError)
    return _load(ModelSpec, reference, folder, "models", "model")


def name_of_file(config: Path) -> str:
    """What a configuration is called by its file, or by the folder of a `config.json`."""
    return config.resolve().parent.name if config.name == "config.json" else config.stem


def _config(path: Path) -> object:
    """A checkpoint's configuration, with the quantisation that ModelOpt writes into a file beside it."""
    from servesat.catalogue.quantisation import GPTQ_FILE, QUANTISATION_FILE, with_gptq, with_modelopt

    config = read_json(path, CatalogueError, max_bytes=MAX_CONFIG_BYTES, infinite=True)
    if path.name != "config.json":
        return config
    beside, gptq = path.with_name(QUANTISATION_FILE), path.with_name(GPTQ_FILE)
    if isfile(beside):
        config = with_modelopt(config, read_json(beside, CatalogueError, max_bytes=MAX_CONFIG_BYTES), str(beside))
    return with_gptq(config, read_json(gptq, CatalogueError)) if isfile(gptq) else config


def load_chip(reference: str | Path, folder: Path = Path()) -> Chip:
    """Load a chip by catalogue id, or from the path of a `.toml` relative to `folder`. Raises CatalogueError."""
    return _load(Chip, _named(reference), folder, "hardware/chips", "chip")


def load_price_book(reference: str | Path, folder: Path = Path()) -> PriceBook:
    """Load a price book by catalogue id, or from the path of a `.toml` relative to `folder`. Raises CatalogueError.

    `all` is every book of the catalogue that has offers, as one.
    """
    book = _named(reference)
    return every_offer() if book == EVERY_OFFER else _load(PriceBook, book, folder, PRICES, "price book")


@cache
def every_offer() -> PriceBook:
    """Every offer of the catalogue's price books, as one book."""
    books = [load_price_book(book_id) for book_id in price_book_ids()]
    return merged([book for book in books if book.offers], EVERY_OFFER, "Every offer of the catalogue")


def load_engine(reference: str | Path, folder: Path = Path()) -> Engine:
    """Load an engine by catalogue id, by program for its newest version, or from the path of a `.toml`.

    Raises CatalogueError.
    """
    return _load(Engine, _newest_of_program(_named(reference)), folder, ENGINES, "engine")


def _newest_of_program(reference: str) -> str:
    """The id of a program's newest version in the catalogue; any other reference as it is."""
    versions = [engine_id for engine_id in _ids(ENGINES) if engine_id.rpartition("-")[0] == reference]
    return max(versions, key=_version, default=reference)


def _version(engine_id: str) -> list[int]:
    return [int(part) if part.isdigit() else 0 for part in engine_id.rpartition("-")[2].split(".")]


def engine_ids() -> list[str]:
    """Ids of the catalogue's engines: the programs in their order of preference, of each the newest version first."""
    programs = get_args(Program)
    return sorted(
        _ids(ENGINES), key=lambda engine_id: (programs.index(engine_id.rpartition("-")[0]), _by_age(engine_id))
    )


def _by_age(engine_id: str) -> list[int]:
    return [-part for part in _version(engine_id)]


def load_calibration(reference: str = "calibration", folder: Path = Path()) -> Calibration:
    """Load a calibration: the catalogue's own, or one from the path of a `.toml`. Raises CatalogueError."""
    return _load(Calibration, reference, folder, CALIBRATIONS, "calibration")


def model_ids() -> list[str]:
    """Ids of the catalogue's models, sorted."""
    return list(_ids("models"))


def chip_ids() -> list[str]:
    """Ids of the catalogue's chips, sorted."""
    return list(_ids("hardware/chips"))


def price_book_ids() -> list[str]:
    """Ids of the catalogue's price books, sorted."""
    return list(_ids(PRICES))


def json_schema(kind: str) -> dict[str, Any]:
    """The JSON schema of the catalogue's files; `kind` is `models`, `chips`, `prices` or `engines`."""
    records: dict[str, type[Sourced]] = {"models": ModelSpec, "chips": Chip, "prices": PriceBook, "engines": Engine}
    return records[kind].model_json_schema()


def _named(reference: str | Path) -> str:
    """An id, or the path of a file. Raises CatalogueError for anything else."""
    if not isinstance(reference, str | Path):
        raise CatalogueError(f"{shorten(reference)}: expected an id of the catalogue, or the path of a file")
    return str(reference)


def _load(record: type[Record], reference: str, folder: Path, shelf: str, noun: str) -> Record:
    if reference.endswith(".toml") or "/" in reference:
        return _read(record, folder / reference)
    known = _ids(shelf)
    if reference not in known:
        raise CatalogueError(f"no {noun} '{reference}' in the catalogue; {nearest(reference, known)}")
    entry: Record = _read_cached(record, shelf_of(shelf) / f"{reference}.toml")
    return entry


def _read(record: type[Record], path: Path) -> Record:
    max_bytes = MAX_BOOK_BYTES if record is PriceBook else MAX_FILE_BYTES
    fields = {"id": path.stem, **read_toml(path, CatalogueError, max_bytes)}
    return validate(record, fields, where=str(path), error=CatalogueError)


_read_cached = cache(_read)
"""Files of the catalogue are cached: they do not change while a program runs, as a user's files may."""


@cache
def _ids(shelf: str) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in shelf_of(shelf).glob("*.toml")))


@cache
def shelf_of(shelf: str) -> Path:
    """The folder of a shelf of the catalogue: in the installed package, else in the checkout."""
    packaged = Path(__file__).parents[1] / "data" / shelf
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / shelf
