"""The market of a spec: which offers it is narrowed to, what is owned, and the books that ship."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from servesat import Spec, SpecError
from servesat.catalogue.load import chip_ids, load_price_book, price_book_ids
from servesat.catalogue.price_import import import_prices
from servesat.deployment.solve import solve
from servesat.questions.explain import answer
from tests.helpers import toy_chip, toy_spec

CHAT = {"cost_model": "ideal", "model": "llama-3-8b", "workload": {"prompt_tokens": 2000, "output_tokens": 300}}


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


@pytest.mark.parametrize("purchase", ["spot", "reserved"])
def test_a_price_of_ones_own_is_of_what_is_bought(purchase: str) -> None:
    own = {**CHAT, "price": {"h100-sxm": 1.5}, "search": {"chips": ["h100-sxm"]}, "region": "us-east-1"}
    (offer,) = Spec.load({**own, "purchase": purchase}).offers
    assert (offer.usd_per_chip_hour, offer.place) == (1.5, ("", "us-east-1", purchase, "", ""))
    assert [one.purchase for one in Spec.load(own).offers] == [None]
    assert [one.purchase for one in Spec.load({**own, "purchase": ["spot", "on_demand"]}).offers] == [None]
    varied = Spec.load({**own, "purchase": purchase}).changed({"price.h100-sxm": 2.0})
    assert [(one.usd_per_chip_hour, one.purchase) for one in varied.offers] == [(2.0, purchase)]


def test_the_best_plan_without_spot_has_the_prices_of_the_book() -> None:
    spec = {**CHAT, "price_book": "list-2026-11", "price": {"h100-sxm": 1.0}, "purchase": "spot",
            "search": {"chips": ["h100-sxm"], "topologies": {"h100-sxm": ["1x1"]}}}  # fmt: skip
    found = answer(spec)
    assert (found.plan.bills[0].purchase, found.plan.usd_per_hour) == ("spot", 1.0)
    of_book = Spec.load({**spec, "price": {}, "purchase": "on_demand"}).offers[0].usd_per_chip_hour
    assert found.without_spot.usd_per_hour == of_book > 1.0


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
        ({"purchase": "owned"}, "price in all as owned; state your machines, as in `owned: {CHIP: "),
        ({"purchase": []}, "purchase = []: expected at least 1 entry"),
        ({"cloud": "azure", "search": {"chips": ["tpu-v5e"]}}, "tpu-v5e has no price in all as on_demand at azure"),
    ],
)
def test_a_place_that_sells_nothing_is_an_error(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(SpecError, match=fault.replace("[", r"\[").replace("]", r"\]")):
        Spec.load({**CHAT, "price_book": "all", **given}).offers  # noqa: B018


def test_what_a_book_has_instead_is_said_of_the_whole_catalogue_too(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(
        "instance,chip,chips,usd_per_instance_hour,purchase\na1,h100-sxm,8,16,reserved\n"
    )
    (tmp_path / "mine.toml").write_text(import_prices(tmp_path / "list.csv").text)
    with pytest.raises(SpecError, match=r"has a price in mine \(it has reserved in any region\)"):
        Spec.load({**CHAT, "price_book": str(tmp_path / "mine.toml")}).offers  # noqa: B018


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


def test_a_price_varies_at_the_market_that_it_is_changed_with() -> None:
    spec = Spec.load({**CHAT, "price_book": "all", "search": {"chips": ["h100-sxm"]}})
    aws = spec.changed({"cloud": "aws", "price.h100-sxm": 3.44})
    assert {offer.place[0] for offer in aws.offers} == {"aws"}
    assert aws.offers[0].usd_per_chip_hour == pytest.approx(3.44)
    assert aws.offers[0].price is not None
    assert aws.offers[0].price.instance == "p5.4xlarge"


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


def test_an_owned_machine_costs_its_price_over_its_years_and_its_power() -> None:
    """$350,400 over 4 years are $10 an hour; 8 chips of 500 W at a PUE of 1.25 and $0.10 a kWh $0.50."""
    chip = {**toy_chip(power_w=500.0), "usd_per_chip_hour": None}
    spec = toy_spec(
        chip, purchase="owned", owned={"toy": {"usd": 350_400, "years": 4}}, buy="instances",
        power={"usd_per_kwh": 0.1, "pue": 1.25}, workload={"prompt_tokens": 1000, "output_tokens": 100},
    )  # fmt: skip
    plan = solve(spec).plan
    assert plan is not None
    assert (plan.usd_per_hour, plan.chips, plan.slices, plan.purchase) == (pytest.approx(10.5), 8, 8, "owned")
    assert plan.power_kw == pytest.approx(5.0)
    sold = plan.tokens_per_s * 3600
    assert plan.kwh_per_million_output_tokens == pytest.approx(5.0 / sold * 1e6)


def test_the_power_of_an_unknown_chip_is_left_out_or_asked_for() -> None:
    chip = {**toy_chip(), "usd_per_chip_hour": None}
    owned = {"purchase": "owned", "owned": {"toy": {"usd": 1000, "years": 1, "chips": 1}}}
    plan = solve(toy_spec(chip, **owned)).plan
    assert plan is not None
    assert plan.power_kw is None
    with pytest.raises(SpecError, match=r"the power of toy is not known; give chip.toy.power_w"):
        toy_spec(chip, **owned, power={"usd_per_kwh": 0.1})


def test_owned_machines_compete_with_rented_ones() -> None:
    own = {"owned": {"h100-sxm": {"usd": 250_000, "years": 4}}, "power": {"usd_per_kwh": 0.12, "pue": 1.3}}
    both = {**CHAT, **own, "price_book": "all", "purchase": ["owned", "on_demand"], "buy": "instances"}
    spec = Spec.load({**both, "search": {"chips": ["h100-sxm"]}})
    usd = 250_000 / (4 * 8760) + 8 * 0.7 * 1.3 * 0.12
    assert min(o.usd_per_chip_hour for o in spec.offers if o.place[2] == "owned") == pytest.approx(usd / 8)
    assert spec.offers[0].place[2] == "owned"
    (note,) = Spec.load({**both, "purchase": "on_demand", "search": {"chips": ["h100-sxm"]}}).notes
    assert note.startswith("owned machines are not searched")
    with pytest.raises(SpecError, match=r"owned.h100: no such chip; did you mean"):
        Spec.load({**both, "owned": {"h100": {"usd": 1, "years": 1}}})


def test_what_is_owned_varies_like_any_key() -> None:
    own = {"owned": {"h100-sxm": {"usd": 280_320, "years": 4}}, "purchase": "owned", "buy": "instances"}
    spec = Spec.load({**CHAT, **own, "search": {"chips": ["h100-sxm"]}, "price_book": "aws-2026-11"})
    assert spec.offers[0].usd_per_chip_hour == pytest.approx(1.0)
    for key, value in (("owned.h100-sxm.usd", 560_640), ("owned.h100-sxm.years", 2.0), ("price.h100-sxm", 2.0)):
        (offer,) = spec.changed({key: value}).offers
        assert offer.usd_per_chip_hour == pytest.approx(2.0)
        assert offer.place[2] == "owned"
    powered = spec.changed({"power.usd_per_kwh": 0.1})
    assert powered.offers[0].usd_per_chip_hour == pytest.approx(1.0 + 0.7 * 0.1)


def test_whole_instances_are_said_to_be_missing() -> None:
    listed = Spec.load({**CHAT, "buy": "instances", "search": {"chips": ["h100-sxm"]}})
    assert any(note.startswith("buy: instances has no effect") for note in listed.notes)
    with pytest.raises(SpecError, match=r"search.max_instances: counts whole instances, and needs buy: instances"):
        Spec.load({**CHAT, "search": {"max_instances": 1}})


def test_an_offer_is_listed_once() -> None:
    offer = {"instance": "m", "cloud": "a", "usd_per_instance_hour": {"east": 8.0}, "source": "test"}
    book = {"name": "test", "instances": {"m": {"chip": "h100-sxm", "chips": 8, "source": "test"}}}
    twice = {**book, "offers": [offer, {**offer, "usd_per_instance_hour": {"west": 7.0, "east": 9.0}}]}
    with pytest.raises(SpecError, match=r"offers.1: m in east is listed twice as on_demand"):
        Spec.load({**CHAT, "price_book": twice})


SPOT = {
    "name": "test",
    "instances": {"m": {"chip": "h100-sxm", "chips": 8, "source": "test"}},
    "offers": [
        {
            "instance": "m", "purchase": "spot", "usd_per_instance_hour": {"east": 8.0, "west": 9.0},
            "lowest_usd_per_instance_hour": {"east": 6.0}, "source": "test",
            "interruptions": {"share_per_month": {"east": [0.1, 0.15]}, "as_of": date(2025, 7, 28), "source": "test"},
        }
    ],
}  # fmt: skip


def test_a_price_on_spot_says_its_range_and_how_often_it_is_interrupted() -> None:
    spec = Spec.load({**CHAT, "price_book": SPOT, "purchase": "spot"})
    east, west = (offer.price for offer in spec.offers)
    assert east is not None
    assert west is not None
    assert (east.usd_per_chip_hour, east.lowest_usd_per_instance_hour, east.interrupted_per_month) == (
        1,
        6,
        (0.1, 0.15),
    )
    assert east.interrupted_as_of == date(2025, 7, 28)
    assert (west.lowest_usd_per_instance_hour, west.interrupted_per_month) == (None, None)
    halved = spec.changed({"price.h100-sxm": 0.5}).offers[0].price
    assert halved is not None
    assert (halved.usd_per_instance_hour, halved.lowest_usd_per_instance_hour) == (4, 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"purchase": "on_demand"}, "interruptions: purchase is on_demand, and only spot is interrupted"),
        ({"lowest_usd_per_instance_hour": {"east": 8.5}}, "lowest_usd_per_instance_hour.east = 8.5: expected at most"),
        ({"lowest_usd_per_instance_hour": {"north": 1.0}}, "lowest_usd_per_instance_hour.north: there is no price in"),
        ({"interruptions": {"share_per_month": {"east": [0.2, 0.1]}, "source": "x"}}, "from at most to"),
        (
            {"interruptions": {"share_per_month": {"north": [0.1, 0.2]}, "source": "x"}},
            "share_per_month.north: there is",
        ),
    ],
)
def test_a_price_on_spot_is_within_its_range(wrong: dict[str, Any], message: str) -> None:
    (offer,) = SPOT["offers"]
    with pytest.raises(SpecError, match=message):
        Spec.load({**CHAT, "price_book": {**SPOT, "offers": [{**offer, **wrong}]}, "purchase": "spot"})


def test_machines_of_ones_own_that_hold_no_slice_are_named() -> None:
    owned = {"tpu-v5e": {"usd": 60_000, "years": 3, "chips": 8}}
    search = {"chips": ["tpu-v5e"], "topologies": {"tpu-v5e": "4x4"}}
    fault = "no machine of `owned` holds tpu-v5e 4x4 .its instances have 8 chips; wider slices need their network"
    with pytest.raises(SpecError, match=fault):
        solve({**CHAT, "purchase": "owned", "owned": owned, "search": search})
