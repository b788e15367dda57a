"""The memory of adapters: by hand, and against the oracle and the check of plans for any model and split."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesat.catalogue.chip import Chip
from servesat.catalogue.load import load_model
from servesat.catalogue.model import ModelSpec
from servesat.core.plan import KvLayout
from servesat.cost_model.decode import Replica
from servesat.cost_model.lora import adapters_bytes
from servesat.cost_model.sharding import dearest_stage
from servesat.cost_model.storage import StoredWeights
from servesat.deployment.check.replica import CheckedReplica
from servesat.spec.lora import Lora
from tests import strategies
from tests.oracles.machine import Machine


def split(model: ModelSpec, tp: int = 1, ep: int = 1, pp: int = 1) -> Replica:
    return Replica(
        tp=tp,
        ep=ep,
        pp=pp,
        hbm_bytes_per_s=1e12,
        flop_per_s=1e12,
        tp_bytes_per_s=1e9,
        weights=StoredWeights(resident=0.0),
        kv_token_bytes=1.0,
        dearest_stage=float(dearest_stage(model, pp)),
    )


def test_llama_8b_has_the_adapters_that_peft_counts() -> None:
    """Rank 16 on every linear layer: 41,943,040 parameters; on attention alone 13,631,488."""
    model = load_model("llama-3.1-8b")
    tables = 2 * 16 * 2 * (4096 + 128_256)  # of the embedding and the head
    assert adapters_bytes(model, split(model), 16, attention_only=False) == 2 * 41_943_040 + tables
    assert adapters_bytes(model, split(model), 8 * 16, attention_only=True) == 8 * 2 * 13_631_488


def test_half_of_an_adapter_is_on_each_chip() -> None:
    """A of queries, keys, values, gate and up, and B of output and down, 7 · 4,096 a layer, are not split."""
    model = load_model("llama-3.1-8b")
    layer = 4 * 7 * 4096 + 2 * 4096 + 2 * 1024 + 3 * 14336
    tables = 4 * 2 * (4096 + 128_256)
    assert adapters_bytes(model, split(model, tp=4), 16, attention_only=False) == 2 * 16 * (32 * layer + tables)


def test_a_kv_head_is_on_as_many_chips_as_need_it() -> None:
    model = load_model("llama-3.1-8b")  # 8 KV heads of 128
    layer = 16 * 4 * 4096 + 2 * 4096 + 2 * 16 * 128
    assert adapters_bytes(model, split(model, tp=16), 16, attention_only=True) == 2 * 16 * 32 * layer


def test_experts_have_adapters_of_their_own() -> None:
    """Qwen3-30B-A3B: 48 layers with 128 experts of 768 columns; spread over groups, each is there once."""
    model = load_model("qwen3-30b-a3b")
    experts = 48 * 128 * 3 * (2048 + 768)
    attention = 4 * 48 * (4 * 2048 + 2 * 32 * 128 + 2 * 4 * 128)
    tables = 4 * 2 * (2048 + 151_936)
    found = adapters_bytes(model, split(model, ep=4), 16, attention_only=False)
    assert found == 2 * 16 * (attention + experts + tables)


@strategies.examples(300)
@given(
    strategies.models(), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2]), st.sampled_from([1, 2]), strategies.LORA
)
def test_agrees_with_the_oracle_and_the_check(
    stated: dict[str, Any], tp: int, ep: int, pp: int, lora: dict[str, Any]
) -> None:
    model = ModelSpec.model_validate({"id": "m", "name": "m", **stated})
    axes = [{"name": name, "bytes_per_s": 1e9} for name in "xyz"]
    topology = f"{tp}x{ep}x{pp}"
    chip = {"name": "c", "hbm_bytes": 1e9, "hbm_bytes_per_s": 1e12, "flop_per_s": {"bf16": 1e12}, "axes": axes}
    of_axes = ((0,), (1,), "heads", (2,))
    machine = Machine(
        {"model": stated, "lora": lora}, chip, topology, of_axes, ("bf16", "bf16", "bf16", None, (0, 1.0))
    )
    stated_lora = Lora.model_validate(lora)
    checked = CheckedReplica(
        model=model,
        chip=Chip.model_validate({**chip, "vendor": "test", "topologies": [topology]}),
        topology=topology,
        tp_axes=(0,),
        ep_axes=(1,),
        pp_axes=(2,),
        kv_layout=KvLayout.HEADS,
        weights="bf16",
        kv_cache="bf16",
        compute="bf16",
        int4_group=None,
        exact_wraparound=False,
        pays_ici=False,
        usable_bytes=1e9,
        lora=stated_lora,
    )
    attention_only = stated_lora.modules == "attention"
    found = adapters_bytes(model, split(model, tp, ep, pp), stated_lora.ranks, attention_only=attention_only)
    assert found == pytest.approx(machine.adapters_bytes(), rel=1e-12)
    assert checked.adapter_bytes == pytest.approx(machine.adapters_bytes(), rel=1e-12)
