"""Shell scripts: one for the servers of each pool, a router before several servers, and a benchmark."""

import shlex

from servesat.launch.flags import (
    BOOTSTRAP_PORT,
    CONFIG_FILE,
    NIXL_PORT,
    RAY_PORT,
    Flags,
    address_flags,
    arguments,
    environment,
    flags_of,
    node_flags,
    program,
    trtllm_config,
)
from servesat.launch.routers import ROUTER_PORT, ROUTERS
from servesat.launch.servers import PORT, Launch, Server
from servesat.launch.shell import quoted
from servesat.launch.wording import benchmark, commented, header, yaml_text

PORTS_OF_SGLANG = 100
"""Ports between two servers of SGLang on a machine: each takes some more above its own."""

_DEVICES = {"NVIDIA": "CUDA_VISIBLE_DEVICES", "AMD": "HIP_VISIBLE_DEVICES"}


def files(launch: Launch) -> dict[str, str]:
    """A script for each pool, with those of further nodes, and the benchmark."""
    found: dict[str, str] = {}
    for server in launch.servers:
        if server.nodes == 1:
            found[f"{server.name}.sh"] = _one_node(launch, server)
            continue
        if server.engine.program == "trtllm":
            found[f"{server.name}.sh"] = _mpi_world(launch, server)
            continue
        leader = "usage: the address of this node, which the others reach"
        found[f"{server.name}.sh"] = _several_nodes(launch, server, "0", leader)
        found[f"{server.name}-node.sh"] = _several_nodes(
            launch,
            server,
            "$rank",
            f"usage: the address of the first node, and the rank of this one: 1 to {server.nodes - 1}",
        )
    if launch.engine.program == "trtllm":
        found[CONFIG_FILE] = yaml_text(trtllm_config(launch.servers[0]))
    if launch.has_pools:
        found["router.sh"] = _router_between_pools(launch)
    elif launch.servers[0].count > 1 and launch.engine.program in ROUTERS:
        found["router.sh"] = _router(launch)
    alone = None if launch.servers[0].count > 1 else PORT
    return {**found, "benchmark.sh": benchmark(launch, ROUTER_PORT if "router.sh" in found else alone)}


def _one_node(launch: Launch, server: Server) -> str:
    lines, together = [*header(launch), ""], min(server.machine_chips // server.chips, server.count)
    devices, first = _DEVICES.get(server.chip.vendor), f"server * {server.chips}"
    shared = launch.has_pools and _share_machines(launch)
    if launch.has_pools and not shared:
        lines.append("servers of the two pools stand on machines of their own")
    if shared:
        lines.append("servers of both pools share machines, and each has a number and chips of its own there")
        lines.append(f"usage: SERVER FIRST_CHIP, as in 0 0 and then 1 {server.chips}")
        setup, first = "server=${1:?its number on its machine}\nfirst=${2:?the first of its chips}\n", "first"
    elif together > 1:
        lines.append(f"usage: the number of the server on its machine, 0 to {together - 1}; default: 0")
        setup = "server=${1:-0}\n"
    else:
        lines += [f"run it on each of {server.count} machines"] if server.count > 1 else []
        return _script(lines, "", server, [*flags_of(server), *address_flags()])
    if devices is not None:
        setup += f'export {devices}="$(seq -s, $(({first})) $(({first} + {server.chips - 1})))"\n'
    if server.moves_kv_over_nixl:
        apart = max(one.ep for one in launch.servers)
        setup += f"export VLLM_NIXL_SIDE_CHANNEL_PORT=$(({NIXL_PORT} + server * {apart}))\n"
    step = PORTS_OF_SGLANG if server.engine.program == "sglang" else 1
    port = f"$(({PORT} + server * {step}))"
    ports = {"--port": port, "--disaggregation-bootstrap-port": f"$(({BOOTSTRAP_PORT} + server * 1))"}
    flags = [(name, ports.get(name, value)) for name, value in [*flags_of(server), *address_flags()]]
    return _script(lines, setup, server, flags)


def _share_machines(launch: Launch) -> bool:
    """Whether servers of both pools have room on one machine, and are billed on machines of one kind."""
    servers, together = launch.servers, sum(server.chips for server in launch.servers)
    fits = all(server.nodes == 1 and together <= server.machine_chips for server in servers)
    kinds = {(bill.chip, bill.cloud, bill.region, bill.purchase, bill.instance) for bill in launch.plan.bills}
    return fits and len(kinds) == 1 and servers[0].chip.vendor in _DEVICES


def _several_nodes(launch: Launch, server: Server, rank: str, usage: str) -> str:
    setup = "leader=${1:?the address of the first node}\n"
    setup += "" if rank == "0" else "rank=${2:?the rank of this node}\n"
    lines = [*header(launch), "", usage, f"each server stands on {server.nodes} nodes: one runs {server.name}.sh"]
    if server.engine.program == "vllm-tpu":
        return _with_ray(lines, setup, server, rank)
    address = address_flags() if rank == "0" else []
    return _script(lines, setup, server, [*flags_of(server), *node_flags(server, rank, "$leader"), *address])


def _mpi_world(launch: Launch, server: Server) -> str:
    """TensorRT-LLM starts on all nodes from one of them, by `trtllm-llmapi-launch` in an MPI world."""
    each = server.node_chips
    slots = ",".join(f"node{rank}:{each}" for rank in range(1, server.nodes + 1))
    lines = [
        *header(launch), "", f"usage: all nodes with their chips, the one that answers first: {slots}",
        f"each server stands on {server.nodes} nodes, which have {CONFIG_FILE} in the same folder",
    ]  # fmt: skip
    world = ["mpirun", "-n", str(server.chips), "--map-by", f"ppr:{each}:node", "--allow-run-as-root"]
    start = f'exec {shlex.join(world)} --host "$nodes" trtllm-llmapi-launch '
    setup = f"nodes=${{1:?all nodes with their chips: {slots}}}\n"
    return _script(lines, setup, server, [*flags_of(server), *address_flags()], start=start)


def _with_ray(lines: list[str], setup: str, server: Server, rank: str) -> str:
    """TPUs of several hosts work together through Ray."""
    if rank != "0":
        return _shell(lines, setup, server, f'exec ray start --address="$leader:{RAY_PORT}" --block\n')
    start = f"ray start --head --port={RAY_PORT}\n"
    return _script(lines, setup + start, server, [*flags_of(server), *address_flags()])


def _script(lines: list[str], setup: str, server: Server, flags: Flags, start: str = "exec ") -> str:
    words = [shlex.join(program(server)), *(" ".join(map(quoted, arguments([flag]))) for flag in flags)]
    return _shell(lines, setup, server, start + " \\\n  ".join(words) + "\n")


def _shell(lines: list[str], setup: str, server: Server, command: str) -> str:
    variables = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment(server).items())
    if server.moves_kv_over_nixl:
        variables += 'export VLLM_NIXL_SIDE_CHANNEL_HOST="$(hostname -I | cut -d " " -f 1)"\n'
    return f"#!/usr/bin/env bash\n{commented(lines)}set -euo pipefail\n{variables}{setup}{command}"


def _router(launch: Launch) -> str:
    """Requests find a server at random, as in the replays of a plan."""
    package, command, _ = ROUTERS[launch.engine.program]
    lines = [
        f"The router of {launch.name}: hands each request to one of {launch.servers[0].count} servers.",
        f"pip install {package}",
        'usage: SERVERS="host:8000 ..." bash router.sh',
    ]
    return (
        f"#!/usr/bin/env bash\n{commented(lines)}set -euo pipefail\nservers=()\n"
        'for each in ${SERVERS:?}; do servers+=("http://$each"); done\n'
        f'exec {shlex.join(command)} --worker-urls "${{servers[@]}}" --policy random'
        f" --host 0.0.0.0 --port {ROUTER_PORT}\n"
    )


def _router_between_pools(launch: Launch) -> str:
    package, command, between_pools = ROUTERS[launch.engine.program]
    told, each = "host:8000", '"http://$each"'
    if launch.engine.program == "sglang":  # whose prefill servers are met at a second port
        told, each = f"host:8000:{BOOTSTRAP_PORT}", '"http://${each%:*}" "${each##*:}"'
    return (
        "#!/usr/bin/env bash\n"
        + commented(
            [
                f"The router of {launch.name}: hands each request to a prefill and to a decode server.",
                f"pip install {package}",
                f'usage: PREFILL="{told} ..." DECODE="host:8000 ..." bash router.sh',
            ]
        )
        + "set -euo pipefail\nservers=()\n"
        + f"for each in ${{PREFILL:?}}; do servers+=(--prefill {each}); done\n"
        + 'for each in ${DECODE:?}; do servers+=(--decode "http://$each"); done\n'
        + f'exec {shlex.join([*command, between_pools])} "${{servers[@]}}" --host 0.0.0.0 --port {ROUTER_PORT}\n'
    )
