"""Pieces of Kubernetes manifests: pods with chips, probes, shared memory and the model's cache; services; YAML."""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any

from servesat.launch.flags import BOOTSTRAP_PORT, address_flags, arguments, environment, flags_of, program
from servesat.launch.nodes import RESOURCES, said, selector
from servesat.launch.servers import MODELS, PORT, Launch, Role, Server
from servesat.launch.wording import commented, header, yaml_text

Manifest = dict[str, Any]

TOKEN_SECRET, TOKEN = "hf-token", "HF_TOKEN"
"""The secret with a token of the Hugging Face Hub, and its key: kubectl create secret generic hf-token ..."""

SHARED_GIB = 16
"""What the processes of a server share of memory, apart from prefixes [GiB]."""

SECONDS_TO_START = 3600
"""A large checkpoint is downloaded, loaded and compiled for; slower starts are failures."""


def documents(launch: Launch, manifests: Iterable[Manifest]) -> str:
    """Manifests as one YAML file, below what they are for."""
    secret = f"kubectl create secret generic {TOKEN_SECRET} --from-literal={TOKEN}=..."
    texts = [yaml_text(manifest) for manifest in manifests]
    return commented([*header(launch), *said(launch), "", f"before: {secret}"]) + "---\n".join(["", *texts])


def labels(launch: Launch, server: Server) -> dict[str, str]:
    """What the pods of a server are found by."""
    return {"app.kubernetes.io/name": launch.name, "app.kubernetes.io/component": server.name}


def name_of(launch: Launch, server: Server) -> str:
    """The name of a server's objects."""
    return launch.name if server.role is Role.SERVE else f"{launch.name}-{server.name}"


def container(
    server: Server,
    words: Sequence[str] | None = None,
    *,
    port: int = PORT,
    answers: bool = True,
    shell: str | None = None,
) -> Manifest:
    """The container of a server on a node; one that does not answer requests has no ports and no probes.

    `words` are arguments in place of those of a single node, `shell` a command line in place of both.
    """
    listed = list(words) if words is not None else arguments([*flags_of(server), *address_flags(port)])
    command = {"command": program(server), "args": listed}
    if shell is not None:
        command = {"command": ["/bin/bash", "-c"], "args": [shell]}
    found: Manifest = {
        "name": "server",
        "image": server.image,
        **command,
        "env": _variables(server),
        "resources": resources(server),
        "volumeMounts": [
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "models", "mountPath": MODELS},
        ],
    }
    if not answers:
        return found
    probe = {"httpGet": {"path": "/health", "port": port}}
    return found | {
        "ports": [{"name": "http", "containerPort": port}],
        "startupProbe": {**probe, "periodSeconds": 10, "failureThreshold": SECONDS_TO_START // 10},
        "readinessProbe": {**probe, "periodSeconds": 5},
        "livenessProbe": {**probe, "periodSeconds": 20, "timeoutSeconds": 10, "failureThreshold": 3},
    }


def _variables(server: Server) -> list[Manifest]:
    token: Manifest = {"name": TOKEN, "valueFrom": {"secretKeyRef": {"name": TOKEN_SECRET, "key": TOKEN}}}
    told = {"HF_HOME": MODELS, **environment(server)}
    return [token, *({"name": key, "value": value} for key, value in told.items()), *side_channel(server)]


def side_channel(server: Server) -> list[Manifest]:
    """The address at which another pool fetches a KV cache from a pod of vLLM, as its variable."""
    address = {"fieldRef": {"fieldPath": "status.podIP"}}
    return [{"name": "VLLM_NIXL_SIDE_CHANNEL_HOST", "valueFrom": address}] if server.moves_kv_over_nixl else []


def resources(server: Server) -> Manifest:
    """The chips that a node of a server takes, and the memory of its host that prefixes are kept in."""
    chips = {RESOURCES[server.chip.vendor]: str(server.node_chips)}
    kept = {"memory": f"{SHARED_GIB + host_cache_gib(server)}Gi"} if server.host_cache_bytes else {}
    return {"requests": {**chips, **kept}, "limits": chips}


def shared_memory(server: Server) -> str:
    """What processes of a server share on each node: vLLM also keeps prefixes there."""
    of_cache = host_cache_gib(server) if server.engine.program == "vllm" else 0
    return f"{SHARED_GIB + of_cache}Gi"


def host_cache_gib(server: Server) -> int:
    """The memory of the host of each node that prefixes are kept in [GiB]."""
    return ceil(server.host_cache_bytes / server.nodes / 2**30)


def pod_spec(server: Server, containers: Sequence[Manifest], nodes: Mapping[str, str] | None = None) -> Manifest:
    """A pod on nodes with the server's chips, and with labels beside that."""
    selected = {**(nodes or {}), **selector(server)}
    tolerated = RESOURCES[server.chip.vendor]
    return {
        **({"nodeSelector": selected} if selected else {}),
        "tolerations": [{"key": tolerated, "operator": "Exists", "effect": "NoSchedule"}],
        "containers": list(containers),
        "volumes": [
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared_memory(server)}},
            {"name": "models", "emptyDir": {}},
        ],
    }


def pod_annotations(server: Server) -> dict[str, str]:
    """What SGLang's router reads of prefill pods."""
    if server.engine.program == "sglang" and server.role is Role.PREFILL:
        return {"sglang.ai/bootstrap-port": str(BOOTSTRAP_PORT)}
    return {}


def metadata(name: str, of: Mapping[str, str], annotations: Mapping[str, str] | None = None) -> Manifest:
    """A name with labels, and annotations where there are some."""
    return {"name": name, "labels": dict(of), **({"annotations": dict(annotations)} if annotations else {})}


def service(name: str, of: Mapping[str, str], port: int = PORT) -> Manifest:
    """A service in front of pods."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(name, of),
        "spec": {"selector": dict(of), "ports": [{"name": "http", "port": port, "targetPort": port}]},
    }
