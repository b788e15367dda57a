"""What a value takes in each dtype, and what a model's weights therefore take (docs/cost-model.md, "Memory")."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from servesat.catalogue.model import BITS, ModelSpec, NativeWeights, TensorGroup
from servesat.core.arrays import Array, Rows
from servesat.cost_model.memory import (
    active_parameters,
    counted_parameters,
    kv_cache_bytes,
    not_visited,
    parameters,
    parameters_by_group,
)

BYTES_PER_VALUE = {"bf16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5, "mxfp4": 4.25 / 8, "nvfp4": 4.5 / 8}
"""Storage of one value by dtype [bytes].

The scales that belong to a format count: 8 bits for 32 values of MXFP4, 8 bits for 16 of NVFP4 (OCP Microscaling
Formats 1.0; NVIDIA). Those of other dtypes depend on how the values are grouped, see `value_bytes`.
"""

FORMAT_GROUP = {"mxfp4": 32, "nvfp4": 16}
"""Values that share a scale, of the formats that say so."""

GROUP_SCALE_BITS = 32.0
"""What a group of searched int4 holds in addition to its values: a scale and a zero point of 16 bits each."""

CHECKPOINT_SCALE_BITS = 20.0
"""What a group of a published int4 checkpoint holds so: a scale of 16 bits and a zero point of 4, as GPTQ and AWQ."""

_OUTSIDE_BLOCKS = frozenset({TensorGroup.EMBEDDING, TensorGroup.HEAD, TensorGroup.ROUTER})
"""What quantisation leaves as it is, unless a checkpoint says otherwise."""


def value_bytes(dtype: str, group: int | None = None, group_bits: float = GROUP_SCALE_BITS) -> float:
    """Storage of one weight: bits / 8, and in groups group_bits / 8 / group more [bytes].

    int4 in groups of 128 with a scale and a zero point of 16 bits takes 4 + 32 / 128 = 4.25 bits. The groups of mxfp4
    and nvfp4 are in their formats already.
    """
    grouped = group is not None and dtype not in FORMAT_GROUP
    return BYTES_PER_VALUE[dtype] + (group_bits / 8 / (group or 1) if grouped else 0.0)


@dataclass(frozen=True)
class StoredWeights(Rows):
    """What weights take, over all layers, as numbers or as arrays over layouts [bytes]."""

    resident: Array  # of all that is not a routed expert's: what each group of chips that shares experts holds
    experts: Array = 0.0
    mlp: Array = 0.0  # of the resident, the dense MLPs
    shared_experts: Array = 0.0  # of the resident, the shared experts
    embedding: Array = 0.0  # of the resident, the table that tokens are looked up in
    head: Array = 0.0  # of the resident, the table that gives the next token; 0 where it is the embedding
    idle: float = 0.0  # what no decode step reads: a vision encoder
    adapters: Array = 0.0  # LoRA adapters, on all chips of a replica


@dataclass(frozen=True)
class Storage:
    """What the weights of a model take in the dtypes that a search may choose, and what may compute with them.

    A dtype applies to the linear layers within the blocks; embedding, head and router stay bf16. In the dtype in which
    a model is published, its checkpoint decides what is stored how. A model with nominal parameters is the scaling
    book's, which stores everything alike.
    """

    model: ModelSpec
    int4_group: int | None = None

    def bytes_by_group(self, weights: str) -> dict[TensorGroup, float]:
        """Bytes of each group of tensors, without padding."""
        counts = parameters_by_group(self.model)
        return {group: count * self._value_bytes(group, weights) for group, count in counts.items()}

    def dtypes_of(self, group: TensorGroup, weights: str) -> dict[str, float]:
        """The dtypes that a group's parameters are stored in, and the share of them in each."""
        native = self._native(weights)
        quantised: Collection[str] = native.tables if native else ()
        if group in _OUTSIDE_BLOCKS and group not in quantised and self.model.nominal_parameters is None:
            return {"bf16": 1.0}
        left = native.wider.get(group) if native else None
        if left is None:
            return {weights: 1.0}
        return {left.dtype: 1.0} if left.share == 1 else {weights: 1 - left.share, left.dtype: left.share}

    def weights(self, weights: str) -> StoredWeights:
        """What the weights take in a dtype, without padding."""
        by_group = self.bytes_by_group(weights)
        experts = by_group.pop(TensorGroup.EXPERTS, 0.0)
        uncounted = (parameters(self.model) - counted_parameters(self.model)) * self._scaled_bytes(weights)
        return StoredWeights(
            resident=sum(by_group.values()) + uncounted,
            experts=experts,
            mlp=by_group.get(TensorGroup.MLP, 0.0),
            shared_experts=by_group.get(TensorGroup.SHARED_EXPERTS, 0.0),
            embedding=by_group.get(TensorGroup.EMBEDDING, 0.0),
            head=by_group.get(TensorGroup.HEAD, 0.0),
            idle=BYTES_PER_VALUE["bf16"] * self.model.vision_parameters,
        )

    def weights_over(self, weights: str, tp: float) -> StoredWeights:
        """What the weights of a replica take whose experts are padded on each of tp chips."""
        stored = self.weights(weights)
        return replace(stored, experts=stored.experts * float(self.expert_padding(weights, np.float64(tp))))

    def weights_bytes(self, weights: str) -> float:
        """All weights in a dtype as stored, a vision encoder among them [bytes]."""
        stored = self.weights(weights)
        return float(stored.resident + stored.experts + stored.idle)

    def expert_padding(self, weights: str, tp: Array) -> Array:
        """By how much the experts grow on tp chips: each chip's width, F_e / tp, to a multiple of `native.pad`."""
        moe, native = self.model.moe, self._native(weights)
        if moe is None or native is None or native.pad is None:
            return np.ones_like(tp, dtype=np.float64)
        return np.ceil(moe.d_ff / tp / native.pad) * native.pad * tp / moe.d_ff

    def kv_token_bytes(self, kv_cache: str) -> float:
        """The KV cache of one token in one layer, the indexer's key aside [bytes].

        2 · kv_heads · head_dim values, or of latent attention its latent and the rotary key. Sparse attention holds
        that in fp8 as its kernels read it: the latent with a scale of 4 bytes for 128 values, the rotary key in bf16,
        656 bytes for 512 and 64 values (FlashMLA).
        """
        mla, value = self.model.mla, BYTES_PER_VALUE[kv_cache]
        if mla is None:
            return 2.0 * self.model.kv_heads * self.model.head_dim * value
        if self.model.sparse is not None and kv_cache == "fp8":
            return mla.kv_lora_rank * (1 + 4 / 128) + mla.rope_head_dim * BYTES_PER_VALUE["bf16"]
        return (mla.kv_lora_rank + mla.rope_head_dim) * value

    def kv_cache_bytes(self, kv_cache: str, context_tokens: float) -> float:
        """KV cache of one sequence, a state included [bytes]."""
        values = BYTES_PER_VALUE[kv_cache]
        return float(kv_cache_bytes(self.model, context_tokens, self.kv_token_bytes(kv_cache), values))

    def fits_compute(self, weights: str, compute: str) -> bool:
        """Whether the weights within the blocks are no wider than the dtype of the matmuls (requirement `dtypes`).

        In matmuls of a checkpoint's own dtype, what it leaves in a wider one computes in that (`flop_per_s`). In others
        all compute in one dtype, which is as wide as each group of which at least half is left.
        """
        native = self._native(weights)
        wider = [left.dtype for left in native.wider.values() if left.share >= 0.5] if native else []
        return max(BITS[dtype] for dtype in (weights, *(wider if weights != compute else ()))) <= BITS[compute]

    def flop_per_s(self, peaks: Mapping[str, float], weights: str, compute: str) -> float:
        """The peak of a chip for a token's matmuls [FLOP/s], given its peaks by dtype; 0 if it has none in `compute`.

        What a checkpoint leaves in a dtype wider than `compute` is computed at the peak of that:
        Θ_active / (Σ_d Θ_d / C_d). Without a peak in it, the chip computes in bf16.
        """
        peak, native = peaks.get(compute, 0.0), self._native(weights)
        slower = [] if native is None else [one for one in native.wider.items() if BITS[one[1].dtype] > BITS[compute]]
        if not peak or not slower:
            return peak
        counts, visited = parameters_by_group(self.model), 1 - not_visited(self.model)
        longer = 0.0
        for group, left in slower:
            count = left.share * counts.get(group, 0.0) * (visited if group is TensorGroup.EXPERTS else 1.0)
            longer += count * (peak / (peaks.get(left.dtype) or peaks.get("bf16", peak)) - 1)
        return peak / (1 + longer / active_parameters(self.model))

    def scale_group(self, group: TensorGroup, weights: str) -> int:
        """Weights along a row that share a scale, which a chip must hold together; 1 where none must be."""
        native = self._native(weights)
        if native is not None:
            left = native.wider.get(group)
            padded = native.pad is not None and group == TensorGroup.EXPERTS
            if padded or (left is not None and left.share == 1):
                return 1
        return FORMAT_GROUP.get(weights, self._group(weights) or 1)

    def _group(self, weights: str) -> int | None:
        """Weights that share a scale: as the checkpoint says, or of searched int4 as the spec does."""
        native = self._native(weights)
        return native.group if native else self.int4_group if weights == "int4" else None

    def _scaled_bytes(self, weights: str) -> float:
        """Bytes of a quantised weight with its part of the scales.

        Of int4 in groups that neither `native` nor the spec states, those of the published checkpoint. They bind no
        chips: an engine that quantises the weights of bf16 itself may cut them anywhere.
        """
        native, group = self._native(weights), self._group(weights)
        if native is not None:
            return value_bytes(weights, group, native.group_bits)
        blocks = {str(dtype): size for dtype, size in self.model.checkpoint_blocks.items()}
        if weights == "int4" and group is None and self.model.nominal_parameters is None:
            return value_bytes(weights, blocks.get(weights), CHECKPOINT_SCALE_BITS)
        return value_bytes(weights, group)

    def is_published_in(self, weights: str) -> bool:
        """Whether a checkpoint decides what is stored how."""
        return self._native(weights) is not None

    def _native(self, weights: str) -> NativeWeights | None:
        """How the checkpoint stores its weights, where they are in its dtype."""
        native = self.model.native
        return native if native is not None and native.dtype == weights else None

    def _value_bytes(self, group: TensorGroup, weights: str) -> float:
        """Bytes of a weight of a group, on average."""
        scaled, shares = self._scaled_bytes(weights), self.dtypes_of(group, weights)
        return sum(share * (scaled if dtype == weights else BYTES_PER_VALUE[dtype]) for dtype, share in shares.items())
