"""Slices of TPUs on GKE: a Deployment on one host, a LeaderWorkerSet with Ray on several."""

from servesat.catalogue.chip import axis_sizes
from servesat.launch.flags import address_flags, arguments, flags_of
from servesat.launch.pods import (
    Manifest,
    container,
    documents,
    labels,
    metadata,
    name_of,
    pod_spec,
    service,
    shell_words,
)
from servesat.launch.servers import Launch, Server, named_there
from servesat.launch.wording import benchmark

ACCELERATORS = {
    "tpu-v4": "tpu-v4-podslice",
    "tpu-v5e": "tpu-v5-lite-podslice",
    "tpu-v5p": "tpu-v5p-slice",
    "tpu-v6e": "tpu-v6e-slice",
    "tpu-7x": "tpu7x",
}

RAY_PORT = 6379


def files(launch: Launch) -> dict[str, str]:
    """One file of manifests, and the benchmark."""
    (server,) = launch.servers
    of = labels(launch, server)
    manifests = [
        _single(launch, server) if server.nodes == 1 else _group(launch, server),
        service(name_of(launch, server), of),
    ]
    return {"manifests.yaml": documents(launch, manifests), "benchmark.sh": benchmark(launch)}


def selector(server: Server) -> dict[str, str]:
    """The node pool of a slice. GKE writes a slice as its sides, however it is turned."""
    return {
        "cloud.google.com/gke-tpu-accelerator": named_there(ACCELERATORS, server.chip.id, "gke-tpu"),
        "cloud.google.com/gke-tpu-topology": "x".join(map(str, axis_sizes(server.topology))),
        **({"cloud.google.com/gke-spot": "true"} if server.purchase == "spot" else {}),
    }


def _single(launch: Launch, server: Server) -> Manifest:
    of = labels(launch, server)
    spec = pod_spec(server, [container(server)], selector(server))
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(name_of(launch, server), of),
        "spec": {
            "replicas": server.count,
            "selector": {"matchLabels": of},
            "strategy": {"type": "Recreate"},
            "template": {"metadata": {"labels": of}, "spec": spec},
        },
    }


def _group(launch: Launch, server: Server) -> Manifest:
    """A group of pods for each slice, one on each host, which GKE places on one node pool."""
    of = labels(launch, server)
    words = arguments([*flags_of(server), *address_flags()])
    start = f"ray start --head --port={RAY_PORT} && {shell_words(server, words)}"
    join = f'exec ray start --address="$LWS_LEADER_ADDRESS:{RAY_PORT}" --block'
    lead = pod_spec(server, [container(server, shell=start)], selector(server))
    work = pod_spec(server, [container(server, shell=join, answers=False)], selector(server))
    nodes = {"labels": {**of, "app.kubernetes.io/component": f"{server.name}-node"}}
    together = {"leaderworkerset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": metadata(name_of(launch, server), of, together),
        "spec": {
            "replicas": server.count,
            "leaderWorkerTemplate": {
                "size": server.nodes,
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": {"metadata": {"labels": of}, "spec": lead},
                "workerTemplate": {"metadata": nodes, "spec": work},
            },
        },
    }
