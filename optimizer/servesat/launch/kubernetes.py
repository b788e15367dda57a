"""Kubernetes: a Deployment and a Service for each pool, and a router between pools."""

from servesat.launch.command import ROUTER_PORT, ROUTERS
from servesat.launch.flags import CONFIG_FILE, trtllm_config
from servesat.launch.pods import (
    Manifest,
    container,
    documents,
    labels,
    metadata,
    name_of,
    pod_annotations,
    pod_spec,
    service,
)
from servesat.launch.servers import PORT, Launch, Role, Server
from servesat.launch.wording import benchmark, yaml_text

ROUTER_IMAGE = "python:3.12-slim"


def files(launch: Launch) -> dict[str, str]:
    """One file of manifests, and the benchmark."""
    manifests: list[Manifest] = []
    for server in launch.servers:
        manifests += [*_config(launch, server), deployment(launch, server)]
        manifests.append(service(name_of(launch, server), labels(launch, server)))
    if launch.has_pools:
        manifests += router(launch)
    return {"manifests.yaml": documents(launch, manifests), "benchmark.sh": benchmark(launch)}


def deployment(launch: Launch, server: Server, of: dict[str, str] | None = None) -> Manifest:
    """As many pods as the pool has servers."""
    found = {**labels(launch, server), **(of or {})}
    spec = pod_spec(server, [container(server)])
    if server.engine.program == "trtllm":
        spec["volumes"].append({"name": "config", "configMap": {"name": f"{launch.name}-config"}})
        main = spec["containers"][0]
        main["volumeMounts"].append({"name": "config", "mountPath": "/config"})
        main["args"] = [f"/config/{CONFIG_FILE}" if word == CONFIG_FILE else word for word in main["args"]]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(name_of(launch, server), found),
        "spec": {
            "replicas": server.count,
            "selector": {"matchLabels": found},
            "strategy": {"type": "Recreate"},
            "template": {"metadata": _of_pods(found, server), "spec": spec},
        },
    }


def _of_pods(of: dict[str, str], server: Server) -> Manifest:
    annotations = pod_annotations(server)
    return {"labels": of, **({"annotations": annotations} if annotations else {})}


def _config(launch: Launch, server: Server) -> list[Manifest]:
    if server.engine.program != "trtllm":
        return []
    text = yaml_text(trtllm_config(server))
    name = f"{launch.name}-config"
    of = labels(launch, server)
    return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(name, of), "data": {CONFIG_FILE: text}}]


def router(launch: Launch) -> list[Manifest]:
    """A router that finds the pods of both pools by their labels, and may read them."""
    package, command = ROUTERS[launch.engine.program]
    name = f"{launch.name}-router"
    of = {"app.kubernetes.io/name": launch.name, "app.kubernetes.io/component": "router"}
    words = [*command, "--service-discovery", "--service-discovery-port", str(PORT)]
    for server in launch.servers:
        flag = "--prefill-selector" if server.role is Role.PREFILL else "--decode-selector"
        words += [flag, *(f"{key}={value}" for key, value in labels(launch, server).items())]
    words += ["--host", "0.0.0.0", "--port", str(ROUTER_PORT)]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    reads = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    main = {
        "name": "router",
        "image": ROUTER_IMAGE,
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
