"""What a plan starts: the servers of its pools, each a replica with the flags of its engine."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil, prod

from servesat.candidates.engines import loading
from servesat.catalogue.chip import Chip, axis_sizes, chips_in
from servesat.catalogue.engine import UNPLANNED_CHUNK, Engine
from servesat.core.errors import LaunchError
from servesat.core.plan import KvLayout, Mode, Plan, PrefillPool
from servesat.core.result import Loading, Percentiles
from servesat.cost_model.sharding import heads_of_row
from servesat.cost_model.storage import BYTES_PER_VALUE
from servesat.deployment.check.engine import cannot_start
from servesat.deployment.check.plan import pool_replica_of, replica_of
from servesat.replay.replayed import PREFILL_SEQUENCES
from servesat.spec.lora import Lora
from servesat.spec.spec import Spec
from servesat.spec.speculation import DraftChoice

PORT = 8000

LONGEST_LABEL = 40
"""Characters of a name in manifests: a label of Kubernetes has 63, and names of objects add to it."""

MODELS = "/models"
"""Where containers keep checkpoints, by HF_HOME: by default it is the home of whichever user an image runs as."""


class Role(StrEnum):
    """What a server does: whole requests, or one part of them."""

    SERVE = "serve"
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, kw_only=True)
class Server:
    """A replica of a pool as its engine starts it; `count` of them are alike.

    A replica of `tp · ep · pp` chips stands on `nodes`, as many chips on each, of machines of `machine_chips`. A slice
    of TPUs is one server, with `data_parallel` replicas in it. `sequences` is the batch of a replica, `prompt_tokens`
    what its largest step takes of prompts: in all, and of a prompt that is taken whole (`whole_prompts`) in each group.
    The longest prompt has `longest_prompt_tokens`, with what is cached of it. Pools that load different checkpoints
    are both `served_as` the first. vLLM takes images and videos of up to `whole_image_tokens` whole; 0: in parts.
    `adapted` are the matrices that LoRA adapters are added to, none of them for all. A replica `keeps_prefixes`, and
    more of them in `host_cache_bytes` of its hosts, unless its engine refuses that, or the spec counts on no hits and
    they would take memory from the requests that run. Of the `held_tokens` of a sequence a pool for layers with a
    window holds `windowed_tokens`, if the engine has one. `experts_backend` is what TensorRT-LLM has to run experts
    with, if not what it takes by itself; `remote_code` says whether checkpoints bring code of their own.
    """

    role: Role
    engine: Engine
    loading: Loading
    checkpoint: str
    chip: Chip
    topology: str
    chips: int
    nodes: int
    machine_chips: int
    count: int
    tp: int
    ep: int
    pp: int
    data_parallel: int
    draft: DraftChoice | None
    lora: Lora | None
    adapted: tuple[str, ...]
    host_cache_bytes: float
    kv_layout: KvLayout
    kv_heads: int
    kv_shards: int
    heads_of_row: int
    sequences: int
    prompt_tokens: int
    whole_prompts: bool
    longest_prompt_tokens: int
    whole_image_tokens: int
    keeps_prefixes: bool
    held_tokens: int
    windowed_tokens: float | None
    experts_backend: str | None
    remote_code: bool
    context_tokens: int
    model_context_tokens: int | None
    utilisation: float
    instance: str | None
    cloud: str | None
    region: str | None
    purchase: str | None
    served_as: str | None = None

    @property
    def node_chips(self) -> int:
        """Chips of each node that the server takes."""
        return self.chips // self.nodes

    @property
    def verified(self) -> int:
        """Tokens that a step takes of a sequence: one, and those drafted ahead."""
        return 1 if self.draft is None else self.draft.tokens + 1

    @property
    def groups(self) -> int:
        """Groups of chips that attend apart, to each of which an engine's limits are told."""
        in_batches = self.engine.program == "vllm-tpu" and self.kv_layout is KvLayout.BATCH
        return self.kv_shards * self.chip.devices * self.heads_of_row if in_batches else self.ep

    @property
    def image(self) -> str:
        """The container image of the engine for the chip."""
        support = self.engine.support_of(self.chip.id)
        return (support.image if support is not None else None) or self.engine.image

    @property
    def moves_kv_over_nixl(self) -> bool:
        """Whether it is one of two pools of vLLM, between which NIXL moves the KV cache."""
        return self.engine.program == "vllm" and self.role is not Role.SERVE

    @property
    def name(self) -> str:
        """A name for it beside the other servers of the plan."""
        return str(self.role)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A plan with its servers; `name` is a label that clusters take, `proof` says how far it is proved.

    A fleet has a plan several `times`; the servers, and what they cost, are those of all. `replayed` has the times to
    the first token and per output token of requests that arrive as the spec says, where a replay told them.
    """

    name: str
    spec: Spec
    plan: Plan
    proof: str
    servers: tuple[Server, ...]
    times: int = 1
    usd_per_hour: float
    notes: tuple[str, ...] = ()
    replayed: tuple[Percentiles, Percentiles] | None = None

    @property
    def engine(self) -> Engine:
        """The engine of all servers."""
        return self.servers[0].engine

    @property
    def checkpoint(self) -> str:
        """The repository that the servers load."""
        return self.servers[0].checkpoint

    @property
    def has_pools(self) -> bool:
        """Whether prefill and decode are servers of their own."""
        return len(self.servers) > 1


def launch_of(
    spec: Spec, plan: Plan, *, proof: str = "", checkpoint: str | None = None, name: str | None = None
) -> Launch:
    """The servers of a plan. Raises LaunchError for a plan that its engine cannot start, naming the rule.

    `checkpoint` stands in for the repository or path that the catalogue knows.
    """
    if plan.engine is None:
        raise LaunchError("the plan is of the ideal machine, which nothing starts: solve it with --engine any")
    engine = spec.engine_of(plan.engine)
    chips = {chip.id: chip for chip in spec.chips}
    replica, pool = replica_of(spec, chips[plan.chip], plan), pool_replica_of(spec, plan)
    sides_of_plan = [replica] if pool is None else [replica, pool]
    reason = cannot_start(engine, plan, sides_of_plan, spec.workload.new_prompt_tokens)
    if reason is not None:
        raise LaunchError(f"{engine.name} {reason}")
    sides: list[tuple[Role, Plan | PrefillPool]] = [(Role.SERVE, plan)]
    if plan.prefill is not None:
        sides = [(Role.PREFILL, plan.prefill), (Role.DECODE, plan)]
    servers = tuple(_server(spec, plan, role, side, checkpoint) for role, side in sides)
    if len({server.checkpoint for server in servers}) > 1:
        servers = tuple(replace(server, served_as=servers[0].checkpoint) for server in servers)
    return Launch(
        name=label(name or spec.model.id),
        spec=spec,
        plan=plan,
        proof=proof,
        servers=servers,
        usd_per_hour=plan.usd_per_hour,
    )


def _server(spec: Spec, plan: Plan, role: Role, side: Plan | PrefillPool, checkpoint: str | None) -> Server:
    """The servers of one pool of a plan that has an engine."""
    engine, workload = spec.engine_of(plan.engine or ""), spec.workload
    chip = next(chip for chip in spec.chips if chip.id == side.chip)
    sizes = axis_sizes(side.topology)
    tp, ep = (prod(sizes[axis] for axis in axes) for axes in (side.tp_axes, side.ep_axes))
    pp = prod(sizes[axis] for axis in side.pp_axes)
    loaded = loading(spec, plan if isinstance(side, Plan) else side.alone(plan.kv_cache, plan.engine))
    if loaded is None:
        raise TypeError("a plan without an engine")
    in_slice = chips_in(side.topology) // (tp * ep * pp)
    together = engine.program == "vllm-tpu"
    chips = tp * ep * pp * (in_slice if together else 1)
    prompt_tokens, whole_prompts = _prompts_of_step(spec, plan, role)
    server = Server(
        role=role,
        engine=engine,
        loading=loaded,
        checkpoint=_checkpoint(spec, side.weights, loaded, checkpoint),
        chip=chip,
        topology=side.topology,
        chips=chips,
        nodes=1,
        machine_chips=chips,
        count=side.slices * (1 if together else in_slice),
        tp=tp,
        ep=ep,
        pp=pp,
        data_parallel=in_slice if together else 1,
        draft=_draft(spec, plan),
        lora=spec.lora,
        adapted=_attention_modules(spec) if spec.lora is not None and spec.lora.modules == "attention" else (),
        host_cache_bytes=plan.host_bytes,
        kv_layout=side.kv_layout,
        kv_heads=spec.model.kv_heads,
        kv_shards=plan.kv_batch_shards if side is plan else 1,
        heads_of_row=heads_of_row(spec.model, engine.kv_row_bytes, BYTES_PER_VALUE[plan.kv_cache]),
        sequences=PREFILL_SEQUENCES if role is Role.PREFILL else plan.batch,
        prompt_tokens=prompt_tokens,
        whole_prompts=whole_prompts,
        longest_prompt_tokens=workload.longest_prompt_tokens,
        whole_image_tokens=spec.model.whole_image_tokens,
        keeps_prefixes=_keeps_prefixes(spec, engine),
        held_tokens=workload.held_tokens,
        windowed_tokens=_windowed_tokens(spec, engine),
        experts_backend=_experts_backend(spec, engine, chip, side.weights),
        remote_code=spec.model.remote_code,
        context_tokens=spec.longest_request_tokens,
        model_context_tokens=spec.model.max_context_tokens,
        utilisation=_utilisation(spec, engine),
        instance=side.instance,
        cloud=side.cloud,
        region=side.region,
        purchase=side.purchase,
    )
    bills = [bill for bill in plan.bills if (bill.chip, bill.instance) == (side.chip, side.instance)]
    return standing_on(server, bills[0].instance_chips if bills else None)


def _prompts_of_step(spec: Spec, plan: Plan, role: Role) -> tuple[int, bool]:
    """What the largest step takes of prompts, as in `Server`, and whether it takes one whole."""
    if role is Role.DECODE:
        return 0, False
    new, chunk = ceil(spec.workload.new_prompt_tokens), plan.chunk_tokens
    if plan.mode is Mode.DECODE_ONLY:
        return UNPLANNED_CHUNK, False
    if role is Role.SERVE and chunk is not None and chunk < new:
        return chunk, False
    return new, new > 0


def _draft(spec: Spec, plan: Plan) -> DraftChoice | None:
    """What drafts tokens ahead. Raises LaunchError for another model of which no checkpoint is known."""
    found = [one for one in spec.drafts if (one.draft, one.tokens) == (plan.draft, plan.draft_tokens)]
    if not found:
        return None
    if found[0].kind != "mtp" and found[0].repository is None:
        raise LaunchError(f"the catalogue knows no checkpoint of {plan.draft} in bf16, which drafts tokens ahead")
    return found[0]


def _experts_backend(spec: Spec, engine: Engine, chip: Chip, weights: str) -> str | None:
    """What an engine has to be told to run experts with, where their scales lie in blocks."""
    model, support = spec.model, engine.weights_for(spec.model, chip.id).get(weights)
    own = model.native.group if model.native is not None and model.native.dtype == weights else None
    of_catalogue = weights in map(str, model.checkpoint_blocks) and not engine.has_own_checkpoint(model, weights)
    in_blocks = own or of_catalogue
    return support.blocks_backend if support is not None and model.moe is not None and in_blocks else None


def _keeps_prefixes(spec: Spec, engine: Engine) -> bool:
    """Whether an engine keeps prefixes: where plans may reuse them, and they cost nothing or a spec counts on hits.

    Beside states vLLM would end chunks where its blocks of states do. Without prefixes SGLang's pool of layers with a
    window is as large as the requests that run need it.
    """
    if spec.model.has_states and not engine.caches_states:
        return False
    costs = (spec.model.has_states and engine.program == "vllm") or engine.has_window_pool(spec.model)
    return spec.workload.cached_share > 0 or not costs


def _windowed_tokens(spec: Spec, engine: Engine) -> float | None:
    """What a sequence takes of a pool for layers with a window; None where an engine has no such pool."""
    window = spec.model.widest_window
    if window is None or not engine.has_window_pool(spec.model):
        return None
    times, slack = engine.window_held(spec.model, hits=spec.workload.cached_share > 0)
    return times * window + slack


def _attention_modules(spec: Spec) -> tuple[str, ...]:
    """What checkpoints call the matrices of attention."""
    mla = spec.model.mla
    if mla is None:
        return "q_proj", "k_proj", "v_proj", "o_proj"
    queries = ("q_proj",) if mla.q_lora_rank is None else ("q_a_proj", "q_b_proj")
    return *queries, "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"


def _utilisation(spec: Spec, engine: Engine) -> float:
    """The share of the memory that the engine is told to use: its own, or what a stated headroom leaves."""
    own = engine.memory.utilisation
    if spec.headroom is None:
        return own
    left = round(1 - spec.headroom, 6)
    return left if engine.memory.activations is not None else min(own, left)


def _checkpoint(spec: Spec, weights: str, loaded: Loading, stated: str | None) -> str:
    """What a server loads: as stated, else what the catalogue knows. Raises LaunchError where it knows nothing."""
    found = stated or loaded.checkpoint
    if found is None:
        dtype = "bf16" if loaded.quantises else weights
        raise LaunchError(
            f"the catalogue knows no checkpoint of {spec.model.id} in {dtype}: name one with --checkpoint OWNER/NAME"
        )
    return found


def standing_on(server: Server, instance_chips: int | None) -> Server:
    """A server on machines of other sizes; on those of its chip where that is not known."""
    together = server.engine.program == "vllm-tpu"
    node = _node_chips(server.chip, server.chips, instance_chips)
    machine = node if together else max(node, instance_chips or server.chip.node_chips or server.chips)
    return replace(server, nodes=ceil(server.chips / node), machine_chips=machine)


def _node_chips(chip: Chip, chips: int, instance_chips: int | None) -> int:
    """Chips of a node of a server: of TPUs 1, 4 or 8 on one host, 4 on each of several; else those of the instance."""
    if chip.vendor == "Google":
        return chips if chips in {1, 4, chip.node_chips} else 4
    node = instance_chips or chip.node_chips or chips
    return min(node, chips)


def label(text: str, longest: int = LONGEST_LABEL) -> str:
    """A text as a label of Kubernetes: lower case, with hyphens; it begins with a letter, as names of Services do."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "model"
    return (plain if plain[0].isalpha() else f"model-{plain}")[:longest].strip("-")


def named_there(names: Mapping[str, str], name: str, target: str) -> str:
    """What a target calls a chip or a cloud. Raises LaunchError where it has none such."""
    if name not in names:
        raise LaunchError(f"--to {target}: {name} is not known there; known: {', '.join(sorted(names))}")
    return names[name]
