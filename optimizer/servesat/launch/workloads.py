"""Servers as workloads of a cluster: a Deployment of pods on one node, a LeaderWorkerSet of groups on several."""

from collections.abc import Mapping
from dataclasses import dataclass

from servesat.launch.flags import CONFIG_FILE, address_flags, arguments, flags_of, node_flags
from servesat.launch.pods import Manifest, container, labels, metadata, name_of, pod_annotations, pod_spec
from servesat.launch.servers import PORT, Launch, Server
from servesat.launch.shell import shell_words

RANK, LEADER = "$LWS_WORKER_INDEX", "$LWS_LEADER_ADDRESS"


def deployment(
    launch: Launch, server: Server, of: Mapping[str, str] | None = None, selector: Mapping[str, str] | None = None
) -> Manifest:
    """As many pods as the pool has servers, with labels beside their own, on the nodes that a selector names."""
    found = {**labels(launch, server), **(of or {})}
    spec = pod_spec(server, [container(server)], selector)
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


@dataclass(frozen=True, kw_only=True)
class Group:
    """The containers of a server on several nodes: of the pod that answers, of one `beside` it, and of the others."""

    lead: Manifest
    work: Manifest
    beside: Manifest | None = None


def group_of(server: Server, port: int = PORT, beside: Manifest | None = None) -> Group:
    """A group whose engine finds its nodes by their rank and the address of the first."""
    lead = arguments([*flags_of(server), *node_flags(server, "0", LEADER), *address_flags(port)])
    work = arguments([*flags_of(server), *node_flags(server, RANK, LEADER)])
    return Group(
        lead=container(server, port=port, shell=shell_words(server, lead)),
        work=container(server, shell=shell_words(server, work), answers=False),
        beside=beside,
    )


def worker_set(
    launch: Launch,
    server: Server,
    group: Group,
    of: Mapping[str, str] | None = None,
    *,
    selector: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Manifest:
    """A group of pods for each server. The labels `of` are those of the pods that answer alone."""
    found = {**labels(launch, server), **(of or {})}
    nodes = {"labels": {**labels(launch, server), "app.kubernetes.io/component": f"{server.name}-node"}}
    answers = pod_spec(server, [group.lead], selector) | ({"initContainers": [group.beside]} if group.beside else {})
    template = {
        "size": server.nodes,
        "restartPolicy": "RecreateGroupOnPodRestart",
        "leaderTemplate": {"metadata": _of_pods(found, server), "spec": answers},
        "workerTemplate": {"metadata": nodes, "spec": pod_spec(server, [group.work], selector)},
    }
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": metadata(name_of(launch, server), found, annotations),
        "spec": {"replicas": server.count, "leaderWorkerTemplate": template},
    }
