"""One replica of a plan in plain numbers: the ideal cost model of docs/cost-model.md, written a second time."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil, inf

from servesat.catalogue.chip import Axis, Chip, axis_sizes
from servesat.catalogue.model import Experts, ModelSpec, NativeWeights, OtherLayers, TensorGroup
from servesat.core.plan import KvLayout

BITS = {"bf16": 16.0, "fp8": 8.0, "int8": 8.0, "int4": 4.0, "mxfp4": 4.0, "nvfp4": 4.0}
"""Bits of one value, without scales."""

BLOCK_SCALE_BITS = {"mxfp4": 8 / 32, "nvfp4": 8 / 16}
"""Bits a value for the 8-bit scale of a block, of the formats that have blocks."""

BLOCK_VALUES = {"mxfp4": 32, "nvfp4": 16}
"""Values of a block."""

ACTIVATION_BYTES = 2
"""Activations travel in bf16."""


@dataclass(frozen=True, kw_only=True)
class StepParts:
    """The terms of one decode step [s]."""

    weights_s: float
    flops_s: float
    ici_s: float
    kv_cache_s: float
    kv_exchange_s: float
    pipeline_s: float
    draft_s: float
    head_s: float = 0.0
    launches_s: float = 0.0
    host_s: float = 0.0

    @property
    def total_s(self) -> float:
        """The longest of the overlapping terms, the KV cache, all that is exchanged, and what drafts [s]."""
        moved = self.kv_cache_s + self.kv_exchange_s + self.pipeline_s
        return max(self.weights_s, self.flops_s, self.ici_s) + moved + self.draft_s


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
class LastLayer:
    """A layer as the last of a model: its bytes but for experts, those of its experts, of the head, and its FLOPs."""

    other_bytes: float
    expert_bytes: float
    head_bytes: float
    flop: float


@dataclass(frozen=True, kw_only=True)
class CheckedReplica:
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

    # Parameters, each kind of them over all layers.

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
    def _verified(self) -> int:
        """Tokens of a sequence in a step: one, and those drafted before it."""
        return 1 if self.draft is None else 1 + self.draft.tokens

    @property
    def accepted(self) -> float:
        """Mean tokens of a sequence that a step makes."""
        return 1.0 if self.draft is None else self.draft.accepted

    # Bytes.

    @property
    def _checkpoint(self) -> NativeWeights | None:
        """How the weights are published, where the plan takes them as they are."""
        native = self.model.native
        return native if native is not None and native.dtype == self.weights else None

    @property
    def _quantised_bits(self) -> float:
        """Bits of a quantised weight with its share of the scales; int4 of the spec has a scale and a zero point."""
        if self.weights in BLOCK_SCALE_BITS:
            return BITS[self.weights] + BLOCK_SCALE_BITS[self.weights]
        checkpoint, scales = self._checkpoint, 0.0
        if checkpoint is not None and checkpoint.group is not None:
            scales = checkpoint.group_bits / checkpoint.group
        elif checkpoint is None and self.weights == "int4" and self.int4_group is not None:
            scales = (16 + 16) / self.int4_group
        return BITS[self.weights] + scales

    def _in_block_bytes(self, count: float, group: TensorGroup) -> float:
        """Bytes of so many weights of linear layers, some of which the checkpoint may leave wider."""
        wider = {} if self._checkpoint is None else {str(name): left for name, left in self._checkpoint.wider.items()}
        left = wider.get(str(group))
        if left is None:
            return count * self._quantised_bits / 8
        return count * ((1 - left.share) * self._quantised_bits + left.share * _stored_bits(left.dtype)) / 8

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
        """Whether the matmuls are as wide as the weights, those included of which half or more are left wider."""
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
        return of_model if self.draft is None else of_model + self.ep * self.draft.held_bytes + self.draft.expert_bytes

    @property
    def hbm_bytes(self) -> float:
        """Memory that may be used, of all its chips [bytes]."""
        return self.chips * self.usable_bytes

    @property
    def _token_bytes(self) -> float:
        """What a layer holds of a token: keys and values, or the latent with its rotary key, as its kernels read it."""
        mla, value = self.model.mla, _stored_bits(self.kv_cache) / 8
        if mla is None:
            return 2 * self.model.kv_heads * self.model.head_dim * value
        if self.model.sparse is not None and self.kv_cache == "fp8":
            return mla.kv_lora_rank + 4 * mla.kv_lora_rank / 128 + 2 * mla.rope_head_dim
        return (mla.kv_lora_rank + mla.rope_head_dim) * value

    @property
    def _index_bytes(self) -> float:
        """The indexer's key of a token in fp8, and a scale of 4 bytes for each 128 of its values."""
        sparse = self.model.sparse
        return 0.0 if sparse is None else sparse.index_head_dim + 4 * sparse.index_head_dim / 128

    def _copies(self, kv_heads: int) -> float:
        """On how many chips each of so many KV heads lies whole."""
        return max(1.0, self.tp / kv_heads) if self.kv_layout is KvLayout.COPIES and kv_heads else 1.0

    def sequence_bytes(self, tokens: float) -> float:
        """KV cache of one sequence, before any copies [bytes]."""
        model = self.model
        within_window = tokens if model.window_tokens is None else min(tokens, model.window_tokens)
        full_layers = self._own_layers - model.window_layers
        held = full_layers * tokens + model.window_layers * within_window
        index = self._index_layers * self._index_bytes * tokens
        return self._token_bytes * held + index + self._other_cache(tokens, copied=False) + self._states

    def held_kv_bytes(self, tokens: float) -> float:
        """KV cache of one sequence in all its copies, with as many layers in each stage as the fullest has [bytes].

        With what is drafted ahead, and the cache of the draft.
        """
        held, draft = self._copied_bytes(tokens), self.draft
        if draft is not None:
            held += draft.tokens * (self._copied_bytes(tokens + 1) - held)
            held += held * draft.kv_share
        return self._crowding * held

    def _copied_bytes(self, tokens: float) -> float:
        own = self.sequence_bytes(tokens) - self._other_cache(tokens, copied=False) - self._states
        return self._copies(self.model.kv_heads) * own + self._other_cache(tokens) + self._states

    def _other_cache(self, tokens: float, *, copied: bool = True) -> float:
        """Keys and values of the layers that are stated apart [bytes]."""
        total = 0.0
        for other in self.model.other_layers:
            copies = self._copies(other.kv_heads) if copied else 1
            each = self._entry_bytes(other) + other.index_bytes
            total += other.layers * copies * self._entries(other, tokens) * each
        return total

    @staticmethod
    def _entries(other: OtherLayers, tokens: float) -> float:
        kept = tokens if other.window_tokens is None else min(tokens, other.window_tokens)
        return kept / other.entry_tokens

    def _entry_bytes(self, other: OtherLayers) -> float:
        a_head = other.head_dim + (other.head_dim if other.v_head_dim is None else other.v_head_dim)
        return other.kv_heads * a_head * _stored_bits(self.kv_cache) / 8

    def _passed_over(self, tokens: float) -> float:
        """What an indexer of the layers that are stated apart does not select [bytes]."""
        total = 0.0
        for other in self.model.other_layers:
            if other.selected_tokens is not None:
                beyond = self._entries(other, tokens) - other.selected_tokens / other.entry_tokens
                total += other.layers * self._copies(other.kv_heads) * max(0.0, beyond) * self._entry_bytes(other)
        return total

    @property
    def _states(self) -> float:
        """What recurrent layers keep of a sequence, however long it is [bytes]."""
        return float(sum(other.layers * other.state_bytes for other in self.model.other_layers))

    def _read_kv_bytes(self, tokens: float) -> float:
        sparse = self.model.sparse
        if sparse is None:
            written = self._states
            return self._crowding * (self._copied_bytes(tokens) + written - self._passed_over(tokens))
        selected = self._own_layers * self._token_bytes * min(tokens, sparse.tokens)
        index = self._index_layers * self._index_bytes * tokens
        apart = self._other_cache(tokens) - self._passed_over(tokens) + 2 * self._states
        return self._crowding * (self._copies(self.model.kv_heads) * (selected + index) + apart)

    # Seconds.

    def _visited(self, tokens: float) -> float:
        """The share of a layer's experts that some of the tokens are expected to visit."""
        moe = self._experts
        if moe is None:
            return 0.0
        missed_by_one = 1 - moe.experts_per_token / moe.experts
        return 1.0 - float(missed_by_one**tokens)

    @property
    def _hbm_bytes_per_s(self) -> float:
        return self.chips * self.chip.hbm_bytes_per_s

    @property
    def _flop_per_s(self) -> float:
        return self.chips * self.chip.flop_per_s.by_dtype()[self.compute]

    def _load_s(self, tokens: float) -> float:
        """What so many tokens need, stage after stage [s]."""
        needed = self._other_bytes + self._expert_bytes * self._visited(tokens)
        return needed * self.pp / self._hbm_bytes_per_s

    def step(self, batch: float, context_tokens: float, chunk_tokens: float = 0.0, chunk_s: float = 0.0) -> StepParts:
        """One token for each sequence of the batch, and a prefill chunk that takes `chunk_s` of FLOPs.

        Each stage has a micro-batch at a time, whose tokens pass one stage after another. With a draft, a step verifies
        what was drafted, too.
        """
        verified = batch * self._verified
        tokens = verified + chunk_tokens
        return StepParts(
            weights_s=self._load_s(tokens / self.pp),
            flops_s=2 * verified * self._crowding * self._active_parameters / self._flop_per_s + chunk_s,
            ici_s=self._layers_ici_s(tokens) if self.pays_ici else 0.0,
            kv_cache_s=batch * self._read_kv_bytes(context_tokens) / self._hbm_bytes_per_s,
            kv_exchange_s=verified * self._exchanged_bytes / self._gather_bytes_per_s,
            pipeline_s=batch * self._handed_on_s,
            draft_s=self._drafting_s(batch, context_tokens),
        )

    def _drafting_s(
        self, batch: float, context_tokens: float, loading: float = 1.0, computing: float = 1.0, reading: float = 1.0
    ) -> float:
        """To draft for each sequence, one token after another, with chips that reach a part of their peaks [s]."""
        draft = self.draft
        if draft is None:
            return 0.0
        bandwidth, peaks = self._hbm_bytes_per_s, self.chip.flop_per_s.by_dtype()
        load = (self.ep * draft.read_bytes + draft.expert_bytes * self._visited(batch)) / (bandwidth * loading)
        compute = batch * draft.flop / (self.chips * peaks.get("bf16", max(peaks.values())) * computing)
        caches = batch * draft.kv_share * self._read_kv_bytes(context_tokens) / (bandwidth * reading)
        return draft.tokens * (max(load, compute) + caches)

    @property
    def _handed_on_s(self) -> float:
        """A token's hidden state and residual from a stage to the next, a part over each chip [s]."""
        slowest = min((self._width(axis)[2] for axis in self.pp_axes), default=inf)
        return 2 * ACTIVATION_BYTES * self.model.d_model / (self.tp * self.ep) / slowest

    @property
    def _exchanged_bytes(self) -> float:
        """Queries and results of a token, of the heads that share a KV head with sequences on several chips [bytes]."""
        if self.kv_layout is not KvLayout.SEQUENCE:
            return 0.0
        model, mla, found = self.model, self.model.mla, 0.0
        if self._own_layers and self.tp > model.kv_heads:
            a_head = 2 * model.head_dim if mla is None else 2 * mla.kv_lora_rank + mla.rope_head_dim
            found += self._own_layers * model.query_heads // model.kv_heads * (ACTIVATION_BYTES * a_head + 4)
        for other in model.other_layers:
            if 0 < other.kv_heads < self.tp:
                a_head = other.head_dim + (other.v_head_dim or other.head_dim)
                found += other.layers * other.heads // other.kv_heads * (ACTIVATION_BYTES * a_head + 4)
        return found * self._crowding / (self.ep * self.pp)

    def mfu(self, tokens_per_s: float, prompt_flop: float) -> float:
        """The share of the peak that so many output tokens/s use, each with a part of a prompt."""
        return tokens_per_s * (2 * self._active_parameters + prompt_flop) / self._flop_per_s

    def mbu(self, batch: float, context_tokens: float, tpot_s: float) -> float:
        """The share of the bandwidth that loading the weights and the KV cache once in `tpot_s` uses."""
        read = self._other_bytes + self._expert_bytes * self._visited(batch * self._verified / self.pp)
        return (self.pp * read + batch * self._read_kv_bytes(context_tokens)) / (tpot_s * self._hbm_bytes_per_s)

    def prompt_flop(self, cached: float, new: float) -> float:
        """The matmuls of the new tokens of a prompt, and their attention to all before them [FLOP]."""
        return 2 * self._active_parameters * new + self._attention_flop(cached, cached + new)

    def prompt_flops_s(self, cached: float, new: float, mfu: float) -> float:
        """The FLOPs of a prompt in the fullest stage, at so much of the peak [s]."""
        return self._crowding * self.prompt_flop(cached, new) / (mfu * self._flop_per_s)

    def prompt_s(self, cached: float, new: float, mfu: float) -> float:
        """One prompt on the replica: its FLOPs, loading the weights, or the interconnect where it is paid [s]."""
        longest = max(self.pp * self.prompt_flops_s(cached, new, mfu), self._load_s(new))
        longest = max(longest, self.pp * self._layers_ici_s(new)) if self.pays_ici else longest
        return longest + self.pp * new * self._handed_on_s

    def _attention_flop(self, first: float, last: float) -> float:
        """Two FLOPs a value of every query and key, and of every score and value, for the tokens from first to last."""
        model, mla, sparse = self.model, self.model.mla, self.model.sparse
        a_pair = 2 * model.query_heads * (model.head_dim + (model.head_dim if mla is None else mla.v_head_dim))
        apart = 0.0
        for other in model.other_layers:
            window = inf if other.window_tokens is None else other.window_tokens
            chosen = inf if other.selected_tokens is None else other.selected_tokens
            scores_and_values = other.head_dim + (other.v_head_dim or other.head_dim)
            attended = 2 * other.heads * scores_and_values * _met(first, last, min(window, chosen))
            indexed = other.index_flops * _met(first, last, window)
            in_state = other.state_flops * (last - first)
            apart += other.layers * ((attended + indexed) / other.entry_tokens + in_state)
        if sparse is not None:
            index = 2 * sparse.index_heads * sparse.index_head_dim
            attended = self._own_layers * a_pair * _met(first, last, sparse.tokens)
            return apart + attended + self._index_layers * index * _met(first, last, inf)
        window = inf if model.window_tokens is None else model.window_tokens
        full, windowed = self._own_layers - model.window_layers, model.window_layers
        return apart + a_pair * (full * _met(first, last, inf) + windowed * _met(first, last, window))

    # Interconnect.

    def _width(self, axis: int) -> tuple[Axis, int, float]:
        link, size = self.chip.axes[axis], axis_sizes(self.topology)[axis]
        is_line = self.exact_wraparound and link.wraps_every is not None and size % link.wraps_every > 0
        return link, size, link.bytes_per_s * (0.5 if is_line else 1.0)

    @cached_property
    def _gather_bytes_per_s(self) -> float:
        """Axes of a torus, or of one speed, add up at the pace of the slowest; otherwise that one alone counts."""
        links = [self._width(axis) for axis in self.tp_axes]
        if not links:
            return inf
        widths = [width for _, _, width in links]
        adds_up = all(link.wraps_every is not None for link, _, _ in links) or min(widths) == max(widths)
        return min(widths) * (len(widths) if adds_up else 1)

    @cached_property
    def _exchange_bytes_per_s(self) -> float:
        """What all groups exchange in a second: on a ring of A chips a byte travels A / 4 links, else one."""
        paces = []
        for axis in self.ep_axes:
            link, size, width = self._width(axis)
            paces.append(self.ep * width / (size / 4 if link.wraps_every is not None else 1))
        return min(paces, default=inf)

    def _gather_s(self, rows: float) -> float:
        return ACTIVATION_BYTES * rows * self.model.d_model / self._gather_bytes_per_s

    def _experts_ici_s(self, tokens: float) -> float:
        """One way to or from the experts of a layer, for the tokens of all groups [s]."""
        moe = self._experts
        if moe is None:
            return 0.0
        groups_of_a_token = min(moe.experts_per_token, self.ep)
        exchange = ACTIVATION_BYTES * tokens * groups_of_a_token * self._expert_width / self._exchange_bytes_per_s
        if self.ep == 1:
            return self._gather_s(tokens) + exchange
        arriving = groups_of_a_token * self._expert_width / self.model.d_model + (1 if moe.shared_d_ff else 0)
        return self._gather_s(tokens * arriving / self.ep) + exchange

    def _layers_ici_s(self, tokens: float) -> float:
        """Two collectives around the attention and two around the MLP of each layer [s]."""
        layers, own = self.model.layers, tokens / self.ep
        sparse_layers = 0 if self._experts is None else self._experts.layers
        around_attention, around_mlp = 2 * layers * self._gather_s(own), 2 * self._dense_layers
        around_mlp_s = around_mlp * self._gather_s(own) + 2 * sparse_layers * self._experts_ici_s(tokens)
        return self._crowding / self.pp * (around_attention + around_mlp_s)

    def matmuls(self, tokens: float) -> list[tuple[float, float]]:
        """For the MLP matmul of each kind of layer: the time on the interconnect, and the time that hides it [s]."""
        model, moe, own = self.model, self._experts, tokens / self.ep
        group_bandwidth = self.tp * self.chip.hbm_bytes_per_s
        group_flop_per_s = self.tp * self.chip.flop_per_s.by_dtype()[self.compute]
        found = []
        if self._dense_layers:
            matrix = self._dense / (self._dense_layers * self._mlp_matrices)
            stored = self._dense_bytes / (self._dense_layers * self._mlp_matrices)
            hidden = max(stored / group_bandwidth, 2 * own * matrix / group_flop_per_s)
            found.append((self._gather_s(own), hidden))
        if moe is not None:
            matrices = moe.layers * self._mlp_matrices
            loaded = self._shared_bytes / matrices / group_bandwidth
            loaded += self._published_expert_bytes / matrices * self._visited(tokens) / (self.ep * group_bandwidth)
            per_matrix = 2 * (moe.d_model or 0) / self._mlp_matrices
            weights = float(moe.experts_per_token * moe.d_ff * self._expert_width)
            weights += model.d_model * (moe.shared_d_ff + per_matrix)
            hidden = max(loaded, 2 * own * weights / group_flop_per_s)
            found.append((self._experts_ici_s(tokens), hidden))
        return found

    @property
    def divides_heads(self) -> bool:
        """Whether tensor parallelism divides the query heads and the widths of MLPs and experts, a draft's too."""
        moe = self._experts
        widths = [self.model.query_heads] if self._own_layers else []
        widths += [*self._mlp_widths, *(other.heads for other in self.model.other_layers)]
        widths += [] if moe is None else [moe.d_ff, moe.shared_d_ff]
        return not any(width % self.tp for width in widths) and (self.draft is None or self.draft.splits)

    @property
    def cuts_scales(self) -> bool:
        """Whether a chip's part of some matrix ends within weights that share a scale."""
        model, moe, mla = self.model, self._experts, self.model.mla
        head_width = model.head_dim if mla is None else mla.v_head_dim
        parts = [("mlp", width) for width in self._mlp_widths]
        parts += [("attention", model.query_heads * head_width)] if self._own_layers else []
        for other in model.other_layers:
            parts.append(("attention", other.heads * (other.v_head_dim or other.head_dim)))
        if moe is not None:
            parts += [("shared_experts", moe.shared_d_ff), ("experts", moe.d_ff)]
        return self.tp > 1 and any(
            width % (self.tp * share) for name, width in parts if (share := self._sharing(name)) > 1
        )

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

    @property
    def splits_kv_heads(self) -> bool:
        """Whether each chip has as many KV heads as the others, or each head as many chips."""
        return all(heads % self.tp == 0 or self.tp % heads == 0 for heads in self._kv_head_counts)


def _stored_bits(dtype: str) -> float:
    """Bits of one value, with the scale of its block."""
    return BITS[dtype] + BLOCK_SCALE_BITS.get(dtype, 0.0)


def _met(first: float, last: float, reach: float) -> float:
    """The integral of min(x, reach) over the tokens from first to last: how many each of them meets."""
    if last <= reach:
        return (last**2 - first**2) / 2
    if first >= reach:
        return (last - first) * reach
    return (reach**2 - first**2) / 2 + (last - reach) * reach
