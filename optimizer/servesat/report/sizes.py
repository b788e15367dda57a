"""The sizes of a model as tables, and as a JSON document."""

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from servesat.core.quantities import gigabytes
from servesat.questions.sizes import Sizes


def sizes_document(found: Sizes) -> dict[str, Any]:
    """The JSON of `servesat sizes`."""
    return {
        "model": found.model.id,
        "chip": found.chip.id,
        "dtypes": [
            {
                "dtype": row.dtype,
                "weights_bytes": row.weights_bytes,
                "kv_bytes_per_token": row.kv_bytes_per_token,
                "chips": row.chips,
                "smallest_slice": row.slice,
                "largest_tp": dict(zip(map(str, found.batches), row.largest_tp, strict=True)),
            }
            for row in found.by_dtype
        ],
        "kv_cache": {
            "dtype": found.kv_cache,
            "bytes": [
                {"context_tokens": context, "batch": batch, "bytes": held}
                for context, row in zip(found.contexts, found.kv_bytes, strict=True)
                for batch, held in zip(found.batches, row, strict=True)
            ],
        },
    }


def print_sizes(console: Console, found: Sizes) -> None:
    """Print a table by dtype, and one of the KV cache."""
    by_dtype = Table(box=box.SIMPLE_HEAD, title=f"{found.model.name} on {found.chip.name}", title_justify="left")
    by_dtype.add_column("dtype")
    tp = [f"tp at batch {batch}" for batch in found.batches]
    for column in ("weights", "KV a token", "chips", "smallest slice", *tp):
        by_dtype.add_column(column, justify="right")
    for row in found.by_dtype:
        by_dtype.add_row(
            row.dtype,
            gigabytes(row.weights_bytes),
            f"{row.kv_bytes_per_token / 1e3:.4g} kB",
            f"{row.chips:.2f}",
            row.slice or "none holds it",
            *map(str, row.largest_tp),
        )
    console.print(by_dtype)
    kv_cache = Table(box=box.SIMPLE_HEAD, title=f"KV cache in {found.kv_cache}", title_justify="left")
    kv_cache.add_column("context", justify="right")
    for batch in found.batches:
        kv_cache.add_column(f"batch {batch}", justify="right")
    for context, held in zip(found.contexts, found.kv_bytes, strict=True):
        kv_cache.add_row(f"{context:,}", *(f"{one / 1e9:,.4g} GB" for one in held))
    console.print(kv_cache)
