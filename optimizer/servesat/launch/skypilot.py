"""SkyPilot: a service whose replicas are the servers of a plan."""

from typing import Any

from servesat.core.errors import LaunchError
from servesat.core.tolerances import round_up
from servesat.cost_model.storage import Storage
from servesat.launch.flags import address_flags, arguments, environment, flags_of, node_flags, program
from servesat.launch.pods import SECONDS_TO_START, TOKEN
from servesat.launch.servers import PORT, Launch, Server, named_there
from servesat.launch.shell import quoted
from servesat.launch.wording import benchmark, commented, header, yaml_text
from servesat.spec.speculation import drafting_of

ACCELERATORS = {
    "a10": "A10", "a10g": "A10G", "a30": "A30", "a40": "A40", "a100-40gb": "A100", "a100-80gb": "A100-80GB",
    "a100-80gb-pcie": "A100-80GB", "b200": "B200", "b300": "B300", "gb200": "GB200", "gh200": "GH200",
    "h100-sxm": "H100", "h100-pcie": "H100", "h100-nvl": "H100", "h200": "H200", "l4": "L4", "l40s": "L40S",
    "rtx-3090": "RTX3090", "rtx-4090": "RTX4090",
    "rtx-5090": "RTX5090", "rtx-6000-ada": "RTX6000-Ada", "rtx-a6000": "RTXA6000", "rtx-pro-6000": "RTXPRO6000",
}  # fmt: skip

_CLOUDS = {
    "aws": "aws", "azure": "azure", "digitalocean": "do", "fluidstack": "fluidstack", "gcp": "gcp", "lambda": "lambda",
    "hyperbolic": "hyperbolic", "nebius": "nebius", "oci": "oci", "paperspace": "paperspace", "runpod": "runpod",
    "vast": "vast", "verda": "verda",
}  # fmt: skip
"""What SkyPilot calls the clouds of the price books."""

SPARE_GIB = 200
"""Of a disk, what is left for the system and the engine's packages [GiB]."""

_PACKAGES = {"vllm": "vllm=={version}", "sglang": "sglang[all]=={version}"}


def files(launch: Launch) -> dict[str, str]:
    """One task file, and the benchmark."""
    (server,) = launch.servers
    name = named_there(ACCELERATORS, server.chip.id, "skypilot")
    if server.purchase == "owned":
        raise LaunchError(
            "--to skypilot: the plan is on machines that you own, and it would rent others; try --to compose"
        )
    together = min(server.machine_chips // server.chips, server.count)
    if server.instance is not None and together > 1:
        raise LaunchError(
            f"--to skypilot: {together} servers share a {server.instance}, and it rents one for each; try --to command"
        )
    task: dict[str, Any] = {
        "name": launch.name,
        "service": {
            "readiness_probe": {"path": "/health", "initial_delay_seconds": SECONDS_TO_START},
            "replicas": server.count,
        },
        "resources": {
            **_place(server),
            "accelerators": {name: server.node_chips if server.instance is None else server.machine_chips},
            "use_spot": server.purchase == "spot",
            "ports": PORT,
            "disk_size": _disk_gib(launch),
        },
        "num_nodes": server.nodes,
        "secrets": {TOKEN: None},
        "setup": f"pip install '{_PACKAGES[server.engine.program].format(version=_release(server.engine.version))}'\n",
        "run": _run(server),
    }
    if environment(server):
        task["envs"] = environment(server)
    text = commented([*header(launch), "", f"sky serve up --secret {TOKEN} task.yaml"])
    return {"task.yaml": text + yaml_text(task), "benchmark.sh": benchmark(launch)}


def _disk_gib(launch: Launch) -> int:
    """The disk of a machine [GiB]: for what is downloaded of the model and a draft, twice, and SPARE_GIB.

    Some repositories hold a model in two forms, and engines download both.
    """
    spec, (server,) = launch.spec, launch.servers
    dtype = launch.plan.weights if server.loading.quantises is None else "bf16"
    drafting = drafting_of(server.draft, spec.model, dtype, spec.int4_group)
    held = Storage(spec.model, spec.int4_group).weights_bytes(dtype) + drafting.held_bytes + drafting.expert_bytes
    return int(round_up(2 * float(held) / 2**30)) + SPARE_GIB


def _release(version: str) -> str:
    return version if version.count(".") > 1 else f"{version}.0"


def _place(server: Server) -> dict[str, Any]:
    """Where the plan rents. Raises LaunchError where SkyPilot cannot."""
    if server.cloud is None:
        return {}
    cloud = named_there(_CLOUDS, server.cloud, "skypilot")
    where = cloud if server.region is None else f"{cloud}/{server.region}"
    return {"infra": where} | ({} if server.instance is None else {"instance_type": server.instance})


def _run(server: Server) -> str:
    if server.nodes == 1:
        return _line(server, "0")
    lines = ['leader=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)', 'if [ "$SKYPILOT_NODE_RANK" = 0 ]; then']
    return "\n".join(
        [*lines, f"  {_line(server, '0').strip()}", "else", f"  {_line(server, '$SKYPILOT_NODE_RANK').strip()}", "fi\n"]
    )


def _line(server: Server, rank: str) -> str:
    address = address_flags() if rank == "0" else []
    flags = [*flags_of(server), *node_flags(server, rank, "$leader"), *address]
    return " ".join(map(quoted, [*program(server), *arguments(flags)])) + "\n"
