"""Docker Compose: the servers of one machine, each with chips of its own."""

import shlex
from typing import Any

from servesat.launch.flags import CONFIG_FILE, address_flags, arguments, environment, flags_of, program, trtllm_config
from servesat.launch.servers import MODELS, PORT, Launch, Server
from servesat.launch.wording import benchmark, commented, header, yaml_text


def files(launch: Launch) -> dict[str, str]:
    """A compose file of what one machine runs, and the benchmark."""
    (server,) = launch.servers
    here = min(server.count, max(1, server.machine_chips // server.chips))
    services = {f"server-{number}": _service(server, number) for number in range(here)}
    document = {"name": launch.name, "services": services, "volumes": {"models": {}}}
    machines = -(-server.count // here)
    lines = [*header(launch), "", "before: export HF_TOKEN=..."]
    if machines > 1:
        lines.append(f"docker compose up on each of {machines} machines")
    found = {"compose.yaml": commented(lines) + yaml_text(document)}
    if server.engine.program == "trtllm":
        found[CONFIG_FILE] = yaml_text(trtllm_config(server))
    return {**found, "benchmark.sh": benchmark(launch, None if server.count > 1 else PORT)}


def _service(server: Server, number: int) -> dict[str, Any]:
    words = [*program(server), *arguments([*flags_of(server), *address_flags()])]
    devices = [str(number * server.chips + chip) for chip in range(server.chips)]
    found: dict[str, Any] = {
        "image": server.image,
        "entrypoint": [],
        "command": [word.replace("$", "$$") for word in words],
        "ports": [f"{PORT + number}:{PORT}"],
        "ipc": "host",
        "environment": {"HF_TOKEN": "${HF_TOKEN:?}", "HF_HOME": MODELS, **environment(server)},
        "volumes": [f"models:{MODELS}"],
        "healthcheck": {
            "test": ["CMD-SHELL", shlex.join(["curl", "-f", f"http://localhost:{PORT}/health"])],
            "interval": "10s", "timeout": "5s", "retries": 3, "start_period": "3600s",
        },
        "restart": "unless-stopped",
    }  # fmt: skip
    if server.engine.program == "trtllm":
        found["volumes"].append(f"./{CONFIG_FILE}:/{CONFIG_FILE}:ro")
        found["command"] = [f"/{CONFIG_FILE}" if word == CONFIG_FILE else word for word in found["command"]]
    if server.chip.vendor == "AMD":
        found["environment"]["HIP_VISIBLE_DEVICES"] = ",".join(devices)
        return found | {"devices": ["/dev/kfd", "/dev/dri"], "group_add": ["video"]}
    reserved = {"driver": "nvidia", "device_ids": devices, "capabilities": ["gpu"]}
    return found | {"deploy": {"resources": {"reservations": {"devices": [reserved]}}}}
