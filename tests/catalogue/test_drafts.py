import pytest

from servesat.catalogue.drafts import Draft, drafts_of, published_drafts
from servesat.catalogue.load import load_model
from servesat.core.errors import CatalogueError
from servesat.core.validation import validate


def test_every_draft_is_of_a_model_of_the_catalogue() -> None:
    assert len(published_drafts().drafts) >= 5
    for draft in published_drafts().drafts:
        for model in draft.models:
            assert load_model(model).id == model


def test_the_length_of_a_dataset_or_the_mean_of_all() -> None:
    """LLaMA 3.1 8B, SpecForge's draft of 3 tokens: 7 datasets, of which MT-bench has 2.4 to 2.9."""
    draft = next(one for one in drafts_of("llama-3.1-8b") if "SpecForge" in (one.repository or ""))
    rows = [row.length for row in draft.accepted if row.tokens == 3]
    assert len(rows) == 7
    assert draft.length_of(3, "mtbench") == next(
        row.length for row in draft.accepted if (row.tokens, row.dataset) == (3, "mtbench")
    )
    assert draft.length_of(3) == draft.length_of(3, "mtbench")
    assert draft.length_of(3, "nowhere") is None
    other = draft.model_copy(update={"accepted": tuple(row for row in draft.accepted if row.dataset != "mtbench")})
    assert other.length_of(3) == pytest.approx((sum(rows) - (draft.length_of(3) or 0)) / 6)
    assert draft.length_of(4, "mtbench") is None
    assert drafts_of("qwen3-32b") == drafts_of("deepseek-r1") == ()  # DeepSeek publishes V3's alone


def test_a_draft_by_the_model_itself_is_of_a_model_with_such_a_layer() -> None:
    models = [model for draft in published_drafts().drafts if draft.method == "mtp" for model in draft.models]
    assert models
    assert all(load_model(model).mtp_parameters for model in models)


def test_a_step_makes_one_token_more_than_are_drafted_at_most() -> None:
    row = {"tokens": 2, "dataset": "any", "length": 3.1}
    with pytest.raises(CatalogueError, match="a step makes at most 3 tokens"):
        validate(
            Draft, {"models": ["m"], "method": "mtp", "accepted": [row], "source": "s"}, where="x", error=CatalogueError
        )
    fine = {"models": ["m"], "method": "eagle3", "accepted": [row | {"length": 3}], "source": "s"}
    with pytest.raises(CatalogueError, match="an eagle3 draft has a repository and parameters"):
        validate(Draft, fine, where="x", error=CatalogueError)
