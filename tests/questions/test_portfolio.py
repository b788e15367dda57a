"""Portfolios against the product of everything that each deployment could run."""

import json
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from servesat import Spec, SpecError, Status
from servesat.cli import app
from servesat.deployment.solve import solve
from servesat.questions.portfolio import solve_portfolio
from servesat.report.portfolio import print_portfolio
from servesat.spec.portfolio import PortfolioSpec
from tests.constraints import figures
from tests.helpers import ROOT, toy_chip, toy_spec
from tests.oracles import requests as oracle
from tests.strategies import examples
from tests.whole_requests import small_specs

EXAMPLE = ROOT / "examples" / "portfolio-on-one-chip.yaml"

DEPLOYMENT = {
    "cost_model": "ideal",
    "model": "llama-3-8b",
    "workload": {"prompt_tokens": 100, "output_tokens": 10, "requests_per_s": 1.0},
}

TIES = {
    "a.chip == b.chip": lambda a, b: a["chip"] == b["chip"],
    "a.chips <= 2 * b.chips": lambda a, b: a["chips"] <= 2 * b["chips"],
    "a.batch % 2 == 0 or b.tp > 1": lambda a, b: a["batch"] % 2 == 0 or b["tp"] > 1,
    "a.tpot_ms + b.tpot_ms <= 20": lambda a, b: a["tpot_ms"] + b["tpot_ms"] <= 20,
    "b.chips >= 4 implies a.tpot_ms >= 8": lambda a, b: b["chips"] < 4 or a["tpot_ms"] >= 8,
    "3 * a.slices - b.slices >= 1": lambda a, b: 3 * a["slices"] - b["slices"] >= 1,
}


@st.composite
def portfolios(draw: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"deployments": {}}
    for name in ("a", "b"):
        spec = draw(small_specs(["interleaved"], 4))
        demand = {"requests_per_s": draw(st.sampled_from([1.0, 40.0]))}
        slo = {key: value for key, value in spec.get("slo", {}).items() if key != "min_tokens_per_s"}
        given["deployments"][name] = {**spec, "workload": {**spec["workload"], **demand}, "slo": slo}
    given["shared"] = draw(st.sampled_from([[], [], ["chip"], ["tp"], ["weights"], ["kv_cache", "chip"]]))
    limits = {
        "max_chip_types": st.sampled_from([1, 2]),
        "max_chips": st.sampled_from([2, 6, 30]),
        "max_usd_per_hour": st.sampled_from([3.0, 30.0]),
    }
    given |= {name: draw(values) for name, values in limits.items() if draw(st.integers(0, 2)) == 0}
    given["constraints"] = draw(st.lists(st.sampled_from(sorted(TIES)), max_size=2, unique=True))
    return given


def least_bill(given: dict[str, Any]) -> float | None:
    """The least bill of any two plans under what ties them together."""
    plans = [
        [{**figures(plan), "usd": plan["usd_per_hour"]} for plan, broken in oracle.enumerate_plans(spec) if not broken]
        for spec in given["deployments"].values()
    ]
    best = None
    for a, b in product(*plans):
        usd = a["usd"] + b["usd"]
        allowed = (
            all(a[name] == b[name] for name in given["shared"])
            and len({a["chip"], b["chip"]}) <= given.get("max_chip_types", 2)
            and a["chips"] + b["chips"] <= given.get("max_chips", 10**9)
            and usd <= given.get("max_usd_per_hour", 1e12) * (1 + 1e-9)
            and all(TIES[text](a, b) for text in given["constraints"])
        )
        if allowed and (best is None or usd < best):
            best = usd
    return best


@pytest.mark.slow
@examples(25)
@given(portfolios())
def test_the_least_bill_is_that_of_enumeration(given: dict[str, Any]) -> None:
    expected = least_bill(given)
    found = solve_portfolio(given)
    if expected is None:
        assert found.status is Status.INFEASIBLE
        assert found.conflict
    else:
        assert found.status is Status.OPTIMAL
        assert found.usd_per_hour == pytest.approx(expected, rel=3e-6)
        assert found.bound_usd_per_hour == found.usd_per_hour


@pytest.mark.slow
@examples(25)
@given(portfolios())
def test_a_conflict_is_true_and_irreducible_and_its_numbers_suffice(given: dict[str, Any]) -> None:
    found = solve_portfolio(given)
    assume(found.status is Status.INFEASIBLE and not found.conflicts_alone)
    conflict = set(found.conflict or ())
    limits = ("max_chip_types", "max_chips", "max_usd_per_hour")

    def under(kept: set[str]) -> dict[str, Any]:
        return {
            "deployments": given["deployments"],
            "shared": [name for name in given["shared"] if f"shared.{name}" in kept],
            **{name: given[name] for name in limits if name in kept},
            "constraints": [text for text in given["constraints"] if text in kept],
        }

    assert least_bill(under(conflict)) is None
    assert all(least_bill(under(conflict - {limit})) is not None for limit in conflict)
    for change in found.corrections:
        assert solve_portfolio({**given, change.limit: change.value}).status is Status.OPTIMAL


def test_a_relation_between_times_is_decided_among_the_plans_that_no_other_beats() -> None:
    """Of 70,000 and 120,000 legal plans, 150 and 130 have no cheaper one on the same chips with tokens as fast."""
    common = {"cost_model": "ideal", "slo": {"ttft_ms": 2000, "tpot_ms": 50}}
    chat = {"model": "llama-3-70b", "workload": {"prompt_tokens": 1000, "output_tokens": 200, "requests_per_s": 5}}
    code = {"model": "qwen3-32b", "workload": {"prompt_tokens": 2000, "output_tokens": 300, "requests_per_s": 5}}
    given = {
        "deployments": {"chat": common | chat, "code": common | code},
        "max_chips": 40,
        "constraints": ["chat.tpot_ms + code.tpot_ms <= 10"],
    }
    found = solve_portfolio(given)
    assert (found.status, found.usd_per_hour) == (Status.OPTIMAL, pytest.approx(30.2))
    assert sum(plan.tpot_ms for plan in found.plans.values()) <= 10
    assert found.alone_usd_per_hour == pytest.approx(4.58)


def test_one_chip_for_three_deployments_costs_what_the_example_states(tmp_path: Path) -> None:
    out = tmp_path / "figure.html"
    ran = CliRunner().invoke(app, ["portfolio", str(EXAMPLE), "--json", "--out", str(out)])
    assert ran.exit_code == 0
    document = json.loads(ran.stdout)
    assert document["status"] == "optimal"
    assert document["usd_per_hour"] == pytest.approx(103.2)
    assert document["sharing_costs_usd_per_hour"] == pytest.approx(10.297, abs=1e-3)
    assert {one["plan"]["chip"] for one in document["deployments"]} == {"mi355x"}
    assert "$ an hour more than alone" in out.read_text()
    text = CliRunner().invoke(app, ["portfolio", str(EXAMPLE)]).stdout
    assert "$103.20 an hour; deciding together costs $10.30 more than each alone" in text


TWO_CHIPS: dict[str, Any] = {
    "model": "llama-3.1-8b", "cost_model": "ideal",
    "workload": {"prompt_tokens": 1000, "output_tokens": 100, "requests_per_s": 3.0},
    "search": {"chips": ["h100-sxm", "l40s"], "max_batch": 64},
}  # fmt: skip


def test_a_lower_limit_on_memory_is_kept_by_wider_dtypes() -> None:
    """Narrower dtypes use less than half of an H100 at a batch of 64, and are no better for it."""
    found = solve_portfolio({"deployments": {"a": TWO_CHIPS}, "constraints": ["a.hbm_used_fraction >= 0.5"]})
    alone = solve(Spec.load({**TWO_CHIPS, "constraints": ["hbm_used_fraction >= 0.5"]}))
    assert alone.plan is not None
    assert (found.status, found.usd_per_hour) == (Status.OPTIMAL, pytest.approx(alone.plan.usd_per_hour))


def test_a_budget_far_above_every_bill_is_no_limit() -> None:
    found = solve_portfolio({"deployments": {"a": TWO_CHIPS}, "max_usd_per_hour": 1e12})
    assert (found.status, found.usd_per_hour) == (Status.OPTIMAL, found.alone_usd_per_hour)


def test_a_deployment_without_a_plan_says_which_limit_it_breaks() -> None:
    load = {"prompt_tokens": 1000, "output_tokens": 100, "requests_per_s": 1.0}
    given = PortfolioSpec.load({"deployments": {"a": toy_spec(workload=load, slo={"tpot_ms": 0.001})}})
    console = Console(file=StringIO(), width=200)
    print_portfolio(console, solve_portfolio(given), given)
    assert "a has no plan alone: no plan satisfies tpot ≤ 0.001 ms on toy" in console.file.getvalue()


def test_quotas_move_deployments_to_other_chips() -> None:
    free = solve_portfolio(EXAMPLE)
    portfolio = PortfolioSpec.load(EXAMPLE)
    tied = solve_portfolio(portfolio.model_copy(update={"shared": (), "quota": {"gh200": 2}}))
    assert free.usd_per_hour is not None
    assert sum(plan.chips for plan in tied.plans.values() if plan.chip == "gh200") <= 2
    assert tied.usd_per_hour is not None
    assert free.alone_usd_per_hour is not None
    assert free.alone_usd_per_hour <= tied.usd_per_hour <= free.usd_per_hour


@pytest.mark.slow
@examples(25)
@given(portfolios())
def test_the_least_bill_is_allowed_as_a_budget_and_nothing_below_it(given: dict[str, Any]) -> None:
    least = solve_portfolio(given).usd_per_hour
    assume(least is not None)
    assert least is not None
    assert solve_portfolio({**given, "max_usd_per_hour": least}).usd_per_hour == pytest.approx(least, rel=1e-9)
    below = solve_portfolio({**given, "max_usd_per_hour": least * (1 - 1e-7)})
    assert below.status is Status.INFEASIBLE


def test_the_bill_of_the_example_is_allowed_as_its_budget() -> None:
    portfolio = PortfolioSpec.load(EXAMPLE)
    found = solve_portfolio(portfolio.model_copy(update={"max_usd_per_hour": 103.2}))
    assert (found.status, found.usd_per_hour) == (Status.OPTIMAL, pytest.approx(103.2))


def test_a_chip_of_a_million_times_the_price_leaves_the_choice_between_cheap_ones_exact() -> None:
    load = {"prompt_tokens": 1000, "output_tokens": 100, "requests_per_s": 0.1}
    for prices in ((1.00011, 1.0007), (1.0007, 1.00011)):
        chips = [toy_chip(name, usd_per_chip_hour=usd) for name, usd in zip("abc", (*prices, 1e6), strict=True)]
        base = toy_spec(*chips, workload=load, engine="none")
        given = {"deployments": dict.fromkeys("defghijk", base), "shared": ["chip"], "max_usd_per_hour": 8.00088}
        assert solve_portfolio(given).usd_per_hour == pytest.approx(8.00088, rel=1e-9)
        assert solve_portfolio({**given, "max_usd_per_hour": 8.0008}).status is Status.INFEASIBLE


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"deployments": None}, "deployments = None"),
        ({"deployments": {"a b": DEPLOYMENT}}, "deployments.a b"),
        ({"deployments": {"a": {}}}, "deployments.a: spec: model is missing"),
        ({"deployments": {"a": 3}}, "deployments.a = 3: expected a deployment spec"),
        ({"constraints": ["a.chipp == a.chip"]}, "names 'a.chipp'"),
        ({"constraints": ["c.chip == a.chip"]}, "names 'c.chip'"),
        ({"constraints": ["slo.tpot_ms >= a.tpot_ms"]}, "names slo.tpot_ms; expected a deployment's, as a.chip"),
        ({"quota": {"h100": 3}}, "quota.h100: no such chip"),
        ({"shared": ["batch"]}, "shared.0 = 'batch'"),
        ({"maxchips": 3}, "maxchips"),
        ({"max_chips": 0}, "max_chips = 0"),
    ],
)
def test_what_a_portfolio_cannot_mean_is_named(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SpecError) as fault:
        solve_portfolio({"deployments": {"a": DEPLOYMENT}, **change})
    assert complaint in str(fault.value)


@pytest.mark.parametrize(("key", "command"), [("model", "solve"), ("workloads", "fleet")])
def test_a_spec_of_another_kind_is_recognised(key: str, command: str) -> None:
    with pytest.raises(SpecError, match=f"as it has a key {key}; expected a portfolio: try `servesat {command}`"):
        solve_portfolio({key: {}})


def test_a_deployment_without_a_demand_or_a_plan_is_named() -> None:
    workload = {"prompt_tokens": 100, "output_tokens": 10}
    with pytest.raises(SpecError, match=r"deployments.a.workload.requests_per_s is missing"):
        solve_portfolio({"deployments": {"a": {"cost_model": "ideal", "model": "llama-3-8b", "workload": workload}}})
    slow = {
        "cost_model": "ideal",
        "model": "llama-3-8b",
        "workload": {**workload, "requests_per_s": 1.0},
        "slo": {"tpot_ms": 0.001},
    }
    found = solve_portfolio({"deployments": {"a": slow}})
    assert (found.status, found.conflict) == (Status.INFEASIBLE, ("deployments.a",))
    assert "tpot" in {str(name) for members in found.conflicts_alone["a"] for name in members}


def sold_as(*offers: tuple[str, str, int, float]) -> dict[str, Any]:
    """A price book of instances: (region, chip, chips, dollars an hour) each."""
    return {
        "name": "test",
        "instances": {
            f"m{number}": {"chip": chip, "chips": chips, "source": "test"}
            for number, (_, chip, chips, _) in enumerate(offers)
        },
        "offers": [
            {"instance": f"m{number}", "cloud": "a", "source": "test", "usd_per_instance_hour": {region: usd}}
            for number, (region, _, _, usd) in enumerate(offers)
        ],
    }


def in_machines(book: dict[str, Any], chip: str, rate: float) -> dict[str, Any]:
    return {"cost_model": "ideal",
        "model": "llama-3-8b", "workload": {"prompt_tokens": 1000, "output_tokens": 100, "requests_per_s": rate},
        "price_book": book, "buy": "instances",
        "search": {"chips": [chip], "modes": ["interleaved"], "topologies": {chip: "1x1"}},
    }  # fmt: skip


def test_deployments_share_a_region_that_is_not_the_cheapest_for_each() -> None:
    book = sold_as(("east", "h100-sxm", 1, 2.0), ("west", "h100-sxm", 1, 3.0), ("west", "h200", 1, 3.0))
    deployments = {"x": in_machines(book, "h100-sxm", 5), "y": in_machines(book, "h200", 5)}
    assert solve_portfolio({"deployments": deployments}).usd_per_hour == pytest.approx(5.0)
    together = solve_portfolio({"deployments": deployments, "shared": ["region"]})
    assert together.status is Status.OPTIMAL
    assert together.usd_per_hour == pytest.approx(6.0)
    assert {plan.region for plan in together.plans.values()} == {"west"}


def test_few_chips_may_be_in_dearer_machines() -> None:
    """Three chips are in a machine of 8 for $4, or alone for $6: of at most 6 chips the two deployments pay $12."""
    book = sold_as(("east", "h100-sxm", 8, 4.0), ("east", "h100-sxm", 1, 2.0))
    by_one = in_machines(sold_as(("east", "h100-sxm", 1, 2.0)), "h100-sxm", 1)
    full = solve({**by_one, "workload": {"prompt_tokens": 1000, "output_tokens": 100}}).plan
    assert full is not None
    three = in_machines(book, "h100-sxm", 2.5 * (full.requests_per_s or 0.0))
    assert solve_portfolio({"deployments": {"x": three, "y": three}}).usd_per_hour == pytest.approx(8.0)
    few = solve_portfolio({"deployments": {"x": three, "y": three}, "max_chips": 6})
    assert few.status is Status.OPTIMAL
    assert few.usd_per_hour == pytest.approx(12.0)


def test_a_portfolio_names_what_it_compares_by_means() -> None:
    chat = {
        "model": "llama-3.1-8b", "workload": {"prompt_tokens": 500, "output_tokens": 100, "requests_per_s": 5},
        "search": {"chips": ["l40s"], "topologies": {"l40s": ["1x1"]}, "weights": ["fp8"], "modes": ["interleaved"]},
        "price": {"l40s": 1.0}, "slo": {"tpot_ms": 40},
    }  # fmt: skip
    ideal = {**chat, "cost_model": "ideal", "search": {**chat["search"], "compute": ["fp8"]}}
    answer = solve_portfolio({"deployments": {"chat": chat, "bound": ideal}})
    assert answer.in_means == ("chat",)
    assert set(answer.plans) == {"chat", "bound"}


def test_fewer_chips_on_demand_fit_where_spot_would_not() -> None:
    """With half of spot counted on, 28 chips on spot cost $35 and 16 on demand $48: at most 16 leave the latter."""
    deployment = {
        "model": "llama-3-70b", "workload": {"prompt_tokens": 2000, "output_tokens": 300, "requests_per_s": 20},
        "slo": {"percentile": "mean", "tpot_ms": 50}, "buy": "share", "purchase": ["spot", "on_demand"],
        "spot_capacity": 0.5, "search": {
            "chips": ["h100-sxm"], "topologies": {"h100-sxm": ["4x1"]}, "weights": ["fp8"], "modes": ["interleaved"],
        },
    }  # fmt: skip
    plans = [
        solve_portfolio({"deployments": {"a": deployment}, **limit}).plans["a"]
        for limit in ({}, {"max_chips": 16}, {"quota": {"h100-sxm": 16}})
    ]
    assert [(plan.chips, plan.purchase) for plan in plans] == [(28, "spot"), (16, "on_demand"), (16, "on_demand")]
