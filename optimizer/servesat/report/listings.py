"""Entries of the catalogue as rows and records, for tables and JSON."""

from pathlib import Path
from typing import Any, get_args

from servesat.catalogue.chip import Peaks, chips_in
from servesat.catalogue.load import (
    chip_ids,
    engine_ids,
    load_chip,
    load_engine,
    load_model,
    load_price_book,
    model_ids,
    price_book_ids,
)
from servesat.catalogue.model import ModelSpec, TensorGroup
from servesat.catalogue.price_book import Price, PriceBook
from servesat.catalogue.price_import import ImportedPrices
from servesat.catalogue.recovery import published
from servesat.core.errors import CatalogueError
from servesat.core.validation import Dtype, nearest
from servesat.cost_model.memory import (
    active_parameters,
    counted_parameters,
    parameters,
    parameters_by_group,
)
from servesat.cost_model.storage import Storage

MODEL_DETAILS = ("layers", "d_model", "active_parameters", "attention", "experts", "native")
ENGINE_DETAILS = ("checked", "chips", "latent_kv_layouts", "modes", "utilisation")
CHIP_DETAILS = ("usable_gb", "tflop_per_s", "axes_gb_per_s", "largest_slice")
PRICE_DETAILS = ("price_book", "cloud", "region", "instance", "instance_chips", "usd_per_instance_hour")
SUPPORT_DETAILS = ("int8", "int4", "mxfp4", "nvfp4", "latent", "indexed")
"""The columns of each listing that give way on a narrow line."""

PEAKS = tuple(f"{dtype}_tflop_per_s" for dtype in Peaks.model_fields)
"""The columns of a chip's peaks, which a table prints in one."""


def model_rows() -> list[dict[str, Any]]:
    """A row per model: its shape, parameters and KV cache."""
    return [_model_row(model_id) for model_id in model_ids()]


def model_entry(reference: str | Path) -> dict[str, Any]:
    """A model as a JSON document. Raises CatalogueError."""
    return model_document(load_model(reference))


def model_document(model: ModelSpec) -> dict[str, Any]:
    """The fields of a model, its derived figures, and the published accuracies of its quantisation."""
    of_weights = [recovery for recovery in published().weights if model.id in recovery.models]
    of_kv_cache = [recovery for recovery in published().kv_cache if {model.id, "*"} & set(recovery.models)]
    return model.model_dump(mode="json", exclude_none=True) | {
        "parameters": parameters(model),
        "counted_parameters": counted_parameters(model),
        "active_parameters": active_parameters(model),
        "native_weights_bytes": Storage(model).weights_bytes(_published_dtype(model)),
        "kv_cache_bytes_per_token_bf16": _kv_bytes_per_token(model),
        "state_bytes": Storage(model).kv_cache_bytes("bf16", 0),
        "tensors": tensor_rows(model),
        "accuracy": [recovery.model_dump(mode="json", exclude={"models"}) for recovery in of_weights],
        "accuracy_of_kv_cache": [recovery.model_dump(mode="json") for recovery in of_kv_cache],
    }


def tensor_rows(model: ModelSpec) -> list[dict[str, Any]]:
    """A row per group of tensors: its parameters, and what they take as published."""
    storage, weights = Storage(model), _published_dtype(model)
    counts, stored = parameters_by_group(model), storage.bytes_by_group(weights)
    apart = {"vision_encoder": model.vision_parameters, "multi_token_prediction": model.mtp_parameters}
    return [
        {
            "group": group.value,
            "parameters": counts[group],
            "dtypes": storage.dtypes_of(group, weights),
            "bytes": stored[group],
        }
        for group in TensorGroup
        if group in counts
    ] + [
        {"group": name, "parameters": float(count), "dtypes": {"bf16": 1.0}, "bytes": 2.0 * count}
        for name, count in apart.items()
        if count
    ]


def tensor_table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `tensor_rows` for reading: `mxfp4`, or `fp8 62.8%, bf16 37.2%`, and GB."""
    return [
        {
            "tensors": row["group"],
            "parameters": row["parameters"],
            "dtype": ", ".join(
                dtype if share == 1 else f"{dtype} {share:.1%}" for dtype, share in row["dtypes"].items()
            ),
            "gb": row["bytes"] / 1e9,
        }
        for row in rows
    ]


def chip_rows() -> list[dict[str, Any]]:
    """A row per chip: memory, peaks and slices."""
    rows = []
    for chip_id in chip_ids():
        chip = load_chip(chip_id)
        peaks = chip.flop_per_s.by_dtype()
        rows.append(
            {
                "id": chip_id,
                "hbm_gb": chip.hbm_bytes / 1e9,
                "usable_gb": None if chip.usable_hbm_bytes is None else chip.usable_hbm_bytes / 1e9,
                "hbm_gb_per_s": chip.hbm_bytes_per_s / 1e9,
                "tflop_per_s": ", ".join(f"{dtype} {peak / 1e12:,.5g}" for dtype, peak in peaks.items()),
                **{
                    column: peaks[dtype] / 1e12 if dtype in peaks else None
                    for column, dtype in zip(PEAKS, Peaks.model_fields, strict=True)
                },
                "axes_gb_per_s": ", ".join(f"{axis.name} {axis.bytes_per_s / 1e9:g}" for axis in chip.axes),
                "largest_slice": max(map(chips_in, chip.topologies)),
            }
        )
    return rows


def chip_entry(reference: str | Path) -> dict[str, Any]:
    """The fields of a chip. Raises CatalogueError."""
    return load_chip(reference).model_dump(mode="json", exclude_none=True)


def engine_rows() -> list[dict[str, Any]]:
    """A row per engine: what it runs on, and how it splits a model."""
    rows = []
    for engine_id in engine_ids():
        engine = load_engine(engine_id)
        rows.append(
            {
                "id": engine_id,
                "name": engine.name,
                "checked": None if engine.checked is None else engine.checked.isoformat(),
                "chips": sum(len(support.chips) for support in engine.runs),
                "kv_layouts": ", ".join(engine.kv_layouts),
                "latent_kv_layouts": ", ".join(engine.latent_kv_layouts),
                "modes": ", ".join(engine.modes),
                "experts": engine.experts,
                "utilisation": engine.memory.utilisation,
            }
        )
    return rows


def engine_entry(reference: str | Path) -> dict[str, Any]:
    """The fields of an engine. Raises CatalogueError."""
    return load_engine(reference).model_dump(mode="json", exclude_none=True)


def support_rows(reference: str | Path) -> list[dict[str, Any]]:
    """A row per family of chips: what it computes weights of each dtype in, from what, and how it names KV caches."""
    rows: list[dict[str, Any]] = []
    for support in load_engine(reference).runs:
        caches = {"kv_cache": support.kv_cache, "latent": support.latent_kv_cache, "indexed": support.sparse_kv_cache}
        weights = {
            str(dtype): f"{' or '.join(one.compute)}, {one.quantises or ('as is' if dtype == 'bf16' else 'checkpoint')}"
            for dtype, one in support.weights.items()
        }
        rows.append(
            {
                "chips": ", ".join(support.chips),
                **{dtype: weights.get(dtype, "") for dtype in get_args(Dtype)},
                **{kind: ", ".join(map(str, names)) for kind, names in caches.items()},
            }
        )
    return rows


def price_rows(
    *,
    book: str | Path | None = None,
    chip: str | None = None,
    cloud: str | None = None,
    region: str | None = None,
    purchase: str | None = None,
) -> list[dict[str, Any]]:
    """A row per price; with `chip`, sorted by price.

    `book` is an id or a path and defaults to every book of the catalogue; the other arguments filter. Raises
    CatalogueError when no price remains.
    """
    books = [load_price_book(name) for name in ([book] if book else price_book_ids())]
    rows = [
        _price_row(price_book, chip_id, price)
        for price_book in books
        for chip_id, prices in sorted(price_book.prices.items())
        for price in prices
        if chip in (None, chip_id)
        and cloud in (None, price.cloud)
        and purchase in (None, price.purchase)
        and (not region or price.region in (None, region))
    ]
    regions = {name for price_book in books for name in price_book.regions}
    if region is not None and region not in regions:
        raise CatalogueError(f"no price names the region {region!r}; {nearest(region, regions)}")
    if not rows:
        filters = ", ".join(value for value in (chip, cloud, region, purchase) if value)
        unknown = chip is not None and chip not in chip_ids()
        hint = f"; {nearest(chip or '', chip_ids())}" if unknown else ""
        where = books[0].id if len(books) == 1 else "any price book"
        raise CatalogueError(f"no price for {filters} in {where}{hint}")
    return sorted(rows, key=lambda row: row["usd_per_chip_hour"]) if chip else rows


def _price_row(book: PriceBook, chip_id: str, price: Price) -> dict[str, Any]:
    names = ("purchase", "cloud", "region", "instance", "instance_chips", "usd_per_instance_hour", "source", "note")
    return {
        "price_book": book.id,
        "chip": chip_id,
        "usd_per_chip_hour": price.usd_per_chip_hour,
        **{name: getattr(price, name) for name in names},
    }


def without_columns(rows: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    """Drop the columns that a table has no room for."""
    return [{key: value for key, value in row.items() if key not in names} for row in rows]


def price_book_entry(reference: str | Path) -> dict[str, Any]:
    """The fields of a price book. Raises CatalogueError."""
    return load_price_book(reference).model_dump(mode="json", exclude_none=True)


def import_summary(imported: ImportedPrices, out: Path) -> str:
    """What an import wrote: `wrote 3 offers of 2 instances, and of tpu-v5e by the chip, at 9 prices to mine.toml`."""
    book = imported.book
    by_chip = sorted({offer.chip for offer in book.offers if offer.chip is not None})
    sold = _counted(len(book.instances), "instance")
    if by_chip:
        sold += f", and of {', '.join(by_chip)} by the chip"
    return f"wrote {_counted(len(book.offers), 'offer')} of {sold}, at {_counted(imported.prices, 'price')} to {out}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def import_document(imported: ImportedPrices, out: Path | None) -> dict[str, Any]:
    """The facts of an import: what it wrote to which file, and what it left out and why."""
    return {
        "file": None if out is None else str(out),
        "name": imported.book.name,
        "checked": str(imported.book.checked),
        "format": imported.kind,
        "offers": len(imported.book.offers),
        "instances": len(imported.book.instances),
        "prices": imported.prices,
        "chips": sorted(imported.book.prices),
        "left_out": [
            {"what": reason.value[0], "why": reason.value[1], "name": name or None, "count": count}
            for reason, name, count in imported.left_out
        ],
    }


def _model_row(model_id: str) -> dict[str, Any]:
    model = load_model(model_id)
    return {
        "id": model_id,
        "parameters": parameters(model),
        "layers": model.layers,
        "d_model": model.d_model,
        "active_parameters": active_parameters(model),
        "attention": _attention(model),
        "experts": None if model.moe is None else f"{model.moe.experts_per_token} of {model.moe.experts}",
        "native": _published_dtype(model),
        "kv_kb_per_token_bf16": _kv_bytes_per_token(model) / 1e3,
    }


def _published_dtype(model: ModelSpec) -> str:
    return model.native.dtype if model.native else "bf16"


def _kv_bytes_per_token(model: ModelSpec) -> float:
    """What the first token adds to a KV cache in bf16, over all layers [bytes]."""
    return Storage(model).kv_cache_bytes("bf16", 1) - Storage(model).kv_cache_bytes("bf16", 0)


def _attention(model: ModelSpec) -> str:
    """The kind of attention: `8 KV heads, window 1,024 in 52 of 62 layers`."""
    kind = "latent" if model.mla else f"{model.kv_heads} KV head" + ("s" if model.kv_heads > 1 else "")
    if model.other_layers:
        states = sum(other.layers for other in model.other_layers if other.state_bytes)
        others = [f"{states} layers with a state"] if states else []
        others += [f"{other.kv_heads} KV heads in {other.layers}" for other in model.other_layers if other.kv_heads]
        own = [f"{kind} in {model.attention_layers}"] if model.attention_layers else []
        return ", ".join([*own, *others])
    if model.window_tokens is not None:
        return f"{kind}, window {model.window_tokens:,} in {model.window_layers} of {model.layers} layers"
    return f"{kind}, sparse" if model.sparse else kind
