"""The chapter's figures on size: what a dollar buys, KV caches, and what fits on a slice."""

from math import ceil, floor

from servesat.catalogue.chip import chips_in
from servesat.catalogue.load import load_chip, load_model
from servesat.catalogue.model import ModelSpec
from servesat.cost_model.figures_of_merit import flop_per_usd, hbm_bytes_per_usd
from servesat.cost_model.memory import (
    attention_scores_bytes,
    chips_to_hold,
    sequences_that_fit,
    smallest_slice,
)
from servesat.cost_model.storage import Storage
from servesat.scaling_book.documents import ARTICLE_KV, CHAPTER_KV, Answer, Answers, llama_70b, usd_per_chip_hour, v5e

SMALLEST = {"bf16": "4x4", "int8": "2x4", "int4": "2x2"}
"""The smallest slices of the chapter, by dtype of LLaMA 3-70B; its 4x2 is the catalogue's 2x4."""


def hardware() -> Answers:
    """What a dollar buys of each chip."""
    answers: dict[str, Answer | float] = {}
    for name, chip_id in (("v5e", "tpu-v5e"), ("v5p", "tpu-v5p"), ("h100", "h100-sxm")):
        chip = load_chip(chip_id)
        bought = flop_per_usd(chip.flop_per_s.by_dtype()["bf16"], usd_per_chip_hour(chip))
        answers[f"hw-flops-per-dollar-{name}"] = bought
        answers[f"hw-flops-per-dollar-hour-{name}"] = bought / 3600
        answers[f"hw-bw-per-dollar-{name}"] = hbm_bytes_per_usd(chip, usd_per_chip_hour(chip)) / 3600
    return answers


def kv(model: ModelSpec, dtype: str, tokens: int = 1) -> float:
    """KV cache of a sequence [bytes]."""
    return Storage(model).kv_cache_bytes(dtype, tokens)


def kv_caches() -> Answers:
    """KV cache of a token, a sequence and a batch [bytes]."""
    large, small = llama_70b(), load_model("llama-3-8b")
    batch_32k = 240 * kv(large, "int8", 32768)
    shifted = "every KV row of that table is one dtype off"
    return {
        **{f"kv-70b-{dtype}": kv(large, dtype) for dtype in ("bf16", "int8", "int4")},
        "kv-70b-seq-32k": kv(large, "int8", 32768),
        "kv-70b-seq-8k": kv(large, "int8", 8192),
        "kv-70b-seq-2k": kv(large, "int8", 2048),
        "kv-70b-b240-32k": batch_32k,
        "kv-70b-b240-8k": 240 * kv(large, "int8", 8192),
        "chips-70b-b240-32k": chips_to_hold(weights(large, "int8") + batch_32k, v5e()),
        "kv-8b-bf16": Answer(kv(small, "bf16"), f"2 · K · H · L · 2 bytes; the printed figure is int8's. {shifted}"),
        "kv-8b-int8": Answer(kv(small, "int8"), f"2 · K · H · L · 1 byte; the printed figure is int4's. {shifted}"),
        "no-flash-scores": attention_scores_bytes(large, 32, 8192),
    }


def weights(model: ModelSpec, dtype: str) -> float:
    """Weights of a model [bytes]."""
    return Storage(model).weights_bytes(dtype)


def free_hbm(model: ModelSpec, dtype: str, topology: str, headroom: float = 0.0) -> float:
    """HBM of a v5e slice that the weights leave free [bytes]."""
    return (1 - headroom) * chips_in(topology) * v5e().hbm_bytes - weights(model, dtype)


def capacity(model: ModelSpec, dtype: str, topology: str, kv_cache: str | None = None) -> int:
    """Number of sequences of 8,192 tokens that fit on a v5e slice."""
    usable = chips_in(topology) * v5e().hbm_bytes
    return floor(sequences_that_fit(usable, weights(model, dtype), kv(model, kv_cache or dtype, 8192)))


def slices() -> Answers:
    """The smallest slices, their free HBM, and the sequences that fit."""
    large, small, rounded = llama_70b(), load_model("llama-3-8b"), llama_70b(ARTICLE_KV)
    rounded_bytes = weights(rounded, "int8") + 32 * kv(rounded, "int8", 8192)
    exact_bytes = weights(large, "int8") + 32 * kv(large, "int8", 8192)
    with_rounding = (
        f"with the article's {ARTICLE_KV / 1e3:.0f} kB of KV a token; with the exact {kv(large, 'int8'):,.0f} bytes"
    )
    answers: dict[str, Answer | float] = {
        "mem-70b-b32-kv": 32 * kv(large, "int8", 8192),
        "mem-70b-b32-total": exact_bytes,
        "mem-70b-b32-chips": Answer(
            ceil(chips_to_hold(rounded_bytes, v5e())),
            f"with 160 kB of KV a token; exactly {exact_bytes / 1e9:.1f} GB, "
            f"{ceil(chips_to_hold(exact_bytes, v5e()))} chips. "
            f"Either way the smallest slice is {smallest_slice(exact_bytes, v5e())}",
        ),
        "min-70b-bf16-chips": chips_to_hold(weights(large, "bf16"), v5e()),
        "min-70b-int8-chips": chips_to_hold(weights(large, "int8"), v5e()),
        "min-70b-int4-chips": ceil(chips_to_hold(weights(large, "int4"), v5e())),
        "min-70b-int4-chips-2.81": Answer(
            chips_to_hold(weights(large, "int4"), v5e()), "int4 is half a byte: 70e9 / 2 over 16e9; 2.81 is 45 GB"
        ),
        "min-70b-int4-params-45": Answer(weights(large, "int4"), "int4 is half a byte: 70e9 / 2"),
        "headroom-80": (1 - 0.2) * v5e().hbm_bytes,
        "headroom-4x4-cut": Answer(
            1 - free_hbm(large, "int8", "4x4", 0.2) / free_hbm(large, "int8", "4x4"),
            f"on 4x2 the cut is {1 - free_hbm(large, 'int8', '2x4', 0.2) / free_hbm(large, 'int8', '2x4'):.0%}",
        ),
        "bmax-70b-int8-4x2-52": Answer(capacity(large, "int8", "2x4"), "52 comes from 68 GB left; 58 GB are"),
        "bmax-70b-int4-2x2-67": Answer(
            capacity(large, "int4", "2x2"), "no input of the document gives 67; 29 GB are left"
        ),
        "free-70b-int8-4x2-68": Answer(free_hbm(large, "int8", "2x4"), "8 · 16e9 - 70e9"),
        "free-70b-int4-2x2-19": Answer(free_hbm(large, "int4", "2x2"), "4 · 16e9 - 35e9"),
        "bmax-8b-int8-1chip": Answer(capacity(small, "int8", "1x1"), "29 comes from the KV row that is one dtype off"),
        "bmax-8b-int8-2x2": Answer(capacity(small, "int8", "2x2"), "209 comes from the KV row that is one dtype off"),
    }
    for dtype, topology in SMALLEST.items():
        printed = topology if topology != "2x4" else "4x2"
        answers[f"free-70b-{dtype}-{printed}"] = free_hbm(large, dtype, topology)
        answers[f"bmax-70b-{dtype}-{printed}"] = capacity(large, dtype, topology)
    for dtype, topology in (*SMALLEST.items(), ("int8", "4x4"), ("bf16", "4x8")):
        printed = topology if topology != "2x4" else "4x2"
        answers[f"bmax-art-{dtype}-{printed}"] = Answer(
            capacity(rounded, dtype, topology, "int8"),
            f"{with_rounding} {capacity(large, dtype, topology, 'int8')}",
        )
    return answers


def doubled_slices() -> Answers:
    """Free HBM and sequences on slices of twice the size."""
    large, rounded, article = llama_70b(), llama_70b(CHAPTER_KV), llama_70b(ARTICLE_KV)
    ratio = (capacity(article, "bf16", "4x8", "int8") / 32) / (capacity(article, "bf16", "4x4", "int8") / 16)
    return {
        "dbl-free-bf16-4x8": free_hbm(large, "bf16", "4x8"),
        "dbl-free-bf16-4x8-186": Answer(free_hbm(large, "bf16", "4x8"), "32 · 16e9 - 140e9; 186 GB is int8 on 4x4"),
        "dbl-bmax-bf16-4x8": Answer(
            capacity(rounded, "bf16", "4x8"),
            f"with the chapter's 324 kB of KV a token; exactly {capacity(large, 'bf16', '4x8')}",
        ),
        "dbl-bmax-int8-90": Answer(
            capacity(rounded, "int8", "4x4"),
            "186 GB left at 162 kB a token; the document's own 0.90 QPS/chip needs it too",
        ),
        "dbl-art-3.3x": Answer(
            ratio, f"a full chip takes as long on both; 3.3 is the ratio in total ({2 * ratio:.1f})"
        ),
    }
