"""KServe: an LLMInferenceService, whose operator starts vLLM with the plan's flags."""

import shlex
from typing import Any

from servesat.launch.flags import arguments, environment, flags_of
from servesat.launch.nodes import selector
from servesat.launch.pods import (
    SECONDS_TO_START,
    TOKEN,
    TOKEN_SECRET,
    documents,
    resources,
    shared_memory,
    side_channel,
)
from servesat.launch.servers import Launch, Server
from servesat.launch.wording import benchmark

_STATED = {"--tensor-parallel-size"}
"""Flags that the operator writes itself, from `parallelism`."""

_STATED_OF_NODES = _STATED | {"--data-parallel-size", "--enable-expert-parallel"}
"""Those that it writes for servers of several nodes."""


def files(launch: Launch) -> dict[str, str]:
    """One manifest, and the benchmark."""
    *prefill, main = launch.servers
    spec: dict[str, Any] = {
        "model": {"uri": f"hf://{launch.checkpoint}", "name": launch.checkpoint},
        **_pool(launch, main),
        "router": {"route": {}, "gateway": {}, "scheduler": {}},
    }
    if prefill:
        spec["prefill"] = _pool(launch, prefill[0])
    manifest = {
        "apiVersion": "serving.kserve.io/v1alpha2",
        "kind": "LLMInferenceService",
        "metadata": {"name": launch.name},
        "spec": spec,
    }
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": launch.name},
        "secrets": [{"name": TOKEN_SECRET}],
    }
    return {"manifests.yaml": documents(launch, [account, manifest]), "benchmark.sh": benchmark(launch)}


def _pool(launch: Launch, server: Server) -> dict[str, Any]:
    parallelism: dict[str, Any] = {"tensor": server.tp}
    if server.nodes > 1:
        parallelism |= {"data": server.ep, "dataLocal": server.ep // server.nodes, "expert": True}
    found: dict[str, Any] = {"replicas": server.count, "parallelism": parallelism, "template": _pod(launch, server)}
    if server.nodes > 1:
        found["worker"] = _pod(launch, server)
    return found


def _pod(launch: Launch, server: Server) -> dict[str, Any]:
    """A pod of the operator's template; the account's secret is what the operator downloads the model with."""
    stated = _STATED if server.nodes == 1 else _STATED_OF_NODES
    flags = [(name, value) for name, value in flags_of(server) if name not in stated]
    token = {"name": TOKEN, "valueFrom": {"secretKeyRef": {"name": TOKEN_SECRET, "key": TOKEN}}}
    variables: list[dict[str, Any]] = [token, {"name": "VLLM_ADDITIONAL_ARGS", "value": shlex.join(arguments(flags))}]
    variables += side_channel(server)
    variables += [{"name": name, "value": value} for name, value in environment(server).items()]
    main = {
        "name": "main", "image": server.image, "env": variables, "resources": resources(server),
        "securityContext": {"runAsNonRoot": False},  # the template asks for True, and images run as root
        "startupProbe": {"periodSeconds": 10, "failureThreshold": SECONDS_TO_START // 10},
    }  # fmt: skip
    pod: dict[str, Any] = {"serviceAccountName": launch.name}
    if selector(server):
        pod["nodeSelector"] = selector(server)
    if server.host_cache_bytes:  # named as in the operator's own template, which has less
        main["volumeMounts"] = [{"name": "dshm", "mountPath": "/dev/shm"}]
        pod["volumes"] = [{"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": shared_memory(server)}}]
    return {**pod, "containers": [main]}
