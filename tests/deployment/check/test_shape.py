"""The shape of a replica by hand."""

import pytest

from tests.deployment.check.replicas import replica
from tests.helpers import moe_model


def test_the_shape_of_a_replica() -> None:
    assert (replica().tp, replica().ep, replica().chips, replica().batch_multiple) == (2, 4, 8, 4)
    wide = replica(tp_axes=(0, 1), ep_axes=())
    assert (wide.tp, wide.batch_multiple) == (8, 2)  # 4 KV heads over 8 chips


@pytest.mark.parametrize(("heads", "kv_heads", "divides", "splits"), [(8, 4, True, True), (6, 3, False, False)])
def test_heads(heads: int, kv_heads: int, divides: bool, splits: bool) -> None:
    shape = replica(moe_model(query_heads=heads, kv_heads=kv_heads), tp_axes=(1,), ep_axes=())
    assert (shape.divides_heads, shape.splits_kv_heads) == (divides, splits)
