"""Kubernetes: a Deployment and a Service for each pool, and a router between pools."""

from servesat.launch.flags import CONFIG_FILE, trtllm_config
from servesat.launch.pods import (
    Manifest,
    documents,
    labels,
    metadata,
    name_of,
    service,
)
from servesat.launch.routers import ROUTER_PORT, router
from servesat.launch.servers import PORT, Launch, Server
from servesat.launch.wording import benchmark, yaml_text
from servesat.launch.workloads import deployment


def files(launch: Launch) -> dict[str, str]:
    """One file of manifests, and the benchmark."""
    manifests: list[Manifest] = []
    for server in launch.servers:
        manifests += [*_config(launch, server), deployment(launch, server)]
        manifests.append(service(name_of(launch, server), labels(launch, server)))
    if launch.has_pools:
        manifests += router(launch)
    return {
        "manifests.yaml": documents(launch, manifests),
        "benchmark.sh": benchmark(launch, ROUTER_PORT if launch.has_pools else PORT),
    }


def _config(launch: Launch, server: Server) -> list[Manifest]:
    if server.engine.program != "trtllm":
        return []
    text = yaml_text(trtllm_config(server))
    name = f"{launch.name}-config"
    of = labels(launch, server)
    return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(name, of), "data": {CONFIG_FILE: text}}]
