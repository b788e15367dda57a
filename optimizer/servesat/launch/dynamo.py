"""NVIDIA Dynamo: a DynamoGraphDeployment with a frontend and the pools of the plan."""

from typing import Any

from servesat.launch import images
from servesat.launch.flags import arguments, environment, flags_of
from servesat.launch.nodes import selector
from servesat.launch.pods import TOKEN_SECRET, documents, resources, shared_memory
from servesat.launch.servers import Launch, Role, Server
from servesat.launch.wording import benchmark


def files(launch: Launch) -> dict[str, str]:
    """One manifest, and the benchmark."""
    manifest = {
        "apiVersion": "nvidia.com/v1beta1",
        "kind": "DynamoGraphDeployment",
        "metadata": {"name": launch.name},
        "spec": {
            "backendFramework": launch.engine.program,
            "components": [_frontend(launch), *(_component(server) for server in launch.servers)],
        },
    }
    return {"manifests.yaml": documents(launch, [manifest]), "benchmark.sh": benchmark(launch)}


def _frontend(launch: Launch) -> dict[str, Any]:
    main = {
        "name": "main",
        "image": images.dynamo(launch.engine.program),
        "command": ["python3"],
        "args": ["-m", "dynamo.frontend"],
    }
    return {"name": "frontend", "type": "frontend", "replicas": 1, "podTemplate": {"spec": {"containers": [main]}}}


def _component(server: Server) -> dict[str, Any]:
    program = server.engine.program
    model = ["--model", server.checkpoint]
    if program == "sglang":
        named = [] if server.served_as else ["--served-model-name", server.checkpoint]
        model = ["--model-path", server.checkpoint, *named]
    words = [*model, *arguments(flags_of(server))]
    if server.moves_kv_over_nixl:
        words += ["--disaggregation-mode", str(server.role)]
    main: dict[str, Any] = {
        "name": "main",
        "image": images.dynamo(program),
        "command": ["python3", "-m", f"dynamo.{program}"],
        "args": words,
        "envFrom": [{"secretRef": {"name": TOKEN_SECRET}}],
        "resources": resources(server),
    }
    if environment(server):
        main["env"] = [{"name": name, "value": value} for name, value in environment(server).items()]
    pod: dict[str, Any] = {"containers": [main]}
    if selector(server):
        pod["nodeSelector"] = selector(server)
    found = {
        "name": server.name,
        "type": "worker" if server.role is Role.SERVE else str(server.role),
        "replicas": server.count,
        "sharedMemorySize": shared_memory(server),
        "podTemplate": {"spec": pod},
    }
    return found if server.nodes == 1 else {**found, "multinode": {"nodeCount": server.nodes}}
