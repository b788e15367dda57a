from dataclasses import replace

import pytest

from servesat.core.plan import Mode
from servesat.core.quantities import dollars, gigabytes
from servesat.questions.explain import answer
from servesat.report.words import batch_split, duration, mode, sequences, ways
from tests.helpers import searching


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (2.730163, "$2.730"),
        (0.782487, "$0.7825"),
        (28.988, "$28.99"),
        (76.8, "$76.80"),
        (1234.5, "$1,234.50"),
        (2.954e-5, "$2.954e-05"),
    ],
)
def test_dollars(amount: float, text: str) -> None:
    assert dollars(amount) == text


@pytest.mark.parametrize(("amount", "text"), [(405e9, "405 GB"), (1.024e12, "1,024 GB"), (5.37e8, "0.537 GB")])
def test_gigabytes(amount: float, text: str) -> None:
    assert gigabytes(amount) == text


def test_ways() -> None:
    plan = answer(searching(topologies={"tpu-v5e": ["4x4"]})).plan
    assert plan is not None
    assert ways(plan) == "16-way tensor parallelism over axes 0 and 1"
    assert ways(replace(plan, tp=4, tp_axes=(1,))) == "4-way tensor parallelism over axis 1"
    assert ways(replace(plan, tp=1, tp_axes=())) == "no tensor parallelism"


def test_micro_batches_are_no_shards_of_the_kv_cache() -> None:
    plan = answer(searching(topologies={"tpu-v5e": ["4x4"]})).plan
    assert plan is not None
    staged = replace(plan, batch=40, pp=2, kv_batch_shards=2)
    assert batch_split(staged) == ", in 2 micro-batches of 20"
    assert batch_split(replace(staged, kv_batch_shards=8)).endswith("of 20, KV cache sharded 4 ways over the batch")
    assert batch_split(replace(staged, pp=1)) == ", KV cache sharded 2 ways over the batch"
    assert batch_split(replace(staged, pp=1, kv_batch_shards=1)) == ""


def test_a_chunk_rides_on_each_micro_batch() -> None:
    plan = answer(searching(topologies={"tpu-v5e": ["4x4"]})).plan
    assert plan is not None
    chunked = replace(plan, mode=Mode.CHUNKED, chunk_tokens=256, prefill_ms=20.0)
    assert mode(chunked, 1000) == "chunked: 256 prompt tokens ride on each step, 20.0 ms a prompt"
    staged = replace(chunked, pp=2)
    assert mode(staged, 1000) == "chunked: 256 prompt tokens ride on each micro-batch, 2 of a step, 20.0 ms a prompt"
    assert (
        mode(replace(staged, chunk_tokens=1024), 1000) == "chunked: a prompt rides whole on one step, 20.0 ms a prompt"
    )


def test_counts_and_durations() -> None:
    assert (sequences(1), sequences(2)) == ("1 sequence", "2 sequences")
    assert (duration(999.94), duration(42641.8), duration(0.05)) == ("999.9 ms", "42.64 s", "0.1 ms")
