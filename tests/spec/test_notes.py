"""Notes on parts of a spec that have no effect, and on what is old."""

from datetime import date
from pathlib import Path

from servesat import Spec
from servesat.catalogue.load import load_price_book
from servesat.fleet.spec import FleetSpec
from servesat.spec.notes import stale_prices
from tests.fleet.fleets import fleet

CHAT = {"cost_model": "ideal", "model": "llama-3-8b", "workload": {"context_tokens": 1000}}
ON_ONE_CHIP = {**CHAT, "search": {"chips": ["h100-sxm"]}}


def test_prices_are_old_from_the_91st_day_on() -> None:
    book = load_price_book("list-2026-11")
    assert book.checked == date(2026, 11, 25)
    assert list(stale_prices(book, date(2027, 2, 23))) == []
    (note,) = stale_prices(book, date(2027, 2, 24))
    assert note.startswith("the prices of list-2026-11 were last checked on 2026-11-25, 91 days ago")


def test_every_answer_says_that_its_prices_are_old() -> None:
    old = {"name": "mine", "checked": date(2025, 1, 1), "chips": {"tpu-v5e": {"usd_per_chip_hour": 1, "source": "me"}}}
    (note,) = Spec.load({**CHAT, "price_book": old}).notes
    assert "the prices of mine were last checked on 2025-01-01" in note
    undated = {**old, "checked": None}
    assert Spec.load({**CHAT, "price_book": undated}).notes == ()
    notes = FleetSpec.load(fleet(regions={"east": {"price_book": old}, "west": {"price_book": old}})).notes
    assert sum("the prices of mine" in note for note in notes) == 1


def test_pauses_are_said_not_to_be_replayed() -> None:
    requests = {"prompt_tokens": 1000, "output_tokens": 100, "requests_per_s": 1}
    slo = {"tpot_ms": 50, "stall_ms": 100}
    at_random = Spec.load({"model": "llama-3-8b", "workload": requests, "slo": slo})
    assert any(note.startswith("slo.stall_ms is checked for the pause that one prompt") for note in at_random.notes)
    means = at_random.changed({"slo.percentile": "mean"})
    assert not any("stall_ms" in note for note in means.notes)


def test_a_throughput_without_a_demand_is_said_to_be_of_one_slice() -> None:
    requests = {"prompt_tokens": 4000, "output_tokens": 2000}
    spec = Spec.load({**ON_ONE_CHIP, "workload": requests, "slo": {"min_tokens_per_s": 100000}})
    (note,) = spec.notes
    assert note.startswith("slo.min_tokens_per_s is compared with one slice")
    assert note.endswith("give workload.requests_per_s = 50 in its place")
    pools = spec.changed({"search.modes": ["disaggregated"]})
    assert not any("min_tokens_per_s" in note for note in pools.notes)


def test_a_context_shorter_than_its_request_is_said_to_be_planned_with() -> None:
    requests = {"prompt_tokens": 6000, "output_tokens": 2000, "context_tokens": 8000}
    spec = Spec.load({**ON_ONE_CHIP, "workload": requests})
    assert spec.notes == ()
    (note,) = spec.changed({"workload.context_tokens": 7999}).notes
    assert note.startswith(
        "workload.context_tokens = 7,999 sets the KV cache of a sequence, but a request grows to 8,000"
    )


def test_prefixes_of_states_are_said_to_be_found_by_the_block() -> None:
    requests = {"prompt_tokens": 4000, "output_tokens": 300, "prefix_cache_hit": 0.95}
    spec = Spec.load({"model": "qwen3.5-27b", "workload": requests, "search": {"chips": ["h100-sxm"]}})
    (note,) = (note for note in spec.notes if "prefix_cache_hit" in note)
    assert note.startswith("prefix_cache_hit = 0.95 is taken as measured: engines store the states of qwen3.5-27b")
    assert not any("prefix_cache_hit" in note for note in spec.changed({"model": "qwen3-32b"}).notes)


def test_lengths_that_are_not_those_of_the_trace_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("time,prompt_tokens,output_tokens\n0,100,10\n1,300,30\n4,200,50\n")
    workload = {"arrivals": {"trace": str(tmp_path / "a.csv")}, "prompt_tokens": 201}
    spec = Spec.load({"model": "llama-3-8b", "workload": workload, "search": {"chips": ["h100-sxm"]}})
    (note,) = (note for note in spec.notes if "prompt_tokens" in note)
    assert "but the requests of a.csv that are replayed have 200 on average" in note
    assert not any("_tokens" in note for note in spec.changed({"workload.prompt_tokens": 200}).notes)
