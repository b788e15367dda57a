"""LeaderWorkerSets: servers that stand on several nodes, one group of pods each."""

from servesat.launch.pods import (
    Manifest,
    documents,
    labels,
    name_of,
    service,
)
from servesat.launch.routers import ROUTER_PORT, router
from servesat.launch.servers import PORT, Launch
from servesat.launch.wording import benchmark
from servesat.launch.workloads import group_of, worker_set


def files(launch: Launch) -> dict[str, str]:
    """One file of manifests, and the benchmark."""
    manifests: list[Manifest] = []
    for server in launch.servers:
        manifests += [
            worker_set(launch, server, group_of(server)),
            service(name_of(launch, server), labels(launch, server)),
        ]
    if launch.has_pools:
        manifests += router(launch)
    return {
        "manifests.yaml": documents(launch, manifests),
        "benchmark.sh": benchmark(launch, ROUTER_PORT if launch.has_pools else PORT),
    }
