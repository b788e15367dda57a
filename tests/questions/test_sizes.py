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


def test_full_slices_are_those_of_the_chapter() -> None:
    """Part 8: 43 sequences of 8k on each smallest slice in 19.5 ms, 0.27, 0.54 and 1.08 requests/s/chip at 512 tokens.

    Doubled, 138 fit: bf16 stays at a full HBM, 0.43; int8 on 4x4 takes 2 · 70e9 · 138 / (16 · 1.97e14) = 6.13 ms for
    FLOPs and 138 · 163,840 · 8,192 / (16 · 8.2e11) = 14.12 ms for the KV cache, so 138 / 20.25 ms / 512 / 16 = 0.832.
    """
    found = sizes_of(load_model("llama-3-70b"), load_chip("tpu-v5e"), contexts=[8192])
    per_chip = {(row.slice, row.batch): row.requests_per_s_per_chip for row in found.full_slices}
    assert list(per_chip) == [("4x4", 43), ("4x8", 138), ("2x4", 43), ("4x4", 138), ("2x2", 43), ("2x4", 138)]
    assert list(per_chip.values()) == pytest.approx([0.2696, 0.4330, 0.5392, 0.8320, 1.0785, 1.2773], rel=2e-4)
    int8 = next(row for row in found.full_slices if (row.dtype, row.slice) == ("int8", "4x4"))
    assert int8.step_s == pytest.approx(20.25e-3, rel=2e-4)
    assert int8.usd_per_million_output_tokens == pytest.approx(1.2 / 3600 / (0.8320 * 512) * 1e6, rel=2e-4)


def test_full_slices_at_another_price_and_output() -> None:
    found = sizes_of(
        load_model("llama-3-70b"), load_chip("tpu-v5e"), contexts=[8192], output_tokens=256, usd_per_chip_hour=2.4
    )
    assert found.full_slices[0].requests_per_s_per_chip == pytest.approx(2 * 0.2696, rel=2e-4)
    assert found.full_slices[0].usd_per_million_output_tokens == pytest.approx(2 * 2.415, rel=1e-3)


def test_a_slice_that_holds_no_sequence_has_no_figures() -> None:
    row = sizes_of(load_model("llama-3-70b"), load_chip("tpu-v5e"), contexts=[10**6]).full_slices[0]
    assert (row.batch, row.step_s, row.requests_per_s, row.usd_per_million_output_tokens) == (0, None, None, None)


def test_a_chip_without_a_price_has_sizes_without_costs() -> None:
    found = sizes_of(load_model("llama-3-8b"), load_chip("a40"), contexts=[8192])
    assert found.usd_per_chip_hour is None
    assert {row.usd_per_million_output_tokens for row in found.full_slices} == {None}
    assert "$/1M" not in run("sizes", "llama-3-8b", "--chip", "a40").stdout


def test_sizes_on_the_command_line() -> None:
    document = json.loads(run("sizes", "llama-3-70b", "--chip", "tpu-v5e", "--batches", "1", "--json").stdout)
    assert [row["smallest_slice"] for row in document["dtypes"]] == ["4x4", "2x4", "2x2"]
    assert document["kv_cache"]["bytes"][0] == {"context_tokens": 2048, "batch": 1, "bytes": 2048 * 163_840}
    assert "2x4" in run("sizes", "llama-3-70b", "--chip", "tpu-v5e").stdout
    assert run("sizes", "llama-3-70b", "--batches", "x").exit_code == 2
    filled = run("sizes", "llama-3-70b", "--chip", "tpu-v5e", "--contexts", "8192,1000000", "--price", "0.6").stdout
    assert "43 19.47 ms 4.314 0.2696 $1.207" in " ".join(filled.split())
    assert "none fits" in filled


def test_a_context_longer_than_the_model_takes_is_said_to_need_rope_scaling() -> None:
    beyond = "OPT 175B takes 2,048 tokens; longer contexts need rope scaling"
    assert beyond in " ".join(run("sizes", "opt-175b", "--contexts", "2048,8192").stdout.split())
    assert beyond not in " ".join(run("sizes", "opt-175b", "--contexts", "2048").stdout.split())


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(SpecError, match="batches = 0: expected whole numbers of at least 1"):
        sizes_of(load_model("llama-3-70b"), load_chip("tpu-v5e"), batches=[0])


@pytest.mark.parametrize("price", ["0", "-1", "inf", "nan"])
def test_a_price_that_is_none_is_refused(price: str) -> None:
    result = run("sizes", "llama-3-70b", "--price", price)
    assert result.exit_code == 1
    assert "expected dollars a chip-hour, more than 0" in result.stderr


def test_a_model_that_no_slice_holds_has_no_third_table() -> None:
    printed = run("sizes", "llama-3-405b", "--chip", "t4").stdout
    assert "No slice holds the weights." in printed
    assert "Decoding with memory full" not in printed


def test_the_price_book_of_a_price_is_named() -> None:
    assert "$1.200 a chip-hour (list-2026-11)" in " ".join(
        run("sizes", "llama-3-70b", "--chip", "tpu-v5e").stdout.split()
    )
    stated = run("sizes", "llama-3-70b", "--chip", "tpu-v5e", "--price", "0.6").stdout
    assert "list-2026-11" not in stated
