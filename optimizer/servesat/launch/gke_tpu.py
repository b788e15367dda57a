"""Slices of TPUs on GKE: a Deployment on one host, a LeaderWorkerSet with Ray on several."""

from servesat.catalogue.chip import axis_sizes
from servesat.launch.flags import RAY_PORT, address_flags, arguments, flags_of
from servesat.launch.pods import container, documents, labels, name_of, service
from servesat.launch.servers import Launch, Server, named_there
from servesat.launch.shell import shell_words
from servesat.launch.wording import benchmark
from servesat.launch.workloads import Group, deployment, worker_set

ACCELERATORS = {
    "tpu-v5e": "tpu-v5-lite-podslice",
    "tpu-v5p": "tpu-v5p-slice",
    "tpu-v6e": "tpu-v6e-slice",
    "tpu-7x": "tpu7x",
}


def files(launch: Launch) -> dict[str, str]:
    """One file of manifests, and the benchmark."""
    (server,) = launch.servers
    of = labels(launch, server)
    if server.nodes == 1:
        pods = deployment(launch, server, selector=selector(server))
    else:
        together = {"leaderworkerset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
        pods = worker_set(launch, server, _group(server), selector=selector(server), annotations=together)
    manifests = [pods, service(name_of(launch, server), of)]
    return {"manifests.yaml": documents(launch, manifests), "benchmark.sh": benchmark(launch)}


def selector(server: Server) -> dict[str, str]:
    """The node pool of a slice. GKE writes a slice as its sides, however it is turned."""
    return {
        "cloud.google.com/gke-tpu-accelerator": named_there(ACCELERATORS, server.chip.id, "gke-tpu"),
        "cloud.google.com/gke-tpu-topology": "x".join(map(str, axis_sizes(server.topology))),
        **({"cloud.google.com/gke-spot": "true"} if server.purchase == "spot" else {}),
    }


def _group(server: Server) -> Group:
    """A group whose hosts work together through Ray."""
    words = arguments([*flags_of(server), *address_flags()])
    start = f"ray start --head --port={RAY_PORT} && {shell_words(server, words)}"
    join = f'exec ray start --address="$LWS_LEADER_ADDRESS:{RAY_PORT}" --block'
    return Group(lead=container(server, shell=start), work=container(server, shell=join, answers=False))
