"""The sizes of a model as tables, and as a JSON document."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from servesat.core.quantities import dollars, gigabytes, number
from servesat.questions.sizes import Sizes
from servesat.report.tables import titled


def sizes_document(found: Sizes) -> dict[str, Any]:
    """The JSON of `servesat sizes`."""
    return {
        "model": found.model.id,
        "max_context_tokens": found.model.max_context_tokens,
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
        "output_tokens": found.output_tokens,
        "compute": found.compute,
        "usd_per_chip_hour": found.usd_per_chip_hour,
        "price_book": found.price_book,
        "full_slices": [asdict(row) for row in found.full_slices],
    }


def print_sizes(console: Console, found: Sizes) -> None:
    """Print a table by dtype, one of the KV cache, and one of the slices filled with sequences."""
    tp = [f"tp at batch {batch}" for batch in found.batches]
    figures = ["weights", "KV/token", "chips", "smallest slice", *tp]
    by_dtype = titled(f"{found.model.name} on {found.chip.name}", ["dtype"], figures)
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
    kv_cache = titled(f"KV cache in {found.kv_cache}", [], ["context", *(f"batch {batch}" for batch in found.batches)])
    for context, held in zip(found.contexts, found.kv_bytes, strict=True):
        kv_cache.add_row(f"{context:,}", *(f"{one / 1e9:,.4g} GB" for one in held))
    console.print(kv_cache)
    longest = found.model.max_context_tokens
    if longest is not None and max(found.contexts) > longest:
        console.print(
            f"{found.model.name} takes {longest:,} tokens; longer contexts need rope scaling, and a spec that asks for "
            "them has no plan.",
            style="dim",
        )
    if not found.full_slices:
        console.print("No slice holds the weights.")
        return
    console.print(_full_slices(found))
    console.print(
        "The smallest slice that holds each dtype, and the next of at least twice its chips: KV cache in the dtype of "
        f"the weights, matmuls in {found.compute}, ideal cost model.",
        style="dim",
    )


def _full_slices(found: Sizes) -> Table:
    usd = found.usd_per_chip_hour
    book = f" ({found.price_book})" if found.price_book else ""
    price = "" if usd is None else f", {dollars(usd)} a chip-hour{book}"
    title = f"Decoding with memory full, {found.output_tokens:,} tokens of output{price}"
    cost = [] if usd is None else ["$/1M"]
    table = titled(title, ["dtype"], ["slice", "context", "batch", "step", "requests/s", "per chip", *cost])
    for row in found.full_slices:
        figures = ["none fits"]
        if row.step_s is not None:
            per_s, each_per_s = row.requests_per_s or 0.0, row.requests_per_s_per_chip or 0.0
            figures = [str(row.batch), f"{row.step_s * 1e3:.2f} ms", number(per_s), number(each_per_s)]
            figures += [dollars(row.usd_per_million_output_tokens or 0.0)] if cost else []
        table.add_row(row.dtype, row.slice, f"{row.context_tokens:,}", *figures)
    return table
