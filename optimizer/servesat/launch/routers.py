"""Routers before the servers of a plan: what they are, and one between two pools that finds these in a cluster."""

from typing import NamedTuple

from servesat.launch import images
from servesat.launch.pods import Manifest, labels, metadata, service
from servesat.launch.servers import PORT, Launch, Role

ROUTER_PORT = 9000


class Router(NamedTuple):
    """The package of an engine's router, its command, and the flag with which it stands between two pools."""

    package: str
    command: tuple[str, ...]
    between_pools: str


_OF_VLLM = Router("vllm-router==0.1.17", ("vllm-router",), "--vllm-pd-disaggregation")

ROUTERS = {
    "vllm": _OF_VLLM,
    "vllm-tpu": _OF_VLLM,
    "sglang": Router("sglang-router==0.3.2", ("python3", "-m", "sglang_router.launch_router"), "--pd-disaggregation"),
}
"""The routers of engines; the others have none."""


def router(launch: Launch) -> list[Manifest]:
    """A router that finds the pods of both pools by their labels, and may read them."""
    package, command, between_pools = ROUTERS[launch.engine.program]
    name = f"{launch.name}-router"
    of = {"app.kubernetes.io/name": launch.name, "app.kubernetes.io/component": "router"}
    words = [*command, between_pools, "--service-discovery", "--service-discovery-port", str(PORT)]
    for server in launch.servers:
        flag = "--prefill-selector" if server.role is Role.PREFILL else "--decode-selector"
        words += [flag, *(f"{key}={value}" for key, value in labels(launch, server).items())]
    words += ["--host", "0.0.0.0", "--port", str(ROUTER_PORT)]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    reads = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    main = {
        "name": "router",
        "image": images.ROUTER,
        "command": ["/bin/sh", "-c"],
        "args": [f"pip install -q {package} && exec {' '.join(words)}"],
        "ports": [{"name": "http", "containerPort": ROUTER_PORT}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": ROUTER_PORT}, "periodSeconds": 5},
    }
    rbac = "rbac.authorization.k8s.io/v1"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(name, of)},
        {"apiVersion": rbac, "kind": "Role", "metadata": metadata(name, of), "rules": [reads]},
        {
            "apiVersion": rbac,
            "kind": "RoleBinding",
            "metadata": metadata(name, of),
            "roleRef": role,
            "subjects": [{"kind": "ServiceAccount", "name": name}],
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata(name, of),
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": of},
                "template": {
                    "metadata": {"labels": of},
                    "spec": {"serviceAccountName": name, "containers": [main]},
                },
            },
        },
        service(name, of, ROUTER_PORT),
    ]
