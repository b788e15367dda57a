"""What a measurement ran on."""

from dataclasses import replace

import pytest

from servesat.catalogue.load import load_chip, load_model
from servesat.catalogue.measurements import Measurement
from servesat.cost_model.storage import Storage
from servesat.questions.measured_rows import replica_of_row, sequences_in_memory, settled

ROW = Measurement(
    number=1, model=load_model("qwen3-30b-a3b"), chip=load_chip("h100-sxm"), engine="vllm", engine_version="",
    harness="", weights="bf16", kv_cache="bf16", compute="bf16", tp=1, dp=1, spreads_experts=False, concurrency=None,
    requests_per_s=50.0, prompt_tokens=512, output_tokens=256, measured={"tpot_p50_ms": 60.0, "tokens_per_s": 5300.0},
    board="h100",
)  # fmt: skip


def test_sequences_in_memory_by_hand() -> None:
    """Beside 61.06 GB of 0.9 · 85.52 GB, sequences of 768 tokens of 48 · 2 · 4 · 128 values of two bytes."""
    assert sequences_in_memory(ROW) == (0.9 * 85_520_809_984 - 61.06e9) // (768 * 98_304) == 210


def test_eight_ways_keep_two_copies_of_four_kv_heads() -> None:
    """Of 8 · 0.9 · 85.52 GB less the weights, sequences of 768 tokens of 98,304 bytes, twice."""
    assert sequences_in_memory(replace(ROW, tp=8)) == (8 * 0.9 * 85_520_809_984 - 61.06e9) // (2 * 768 * 98_304)


def test_padded_experts_are_stored_as_a_plan_has_them() -> None:
    """gpt-oss pads experts of 2,880 values to 3,072: 6.7 % more of them than are counted."""
    row = replace(ROW, model=load_model("gpt-oss-120b"), weights="mxfp4")
    storage = Storage(row.model)
    assert float(replica_of_row(row).weights.experts / storage.weights("mxfp4").experts) == pytest.approx(3072 / 2880)


def test_weights_that_do_not_fit_leave_room_for_none() -> None:
    assert sequences_in_memory(replace(ROW, model=load_model("llama-3.3-70b"))) == 0


def test_a_board_that_cannot_have_held_so_many_is_the_larger_one() -> None:
    """5,300 tokens/s at 60 ms a token are 318 sequences, where 80 GB hold 210 and 94 GB hold 389."""
    one, other = settled([ROW, replace(ROW, measured={"tpot_p50_ms": 8.0, "tokens_per_s": 250.0})])
    assert (one.chip.id, other.chip.id) == ("h100-nvl", "h100-nvl")  # one file, one machine
    assert settled([replace(ROW, board="")])[0].chip.id == "h100-sxm"
    assert settled([replace(ROW, workers=2)])[0].chip.id == "h100-sxm"  # each of which has half
    fits = replace(ROW, measured={"tpot_p50_ms": 60.0, "tokens_per_s": 4000.0})
    assert settled([fits])[0].chip.id == "h100-sxm"
