"""LoRA adapters on the chips of a replica: the tensors that each chip holds, one by one."""

from collections.abc import Iterator

from servesat.deployment.check.shape import SplitModel

Matrix = tuple[float, float]
"""Inputs and outputs of a matrix as one chip has it."""


class AdaptedMatrices(SplitModel):
    """A split model with adapters beside its matrices."""

    @property
    def adapter_bytes(self) -> float:
        """What the adapters of all chips take, each in 16 bits with a row and a column for each rank [bytes]."""
        if self.lora is None:
            return 0.0
        whole_model = self.lora.modules == "all"
        layers = sum(layers * (wide + high) for layers, (wide, high) in self._adapted(whole_model))
        tables_of_chip = (2 if self.pp == 1 else 1) if whole_model else 0
        tables = tables_of_chip * (self.model.vocab_size + self.model.d_model)
        of_chip = self._crowding * layers / self.pp + tables
        return 2 * self.lora.adapters * self.lora.rank * self.chips * of_chip

    def _adapted(self, whole_model: bool) -> Iterator[tuple[float, Matrix]]:
        """The matrices of one chip, each with the layers that have it."""
        model, tp = self.model, self.tp
        yield from ((self._own_layers, matrix) for matrix in self._attention_matrices)
        if model.sparse is not None:
            width = model.d_model if model.mla is None else model.mla.q_lora_rank or model.d_model
            keys = (model.d_model, model.sparse.index_head_dim)
            indexers = [(width, model.sparse.index_heads * model.sparse.index_head_dim), keys]
            weighting = (model.d_model, model.sparse.index_heads)
            yield from ((self._index_layers, matrix) for matrix in [*indexers, weighting])
        for other in model.other_layers:
            yield other.layers, (4 * model.d_model, other.parameters / model.d_model / tp)
        if not whole_model:
            return
        for width, layers in self._mlp_widths.items():
            yield from ((layers, matrix) for matrix in self._mlp_of(model.d_model, width))
        moe = self._experts
        if moe is not None:
            yield from (
                (moe.layers * bool(moe.shared_d_ff), one) for one in self._mlp_of(model.d_model, moe.shared_d_ff)
            )
            experts_of_chip = moe.layers * moe.experts / self.ep
            yield from ((experts_of_chip, matrix) for matrix in self._mlp_of(self._expert_width, moe.d_ff))
            if moe.d_model is not None:
                yield 2 * moe.layers, (model.d_model, moe.d_model)

    def _mlp_of(self, width: int, columns: int) -> list[Matrix]:
        up = (float(width), columns / self.tp)
        down = (columns / self.tp, float(width))
        return [up, down] if self._mlp_matrices == 2 else [up, up, down]

    @property
    def _attention_matrices(self) -> list[Matrix]:
        """Of a layer; a chip has at least one whole KV head."""
        model, mla, tp = self.model, self.model.mla, self.tp
        width, heads = model.d_model, model.query_heads / tp
        if mla is None:
            kv = (width, max(model.kv_heads / tp, 1.0) * model.head_dim)
            return [(width, heads * model.head_dim), kv, kv, (heads * model.head_dim, width)]
        of_head = mla.nope_head_dim + mla.rope_head_dim
        found: list[Matrix] = [(width, mla.kv_lora_rank + mla.rope_head_dim), (heads * mla.v_head_dim, width)]
        found.append((mla.kv_lora_rank, heads * (mla.nope_head_dim + mla.v_head_dim)))
        if mla.q_lora_rank is None:
            return [*found, (width, heads * of_head)]
        return [*found, (width, mla.q_lora_rank), (mla.q_lora_rank, heads * of_head)]
