"""What a spec can rent: which offers hold a slice, in which units, and which prices a spec narrows them to."""

from typing import Any

import pytest

from servesat import Spec, SpecError
from servesat.catalogue.load import chip_ids, load_chip, load_price_book, price_book_ids
from servesat.catalogue.price_book import Price
from servesat.spec.offers import Offer, Unit

CHAT = {"model": "llama-3-8b", "workload": {"prompt_tokens": 2000, "output_tokens": 300}}


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


def test_a_spec_narrows_the_offers_of_every_cloud() -> None:
    everywhere = Spec.load({**CHAT, "price_book": "all", "search": {"chips": ["h100-sxm"]}})
    clouds = {each.place[0] for each in everywhere.offers}
    assert {"aws", "azure", "gcp", "lambda", "nebius", "oci", "runpod"} <= clouds
    assert {each.place[2] for each in everywhere.offers} == {"on_demand"}
    prices = [each.usd_per_chip_hour for each in everywhere.offers]
    assert prices == sorted(prices)
    narrowed = everywhere.changed({"cloud": ["aws", "azure"], "region": "us-east-1", "purchase": ["on_demand", "spot"]})
    assert {each.place[:2] for each in narrowed.offers} == {("aws", "us-east-1")}
    assert {each.place[2] for each in narrowed.offers} == {"on_demand", "spot"}
    assert {each.place[0] for each in everywhere.changed({"cloud": "oci"}).offers} == {"oci"}


def test_books_are_searched_together() -> None:
    two = Spec.load({**CHAT, "price_book": ["aws-2026-11", "oci-2026-11"], "search": {"chips": ["h100-sxm"]}})
    assert two.price_book.id == "aws-2026-11 + oci-2026-11"
    assert {each.place[0] for each in two.offers} == {"aws", "oci"}


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"cloud": "asw"}, "cloud = 'asw': no price in all names it; did you mean 'aws'"),
        ({"region": ["us-east-1", "mars"]}, "region = 'mars': no price in all names it"),
        ({"price_book": ["aws-2026-11", "aws-2026-11"]}, "'aws-2026-11' is listed twice"),
        ({"price_book": ["aws-2026-11", "x"]}, "price_book.1 = 'x': no price book 'x' in the catalogue"),
        ({"buy": "half"}, "buy = 'half': expected one of 'share' or 'instances'"),
        ({"purchase": []}, "purchase = []: expected at least 1 entry"),
        ({"cloud": "azure", "search": {"chips": ["tpu-v5e"]}}, "tpu-v5e has no price in all as on_demand at azure"),
    ],
)
def test_a_place_that_sells_nothing_is_an_error(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(SpecError, match=fault.replace("[", r"\[").replace("]", r"\]")):
        Spec.load({**CHAT, "price_book": "all", **given}).offers  # noqa: B018


def test_a_varied_price_moves_every_offer_of_its_chip() -> None:
    spec = Spec.load({**CHAT, "price_book": "aws-2026-11", "search": {"chips": ["h100-sxm"]}})
    before = {each.place: each.usd_per_chip_hour for each in spec.offers}
    lowest = spec.offers[0].usd_per_chip_hour
    after = spec.changed({"price.h100-sxm": lowest / 2}).changed({"price.h100-sxm": 2 * lowest})
    assert {each.place: each.usd_per_chip_hour for each in after.offers} == pytest.approx(
        {place: 2 * usd for place, usd in before.items()}
    )
    assert all(
        each.price is not None and each.price.usd_per_instance_hour is not None
        and each.price.usd_per_instance_hour == pytest.approx(each.usd_per_chip_hour * (each.price.instance_chips or 0))
        for each in after.offers
    )  # fmt: skip


BOOKS_OF_OFFERS = [book for book in price_book_ids() if load_price_book(book).offers]


@pytest.mark.parametrize("book", BOOKS_OF_OFFERS)
def test_a_book_of_offers_is_sourced_dated_and_plausible(book: str) -> None:
    prices = load_price_book(book).prices
    assert set(prices) <= set(chip_ids())
    on_demand = {
        (chip, price.region, price.instance): price.usd_per_chip_hour
        for chip, of_chip in prices.items() for price in of_chip if price.purchase == "on_demand"
    }  # fmt: skip
    for chip, of_chip in prices.items():
        places = [price.place for price in of_chip]
        assert len(places) == len(set(places))
        for price in of_chip:
            assert price.source
            assert price.cloud
            assert (price.term is None) or price.purchase == "reserved"
            assert 0.05 <= price.usd_per_chip_hour <= 60
            full = on_demand.get((chip, price.region, price.instance), price.usd_per_chip_hour)
            assert price.usd_per_chip_hour <= full * 1.0001
