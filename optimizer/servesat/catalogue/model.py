"""Models: the shape of a transformer, as far as cost depends on it."""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from servesat.catalogue.record import Sourced
from servesat.core.validation import Count, Dtype, Positive, Strict

Flag = Annotated[bool, Field(strict=True)]
CountOrZero = Annotated[int, Field(strict=True, ge=0, le=10**12)]


class Experts(Strict):
    """A mixture of experts, which replaces the MLP in some layers."""

    layers: Count = Field(description="Layers with experts; the others have the dense MLP of width d_ff.")
    experts: Count = Field(description="E, routed experts of a layer.")
    experts_per_token: Count = Field(description="k, routed experts that a token visits.")
    every: Count = Field(
        default=1, description="Layers from one with experts to the next: 2 where every second one has experts."
    )
    d_ff: Count = Field(description="F_e, width of a routed expert.")
    d_model: Count | None = Field(
        default=None, description="Width that experts take and give, between two projections; absent: the model's."
    )
    shared_d_ff: CountOrZero = Field(
        default=0, description="F_s, total width of the shared experts, which every token visits."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.experts_per_token > self.experts:
            raise ValueError(f"experts_per_token = {self.experts_per_token} is more than experts = {self.experts}")
        return self


class LatentAttention(Strict):
    """Multi-head latent attention: the cache holds one latent per token, which all heads share."""

    q_lora_rank: Count | None = Field(default=None, description="Width of the queries' latent; absent: none.")
    kv_lora_rank: Count = Field(description="Width of the latent that the cache holds.")
    nope_head_dim: Count = Field(description="Width of a head's queries and keys without position.")
    rope_head_dim: Count = Field(description="Width of the rotary keys, which the cache holds with the latent.")
    v_head_dim: Count = Field(description="Width of a head's values.")


class SparseAttention(Strict):
    """Attention to the tokens that an indexer selects, by reading a small key of each token."""

    tokens: Count = Field(description="Tokens attended to, of those in the cache.")
    index_heads: Count = Field(description="Heads of the indexer.")
    index_head_dim: Count = Field(description="Width of the key that the indexer stores and reads for each token.")
    layers: Count | None = Field(
        default=None, description="Layers with an indexer, whose selection the others share; absent: all."
    )


class OtherLayers(Strict):
    """Layers that mix tokens in another way than the model's heads or latent do: with other heads, or a fixed state."""

    layers: Count = Field(description="Layers of this kind.")
    beside: Flag = Field(
        default=False, description="They stand beside the attention of as many layers, not in its place."
    )
    parameters: Count = Field(description="Parameters of the matrices that mix tokens, in each layer.")
    heads: Count = Field(description="Heads, which tensor parallelism divides.")
    kv_heads: CountOrZero = Field(default=0, description="Key and value heads; 0 without a cache.")
    head_dim: CountOrZero = Field(default=0, description="Width of a head's keys.")
    v_head_dim: CountOrZero | None = Field(
        default=None, description="Width of a head's values; absent: that of its keys; 0: the keys serve as values."
    )
    window_tokens: Count | None = Field(default=None, description="Sliding window [tokens]; absent: the whole context.")
    entry_tokens: Count = Field(default=1, description="Tokens that share one entry of the cache.")
    selected_tokens: Count | None = Field(
        default=None, description="Tokens attended to, of those in the cache, as an indexer selects; absent: all."
    )
    index_bytes: CountOrZero = Field(default=0, description="Key of the indexer in each entry [bytes].")
    index_flops: CountOrZero = Field(default=0, description="FLOPs of the indexer for a token and an entry.")
    state_bytes: CountOrZero = Field(
        default=0, description="State of a sequence in each layer, whatever its length; a step reads and writes it."
    )
    state_flops: CountOrZero = Field(default=0, description="FLOPs of a token with the state, in each layer.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.kv_heads) != bool(self.head_dim):
            raise ValueError("kv_heads and head_dim go together")
        if self.kv_heads and self.heads % self.kv_heads:
            raise ValueError(f"heads = {self.heads} is not a multiple of kv_heads = {self.kv_heads}")
        cached = ("window_tokens", "v_head_dim", "selected_tokens", "index_bytes", "index_flops")
        stated = [name for name in cached if getattr(self, name)]
        if not self.kv_heads and stated:
            raise ValueError(f"{stated[0]} goes with kv_heads")
        return self

    @property
    def value_dim(self) -> int:
        """Width of a head's values, which may be its keys."""
        return self.v_head_dim or self.head_dim

    @property
    def kv_width(self) -> int:
        """Keys and values of an entry in one layer."""
        return self.kv_heads * (self.head_dim + (self.head_dim if self.v_head_dim is None else self.v_head_dim))


class OtherMlps(Strict):
    """Layers whose dense MLP has a width of its own."""

    layers: Count = Field(description="Layers of this width.")
    d_ff: Count = Field(description="F, width of their MLP.")


BITS = {"bf16": 16, "fp8": 8, "int8": 8, "int4": 4, "mxfp4": 4, "nvfp4": 4}
"""Width of one value by dtype, without scales: what `dtypes` compares [bits]."""


class TensorGroup(StrEnum):
    """Tensors that a checkpoint stores alike."""

    EMBEDDING = "embedding"
    HEAD = "head"
    ATTENTION = "attention"
    MLP = "mlp"
    ROUTER = "router"
    SHARED_EXPERTS = "shared_experts"
    EXPERTS = "experts"


class WiderWeights(Strict):
    """Weights of a group that a checkpoint leaves in a wider dtype."""

    dtype: Dtype = "bf16"
    share: Annotated[float, Field(strict=True, gt=0, le=1)] = Field(
        default=1.0, description="Their share of the group's parameters."
    )


class NativeWeights(Strict):
    """How a checkpoint stores a model: the linear layers of its blocks in `dtype`; embedding, head, router in bf16."""

    dtype: Dtype
    group: Count | None = Field(
        default=None, description="Weights along a row that share a scale; absent: a whole row, or more."
    )
    group_bits: Annotated[float, Field(strict=True, ge=0, le=64)] = Field(
        default=16.0, description="What a group holds beside its values: its scale, and its zero point [bits]."
    )
    pad: Count | None = Field(
        default=None, description="What engines pad the experts' width on each chip to a multiple of."
    )
    tables: list[Literal[TensorGroup.EMBEDDING, TensorGroup.HEAD]] = Field(
        default=[], description="Which of embedding and head are quantised too."
    )
    wider: dict[TensorGroup, WiderWeights] = Field(
        default={}, description="What is left in a wider dtype, by group of tensors."
    )


def _heads_or_latent(schema: dict[str, Any]) -> None:
    """Require `mla`, or `kv_heads` and `head_dim`, in the JSON schema."""
    heads = ["kv_heads", "head_dim"]
    schema["required"] = [name for name in schema["required"] if name not in heads]
    schema["anyOf"] = [{"required": heads}, {"required": ["mla"]}]


class ModelSpec(Sourced):
    """The shape of a transformer: full, grouped-query, windowed, latent or sparse attention; dense MLPs or experts.

    Latent attention counts as a single KV head: `kv_heads` is 1 and `head_dim` follows.
    """

    model_config = ConfigDict(json_schema_extra=_heads_or_latent)

    layers: Count = Field(description="L, transformer layers.")
    d_model: Count = Field(description="D, width of the residual stream.")
    d_ff: CountOrZero = Field(default=0, description="F, width of the dense MLP; 0 where every layer has experts.")
    query_heads: Count = Field(description="N, query heads.")
    kv_heads: Count = Field(description="K, key and value heads.")
    head_dim: Count = Field(description="H, width of a head.")
    vocab_size: Count = Field(description="V, rows of the embedding.")
    gated_mlp: Flag = Field(default=True, description="Three MLP matrices (gate, up, down) rather than two.")
    tied_embeddings: Flag = Field(default=False, description="One matrix serves as input and output embedding.")
    window_tokens: Count | None = Field(
        default=None, description="Sliding window, or chunk, of the windowed layers [tokens]."
    )
    window_layers: CountOrZero = Field(default=0, description="Layers that attend over the window only.")
    other_layers: Annotated[tuple[OtherLayers, ...], Field(max_length=100)] = Field(
        default=(), description="Layers that mix tokens in another way, of a hybrid model."
    )
    mlp_layers: CountOrZero | None = Field(
        default=None, description="Layers with the dense MLP of width d_ff; absent: all that have no experts."
    )
    other_mlps: Annotated[tuple[OtherMlps, ...], Field(max_length=200)] = Field(
        default=(), description="Layers whose dense MLP has another width than d_ff, beside the `mlp_layers`."
    )
    moe: Experts | None = Field(default=None, description="Experts, of a mixture-of-experts model.")
    mla: LatentAttention | None = Field(default=None, description="Latent attention, of a model with it.")
    sparse: SparseAttention | None = Field(default=None, description="Sparse attention, of a model with it.")
    checkpoint_blocks: dict[Dtype, Count] = Field(
        default={},
        description="Weights along a row that share a scale in `checkpoints` of a dtype that is not `native`; where "
        "chips would cut them, an engine makes the dtype of the bf16 weights, or does not run it; int4 takes 20 bits "
        "more for each.",
    )
    checkpoints: dict[Dtype, Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        default={}, description="Repositories of the Hugging Face Hub that hold the model's weights, by their dtype."
    )
    remote_code: Flag = Field(
        default=False,
        description="Whether `checkpoints` bring code, such as a tokenizer, that engines must be told to run.",
    )
    native: NativeWeights | None = Field(default=None, description="The dtype of the published weights, if not bf16.")
    vision_parameters: CountOrZero = Field(
        default=0, description="Parameters of a vision encoder and its projector, held in bf16, and not read to decode."
    )
    attention_sinks: Flag = Field(
        default=False, description="Whether heads attend to a learned sink beside the tokens."
    )
    whole_image_tokens: CountOrZero = Field(
        default=0,
        description="Tokens of the largest image or video that vLLM takes whole in a step, where attention in it looks "
        "both ways; 0: it takes them in parts.",
    )
    mtp_parameters: CountOrZero = Field(
        default=0, description="Parameters of multi-token-prediction layers, stored, and not loaded unless they draft."
    )
    max_context_tokens: Count | None = Field(
        default=None, description="Longest context that positions reach, rope scaling included; absent: not known."
    )
    nominal_parameters: Positive | None = Field(
        default=None,
        description="The round number of parameters that the publisher uses; absent: counted from the shape.",
    )

    @property
    def attention_layers(self) -> int:
        """Layers whose attention is that of the model's heads or latent."""
        return self.layers - sum(other.layers for other in self.other_layers if not other.beside)

    @property
    def has_states(self) -> bool:
        """Whether some layers keep a state."""
        return any(other.state_bytes for other in self.other_layers)

    @property
    def has_windows(self) -> bool:
        """Whether some layers attend to the last tokens alone."""
        return self.widest_window is not None

    @property
    def widest_window(self) -> int | None:
        """The most tokens that a layer with a window attends to; None without such layers."""
        windows = [self.window_tokens, *(other.window_tokens for other in self.other_layers)]
        return max((window for window in windows if window), default=None)

    @property
    def has_uneven_heads(self) -> bool:
        """Whether the keys and values of some heads differ in width."""
        return any(other.value_dim != other.head_dim for other in self.other_layers if other.kv_heads)

    @property
    def has_states_beside_latent(self) -> bool:
        """Whether some layers keep a state, and others a latent."""
        return self.mla is not None and self.has_states

    @property
    def expert_width(self) -> int:
        """Width of what experts take and give."""
        return self.d_model if self.moe is None else self.moe.d_model or self.d_model

    @property
    def index_layers(self) -> int:
        """Layers with an indexer of their own."""
        return 0 if self.sparse is None else self.sparse.layers or self.attention_layers

    @property
    def dense_mlps(self) -> list[tuple[int, int]]:
        """The dense MLPs: layers and width of each kind."""
        with_experts = self.moe.layers if self.moe else 0
        others = [(other.layers, other.d_ff) for other in self.other_mlps]
        rest = self.layers - with_experts - sum(layers for layers, _ in others)
        own = (rest if self.mlp_layers is None else self.mlp_layers, self.d_ff)
        return [own, *others] if own[0] else others

    @property
    def dense_layers(self) -> int:
        """Layers with a dense MLP."""
        return sum(layers for layers, _ in self.dense_mlps)

    @model_validator(mode="before")
    @classmethod
    def _latent_heads(cls, data: Any) -> Any:
        """Give latent attention a single KV head, as wide as the keys."""
        if not isinstance(data, dict) or not isinstance(data.get("mla"), dict):
            return data
        widths = [data["mla"].get(key) for key in ("nope_head_dim", "rope_head_dim")]
        if not all(isinstance(width, int) for width in widths):
            return data
        return {"kv_heads": 1, "head_dim": sum(widths), **data}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.query_heads % self.kv_heads:
            raise ValueError(f"query_heads = {self.query_heads} is not a multiple of kv_heads = {self.kv_heads}")
        if self.attention_layers < 0:
            raise ValueError(f"other_layers: more than layers = {self.layers}")
        for other in self.other_layers:
            if other.layers > self.layers:
                raise ValueError(f"other_layers: {other.layers} layers of a kind, more than layers = {self.layers}")
        if self.window_layers > self.attention_layers:
            others = "" if not self.other_layers else " that are not other_layers"
            raise ValueError(f"window_layers = {self.window_layers} is more than layers = {self.layers}{others}")
        if bool(self.window_layers) != (self.window_tokens is not None):
            raise ValueError("window_tokens and window_layers go together")
        if self.mla is not None:
            head_dim = self.mla.nope_head_dim + self.mla.rope_head_dim
            if self.kv_heads != 1 or self.head_dim != head_dim:
                raise ValueError(
                    f"mla: expected no kv_heads and no head_dim, or kv_heads = 1 and head_dim = {head_dim}"
                )
        if self.sparse is not None and self.window_layers:
            raise ValueError("sparse: expected no window_layers with it")
        if self.index_layers > self.attention_layers:
            raise ValueError(
                f"sparse.layers = {self.index_layers} is more than the {self.attention_layers} with attention"
            )
        self._check_experts()
        self._check_wider_weights()
        return self

    def _check_wider_weights(self) -> None:
        """Only linear layers within the blocks that the model has can be left wider than the rest of them."""
        quantised = {
            TensorGroup.ATTENTION: True,
            TensorGroup.MLP: self.d_ff > 0,
            TensorGroup.SHARED_EXPERTS: self.moe is not None and self.moe.shared_d_ff > 0,
            TensorGroup.EXPERTS: self.moe is not None,
        }
        known = [group for group, exists in quantised.items() if exists]
        native = self.native
        for group, left in native.wider.items() if native else ():
            if group not in known:
                raise ValueError(f"native.wider.{group}: expected one of {', '.join(known)}")
            if native and BITS[left.dtype] <= BITS[native.dtype]:
                raise ValueError(f"native.wider.{group}.dtype = {left.dtype}: expected one wider than {native.dtype}")

    def _check_experts(self) -> None:
        with_experts = self.moe.layers if self.moe else 0
        if with_experts > self.layers:
            raise ValueError(f"moe.layers = {with_experts} is more than layers = {self.layers}")
        if self.moe is not None and (with_experts - 1) * self.moe.every >= self.layers:
            least = (with_experts - 1) * self.moe.every + 1
            raise ValueError(
                f"moe.every = {self.moe.every}: {with_experts} layers need {least}, more than layers = {self.layers}"
            )
        if (self.mlp_layers or 0) > self.layers:
            raise ValueError(f"mlp_layers = {self.mlp_layers} is more than layers = {self.layers}")
        own = self.dense_layers - sum(other.layers for other in self.other_mlps)
        if own < 0:
            raise ValueError("other_mlps: more than the layers without experts")
        if (self.d_ff == 0) != (own == 0):
            no_layer = "no layer has a dense MLP" if self.mlp_layers is not None else "every layer has experts"
            raise ValueError(
                "d_ff is missing: the layers without experts need it"
                if self.d_ff == 0
                else f"d_ff = {self.d_ff}: expected none, because {no_layer}"
            )
        if self.moe is not None and self.nominal_parameters is not None:
            matrices = 3 if self.gated_mlp else 2
            experts = self.moe.layers * self.moe.experts * matrices * self.expert_width * self.moe.d_ff
            if self.nominal_parameters <= experts:
                raise ValueError(
                    f"nominal_parameters = {self.nominal_parameters:g}: expected more than the experts' {experts:g}"
                )
