import json

import pytest

from servesat.catalogue.load import load_chip, load_model
from servesat.core.errors import SpecError
from servesat.questions.sizes import sizes_of
from tests.cli.commands import run


def test_the_llama_of_the_book_on_v5e() -> None:
    """Part 8: 8.75, 4.38 and 2.19 chips; slices 4x4, 2x4, 2x2; 163.8 kB a token in int8."""
    found = sizes_of(load_model("llama-3-70b"), load_chip("tpu-v5e"))
    chips = {row.dtype: (round(row.chips, 2), row.slice) for row in found.by_dtype}
    assert chips == {"bf16": (8.75, "4x4"), "int8": (4.38, "2x4"), "int4": (2.19, "2x2")}
    int8 = next(row for row in found.by_dtype if row.dtype == "int8")
    assert int8.kv_bytes_per_token == 2 * 80 * 8 * 128
    assert found.kv_bytes[1][2] == 240 * 8192 * 2 * 80 * 8 * 128


def test_the_largest_useful_tensor_parallelism_by_hand() -> None:
    """Compute-bound a chip gets F · m / α columns: 28,672 · 2 / 2,189 = 26 of two axes, so 16 of 4x4; at few
    sequences loading int8 weights hides more: Y ≤ (1 / 2) · F · m / (B · 9.1), 98 at 16, of which 64 divide the heads.
    """
    found = sizes_of(load_model("llama-3-70b"), load_chip("tpu-v5e"), batches=[16, 2000])
    assert next(row.largest_tp for row in found.by_dtype if row.dtype == "int8") == (64, 16)


def test_sizes_on_the_command_line() -> None:
    document = json.loads(run("sizes", "llama-3-70b", "--chip", "tpu-v5e", "--batches", "1", "--json").stdout)
    assert [row["smallest_slice"] for row in document["dtypes"]] == ["4x4", "2x4", "2x2"]
    assert document["kv_cache"]["bytes"][0] == {"context_tokens": 2048, "batch": 1, "bytes": 2048 * 163_840}
    assert "2x4" in run("sizes", "llama-3-70b", "--chip", "tpu-v5e").stdout
    assert run("sizes", "llama-3-70b", "--batches", "x").exit_code == 2


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(SpecError, match="batches = 0: expected whole numbers of at least 1"):
        sizes_of(load_model("llama-3-70b"), load_chip("tpu-v5e"), batches=[0])
