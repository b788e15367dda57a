"""A model split over the chips of a replica: how many share each part of it, and its parameters, of each kind apart."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil

from servesat.catalogue.chip import Chip, axis_sizes
from servesat.catalogue.model import Experts, ModelSpec
from servesat.core.plan import KvLayout
from servesat.spec.lora import Lora


@dataclass(frozen=True, kw_only=True)
class CheckedDraft:
    """A draft of `tokens` tokens, of which a step makes `accepted` on average, the one it makes anyway included.

    Each group of chips that shares its matrices holds `held_bytes` of it, and for a token reads `read_bytes`; the
    replica has its experts once, of which `visited` tokens load a part.
    """

    tokens: int
    accepted: float
    held_bytes: float
    read_bytes: float
    expert_bytes: float
    flop: float
    layers: int
    kv_share: float
    splits: bool = True  # over the chips that share each matrix


@dataclass(frozen=True, kw_only=True)
class SplitModel:
    """A model on some axes of a slice, in some dtypes; `int4_group` as in the spec, `usable_bytes` of each chip."""

    model: ModelSpec
    chip: Chip
    topology: str
    tp_axes: tuple[int, ...]
    ep_axes: tuple[int, ...]
    pp_axes: tuple[int, ...]
    kv_layout: KvLayout
    weights: str
    kv_cache: str
    compute: str
    int4_group: int | None
    exact_wraparound: bool
    pays_ici: bool
    usable_bytes: float
    draft: CheckedDraft | None = None
    lora: Lora | None = None
    loads_from_host: bool = False
    hits_prefixes: bool = False
    windows_kept: float = 1.0  # of a sequence, by layers that have one; inf: all its tokens
    kept_beyond_windows: int = 0

    def _ways(self, axes: tuple[int, ...]) -> int:
        ways = 1
        for axis in axes:
            ways *= axis_sizes(self.topology)[axis]
        return ways

    @cached_property
    def tp(self) -> int:
        """Chips that share each matrix."""
        return self._ways(self.tp_axes)

    @cached_property
    def ep(self) -> int:
        """Groups that the experts are spread over."""
        return self._ways(self.ep_axes)

    @cached_property
    def pp(self) -> int:
        """Stages that the layers are split into."""
        return self._ways(self.pp_axes)

    @property
    def chips(self) -> int:
        """Chips of the replica."""
        return self.tp * self.ep * self.pp

    @property
    def _crowding(self) -> float:
        """Layers of the stage that has most, or those with experts if these are more, to those of the average stage."""
        fullest, experts = ceil(self.model.layers / self.pp), self._experts
        crowded = [fullest / (self.model.layers / self.pp)]
        if experts is not None:
            with_experts = len(range(0, fullest, experts.every)[: experts.layers])
            crowded.append(with_experts / (experts.layers / self.pp))
        return max(crowded)

    @property
    def batch_multiple(self) -> int:
        """What the batch is a multiple of: pp micro-batches of ep groups, and beyond K heads tp / K parts of them."""
        if self.kv_layout is not KvLayout.BATCH:
            return self.ep * self.pp
        parts = [self.tp // heads for heads in self._kv_head_counts if self.tp > heads and self.tp % heads == 0]
        return self.ep * self.pp * max(parts, default=1)

    @property
    def _own_layers(self) -> int:
        """Layers whose attention is not stated as that of other layers."""
        return self.model.layers - sum(0 if other.beside else other.layers for other in self.model.other_layers)

    @property
    def _kv_head_counts(self) -> list[int]:
        own = [self.model.kv_heads] if self._own_layers else []
        return own + [other.kv_heads for other in self.model.other_layers if other.kv_heads]

    @property
    def divides_heads(self) -> bool:
        """Whether tensor parallelism divides the query heads and the widths of MLPs and experts, a draft's too."""
        moe = self._experts
        widths = [self.model.query_heads] if self._own_layers else []
        widths += [*self._mlp_widths, *(other.heads for other in self.model.other_layers)]
        widths += [] if moe is None else [moe.d_ff, moe.shared_d_ff]
        return not any(width % self.tp for width in widths) and (self.draft is None or self.draft.splits)

    @property
    def splits_kv_heads(self) -> bool:
        """Whether each chip has as many KV heads as the others, or each head as many chips."""
        return all(heads % self.tp == 0 or self.tp % heads == 0 for heads in self._kv_head_counts)

    @property
    def _experts(self) -> Experts | None:
        return self.model.moe

    @property
    def _mlp_matrices(self) -> int:
        return 3 if self.model.gated_mlp else 2

    @cached_property
    def _routed(self) -> int:
        moe = self._experts
        each = 0 if moe is None else self._mlp_matrices * self._expert_width * moe.d_ff
        return 0 if moe is None else moe.layers * moe.experts * each

    @property
    def _expert_width(self) -> int:
        moe = self._experts
        return self.model.d_model if moe is None or moe.d_model is None else moe.d_model

    @cached_property
    def _dense(self) -> int:
        columns = sum(layers * width for width, layers in self._mlp_widths.items())
        return columns * self._mlp_matrices * self.model.d_model

    @cached_property
    def _mlp_widths(self) -> dict[int, int]:
        """How many layers have a dense MLP of each width."""
        stated, moe = self.model.mlp_layers, self._experts
        apart = sum(other.layers for other in self.model.other_mlps)
        left = self.model.layers - apart - (0 if moe is None else moe.layers)
        found = {self.model.d_ff: left if stated is None else stated} if self.model.d_ff else {}
        for other in self.model.other_mlps:
            found[other.d_ff] = found.get(other.d_ff, 0) + other.layers
        return found

    @property
    def widest_mlp(self) -> int:
        """Columns of the widest dense MLP; 0 without one."""
        return max(self._mlp_widths, default=0)

    @property
    def _dense_layers(self) -> int:
        return sum(self._mlp_widths.values())

    @cached_property
    def _mixing(self) -> int:
        """Parameters of attention, and of what stands in its place or beside it."""
        others = sum(other.layers * other.parameters for other in self.model.other_layers)
        return self._own_layers * self._attention_of_a_layer + self._index_layers * self._indexer + others

    @property
    def _index_layers(self) -> int:
        sparse = self.model.sparse
        return 0 if sparse is None else self._own_layers if sparse.layers is None else sparse.layers

    @property
    def _indexer(self) -> int:
        model, sparse = self.model, self.model.sparse
        if sparse is None:
            return 0
        query_input = (model.mla.q_lora_rank if model.mla else None) or model.d_model
        queries = query_input * sparse.index_heads * sparse.index_head_dim
        return queries + model.d_model * (sparse.index_head_dim + sparse.index_heads)

    @cached_property
    def _shared(self) -> int:
        moe = self._experts
        if moe is None:
            return 0
        into_and_out_of = 2 * (moe.d_model or 0)
        return moe.layers * self.model.d_model * (self._mlp_matrices * moe.shared_d_ff + into_and_out_of)

    @cached_property
    def _routers(self) -> int:
        moe = self._experts
        return 0 if moe is None else moe.layers * self.model.d_model * moe.experts

    @cached_property
    def _parameters(self) -> float:
        if self.model.nominal_parameters is not None:
            return self.model.nominal_parameters
        tables = self._table if self.model.tied_embeddings else 2 * self._table
        return float(self._mixing + self._dense + self._shared + self._routers + self._routed + tables)

    @property
    def _table(self) -> int:
        return self.model.vocab_size * self.model.d_model

    @cached_property
    def _attention_of_a_layer(self) -> int:
        model, mla = self.model, self.model.mla
        width, heads = model.d_model, model.query_heads
        if mla is None:
            queries_and_output = 2 * width * heads * model.head_dim
            total = queries_and_output + 2 * width * model.kv_heads * model.head_dim
            query_input = width
        else:
            key_width = mla.nope_head_dim + mla.rope_head_dim
            query_input = mla.q_lora_rank or width
            total = (width * mla.q_lora_rank if mla.q_lora_rank else 0) + query_input * heads * key_width
            total += width * (mla.kv_lora_rank + mla.rope_head_dim)
            total += mla.kv_lora_rank * heads * (mla.nope_head_dim + mla.v_head_dim) + heads * mla.v_head_dim * width
        return total

    @cached_property
    def _active_parameters(self) -> float:
        moe = self._experts
        idle = 0.0 if moe is None else self._routed * (moe.experts - moe.experts_per_token) / moe.experts
        return self._parameters - idle

    @property
    def flop_of_token(self) -> float:
        """Of the matmuls that a token meets [FLOP]."""
        return 2 * self._active_parameters

    @property
    def _verified(self) -> int:
        """Tokens of a sequence in a step: one, and those drafted before it."""
        return 1 if self.draft is None else 1 + self.draft.tokens

    @property
    def accepted(self) -> float:
        """Mean tokens of a sequence that a step makes."""
        return 1.0 if self.draft is None else self.draft.accepted
