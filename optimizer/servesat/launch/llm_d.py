"""llm-d: pods that its router finds by their labels, an InferencePool, and a sidecar beside decode servers."""

from typing import Any

from servesat.launch import images
from servesat.launch.flags import address_flags, arguments, flags_of
from servesat.launch.pods import Manifest, container, documents
from servesat.launch.servers import PORT, Launch, Role, Server
from servesat.launch.wording import benchmark
from servesat.launch.workloads import deployment, group_of, worker_set

BEHIND_SIDECAR = 8200

_ROLES = {Role.SERVE: "both", Role.PREFILL: "prefill", Role.DECODE: "decode"}


def files(launch: Launch) -> dict[str, str]:
    """One file of manifests, and the benchmark; llm-d's router chart stands in front."""
    manifests = [_servers(launch, server) for server in launch.servers]
    return {"manifests.yaml": documents(launch, [*manifests, _pool(launch)]), "benchmark.sh": benchmark(launch)}


def _servers(launch: Launch, server: Server) -> Manifest:
    of = {
        "llm-d.ai/inference-serving": "true",
        "llm-d.ai/guide": launch.name,
        "llm-d.ai/model": launch.name,
        "llm-d.ai/role": _ROLES[server.role],
    }
    fetches = server.role is Role.DECODE
    if server.nodes > 1:
        group = group_of(server, BEHIND_SIDECAR, _sidecar()) if fetches else group_of(server)
        return worker_set(launch, server, group, of)
    found = deployment(launch, server, of)
    if fetches:
        pod = found["spec"]["template"]["spec"]
        words = arguments([*flags_of(server), *address_flags(BEHIND_SIDECAR)])
        pod["containers"] = [container(server, words, port=BEHIND_SIDECAR)]
        pod["initContainers"] = [_sidecar()]
    return found


def _sidecar() -> Manifest:
    """Fetches the KV cache of a request from a prefill server before the decode server behind it answers."""
    flags = [f"--port={PORT}", f"--vllm-port={BEHIND_SIDECAR}", "--kv-connector=nixlv2", "--secure-proxy=false"]
    return {
        "name": "routing-proxy",
        "image": images.LLM_D_SIDECAR,
        "args": flags,
        "restartPolicy": "Always",
        "ports": [{"name": "sidecar", "containerPort": PORT}],
    }


def _pool(launch: Launch) -> dict[str, Any]:
    return {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": launch.name},
        "spec": {
            "selector": {"matchLabels": {"llm-d.ai/guide": launch.name}},
            "targetPorts": [{"number": PORT}],
            "endpointPickerRef": {"name": f"{launch.name}-epp", "kind": "Service", "port": {"number": 9002}},
        },
    }
