import pytest

from servesat import Status
from servesat.candidates.rule import Requirement
from servesat.catalogue.load import load_model
from servesat.catalogue.recovery import published
from servesat.cost_model.quantisation_loss import quality_loss
from servesat.deployment.solve import solve
from tests.helpers import spec_of

ANY = {"chips": ["h100-sxm"], "weights": ["bf16", "fp8", "int4"], "kv_cache": ["bf16"], "compute": ["bf16", "fp8"]}


def recovery(model: str, weights: str, compute: str) -> float:
    return next(
        one.recovery
        for one in published().weights
        if model in one.models and (one.weights, one.compute) == (weights, compute)
    )


def test_a_loss_is_what_is_published() -> None:
    model = load_model("llama-3.1-70b")
    of_int4 = recovery("llama-3.1-70b", "int4", "bf16")
    assert quality_loss(model, "int4", "bf16", "bf16") == pytest.approx(max(0.0, 1 - of_int4))
    assert quality_loss(model, "bf16", "bf16", "bf16") == 0
    assert quality_loss(model, "mxfp4", "bf16", "bf16") is None
    assert quality_loss(model, "int4", "nvfp4", "bf16") is None


def test_matmuls_in_a_wider_dtype_lose_no_more_than_those_measured() -> None:
    model = load_model("llama-3.1-70b")
    assert quality_loss(model, "fp8", "bf16", "bf16") == quality_loss(model, "fp8", "bf16", "fp8")
    assert quality_loss(model, "int4", "bf16", "int4") is None


def test_native_weights_lose_nothing() -> None:
    assert quality_loss(load_model("gpt-oss-20b"), "mxfp4", "bf16", "bf16") == 0
    assert quality_loss(load_model("deepseek-v3"), "fp8", "bf16", "bf16") == 0


def test_the_limit_excludes_what_loses_more_and_what_nobody_knows() -> None:
    free = solve(spec_of(model="llama-3.1-70b", search=ANY)).plan
    strict = solve(spec_of(model="llama-3.1-70b", search=ANY | {"max_quality_loss": 0.0}))
    assert free is not None
    assert strict.plan is not None
    loss = quality_loss(load_model("llama-3.1-70b"), strict.plan.weights, strict.plan.kv_cache, strict.plan.compute)
    assert loss == 0
    assert free.usd_per_million_output_tokens < strict.plan.usd_per_million_output_tokens
    assert Requirement.QUALITY in strict.binding
    nobody = spec_of(model="gemma-3-27b", search=ANY | {"weights": ["int4"], "max_quality_loss": 0.5})
    assert solve(nobody).status is Status.INFEASIBLE
    assert solve(nobody).conflict == ((Requirement.QUALITY,),)
    assert "no accuracy of gemma-3-27b with int4 weights is known, so max_quality_loss excludes it" in nobody.notes


def test_native_weights_may_compute_in_their_own_dtype_and_what_is_excluded_is_said() -> None:
    assert quality_loss(load_model("minimax-m2.5"), "fp8", "bf16", "fp8") == 0
    spec = spec_of(model="qwen3-32b", search=ANY | {"max_quality_loss": 0.05})
    assert "no accuracy of qwen3-32b with fp8 weights is known, so max_quality_loss excludes it" in spec.notes
    borrowed = spec_of(model="palm-62b", search=ANY | {"kv_cache": ["fp8"], "max_quality_loss": 0.05})
    assert "no accuracy of palm-62b with a KV cache of fp8 is known; that of other models stands in" in borrowed.notes
