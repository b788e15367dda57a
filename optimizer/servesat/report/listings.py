"""The catalogue's entries as rows and records, the same for tables and JSON."""

from typing import Any

from servesat.catalogue import (
    chip_ids,
    chips_in,
    load_chip,
    load_model,
    load_price_book,
    model_ids,
    price_book_ids,
)
from servesat.memory import counted_parameters, kv_cache_bytes, parameters


def model_rows() -> list[dict[str, Any]]:
    """One row a model: its shape, parameters and KV cache."""
    return [_model_row(model_id) for model_id in model_ids()]


def model_entry(reference: str) -> dict[str, Any]:
    """One model with every field of its file, and what follows from them."""
    model = load_model(reference)
    return model.model_dump(mode="json", exclude_none=True) | {
        "parameters": parameters(model),
        "counted_parameters": counted_parameters(model),
        "kv_cache_bytes_per_token_bf16": kv_cache_bytes(model, 1, 2.0),
    }


def chip_rows() -> list[dict[str, Any]]:
    """One row a chip: memory, peaks and the slices on offer."""
    rows = []
    for chip_id in chip_ids():
        chip = load_chip(chip_id)
        peaks = chip.flop_per_s.by_dtype()
        rows.append(
            {
                "id": chip_id,
                "hbm_gb": chip.hbm_bytes / 1e9,
                "hbm_gb_per_s": chip.hbm_bytes_per_s / 1e9,
                "bf16_tflop_per_s": peaks["bf16"] / 1e12 if "bf16" in peaks else None,
                "computes_in": ", ".join(peaks),
                "axes": ", ".join(f"{axis.name} {axis.bytes_per_s / 1e9:g} GB/s" for axis in chip.axes),
                "largest_slice": max(map(chips_in, chip.topologies)),
            }
        )
    return rows


def chip_entry(reference: str) -> dict[str, Any]:
    """One chip with every field of its file."""
    return load_chip(reference).model_dump(mode="json", exclude_none=True)


def price_book_rows() -> list[dict[str, Any]]:
    """One row a price book and chip."""
    return [
        {"price_book": book_id, "chip": chip_id, "usd_per_chip_hour": price.usd_per_chip_hour, "source": price.source}
        for book_id in price_book_ids()
        for chip_id, price in sorted(load_price_book(book_id).chips.items())
    ]


def price_book_entry(reference: str) -> dict[str, Any]:
    """One price book with every field of its file."""
    return load_price_book(reference).model_dump(mode="json", exclude_none=True)


def _model_row(model_id: str) -> dict[str, Any]:
    model = load_model(model_id)
    return {
        "id": model_id,
        "parameters": parameters(model),
        "layers": model.layers,
        "d_model": model.d_model,
        "d_ff": model.d_ff,
        "query_heads": model.query_heads,
        "kv_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "kv_kb_per_token_bf16": float(kv_cache_bytes(model, 1, 2.0)) / 1e3,
    }
