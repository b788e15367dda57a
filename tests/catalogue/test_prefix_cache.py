from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesat import Spec, SpecError
from servesat.catalogue.prefix_cache import block_tokens, hit_shares, prefix_distances
from servesat.catalogue.traces import Trace
from servesat.core.errors import CatalogueError
from tests.strategies import SOME


def trace(*blocks: tuple[int, ...]) -> Trace:
    """Prompts of blocks of 10 tokens, the last one 4 short."""
    tokens = np.array([max(1, 10 * len(one) - 4) for one in blocks])
    return Trace("t", np.arange(len(blocks), dtype=float), tokens, np.ones(len(blocks), dtype=np.int64), blocks)


def test_distances_by_hand() -> None:
    """Before the third prompt 1 2 3 1 4 were used: 1 is two apart (4 came after it; and itself), then 2 is four."""
    found = prefix_distances(((1, 2, 3), (1, 4), (1, 2, 9)))
    assert [one.tolist() for one in found] == [[8, 8, 8], [2, 8], [1, 3, 8]]


def test_shares_by_hand() -> None:
    """Of 26 + 16 + 26 tokens caches of 1, 3 and 4 blocks of 9 hit none, two blocks in all, and three."""
    of = trace((1, 2, 3), (1, 4), (1, 2, 9))
    assert block_tokens(of) == 9
    assert hit_shares(of, [9, 3 * 9, 4 * 9, float("inf")]) == pytest.approx(np.array([0, 18, 27, 27]) / 68)


def test_ids_of_full_blocks_or_of_parts_and_prompts_without_any() -> None:
    """Ids of 26 and 16 tokens are those of parts of 9, too; those of 40 and 19 are of full blocks, of 10 at most."""
    parts = trace((1, 2, 3), (1, 4))
    assert block_tokens(parts) == 9
    without = Trace("t", np.arange(3.0), np.array([26, 16, 5000]), np.ones(3, dtype=np.int64), ((1, 2, 3), (1, 4), ()))
    assert block_tokens(without) == 9
    assert hit_shares(without, [1e6]) == pytest.approx(np.array([9]) / 5042)
    full = Trace("t", np.arange(2.0), np.array([40, 19]), np.ones(2, dtype=np.int64), ((1, 2, 3, 4), (1,)))
    assert block_tokens(full) == 10  # of parts, a block would be at least 19 tokens, and less than 40 / 3


def test_a_part_of_a_block_does_not_fit() -> None:
    """Two prompts of one block of 6 tokens: a cache of 5 holds none of it, and of 6 all but the last token."""
    assert hit_shares(trace((1,), (1,)), [5, 6, 11]) == pytest.approx(np.array([0, 5, 5]) / 12)


@SOME
@given(
    st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=6, unique=True), min_size=1, max_size=12),
    st.integers(1, 8),
)
def test_a_cache_played_through_hits_as_much(prompts: list[list[int]], room: int) -> None:
    held: list[int] = []  # the one used longest ago first
    hits = []
    for prompt in prompts:
        hit, missed = 0, False
        for block in prompt:
            missed = missed or block not in held
            hit += not missed
            if block in held:
                held.remove(block)
            held = [*held, block][-room:]
        hits.append(hit)
    reach = prefix_distances(tuple(map(tuple, prompts)))
    filled = min(room, sum(map(len, prompts)))
    assert [int(np.searchsorted(one, filled, side="left")) for one in reach] == hits


def test_a_spec_takes_the_share_of_a_trace(tmp_path: Path) -> None:
    rows = ["time,prompt_tokens,output_tokens,prefix_ids", '0,30,5,"1 2 3"', '1,20,5,"1 4"', '2,30,5,"1 2 9"']
    (tmp_path / "t.csv").write_text("\n".join(rows))

    def hit(file: str = "t.csv", **keys: object) -> float:
        cache = {"trace": str(tmp_path / file), **keys}
        workload = {"prompt_tokens": 100, "output_tokens": 10, "prefix_cache_hit": cache}
        return Spec.load({"model": "qwen3-8b", "workload": workload}).workload.prefix_cache_hit

    assert hit(cache_tokens=1000) == pytest.approx(30 / 80)
    with pytest.raises(SpecError, match=r"expected a share, or \{trace: FILE, cache_tokens: N\}"):
        hit()
    (tmp_path / "bare.csv").write_text("time,prompt_tokens,output_tokens\n0,30,5")
    with pytest.raises(SpecError, match="has no prefix_ids, or hash_ids"):
        hit("bare.csv", cache_tokens=999)


def test_a_trace_without_blocks_has_no_prefix_cache() -> None:
    bare = Trace("bare", np.zeros(1), np.ones(1, dtype=np.int64), np.ones(1, dtype=np.int64))
    with pytest.raises(CatalogueError, match="bare: has no prefix_ids"):
        hit_shares(bare, [10])
