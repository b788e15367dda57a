"""The nodes of a cluster that pods stand on: by their instance type, by their card, or by what pods ask for alone."""

from servesat.catalogue.accelerator_names import cards_of
from servesat.launch.servers import Launch, Server

RESOURCES = {"NVIDIA": "nvidia.com/gpu", "AMD": "amd.com/gpu", "Google": "google.com/tpu"}
"""What pods ask for, by the vendor of the chip."""

INSTANCE_TYPE = "node.kubernetes.io/instance-type"

LABELLED = {"aws", "azure", "coreweave", "gcp", "oci"}
"""Clouds whose own Kubernetes labels nodes with the name that the machine is sold by: EKS, AKS, CKS, GKE, OKE."""

CARD = "nvidia.com/gpu.product"
"""Written by NVIDIA's GPU feature discovery: the card as its driver names it, with hyphens for spaces."""


def selector(server: Server) -> dict[str, str]:
    """The label that the nodes of a server bear; none of TPUs, whose slices have labels of their own, and of others."""
    if server.chip.vendor == "Google":
        return {}
    if server.instance is not None and server.cloud in LABELLED:
        return {INSTANCE_TYPE: server.instance}
    cards = cards_of(server.chip.id)
    return {CARD: cards[0].replace(" ", "-")} if server.chip.vendor == "NVIDIA" and len(cards) == 1 else {}


def said(launch: Launch) -> list[str]:
    """Lines on how the nodes of each pool are found, and what connects them; none of TPUs."""
    ways = {_way(server) for server in launch.servers if server.chip.vendor != "Google"}
    told = [f"nodes      {way}" for way in sorted(ways)]
    if ways and (launch.has_pools or any(server.nodes > 1 for server in launch.servers)):
        told.append("network    planned at full speed between nodes: give the pods your cluster's network devices")
        told.append("           (vpc.amazonaws.com/efa, rdma/...), or NCCL and NIXL fall back to TCP")
    return told


def _way(server: Server) -> str:
    found = selector(server)
    if CARD in found:
        return f"by {CARD}, which NVIDIA's GPU feature discovery writes: without it, leave the nodeSelector out"
    if found:
        return f"by {INSTANCE_TYPE}"
    return f"any with {RESOURCES[server.chip.vendor]}: see that they are of {server.chip.id}"
