from typing import Any

import pytest

from servesat import Spec, SpecError, solve

CHAT: dict[str, Any] = {"model": "llama-3.1-8b", "workload": {"prompt_tokens": 1000, "output_tokens": 300}}


def drafts(**keys: Any) -> list[tuple[str, int, float]]:
    return [(one.draft, one.tokens, one.accepted) for one in Spec.load(CHAT | keys).drafts]


def test_what_was_published_is_searched_in_production() -> None:
    """Of two drafts of as many tokens the one of which more are accepted, of MT-bench."""
    found = drafts()
    assert [tokens for _, tokens, _ in found] == [3, 5, 7]
    assert found == sorted(found, key=lambda one: one[2])  # the more are drafted, the more are accepted
    assert drafts(cost_model="ideal") == []
    assert drafts(speculative="none") == []
    assert drafts(model="qwen3-32b") == []
    math = drafts(speculative={"dataset": "math500"})
    assert all(of_math > of_chat for (*_, of_math), (*_, of_chat) in zip(math, found, strict=True))


def test_an_acceptance_of_your_own() -> None:
    assert drafts(speculative={"draft": "eagle3", "tokens": 2, "accepted": 2.2}) == [("eagle3", 2, 2.2)]
    assert drafts(model="glm-5.1", speculative={"draft": "mtp", "tokens": 3, "accepted": 2.7}) == [("mtp", 3, 2.7)]
    small = {"draft": "qwen3-8b", "tokens": 4, "accepted": 3.1}
    assert drafts(model="qwen3-32b", speculative=small) == [("qwen3-8b", 4, 3.1)]


@pytest.mark.parametrize(
    ("speculative", "message"),
    [
        ({"draft": "eagle3", "tokens": 4}, "no acceptance of 4 tokens is published of llama-3.1-8b"),
        ({"draft": "mtp"}, "draft = mtp: llama-3.1-8b has no layer of multi-token prediction; expected a model with"),
        ({"draft": "mtp", "tokens": 1, "accepted": 1.8}, "draft = mtp: llama-3.1-8b has no layer of multi-token"),
        ({"draft": "eagle3", "tokens": 3, "accepted": 4.5}, "a step makes at most 4 tokens of 3"),
        ({"draft": "qwen3-9b"}, "expected mtp, eagle3, none or a smaller model; did you mean 'qwen3-8b'"),
        ({"draft": "llama-3.1-8b", "tokens": 3, "accepted": 2}, "draft = llama-3.1-8b: is the model itself"),
        (
            {"draft": "qwen3-8b", "tokens": 3, "accepted": 2},
            "draft = qwen3-8b: has a vocabulary of 151936; expected that of llama-3.1-8b, 128256",
        ),
        (
            {"draft": "llama-3.1-70b", "tokens": 3, "accepted": 2},
            r"draft = llama-3.1-70b: has 70\.6e9 parameters; expected fewer than llama-3.1-8b, which has 8\.0e9",
        ),
        (
            {"tokens": 2},
            "speculative.tokens = 2: no acceptance of 2 tokens is published.*; expected 3 or 5 or 7, or acc",
        ),
        ({"tokens": [3, 2]}, "speculative.tokens = 2: no acceptance of 2 tokens is published of llama-3.1-8b"),
        ({"dataset": "nowhere"}, "dataset = nowhere: expected one that is published of llama-3.1-8b: financeqa; gpqa"),
        ({"draft": "none", "tokens": 3}, "speculative.tokens = 3: expected none beside draft: none"),
        ({"draft": "none", "dataset": "gpqa"}, "speculative.dataset = gpqa: expected none beside draft: none"),
        ({"tokens": 0}, "tokens.0 = 0: expected at least 1"),
    ],
)
def test_bad_drafts_are_refused(speculative: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Spec.load(CHAT | {"speculative": speculative})


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        ("draft == eagle3", "eagle3"),
        ("draft == none", None),
        ("draft in [mtp, none]", None),
        ("draft != none and draft_tokens <= 5", "eagle3"),
        ("draft == llama-3-8b or draft == eagle3", "eagle3"),
        ('kv_layout != "batch" and engine == vllm-0.32 and draft == eagle3 and batch % 8 == 0', "eagle3"),
    ],
)
def test_a_constraint_may_name_the_draft(constraint: str, expected: str | None) -> None:
    keys = {"slo": {"tpot_ms": 8}, "search": {"chips": ["h200"]}, "constraints": [constraint]}
    plan = solve(Spec.load(CHAT | keys)).plan
    assert plan is not None
    assert plan.draft == expected


@pytest.mark.parametrize(
    ("speculative", "message"),
    [
        ({"draft": "eagle3", "tokens": 3, "accepted": 2}, "draft = eagle3: no such head of qwen3-32b is published"),
        ({"draft": "eagle3"}, "draft = eagle3: no such head of qwen3-32b is published"),
        (
            {"tokens": 3, "accepted": 2},
            "speculative.tokens = 3: nothing that drafts for qwen3-32b is published; expected",
        ),
        ({"dataset": "mtbench"}, "speculative.dataset = mtbench: nothing that drafts for qwen3-32b is published"),
    ],
)
def test_figures_of_drafts_that_a_model_has_not_are_refused(speculative: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Spec.load(CHAT | {"model": "qwen3-32b", "speculative": speculative})
    assert drafts(model="qwen3-32b", speculative={}) == []


def test_a_dataset_that_is_named_is_the_one_that_is_taken() -> None:
    """Of one token ahead of DeepSeek-V3 the publisher's alone is known, of seven that of three datasets together."""
    assert [tokens for _, tokens, _ in drafts(model="deepseek-v3")] == [1, 7]
    of_publisher = drafts(model="deepseek-v3", speculative={"dataset": "the publisher's"})
    assert of_publisher == [("mtp", 1, 1.85)]


def test_a_model_of_which_nobody_published_what_is_accepted_needs_both_figures() -> None:
    with pytest.raises(SpecError, match=r"draft = qwen3-8b: give tokens and accepted, as nobody published them"):
        Spec.load(CHAT | {"model": "qwen3-32b", "speculative": {"draft": "qwen3-8b"}})


def test_drafting_pays_where_few_sequences_share_a_step_and_not_where_they_fill_it() -> None:
    """At 5 ms a token weights are read for few; without a limit the batch fills the FLOPs, which drafts would waste."""
    tight = solve(Spec.load(CHAT | {"slo": {"tpot_ms": 5}, "search": {"chips": ["h200"]}})).plan
    assert tight is not None
    assert (tight.draft, tight.accepted_tokens > 2) == ("eagle3", True)
    alone = Spec.load(CHAT | {"slo": {"tpot_ms": 5}, "search": {"chips": ["h200"]}, "speculative": "none"})
    without = solve(alone).plan
    assert without is not None
    assert without.usd_per_million_output_tokens > 2 * tight.usd_per_million_output_tokens
    short = {"workload": {"prompt_tokens": 200, "output_tokens": 100}, "engine": "trtllm"}
    free = solve(Spec.load(CHAT | short | {"search": {"chips": ["l40s"]}})).plan
    assert free is not None
    assert (free.draft, free.draft_tokens, free.accepted_tokens) == (None, 0, 1.0)


@pytest.mark.parametrize(
    ("search", "where"),
    [
        ({"pp": [2]}, "over stages, and search.pp is without 1"),
        ({"modes": ["disaggregated"]}, "beside a prefill pool, as in search.modes"),
    ],
)
def test_a_draft_that_no_plan_could_have_is_noted(search: dict[str, object], where: str) -> None:
    note = f"speculative.draft = eagle3 has no effect: none is planned {where}"
    assert note in Spec.load(CHAT | {"search": search, "speculative": {"draft": "eagle3"}}).notes
    assert note not in Spec.load(CHAT | {"search": search}).notes
    assert note not in Spec.load(CHAT | {"speculative": {"draft": "eagle3"}}).notes
