"""What the chips of a replica send each other, by hand."""

import pytest

from servesat.core.plan import KvLayout
from tests.deployment.check.replicas import CHIP, replica
from tests.helpers import moe_model


def test_split_sequences_exchange_queries_and_results() -> None:
    split = replica(tp_axes=(0, 1), ep_axes=(), kv_layout=KvLayout.SEQUENCE)
    assert (split.batch_multiple, split.held_kv_bytes(10)) == (1, 2 * 4 * 32 * 4 * 10)
    # 4 layers of 8 heads a KV head / 4, 32 wide, to gather and to combine, and 4 bytes of a sum, over two axes
    assert split.step(3, 100).kv_exchange_s == pytest.approx(3 * 4 * 2 * (2 * 2 * 32 + 4) / 2e9)
    assert replica(kv_layout=KvLayout.SEQUENCE).step(3, 100).kv_exchange_s == 0


def test_axes_of_one_speed_add_up_and_open_torus_axes_have_half() -> None:
    ring = [{"name": name, "bytes_per_s": 1e9, "wraps_every": 4} for name in "xy"]
    torus = CHIP.model_copy(update={"axes": tuple(type(CHIP.axes[0]).model_validate(axis) for axis in ring)})
    dense = {"tp_axes": (0, 1), "ep_axes": (), "model": moe_model(moe=None, d_ff=1024), "chip": torus}
    both, exact = replica(**dense), replica(**dense, exact_wraparound=True)
    (closed,), (half,) = both.matmuls(8), exact.matmuls(8)
    assert closed[0] == pytest.approx(2 * 8 * 256 / 2e9)
    assert half[0] == pytest.approx(2 * closed[0])  # the axis of 2 chips closes to no ring, and sets the pace
