"""The flags of each engine: a server as the arguments of its command line, and of TensorRT-LLM as its file."""

import json
from math import ceil
from typing import Any

from servesat.catalogue.engine import in_pages, in_units
from servesat.core.plan import KvLayout
from servesat.core.tolerances import round_up
from servesat.launch.servers import PORT, Role, Server
from servesat.spec.speculation import DraftChoice

Flags = list[tuple[str, str | tuple[str, ...] | None]]
"""Flags with their value or values, None of switches."""

RPC_PORT, DIST_PORT, BOOTSTRAP_PORT, NIXL_PORT, RAY_PORT = 13345, 20000, 8998, 5600, 6379

BEYOND_REQUESTS = 16
"""Tokens of SGLang's context beyond the longest request: it keeps 6, and a benchmark's texts gain some when encoded."""

CONFIG_FILE = "trtllm.yaml"


def program(server: Server) -> list[str]:
    """The program that starts a server, with the model it serves."""
    match server.engine.program:
        case "sglang":
            return ["python3", "-m", "sglang.launch_server", "--model-path", server.checkpoint]
        case "trtllm":
            return ["trtllm-serve", server.checkpoint]
        case _:
            return ["vllm", "serve", server.checkpoint]


def flags_of(server: Server) -> Flags:
    """The flags of a server, but for its address and for the nodes that it stands on."""
    named: Flags = [] if server.served_as is None else [("--served-model-name", server.served_as)]
    named += [("--trust-remote-code", None)] if server.remote_code else []
    match server.engine.program:
        case "sglang":
            return [*named, *_sglang(server)]
        case "trtllm":
            return [("--config", CONFIG_FILE)]
        case _:
            return [*named, *_vllm(server)]


def address_flags(port: int = PORT) -> Flags:
    """Where a server listens."""
    return [("--host", "0.0.0.0"), ("--port", str(port))]


def node_flags(server: Server, rank: str, leader: str) -> Flags:
    """What tells a server of several nodes where it stands; none on one node. `rank` "0" is the node that answers."""
    if server.nodes == 1:
        return []
    if server.engine.program == "sglang":
        return [("--nnodes", str(server.nodes)), ("--node-rank", rank), ("--dist-init-addr", f"{leader}:{DIST_PORT}")]
    headless: Flags = [] if rank == "0" else [("--headless", None)]
    if server.ep > 1:
        local = server.ep // server.nodes
        start: Flags = [] if rank == "0" else [("--data-parallel-start-rank", _product(rank, local))]
        return [
            ("--data-parallel-size-local", str(local)), ("--data-parallel-address", leader),
            ("--data-parallel-rpc-port", str(RPC_PORT)), *start, *headless,
        ]  # fmt: skip
    return [("--nnodes", str(server.nodes)), ("--node-rank", rank), ("--master-addr", leader), *headless]


def _product(rank: str, local: int) -> str:
    return str(int(rank) * local) if rank.isdigit() else f"$(({rank} * {local}))"


def arguments(flags: Flags) -> list[str]:
    """Flags as words of a command line."""
    found: list[str] = []
    for name, value in flags:
        found += [name, *(() if value is None else (value,) if isinstance(value, str) else value)]
    return found


def environment(server: Server) -> dict[str, str]:
    """Variables that a server needs."""
    found: dict[str, str] = {}
    if server.engine.program == "vllm-tpu":
        if server.kv_layout is KvLayout.BATCH:
            found["NEW_MODEL_DESIGN"] = "1"
        if server.nodes > 1:
            found["TPU_MULTIHOST_BACKEND"] = "ray"
            if server.data_parallel > 1:  # a process for each replica would look for all its chips on one host
                found["TPU_MULTIPROCESS_DP"] = "0"
    if server.moves_kv_over_nixl:
        found["VLLM_NIXL_SIDE_CHANNEL_PORT"] = str(NIXL_PORT)
    return found


def budget(server: Server) -> int:
    """Tokens that a step of one group may take: its sequences, and its share of a chunk or a whole prompt.

    Of stages, those of one micro-batch; in whole units of an engine's chunks.
    """
    sequences = ceil(server.sequences / (server.groups * server.pp)) * server.verified
    unit, chunk = server.engine.chunk_unit or 1, ceil(server.prompt_tokens / server.groups)
    prompt = server.prompt_tokens if server.whole_prompts else in_units(chunk, unit)
    return in_units(sequences + prompt, unit)


def _vllm(server: Server) -> Flags:
    flags: Flags = [("--tensor-parallel-size", str(server.tp * server.chip.devices))]
    if server.pp > 1:
        flags.append(("--pipeline-parallel-size", str(server.pp)))
    if server.ep > 1:
        flags += [("--data-parallel-size", str(server.ep)), ("--enable-expert-parallel", None)]
    elif server.data_parallel > 1:
        flags.append(("--data-parallel-size", str(server.data_parallel)))
    if server.kv_layout is KvLayout.SEQUENCE:
        flags.append(("--decode-context-parallel-size", str(split_over(server))))
    flags += [
        ("--max-model-len", str(server.context_tokens)),
        ("--max-num-seqs", str(ceil(server.sequences / server.groups))),
        ("--max-num-batched-tokens", str(budget(server))),
    ]
    flags += _beside_the_model_in_vllm(server)
    if not server.keeps_prefixes:
        flags.append(("--no-enable-prefix-caching", None))
    if leaves_images_out(server):
        flags.append(("--language-model-only", None))
    flags += _loading_of_vllm(server)
    flags.append(("--gpu-memory-utilization", f"{server.utilisation:g}"))
    if server.role is not Role.SERVE and server.engine.disaggregation is not None:
        role = "kv_producer" if server.role is Role.PREFILL else "kv_consumer"
        transfer: dict[str, Any] = {"kv_connector": server.engine.disaggregation.connector, "kv_role": role}
        if server.served_as is not None:  # of which the caches are alike, though their names are not
            transfer["kv_connector_extra_config"] = {"enforce_handshake_compat": False}
        flags.append(("--kv-transfer-config", json.dumps(transfer)))
    if server.engine.program == "vllm-tpu" and server.kv_layout is KvLayout.BATCH:
        strategy = {"enable_dp_attention": True, "attn_dp_size": server.groups}
        flags.append(("--additional-config", json.dumps({"sharding": {"sharding_strategy": strategy}})))
    if server.engine.program == "vllm-tpu" and server.nodes > 1:
        flags.append(("--distributed-executor-backend", "ray"))
    return flags


def _loading_of_vllm(server: Server) -> Flags:
    """How the checkpoint is loaded, and what it is allowed to be; and the dtype of the KV cache."""
    allowing = server.engine.checkpoint_flags.get(server.checkpoint)
    flags: Flags = [] if allowing is None else [(allowing, None)]
    if server.loading.quantises:
        flags.append(("--quantization", server.loading.quantises))
    if server.loading.kv_cache != "auto":
        flags.append(("--kv-cache-dtype", server.loading.kv_cache))
    return flags


def leaves_images_out(server: Server) -> bool:
    """Whether a step of vLLM has no room for an image or a video that it takes whole: it would not start with them."""
    return server.engine.program.startswith("vllm") and server.whole_image_tokens > budget(server)


def _beside_the_model_in_vllm(server: Server) -> Flags:
    """Adapters, drafts, and a cache in the memory of the host, whose size is that of each rank of data parallelism."""
    flags: Flags = []
    if server.lora is not None:
        flags += [
            ("--enable-lora", None), ("--max-loras", str(server.lora.adapters)),
            ("--max-lora-rank", str(server.lora.rank)),
        ]  # fmt: skip
        if server.adapted:
            flags.append(("--lora-target-modules", server.adapted))
    if server.draft is not None:
        flags.append(("--speculative-config", json.dumps(_drafting_of_vllm(server.draft))))
    if server.host_cache_bytes:
        flags.append(("--kv-offloading-size", f"{server.host_cache_bytes / server.ep / 2**30:.1f}"))
    return flags


def _drafting_of_vllm(draft: DraftChoice) -> dict[str, Any]:
    method = {"mtp": "mtp", "eagle3": "eagle3", "model": "draft_model"}[draft.kind]
    model = {} if draft.repository is None else {"model": draft.repository}
    return {"method": method, **model, "num_speculative_tokens": draft.tokens}


def split_over(server: Server) -> int:
    """Chips over which each sequence lies: tp / K, of a latent all of tp."""
    return server.tp // server.kv_heads


def _sglang(server: Server) -> Flags:
    flags: Flags = [("--tp-size", str(server.tp * server.ep))]
    if server.pp > 1:
        flags.append(("--pp-size", str(server.pp)))
    if server.ep > 1:
        flags += [("--attention-data-parallel-size", str(server.ep)), ("--ep-size", str(server.ep))]
    if server.kv_layout is KvLayout.SEQUENCE:
        flags.append(("--dcp-size", str(split_over(server))))
    flags += [("--context-length", str(_context_of_sglang(server))), ("--max-running-requests", str(server.sequences))]
    if server.whole_prompts:
        flags.append(("--chunked-prefill-size", str(in_pages(server.prompt_tokens) * server.ep)))
    elif server.prompt_tokens:  # of which the sequences of a step take their tokens first
        flags += [
            ("--chunked-prefill-size", str(in_pages(budget(server)) * server.ep)),
            ("--enable-mixed-chunk", None),
        ]
    if server.lora is not None:
        flags += [
            ("--enable-lora", None),
            ("--max-loras-per-batch", str(server.lora.adapters + (1 if pins_adapters(server) else 0))),
            ("--max-lora-rank", str(server.lora.rank)), ("--lora-target-modules", server.adapted or ("all",)),
        ]  # fmt: skip
    flags += _drafting_of_sglang(server.draft)
    flags += _prefixes_of_sglang(server)
    if server.loading.quantises:
        flags.append(("--quantization", server.loading.quantises))
    if server.loading.kv_cache != "auto":
        flags.append(("--kv-cache-dtype", server.loading.kv_cache))
    if server.host_cache_bytes:
        size = ceil(server.host_cache_bytes / server.chips / 1e9)
        flags += [("--enable-hierarchical-cache", None), ("--hicache-size", str(size))]
    flags.append(("--mem-fraction-static", f"{server.utilisation:g}"))
    if server.role is not Role.SERVE and server.engine.disaggregation is not None:
        flags += [
            ("--disaggregation-mode", str(server.role)),
            ("--disaggregation-transfer-backend", server.engine.disaggregation.connector),
        ]
        if server.role is Role.PREFILL:
            flags.append(("--disaggregation-bootstrap-port", str(BOOTSTRAP_PORT)))
    return flags


def pins_adapters(server: Server) -> bool:
    """Whether adapters have to be pinned, beside a slot that is not: where SGLang's groups attend apart."""
    return server.engine.program == "sglang" and server.ep > 1


def _context_of_sglang(server: Server) -> int:
    """The context that takes the longest request, as far as the checkpoint's own goes.

    SGLang refuses prompts within 6 tokens of it, and requests whose tokens and drafts together exceed it.
    """
    is_eagle = server.draft is not None and server.draft.kind in {"mtp", "eagle3"}
    whole = server.context_tokens + BEYOND_REQUESTS + (server.verified if is_eagle else 0)
    most = server.model_context_tokens
    return whole if most is None else max(server.context_tokens, min(whole, most))


def _prefixes_of_sglang(server: Server) -> Flags:
    """Whether prefixes are kept, and then the tokens of the pool for layers with a window by those of the other pool.

    (n · windowed + 2 · chunk) / (n · S), of n requests in a group: two steps are under way.
    """
    if not server.keeps_prefixes:
        return [("--disable-radix-cache", None)]
    if server.windowed_tokens is None:
        return []
    requests = server.sequences / server.ep
    chunk = in_pages(server.prompt_tokens if server.whole_prompts else budget(server))
    held = requests * server.windowed_tokens + 2 * chunk
    share = min(1.0, float(round_up(100 * held / (requests * server.held_tokens))) / 100)
    return [("--swa-full-tokens-ratio", f"{share:g}")]


def _drafting_of_sglang(draft: DraftChoice | None) -> Flags:
    """A chain of tokens: of several candidates for each, as SGLang can verify, nothing is planned."""
    if draft is None:
        return []
    algorithm = {"mtp": "EAGLE", "eagle3": "EAGLE3", "model": "STANDALONE"}[draft.kind]
    path: Flags = [] if draft.repository is None else [("--speculative-draft-model-path", draft.repository)]
    return [
        ("--speculative-algorithm", algorithm), *path, ("--speculative-num-steps", str(draft.tokens)),
        ("--speculative-eagle-topk", "1"), ("--speculative-num-draft-tokens", str(draft.tokens + 1)),
    ]  # fmt: skip


def trtllm_config(server: Server) -> dict[str, Any]:
    """The file of TensorRT-LLM that holds what its command line has no flag for."""
    config: dict[str, Any] = {"tensor_parallel_size": server.tp * server.ep}
    if server.pp > 1:
        config["pipeline_parallel_size"] = server.pp
    if server.ep > 1:
        config |= {"moe_expert_parallel_size": server.ep, "enable_attention_dp": True}
    if server.draft is not None:
        config["speculative_config"] = _drafting_of_trtllm(server.draft)
    if server.experts_backend is not None:
        config["moe_config"] = {"backend": server.experts_backend}
    if server.remote_code:
        config["trust_remote_code"] = True
    return config | {
        "max_batch_size": ceil(server.sequences / (server.ep * server.pp)),
        "max_num_tokens": budget(server),
        "max_seq_len": server.context_tokens,
        # without chunks it refuses a prompt that is longer than a step, however much of it is cached
        "enable_chunked_prefill": not server.whole_prompts or server.longest_prompt_tokens > budget(server),
        "kv_cache_config": {"dtype": server.loading.kv_cache, "free_gpu_memory_fraction": server.utilisation}
        | ({} if server.keeps_prefixes else {"enable_block_reuse": False}),
    }


def _drafting_of_trtllm(draft: DraftChoice) -> dict[str, Any]:
    if draft.kind == "mtp":
        return {"decoding_type": "MTP", "num_nextn_predict_layers": draft.tokens}
    kind = {"eagle3": "Eagle3", "model": "DraftTarget"}[draft.kind]
    return {"decoding_type": kind, "max_draft_len": draft.tokens, "speculative_model": draft.repository}
