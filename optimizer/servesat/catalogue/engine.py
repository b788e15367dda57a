"""Serving engines: what a version of one runs on which chips, how it splits a model, and what memory it takes."""

from fnmatch import fnmatchcase
from functools import cached_property
from math import inf
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from servesat.catalogue.model import CountOrZero, Flag, ModelSpec
from servesat.catalogue.record import Sourced, Text
from servesat.core.plan import KvLayout, Mode
from servesat.core.validation import Count, Dtype, Strict, refuse_duplicates

Program = Literal["vllm", "sglang", "trtllm", "vllm-tpu"]
"""The programs that `servesat launch` writes command lines for."""

DraftKind = Literal["mtp", "eagle3", "model"]
"""What may draft tokens ahead: a layer of the model, a small layer trained on its states, or another model."""

_Bytes = Annotated[float, Field(strict=True, ge=0, le=1e15, allow_inf_nan=False)]
_Factor = Annotated[float, Field(strict=True, ge=0, le=1000, allow_inf_nan=False)]

UNPLANNED_CHUNK = 2048
"""Prompt tokens of a step where decoding alone is planned: a server must take prompts somehow."""

LOADED_SHARE = 0.95
"""The part of a chip's memory that 16-bit weights may fill before they are quantised, beside a layer's copies."""

LARGEST_PAGE = 128
"""Tokens of the largest page that SGLang takes of its own accord."""


class WeightSupport(Strict):
    """How an engine runs weights of a dtype."""

    compute: Annotated[tuple[Dtype, ...], Field(min_length=1)] = Field(
        description="Dtypes of its matmuls, as far as the model's other weights allow; narrowest first."
    )
    quantises: Text | None = Field(
        default=None,
        description="What makes them of a 16-bit checkpoint while loading; absent: needs a checkpoint.",
    )
    experts: Literal["any", "together", "none"] = Field(
        default="any",
        description="Whether a model's experts may be in it: however they are spread, on the chips of one group alone, "
        "or not.",
    )
    blocks_backend: Text | None = Field(
        default=None,
        description="The backend that it must be told to use for experts whose scales lie in blocks; absent: none.",
    )


class Support(Strict):
    """What an engine runs on some chips."""

    chips: Annotated[tuple[Text, ...], Field(min_length=1)]
    without_models: tuple[Text, ...] = Field(
        default=(), description="Models of the catalogue that it does not run on them, beside those that it never does."
    )
    splits: tuple[Literal["heads", "latent", "sparse"], ...] = Field(
        default=("heads", "latent", "sparse"),
        description="KV caches of which sequences may lie on several of them: of heads, of a latent, with an indexer.",
    )
    image: Text | None = Field(default=None, description="The container image for them, where it is another one.")
    weights: Annotated[dict[Dtype, WeightSupport], Field(min_length=1)]
    kv_cache: Annotated[dict[Dtype, Text], Field(min_length=1)] = Field(
        description="Dtypes of a KV cache of heads, with the engine's name for each."
    )
    sink_kv_cache: dict[Dtype, Text] = Field(
        default={},
        description="The same of heads with attention sinks, or with images that are attended to both ways; empty: as "
        "`kv_cache`.",
    )
    uneven_kv_cache: dict[Dtype, Text] = Field(
        default={}, description="The same of heads whose keys and values differ in width; empty: as `kv_cache`."
    )
    latent_kv_cache: dict[Dtype, Text] = Field(default={}, description="The same of a latent; empty: none runs.")
    sparse_kv_cache: dict[Dtype, Text] = Field(
        default={}, description="The same of a latent with an indexer; empty: none runs."
    )


class Activations(Strict):
    """What an engine keeps of activations at the peak of a step."""

    width_factors: tuple[_Factor, _Factor] = Field(
        description="Activations of a token within a dense layer: these times the model's width, and that of its MLP."
    )
    logits_factor: _Factor = Field(
        description="What sampling takes for a sequence: this times the vocabulary, in 4 bytes."
    )


class EngineMemory(Strict):
    """What an engine takes of a chip's memory beside weights and KV cache (docs/cost-model.md, "Under an engine")."""

    utilisation: Annotated[float, Field(strict=True, gt=0, le=1)] = Field(
        description="Share of the memory that the driver reports which the engine uses, unless told otherwise."
    )
    runtime_bytes: _Bytes = Field(description="Of each chip: the driver's context and the engine's own buffers.")
    collectives_bytes: _Bytes = Field(description="Of each chip in addition, where several serve a replica.")
    graphs_bytes: _Bytes = Field(description="Of each chip: what captured graphs take.")
    activations: Activations | None = Field(
        default=None, description="Absent: they are outside the share of the memory that it uses."
    )


class Disaggregation(Strict):
    """How an engine moves the KV cache from a prefill pool to a decode pool."""

    connector: Text
    kv_layouts: tuple[KvLayout, ...] = Field(description="Layouts of a cache of heads that it moves.")
    latent_kv_layouts: tuple[KvLayout, ...] = Field(description="Layouts of a latent that it moves.")
    splits_alike: bool = Field(
        default=False,
        description="Whether both pools split sequences over as many chips where a model has states beside a latent.",
    )
    prefill_splits: bool = Field(
        default=True, description="Whether a pool that prefills may split sequences, whatever the other one does."
    )


class Engine(Sourced):
    """A version of a serving engine."""

    program: Program
    version: Text
    image: Text = Field(description="The container image that holds it.")
    memory: EngineMemory
    runs: Annotated[tuple[Support, ...], Field(min_length=1)]
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)]
    kv_layouts: tuple[KvLayout, ...] = Field(description="Layouts of a KV cache of heads.")
    latent_kv_layouts: tuple[KvLayout, ...] = Field(description="Layouts of a latent.")
    split_windows: Flag = Field(
        default=True, description="Whether sequences may lie on several chips where some layers have a window."
    )
    split_kv_cache: tuple[Dtype, ...] = Field(
        default=(), description="Dtypes of the KV cache in which sequences may lie on several chips."
    )
    kv_row_bytes: Count | None = Field(
        default=None,
        description="What the keys and values of a token on a device are stored in multiples of; a KV cache of heads "
        "that would leave a part empty is not planned.",
    )
    experts: Literal["data_parallel", "any", "none"] = Field(
        description="Experts spread over single chips with attention of their own, over any groups of chips, or not."
    )
    nodes: Literal["one", "several"] = Field(description="Whether a replica may span nodes.")
    pipelines: Literal["tensor_parallel", "any", "none"] = Field(
        default="none", description="Stages of a model's layers: whose experts are not spread, any, or none."
    )
    drafts: tuple[DraftKind, ...] = Field(default=(), description="What it drafts tokens ahead with.")
    drafts_beside_chunks: bool = Field(
        default=True, description="Whether it drafts in steps that take a chunk of a prompt."
    )
    whole_prompt_tokens: Count | None = Field(
        default=None,
        description="The longest prompt that it is planned to take whole, as the memory that it leaves out of its "
        "share holds no more activations; absent: as many as its share has room for.",
    )
    models_draft_in_groups: bool = Field(
        default=True, description="Whether another model drafts where groups of chips have attention of their own."
    )
    quantises_whole: bool = Field(
        default=False,
        description="Whether all 16-bit weights are in the memory of the chips before it quantises them; else a layer "
        "at a time.",
    )
    chunk_unit: Count | None = Field(
        default=None,
        description="What the chunk of each group of chips must be a multiple of, as fewer tokens are never scheduled; "
        "absent: 1.",
    )
    without_models: tuple[Text, ...] = Field(
        default=(), description="Models of the catalogue that it does not serve, or not as a plan would have it."
    )
    refused_checkpoints: tuple[Text, ...] = Field(
        default=(), description="Repositories in formats that it does not load; * stands for any characters."
    )
    own_checkpoints: dict[Text, dict[Dtype, Text]] = Field(
        default={},
        description="By model and dtype, the repositories that it loads in place of the catalogue's.",
    )
    whole_windows: tuple[Text, ...] = Field(
        default=(),
        description="Models of the catalogue whose layers with a window hold the whole context all the same.",
    )
    window_pool_slack: CountOrZero | None = Field(
        default=None,
        description="Of a pool for layers with a window: the tokens that it holds of a request beyond the window, to "
        "which prefixes that are hit add the window at their end; absent: windows have no pool of their own.",
    )
    checkpoint_flags: dict[Text, Text] = Field(
        default={}, description="The flag without which it refuses a checkpoint, by the checkpoint's repository."
    )
    caches_states: bool = Field(
        default=True,
        description="Whether prompts are planned to hit a prefix cache where layers keep a state, of which it has to "
        "store copies.",
    )
    adapters: bool = Field(default=False, description="Whether it serves LoRA adapters beside the model.")
    without_adapters: tuple[Text, ...] = Field(
        default=(), description="Models of the catalogue that it serves no adapters beside."
    )
    host_cache: bool = Field(
        default=False,
        description="Whether it keeps a prefix cache in the memory of the host, behind that of the chips.",
    )
    disaggregation: Disaggregation | None = Field(default=None, description="Absent: it has no prefill pools.")
    note: Text | None = Field(default=None, description="What the figures leave out.")

    @model_validator(mode="after")
    def _each_chip_once(self) -> Self:
        refuse_duplicates([chip for support in self.runs for chip in support.chips])
        return self

    @cached_property
    def _support(self) -> dict[str, Support]:
        return {chip: support for support in self.runs for chip in support.chips}

    def support_of(self, chip: str) -> Support | None:
        """What it runs on a chip; None where it does not run."""
        return self._support.get(chip)

    def weights_for(self, model: ModelSpec, chip: str) -> dict[str, WeightSupport]:
        """The dtypes that the weights of a model may have on a chip."""
        support = self.support_of(chip)
        of_chip = {} if support is None or model.id in support.without_models else support.weights
        return {str(weights): one for weights, one in of_chip.items() if model.moe is None or one.experts != "none"}

    def has_own_checkpoint(self, model: ModelSpec, weights: str) -> bool:
        """Whether it loads another repository of a model's weights than the catalogue's, whose blocks are not known."""
        return weights in {str(dtype) for dtype in self.own_checkpoints.get(model.id, {})}

    def checkpoint_of(self, model: ModelSpec, weights: str) -> str | None:
        """The repository of a model's weights in a dtype, in a format that it loads; None where none is known."""
        own = self.own_checkpoints.get(model.id, {})
        known = {str(dtype): name for dtype, name in {**model.checkpoints, **own}.items()}.get(weights)
        refused = known is not None and any(fnmatchcase(known, pattern) for pattern in self.refused_checkpoints)
        return None if refused else known

    def has_window_pool(self, model: ModelSpec) -> bool:
        """Whether layers of a model that have a window share a pool of their own."""
        return self.window_pool_slack is not None and model.has_windows and model.id not in self.whole_windows

    def window_held(self, model: ModelSpec, *, hits: bool) -> tuple[float, float]:
        """What layers with a window w hold of a sequence, as t and s of t · w + s tokens; `hits` are of prefixes."""
        if model.id in self.whole_windows:
            return inf, 0.0
        slack = self.window_pool_slack
        return (1.0, 0.0) if slack is None else (2.0 if hits else 1.0, float(slack))

    def modes_for(self, prompt_tokens: float) -> tuple[Mode, ...]:
        """The modes in which it takes prompts of so many new tokens: it may take long ones only in chunks."""
        if self.whole_prompt_tokens is None or prompt_tokens <= self.whole_prompt_tokens:
            return self.modes
        return tuple(mode for mode in self.modes if mode not in {Mode.INTERLEAVED, Mode.DISAGGREGATED})

    def serves_adapters(self, model: ModelSpec) -> bool:
        """Whether it serves LoRA adapters beside a model."""
        return self.adapters and model.id not in self.without_adapters

    def layouts_of(self, model: ModelSpec, *, pools: bool = False) -> tuple[KvLayout, ...]:
        """The layouts that the KV cache of a model may have, with `pools` where it moves between pools."""
        of = self.disaggregation if pools else self
        if of is None:
            return ()
        return of.kv_layouts if model.mla is None else of.latent_kv_layouts

    def splits_on(self, model: ModelSpec, chip: str) -> bool:
        """Whether sequences of a model may lie on several of some chips."""
        support, kind = self.support_of(chip), "heads"
        if model.mla is not None:
            kind = "latent" if model.sparse is None else "sparse"
        return support is not None and kind in support.splits and (self.split_windows or not model.has_windows)

    def kv_dtypes(self, model: ModelSpec, chip: str) -> dict[Dtype, str]:
        """The dtypes that the KV cache of a model may have on a chip, with the engine's names for them."""
        support = self.support_of(chip)
        if support is None:
            return {}
        if model.mla is None and model.has_uneven_heads and support.uneven_kv_cache:
            return dict(support.uneven_kv_cache)
        if model.mla is None:
            has_own = model.attention_sinks or model.whole_image_tokens > 0
            return dict(support.sink_kv_cache if has_own and support.sink_kv_cache else support.kv_cache)
        return dict(support.latent_kv_cache if model.sparse is None else support.sparse_kv_cache)


def in_units(tokens: int, unit: int) -> int:
    """Tokens rounded up to a multiple of a unit."""
    return -(-tokens // unit) * unit


def in_pages(tokens: int) -> int:
    """Tokens rounded up to whole pages of SGLang's KV cache, of which its steps take a multiple."""
    return in_units(tokens, LARGEST_PAGE)
