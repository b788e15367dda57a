"""The targets: which plans each of them can start, and the files that it writes."""

from collections.abc import Callable
from dataclasses import dataclass

from servesat.core.errors import LaunchError
from servesat.launch import command, compose, dynamo, gke_tpu, kserve, kubernetes, llm_d, lws, skypilot
from servesat.launch.servers import Launch, Server


@dataclass(frozen=True, kw_only=True)
class Target:
    """How a target is written, and what it starts: programs of engines, chips, two pools, servers on several nodes.

    Some start several nodes for experts alone, and no tensor parallelism over them (`wide_tensors`); those of
    TensorRT-LLM stand in one MPI world (`mpi`). Some have one model for both pools.
    """

    files: Callable[[Launch], dict[str, str]]
    programs: tuple[str, ...]
    pools: bool
    several_nodes: bool
    vendors: tuple[str, ...] = ("NVIDIA", "AMD", "Google")
    wide_tensors: bool = True
    mpi: bool = False
    checkpoint_of_each_pool: bool = True


_GPUS = ("vllm", "sglang", "trtllm")

TARGETS: dict[str, Target] = {
    "command": Target(files=command.files, programs=(*_GPUS, "vllm-tpu"), pools=True, several_nodes=True, mpi=True),
    "compose": Target(files=compose.files, programs=_GPUS, pools=False, several_nodes=False),
    "kubernetes": Target(files=kubernetes.files, programs=_GPUS, pools=True, several_nodes=False),
    "lws": Target(files=lws.files, programs=("vllm", "sglang"), pools=True, several_nodes=True),
    "llm-d": Target(files=llm_d.files, programs=("vllm",), pools=True, several_nodes=True),
    "kserve": Target(
        files=kserve.files,
        programs=("vllm",),
        pools=True,
        several_nodes=True,
        wide_tensors=False,
        checkpoint_of_each_pool=False,
    ),
    "dynamo": Target(
        files=dynamo.files, programs=("vllm", "sglang"), pools=True, several_nodes=True, vendors=("NVIDIA",)
    ),
    "skypilot": Target(
        files=skypilot.files, programs=("vllm", "sglang"), pools=False, several_nodes=True, vendors=("NVIDIA",)
    ),
    "gke-tpu": Target(files=gke_tpu.files, programs=("vllm-tpu",), pools=False, several_nodes=True),
}


def written(launch: Launch, target: str) -> dict[str, str]:
    """The files that start a plan, by name. Raises LaunchError where the target cannot, naming those that can."""
    chosen = TARGETS[target]
    reason = _cannot(launch, chosen)
    if reason is not None:
        able = [name for name, other in TARGETS.items() if _cannot(launch, other) is None]
        other = f"try --to {' or '.join(able)}" if able else "no other target starts it either"
        raise LaunchError(f"--to {target}: {reason}; {other}")
    return chosen.files(launch)


def _cannot(launch: Launch, target: Target) -> str | None:
    """What keeps a target from starting a plan, as a clause; None where nothing does."""
    if launch.engine.program not in target.programs:
        return f"cannot start {launch.engine.name}"
    other = [server.chip for server in launch.servers if server.chip.vendor not in target.vendors]
    if other:
        known = ", ".join(target.vendors)
        return f"starts nothing on {other[0].id}, a chip of {other[0].vendor}; it knows those of {known}"
    if launch.has_pools and not target.pools:
        return "starts one pool, and the plan has a prefill pool beside it"
    if len({server.checkpoint for server in launch.servers}) > 1 and not target.checkpoint_of_each_pool:
        return "has one model for both pools, and those of the plan load different checkpoints"
    return next((reason for server in launch.servers if (reason := _cannot_span(server, target)) is not None), None)


def _cannot_span(server: Server, target: Target) -> str | None:
    """What keeps a target from starting a server on its nodes."""
    if server.nodes == 1:
        return None
    if not target.several_nodes:
        return f"starts servers of one node, and this one stands on {server.nodes}"
    if server.engine.program == "trtllm" and not target.mpi:
        return f"starts no MPI world, in which {server.engine.name} stands on several nodes"
    if server.ep == 1 and not target.wide_tensors:
        return "spans nodes by data parallelism alone, and this server by tensor parallelism or stages"
    return None
