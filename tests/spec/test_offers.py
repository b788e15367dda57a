"""Offers: which of them hold a slice, and in which units."""

from typing import Any

import pytest

from servesat.catalogue.load import load_chip
from servesat.catalogue.price_book import Price
from servesat.spec.offers import Offer, Unit


def offer(chip: str, instance_chips: int, usd: float = 8.0, **fields: Any) -> Offer:
    price = Price(
        instance="machine", instance_chips=instance_chips, usd_per_instance_hour=usd, source="test", **fields
    )  # fmt: skip
    return Offer(load_chip(chip), price.usd_per_chip_hour, price)


@pytest.mark.parametrize(
    ("chips", "topology", "network", "unit"),
    [
        (8, "2x1", None, Unit(4, 8, 1, 8.0)),
        (8, "8x1", None, Unit(1, 8, 1, 8.0)),
        (6, "4x1", None, Unit(1, 6, 1, 8.0)),
        (1, "8x1", 4e11, None),  # the NVLink axis would leave the instance
        (4, "8x1", 4e11, None),
        (8, "8x2", None, None),  # no network is stated
        (8, "8x2", 1e11, None),  # 12.5 GB/s a chip, and the axis has 50
        (8, "8x2", 4e11, Unit(1, 16, 2, 16.0)),
        (16, "8x2", None, Unit(1, 16, 1, 8.0)),
        (3, "8x1", 4e12, None),  # 8 chips are no whole number of instances
    ],
)
def test_instances_hold_a_slice_of_h100_or_do_not(
    chips: int, topology: str, network: float | None, unit: Unit | None
) -> None:
    assert offer("h100-sxm", chips, network_bytes_per_s=network).unit(topology, "instances") == unit


def test_a_link_beyond_the_instance_holds_wider_slices() -> None:
    """An instance of 4 GB200 in a rack of 72: 16 of them are 4 instances; two racks need a network."""
    rack = offer("gb200", 4, link_chips=72)
    assert rack.unit("16x1", "instances") == Unit(1, 16, 4, 32.0)
    assert rack.unit("72x1", "instances") == Unit(1, 72, 18, 144.0)
    assert rack.unit("72x2", "instances") is None
    networked = offer("gb200", 4, link_chips=72, network_bytes_per_s=4 * 50e9)
    assert networked.unit("72x2", "instances") == Unit(1, 144, 36, 288.0)
    assert offer("gb200", 4).unit("8x1", "instances") is None


def test_a_share_is_paid_by_the_chip() -> None:
    assert offer("h100-sxm", 8).unit("2x1", "share") == Unit(1, 2, 0, 2.0)
    assert Offer(load_chip("tpu-v5e"), 1.2).unit("4x4", "instances") == Unit(1, 16, 0, pytest.approx(19.2))


def test_a_chip_sends_no_more_than_its_instance() -> None:
    assert offer("h100-sxm", 8, network_bytes_per_s=8e10).network_bytes_per_s == 1e10
    assert offer("h100-sxm", 8, network_bytes_per_s=8e12).network_bytes_per_s == 5e10
    assert offer("h100-sxm", 8).network_bytes_per_s == 5e10
