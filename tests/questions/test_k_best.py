"""The best distinct plans, against enumeration."""

from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from servesat import Spec
from servesat.questions.explain import answer
from servesat.questions.k_best import Distinct, alternatives
from tests import strategies
from tests.helpers import ON_32_CHIPS
from tests.oracles import deployment as oracle
from tests.strategies import SOME

LAYOUT = (
    "chip", "topology", "tp_axes", "ep_axes", "kv_layout", "pp_axes", "weights", "kv_cache", "compute", "draft_tokens",
)  # fmt: skip
GROUPS = {
    Distinct.CHIP: lambda plan: plan["chip"],
    Distinct.TOPOLOGY: lambda plan: (plan["chip"], plan["topology"]),
    Distinct.LAYOUT: lambda plan: tuple(plan[name] for name in LAYOUT),
}


@pytest.mark.slow
@SOME
@given(strategies.specs(), st.sampled_from(list(Distinct)))
def test_top_k_is_the_k_best_of_enumeration(spec: dict[str, Any], distinct: Distinct) -> None:
    # Axes that are each other's mirror image are one layout here, and several in the enumeration.
    mirrored = distinct is Distinct.LAYOUT and any(len(chip["axes"]) > 1 for chip in spec["search"]["chips"])
    assume(not mirrored)
    expected = oracle.k_best(spec, 4, GROUPS[distinct])
    found = [asdict(plan) for plan in alternatives(Spec.load(spec), 4, distinct)]
    names = (*LAYOUT, "batch")
    assert [{name: plan[name] for name in names} for plan in found] == [
        {name: plan[name] for name in names} for plan in expected
    ]


def test_fewer_alternatives_than_asked_for_are_all_there_are() -> None:
    plans = answer({**ON_32_CHIPS, "search": {"chips": ["tpu-v5e", "tpu-v5p"]}}, top=9, distinct="chip").alternatives
    assert len({plan.chip for plan in plans}) == len(plans) == 2
