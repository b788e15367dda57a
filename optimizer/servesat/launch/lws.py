"""LeaderWorkerSets: servers that stand on several nodes, one group of pods each."""

from servesat.launch.flags import Flags, address_flags, arguments, flags_of, node_flags
from servesat.launch.kubernetes import router
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
    shell_words,
)
from servesat.launch.servers import PORT, Launch, Server
from servesat.launch.wording import benchmark

RANK, LEADER = "$LWS_WORKER_INDEX", "$LWS_LEADER_ADDRESS"


def files(launch: Launch) -> dict[str, str]:
    """One file of manifests, and the benchmark."""
    manifests: list[Manifest] = []
    for server in launch.servers:
        manifests += [worker_set(launch, server), service(name_of(launch, server), labels(launch, server))]
    if launch.has_pools:
        manifests += router(launch)
    return {"manifests.yaml": documents(launch, manifests), "benchmark.sh": benchmark(launch)}


def worker_set(
    launch: Launch,
    server: Server,
    of: dict[str, str] | None = None,
    *,
    port: int = PORT,
    beside: Manifest | None = None,
) -> Manifest:
    """A group of pods for each server: the first answers, at a port, with a container `beside` it; the others work.

    The labels `of` are those of the pods that answer alone.
    """
    found = {**labels(launch, server), **(of or {})}
    annotations = pod_annotations(server)
    answering = {"labels": found, **({"annotations": annotations} if annotations else {})}
    working = {"labels": {**labels(launch, server), "app.kubernetes.io/component": f"{server.name}-node"}}
    answers = pod_spec(server, [leader(server, port)]) | ({"initContainers": [beside]} if beside else {})
    template = {
        "size": server.nodes,
        "restartPolicy": "RecreateGroupOnPodRestart",
        "leaderTemplate": {"metadata": answering, "spec": answers},
        "workerTemplate": {"metadata": working, "spec": pod_spec(server, [worker(server)])},
    }
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": metadata(name_of(launch, server), found),
        "spec": {"replicas": server.count, "leaderWorkerTemplate": template},
    }


def leader(server: Server, port: int = PORT) -> Manifest:
    """The container that answers."""
    words = arguments([*_on_nodes(server, "0"), *address_flags(port)])
    return container(server, port=port, shell=shell_words(server, words))


def worker(server: Server) -> Manifest:
    """The container of a further node."""
    return container(server, shell=shell_words(server, arguments(_on_nodes(server, RANK))), answers=False)


def _on_nodes(server: Server, rank: str) -> Flags:
    return [*flags_of(server), *node_flags(server, rank, LEADER)]
