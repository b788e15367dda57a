"""The bytes of a replica's weights: each kind of tensors as it is stored."""

from dataclasses import dataclass
from functools import cached_property

from servesat.catalogue.model import NativeWeights, TensorGroup
from servesat.deployment.check.adapters import AdaptedMatrices

BITS = {"bf16": 16.0, "fp8": 8.0, "int8": 8.0, "int4": 4.0, "mxfp4": 4.0, "nvfp4": 4.0}
"""Bits of one value, without scales."""

BLOCK_SCALE_BITS = {"mxfp4": 8 / 32, "nvfp4": 8 / 16}
"""Bits a value for the 8-bit scale of a block, of the formats that have blocks."""

BLOCK_VALUES = {"mxfp4": 32, "nvfp4": 16}
"""Values of a block."""


@dataclass(frozen=True, kw_only=True)
class LastLayer:
    """A layer as the last of a model: its bytes but for experts, those of its experts, of the head, and its FLOPs."""

    other_bytes: float
    expert_bytes: float
    head_bytes: float
    flop: float


class StoredWeights(AdaptedMatrices):
    """What a replica's weights take of its memory, and where they may be cut."""

    @property
    def _checkpoint(self) -> NativeWeights | None:
        """How the weights are published, where the plan takes them as they are."""
        native = self.model.native
        return native if native is not None and native.dtype == self.weights else None

    @property
    def _quantised_bits(self) -> float:
        """Bits of a quantised weight with its share of the scales; int4 has a scale and a zero point."""
        if self.weights in BLOCK_SCALE_BITS:
            return BITS[self.weights] + BLOCK_SCALE_BITS[self.weights]
        checkpoint, scales = self._checkpoint, 0.0
        if checkpoint is not None and checkpoint.group is not None:
            scales = checkpoint.group_bits / checkpoint.group
        elif checkpoint is None and self.weights == "int4":
            scales = self._int4_scale_bits
        return BITS[self.weights] + scales

    @property
    def _int4_scale_bits(self) -> float:
        """Bits that scale an int4 weight: in the spec's groups, or with the 16 + 4 bits of a GPTQ or AWQ repository."""
        published = {str(name): size for name, size in self.model.checkpoint_blocks.items()}.get("int4")
        if self.int4_group is not None:
            return (16 + 16) / self.int4_group
        return 0.0 if published is None or self.model.nominal_parameters is not None else (16 + 4) / published

    def _in_block_bytes(self, count: float, group: TensorGroup) -> float:
        """Bytes of so many weights of linear layers, some of which the checkpoint may leave wider."""
        wider = {} if self._checkpoint is None else {str(name): left for name, left in self._checkpoint.wider.items()}
        left = wider.get(str(group))
        if left is None:
            return count * self._quantised_bits / 8
        return count * ((1 - left.share) * self._quantised_bits + left.share * stored_bits(left.dtype)) / 8

    @cached_property
    def _table_bytes(self) -> float:
        """Bytes of embedding, head and routers, which stay bf16 unless published otherwise, or counted by the book."""
        if self.model.nominal_parameters is not None:
            within = self._mixing + self._dense + self._shared + self._routed
            return (self.model.nominal_parameters - within) * self._quantised_bits / 8
        quantised = set() if self._checkpoint is None else {str(name) for name in self._checkpoint.tables}
        names = ["embedding"] if self.model.tied_embeddings else ["embedding", "head"]
        bits = sum(self._table * (self._quantised_bits if name in quantised else 16) for name in names)
        return (bits + 16 * self._routers) / 8

    @property
    def computes(self) -> bool:
        """Whether the matmuls are as wide as the weights; unless both are of one dtype, as what is left wider too."""
        if self.weights == self.compute:
            return True
        left = [] if self._checkpoint is None else list(self._checkpoint.wider.values())
        widest = [BITS[self.weights], *(BITS[group.dtype] for group in left if 2 * group.share >= 1)]
        return all(width <= BITS[self.compute] for width in widest)

    @cached_property
    def _expert_bytes(self) -> float:
        """The routed experts, in as many layers of each stage as the fullest has."""
        return self._crowding * self._published_expert_bytes

    @cached_property
    def _published_expert_bytes(self) -> float:
        """The routed experts, each chip's columns of one padded as published."""
        stored, moe = self._in_block_bytes(self._routed, TensorGroup.EXPERTS), self._experts
        if moe is None or self._checkpoint is None or self._checkpoint.pad is None:
            return stored
        columns = moe.d_ff / self.tp
        missing = -columns % self._checkpoint.pad
        return stored * (columns + missing) / columns

    @cached_property
    def _other_bytes(self) -> float:
        """Each group of chips that shares experts with others has all other weights once.

        Of several stages each has room for the larger table, and for as many layers as the fullest.
        """
        attention = self._in_block_bytes(self._mixing, TensorGroup.ATTENTION)
        inside = attention + self._dense_bytes + self._shared_bytes + self._table_bytes
        if self.pp > 1:
            names = ("embedding",) if self.model.tied_embeddings else ("embedding", "head")
            tables = [self._bytes_of_table(name) for name in names]
            inside = self._crowding * (inside - sum(tables)) + self.pp * max(tables)
        return self.ep * inside

    def _bytes_of_table(self, name: str) -> float:
        """Of the embedding or the head, whole [bytes]."""
        if self.model.nominal_parameters is not None:
            return self._in_block_bytes(self._table, TensorGroup(name))
        quantised = set() if self._checkpoint is None else {str(table) for table in self._checkpoint.tables}
        return self._table * (self._in_block_bytes(1, TensorGroup(name)) if name in quantised else 2.0)

    @cached_property
    def _dense_bytes(self) -> float:
        return self._in_block_bytes(self._dense, TensorGroup.MLP)

    @cached_property
    def _shared_bytes(self) -> float:
        return self._in_block_bytes(self._shared, TensorGroup.SHARED_EXPERTS)

    @property
    def weights_bytes(self) -> float:
        """What the replica holds of the model [bytes]."""
        of_model = self._other_bytes + self._expert_bytes + 2 * self.ep * self.pp * self.model.vision_parameters
        of_model += self.adapter_bytes
        return of_model if self.draft is None else of_model + self.ep * self.draft.held_bytes + self.draft.expert_bytes

    @property
    def hbm_bytes(self) -> float:
        """Memory that may be used, of all its chips [bytes]."""
        return self.chips * self.usable_bytes

    @property
    def last_layer(self) -> LastLayer:
        """A layer with experts where the model has some, embedding and head left out."""
        model, moe = self.model, self._experts
        names = ("embedding",) if model.tied_embeddings else ("embedding", "head")
        tables = [self._bytes_of_table(name) for name in names]
        inside = self._parameters - len(names) * self._table - self._routed
        flop, experts = 2 * inside / model.layers, 0.0
        if moe is not None:
            flop += 2 * self._routed / moe.layers * moe.experts_per_token / moe.experts
            experts = self._in_block_bytes(self._routed, TensorGroup.EXPERTS) / moe.layers
        return LastLayer(
            other_bytes=(self._other_bytes / self.ep - sum(tables)) / model.layers,
            expert_bytes=experts,
            head_bytes=tables[-1],
            flop=flop,
        )

    @property
    def cuts_scales(self) -> bool:
        """Whether a chip's part of some matrix ends within weights that share a scale."""
        return any(self._cuts(width, self._sharing(name)) for name, width in self._rows)

    def cuts_blocks(self, block: int) -> bool:
        """Whether a chip's part of some matrix ends within a block of so many weights."""
        return any(self._cuts(width, block) for _, width in self._rows)

    def _cuts(self, width: int, together: int) -> bool:
        return self.tp > 1 and together > 1 and width % (self.tp * together) != 0

    @property
    def _rows(self) -> list[tuple[str, int]]:
        """The widths that tensor parallelism splits along rows, each with what it is of."""
        model, moe, mla = self.model, self._experts, self.model.mla
        head_width = model.head_dim if mla is None else mla.v_head_dim
        rows = [("mlp", width) for width in self._mlp_widths]
        rows += [("attention", model.query_heads * head_width)] if self._own_layers else []
        for other in model.other_layers:
            rows.append(("attention", other.heads * (other.v_head_dim or other.head_dim)))
        return rows if moe is None else [*rows, ("shared_experts", moe.shared_d_ff), ("experts", moe.d_ff)]

    def _sharing(self, group: str) -> int:
        """Weights of a row that share a scale; 1 where a row may be cut anywhere, or what is cut is padded."""
        checkpoint = self._checkpoint
        if checkpoint is not None:
            wider = {str(name): left.share for name, left in checkpoint.wider.items()}
            if wider.get(group) == 1 or (group == "experts" and checkpoint.pad is not None):
                return 1
        if self.weights in BLOCK_VALUES:
            return BLOCK_VALUES[self.weights]
        if checkpoint is not None:
            return checkpoint.group or 1
        return self.int4_group or 1 if self.weights == "int4" else 1


def stored_bits(dtype: str) -> float:
    """Bits of one value, with the scale of its block."""
    return BITS[dtype] + BLOCK_SCALE_BITS.get(dtype, 0.0)
