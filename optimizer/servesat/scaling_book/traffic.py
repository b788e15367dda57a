"""The chapter's figures on sharding and prefill."""

from servesat.catalogue.chip import Chip
from servesat.catalogue.load import load_chip
from servesat.catalogue.model import ModelSpec, TensorGroup
from servesat.cost_model.collectives import gather_s
from servesat.cost_model.decode import Replica, mlp_matmuls
from servesat.cost_model.figures_of_merit import alpha, bandwidth_bound_ways, beta, compute_bound_ways
from servesat.cost_model.memory import activation_bytes, parameters, parameters_by_group
from servesat.cost_model.prefill import (
    chunked_prefill_s,
    kv_transfer_s,
    prefill_replicas_per_decode,
    prefill_s,
    sequences_finished,
    tokens_evicted,
)
from servesat.cost_model.roofline import flops_s
from servesat.cost_model.sharding import kv_heads_per_chip
from servesat.cost_model.storage import Storage
from servesat.scaling_book.documents import ARTICLE_KV, CHAPTER_STEP_S, Answer, Answers, llama_70b, v5e, v5e_slower
from servesat.scaling_book.sizes import kv

NETWORK_BYTES_PER_S = 50e9
"""The article's network between servers [bytes/s]."""


def sharding() -> Answers:
    """Limits of tensor parallelism from the interconnect."""
    model, chip, slower = llama_70b(), v5e(), v5e_slower()
    v5p = load_chip("tpu-v5p")
    (matmul,) = mlp_matmuls(model, _replica(model, slower, 32), 64)
    rounded_beta = 8.0
    gathered = 8192 * activation_bytes(64, model.head_dim)
    layer_s = float(gather_s(gathered, chip.axes[0].bytes_per_s))
    exact = bandwidth_bound_ways(model, 1, beta(chip), 64, 2)
    return {
        "ici-alpha-v5e": alpha(chip, "bf16"),
        "ici-alpha-v5p": Answer(alpha(v5p, "bf16"), f"v5p's; v5e's is {alpha(chip, 'bf16'):.0f}"),
        "ici-limit-70b-v5e": compute_bound_ways(model, 2, alpha(chip, "bf16")),
        "ici-limit-70b-2550": Answer(
            compute_bound_ways(model, 2, alpha(v5p, "bf16")),
            f"with v5p's constant; on v5e {compute_bound_ways(model, 2, alpha(chip, 'bf16')):.1f}",
        ),
        "ici-beta": Answer(
            bandwidth_bound_ways(model, 1, rounded_beta, 64, 2),
            f"with the documents' beta of 8; with v5e's {beta(chip):.1f} the limit is {exact:.0f}",
        ),
        "ici-beta-v5e": Answer(beta(slower), "the documents round it to 8"),
        "ici-t-ici": float(matmul.ici_s),
        "ici-t-hbm": float(matmul.hbm_s),
        "ici-t-math": Answer(float(matmul.math_s), "printed cut off rather than rounded"),
        **{f"kvheads-tp{ways}": kv_heads_per_chip(model, ways) for ways in (4, 8, 16, 32)},
        "kvheads-gather-bytes": gathered,
        "kvheads-gather-time": Answer(
            layer_s,
            f"{layer_s * model.layers * 1e3:.0f} ms a step over {model.layers} layers, which is not manageable: "
            "sharding the KV cache over the batch costs two AllToAlls of activations instead; the optimiser does that",
        ),
    }


def _replica(model: ModelSpec, chip: Chip, tp: int) -> Replica:
    """A bf16 replica whose collectives use a single axis, as in the chapter's check."""
    return Replica(
        tp=tp,
        hbm_bytes_per_s=chip.hbm_bytes_per_s,
        flop_per_s=chip.flop_per_s.by_dtype()["bf16"],
        tp_bytes_per_s=chip.axes[0].bytes_per_s,
        weights=Storage(model).weights("bf16"),
        kv_token_bytes=Storage(model).kv_token_bytes("bf16"),
    )


def prefill() -> Answers:
    """Times of prefill, and the ratio of prefill to decode replicas."""
    model, peaks = llama_70b(), v5e().flop_per_s.by_dtype()
    count = parameters(model)

    def on_sixteen(tokens: int, mfu: float = 0.4) -> float:
        return float(prefill_s(count, tokens, 16, peaks["bf16"], mfu))

    chunk_ms, ideal_ms = on_sixteen(512) * 1e3, on_sixteen(512, 1.0) * 1e3
    hidden = 0.0005 / on_sixteen(1)
    mlp_flop = 2 * parameters_by_group(model)[TensorGroup.MLP] * 240
    return {
        "prefill-70b-8k": on_sixteen(8192),
        "prefill-mlp-flops": mlp_flop,
        "prefill-mlp-4x2": Answer(
            float(flops_s(26e12 / 2, 1, 8, peaks["int8"])),
            f"with the document's 2.6e13 FLOPs; exactly {mlp_flop / (8 * peaks['int8']) * 1e3:.1f} ms",
        ),
        "evict-seqs": sequences_finished(32, 4096),
        "evict-tokens": tokens_evicted(32, 8192, 4096),
        "pd-ratio": Answer(
            prefill_replicas_per_decode(on_sixteen(8192), 32, CHAPTER_STEP_S, 512),
            "with the chapter's step of 19 ms and batch of 32",
        ),
        "kv-transfer": float(kv_transfer_s(kv(llama_70b(ARTICLE_KV), "int8", 8192), NETWORK_BYTES_PER_S)),
        "interference-32k": on_sixteen(32768),
        "chunked-total": Answer(
            chunked_prefill_s(32768, 512, 17.5e-3),
            f"with its step of 17.5 ms; with the {chunk_ms:.0f} ms that a chunk really adds it is "
            f"{chunked_prefill_s(32768, 512, 17e-3 + chunk_ms / 1e3):.1f} s, longer than one blocking prefill",
        ),
        "chunked-0.5ms": Answer(
            on_sixteen(512),
            f"{chunk_ms:.0f} ms at 40 % MFU, {ideal_ms:.0f} ms at peak: it does not hide in a step of 17 ms; "
            f"a chunk that adds 0.5 ms holds {hidden:.1f} tokens",
        ),
    }
