"""The inputs of the five documents: models, chips, prices, and their roundings."""

from collections.abc import Mapping
from dataclasses import dataclass

from servesat.catalogue.chip import Chip, axis_sizes, chips_in
from servesat.catalogue.load import load_chip, load_model, load_price_book
from servesat.catalogue.model import ModelSpec
from servesat.core.plan import Assignment, Plan
from servesat.cost_model.sharding import kv_layouts_of
from servesat.deployment.check.plan import rederive
from servesat.spec.spec import Spec

PRICES = "scaling-book-2025-02"
CHAPTER_KV = 162e3
"""LLaMA 3-70B's int8 KV cache as the chapter rounds it; exactly 163,840 [bytes/token]."""
ARTICLE_KV = 160e3
"""LLaMA 3-70B's int8 KV cache as the article rounds it [bytes/token]."""
CHAPTER_STEP_S = 0.019
"""The time to read the HBM of a full v5e as the chapter rounds it; exactly 19.5 ms [s]."""


@dataclass(frozen=True)
class Answer:
    """The computed value of a claim; `remark` explains it, `assumes` states an input that the document omits."""

    value: float
    remark: str = ""
    assumes: str = ""


Answers = Mapping[str, Answer | float]


def v5e() -> Chip:
    """TPU v5e, 8.2e11 bytes/s."""
    return load_chip("tpu-v5e")


def v5e_slower() -> Chip:
    """TPU v5e with the 8.1e11 bytes/s that the chapter uses in two places."""
    return v5e().model_copy(update={"hbm_bytes_per_s": 8.1e11})


def usd_per_chip_hour(chip: Chip) -> float:
    """The chapter's price of a chip [$/chip-hour]."""
    (price,) = load_price_book(PRICES).chips[chip.id]
    return price.usd_per_chip_hour


def llama_70b(kv_bytes_per_token: float | None = None) -> ModelSpec:
    """LLaMA 3-70B; with `kv_bytes_per_token`, its head_dim is set to match a document's rounded int8 KV cache."""
    model = load_model("llama-3-70b")
    if kv_bytes_per_token is None:
        return model
    return model.model_copy(update={"head_dim": kv_bytes_per_token / (2 * model.kv_heads * model.layers)})


def plan_at(model: ModelSpec, topology: str, batch: int, dtype: str = "int8", kv_cache: str | None = None) -> Plan:
    """The figures of a plan on v5e at 8,192 tokens: one replica over the whole slice, bf16 FLOPs.

    `dtype` applies to the weights, and to the KV cache unless `kv_cache` is given. The plan may violate requirements.
    """
    axes = tuple(axis for axis, size in enumerate(axis_sizes(topology)) if size > 1)
    assignment = Assignment(
        chip="tpu-v5e",
        topology=topology,
        tp_axes=axes,
        kv_layout=kv_layouts_of(model, chips_in(topology))[0],
        weights=dtype,
        kv_cache=kv_cache or dtype,
        compute="bf16",
        batch=batch,
    )
    dtypes = ("bf16", "int8", "int4")
    search = {"chips": (v5e(),), "weights": dtypes, "kv_cache": dtypes}
    spec = Spec.load(
        {
            "cost_model": "ideal",
            "model": model,
            "workload": {"context_tokens": 8192},
            "search": search,
            "price_book": PRICES,
        }
    )
    return rederive(spec, assignment)[0]
