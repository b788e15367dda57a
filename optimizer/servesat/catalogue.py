"""Models, chips and price books: what a file of each holds, and how one is found by its id."""

from collections.abc import Mapping
from datetime import date
from functools import cache
from math import prod
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BeforeValidator, Field, model_validator
from pydantic.json_schema import models_json_schema

from servesat.errors import CatalogueError
from servesat.huggingface import model_fields
from servesat.validation import (
    Count,
    Positive,
    Rate,
    Strict,
    Usd,
    nearest,
    read_json,
    read_toml,
    refuse_duplicates,
    validate,
)


def _topology_text(value: Any) -> Any:
    """YAML reads the one-axis topology `8` as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Topology = Annotated[str, BeforeValidator(_topology_text)]
MAX_CHIPS = 1_000_000
"""Chips of a slice; more than any there is, and few enough to count exactly in every type used."""

Text = Annotated[str, Field(min_length=1, max_length=2000)]
Record = TypeVar("Record", bound="Sourced")


class Sourced(Strict):
    """A record whose numbers name their sources, by field; `default` covers the fields not named."""

    id: str = Field(default="", max_length=200, description="The file's name, or the name of an inline record.")
    name: Text
    checked: date | None = Field(default=None, description="When the figures were last compared with their sources.")
    sources: dict[str, Text] = Field(default={}, description="Where each figure comes from, by field name.")

    @model_validator(mode="before")
    @classmethod
    def _name_is_id(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "id" not in data and isinstance(data.get("name"), str):
            return {**data, "id": data["name"]}
        return data

    @model_validator(mode="after")
    def _sources_name_fields(self) -> Self:
        for field in self.sources:
            if field != "default" and field not in type(self).model_fields:
                raise ValueError(f"sources.{field} is no field; {nearest(field, type(self).model_fields)}")
        return self


class ModelSpec(Sourced):
    """The shape of a dense transformer with full, grouped-query or sliding-window attention."""

    layers: Count = Field(description="L, transformer layers.")
    d_model: Count = Field(description="D, width of the residual stream.")
    d_ff: Count = Field(description="F, width of the MLP.")
    query_heads: Count = Field(description="N, query heads.")
    kv_heads: Count = Field(description="K, key and value heads.")
    head_dim: Count = Field(description="H, width of a head.")
    vocab_size: Count = Field(description="V, rows of the embedding.")
    gated_mlp: Annotated[bool, Field(strict=True)] = Field(
        default=True, description="Three MLP matrices (gate, up, down) rather than two."
    )
    tied_embeddings: Annotated[bool, Field(strict=True)] = Field(
        default=False, description="One matrix serves as input and output embedding."
    )
    window_tokens: Count | None = Field(
        default=None, description="Sliding window of the layers that have one [tokens]."
    )
    window_layers: Annotated[int, Field(strict=True, ge=0)] = Field(
        default=0, description="How many layers attend over the window only."
    )
    nominal_parameters: Positive | None = Field(
        default=None, description="The round number of parameters its publisher uses; counted from the shape if absent."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.query_heads % self.kv_heads:
            raise ValueError(f"query_heads = {self.query_heads} is not a multiple of kv_heads = {self.kv_heads}")
        if self.window_layers > self.layers:
            raise ValueError(f"window_layers = {self.window_layers} is more than layers = {self.layers}")
        if bool(self.window_layers) != (self.window_tokens is not None):
            raise ValueError("window_tokens and window_layers go together")
        return self


class Axis(Strict):
    """One axis of a slice: chips along it talk to each other over the same links."""

    name: Text
    bytes_per_s: Rate = Field(
        description="What one chip can receive over this axis: "
        "both directions of a torus axis, the one-way port of a switch."
    )


class Peaks(Strict):
    """Dense peak FLOP/s of one chip; a dtype left out is one it cannot compute in."""

    bf16: Rate | None = None
    fp8: Rate | None = None
    int8: Rate | None = None
    int4: Rate | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.by_dtype():
            raise ValueError("expected the peak of at least one dtype")
        return self

    def by_dtype(self) -> dict[str, float]:
        """The peaks that the chip has, by dtype [FLOP/s]."""
        return {dtype: peak for dtype, peak in self if peak is not None}


class Chip(Sourced):
    """An accelerator: memory, peak FLOP/s by dtype, and the slices it is offered in."""

    vendor: Text
    hbm_bytes: Rate = Field(description="M, memory of one chip [bytes].")
    hbm_bytes_per_s: Rate = Field(description="W_hbm, memory bandwidth of one chip [bytes/s].")
    flop_per_s: Peaks = Field(description="C, dense peak of one chip by compute dtype [FLOP/s].")
    axes: tuple[Axis, ...] = Field(min_length=1, max_length=6, description="The axes of a slice, fastest first.")
    topologies: tuple[Topology, ...] = Field(
        min_length=1, max_length=1000, description="The slices on offer, chips along each axis: '4x8'."
    )
    network_bytes_per_s: Rate | None = Field(
        default=None, description="What one chip can send over the data-centre network, one way [bytes/s]."
    )
    usd_per_chip_hour: Usd | None = Field(
        default=None, description="A price of its own; catalogue chips leave this to the price books."
    )
    note: Text | None = Field(
        default=None, description="What a reader should know: conflicts between sources, omissions."
    )

    @model_validator(mode="after")
    def _topologies_fit_axes(self) -> Self:
        refuse_duplicates(self.topologies)
        for topology in self.topologies:
            sizes = topology.split("x")
            if not all(size.isascii() and size.isdigit() and size[0] != "0" and len(size) <= 7 for size in sizes):
                raise ValueError(f"topologies: {topology!r}: expected chips along each axis, as in '4x8'")
            if chips_in(topology) > MAX_CHIPS:
                raise ValueError(f"topologies: {topology!r}: expected at most {MAX_CHIPS:,} chips")
            if len(sizes) != len(self.axes):
                raise ValueError(
                    f"topologies: {topology!r} has {len(sizes)} sizes, expected {len(self.axes)}, one an axis"
                )
        return self


class Price(Strict):
    """What one chip costs for an hour, and where that is written."""

    usd_per_chip_hour: Usd
    source: Text
    note: Text | None = None


class PriceBook(Sourced):
    """Prices of chips at one date."""

    chips: dict[str, Price] = Field(min_length=1)


def axis_sizes(topology: str) -> tuple[int, ...]:
    """Chips along each axis: '4x8' is (4, 8)."""
    return tuple(int(size) for size in topology.split("x"))


def chips_in(topology: str) -> int:
    """Chips in a slice: '4x8' has 32."""
    return prod(axis_sizes(topology))


def load_model(reference: str, folder: Path = Path()) -> ModelSpec:
    """Load a model by catalogue id, or from the path of a `.toml` or a Hugging Face `config.json`.

    Paths are relative to `folder`. Raises CatalogueError when there is none, or when it is malformed.
    """
    path = Path(reference)
    if path.suffix == ".json":
        where = folder / path
        return validate(
            ModelSpec,
            model_fields(read_json(where, CatalogueError), str(where)),
            where=str(where),
            error=CatalogueError,
        )
    return _load(ModelSpec, reference, folder, "models", "model")


def load_chip(reference: str, folder: Path = Path()) -> Chip:
    """Load a chip by catalogue id, or from the path of a `.toml` relative to `folder`. Raises CatalogueError."""
    return _load(Chip, reference, folder, "hardware/chips", "chip")


def load_price_book(reference: str, folder: Path = Path()) -> PriceBook:
    """Load a price book by catalogue id, or from the path of a `.toml` relative to `folder`. Raises CatalogueError."""
    return _load(PriceBook, reference, folder, "hardware/prices", "price book")


def model_ids() -> list[str]:
    """Ids of the catalogue's models, sorted."""
    return _ids("models")


def chip_ids() -> list[str]:
    """Ids of the catalogue's chips, sorted."""
    return _ids("hardware/chips")


def price_book_ids() -> list[str]:
    """Ids of the catalogue's price books, sorted."""
    return _ids("hardware/prices")


def json_schema(kind: str) -> dict[str, Any]:
    """The JSON schema of the catalogue's files: kind is `models` or `hardware`."""
    if kind == "models":
        return ModelSpec.model_json_schema()
    _, schema = models_json_schema([(Chip, "validation"), (PriceBook, "validation")], title="Hardware")
    return schema


def _load(record: type[Record], reference: str, folder: Path, shelf: str, noun: str) -> Record:
    if reference.endswith(".toml") or "/" in reference:
        return _read(record, folder / reference)
    known = _ids(shelf)
    if reference not in known:
        raise CatalogueError(f"no {noun} '{reference}' in the catalogue; {nearest(reference, known)}")
    entry: Record = _read_once(record, _folder(shelf) / f"{reference}.toml")
    return entry


def _read(record: type[Record], path: Path) -> Record:
    fields = {"id": path.stem, **read_toml(path, CatalogueError)}
    return validate(record, fields, where=str(path), error=CatalogueError)


_read_once = cache(_read)
"""The catalogue's own files do not change while a program runs; a user's may."""


def _ids(shelf: str) -> list[str]:
    return sorted(path.stem for path in _folder(shelf).glob("*.toml"))


def _folder(shelf: str) -> Path:
    """Where a shelf of the catalogue lies: inside the installed package, else in the checkout."""
    packaged = Path(__file__).parent / "data" / shelf
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / shelf
