"""Manifests against Kubernetes' own schemas, those of custom resources, of SkyPilot and of Compose."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from servesat.catalogue.load import load_chip
from servesat.core.errors import LaunchError
from servesat.launch.servers import Launch, label
from servesat.launch.targets import TARGETS, written
from tests.helpers import ROOT
from tests.launch.launches import CHAT, SPLIT, SPREAD, WIDE, example, launch, read

SCHEMAS = ROOT / "tests" / "published" / "manifests"
KUBERNETES = "1.33"
OF_KIND = {
    "LeaderWorkerSet": "leaderworkerset",
    "LLMInferenceService": "llminferenceservice",
    "DynamoGraphDeployment": "dynamographdeployment",
    "InferencePool": "inferencepool",
}
KEPT: dict[str, Any] = {
    **CHAT,
    "workload": {**CHAT["workload"], "host_cache": {"tokens": 2**20, "hit": 0.5}},
    "constraints": ["kv_cache == bf16"],
}
"""Prefixes of 262,144 bytes a token, 256 GiB, in the memory of hosts."""

LAUNCHES: dict[str, Any] = {
    "one pool": CHAT,
    "two pools": {**SPLIT, "search": {**SPLIT["search"], "weights": ["fp8"]}},
    "two pools by SGLang": {**SPLIT, "engine": "sglang"},
    "SGLang": {**CHAT, "engine": "sglang"},
    "two nodes": WIDE,
    "experts over two nodes": SPREAD,
    "two nodes by SGLang": {**WIDE, "engine": "sglang"},
    "AMD": {**CHAT, "search": {"chips": ["mi300x"], "topologies": {"mi300x": ["8x1"]}}},
    "prefixes in memory": KEPT,
    "prefixes in memory by SGLang": {**KEPT, "engine": "sglang"},
    "TensorRT-LLM": {**CHAT, "engine": "trtllm"},
    "a TPU": {
        **CHAT,
        "engine": "vllm-tpu",
        "ici": "pay",
        "search": {"chips": ["tpu-v6e"]},
        "price_book": "gcp-2026-11",
    },
    "rented": {
        **CHAT,
        "price_book": "aws-2026-11",
        "buy": "instances",
        "search": {"chips": ["h100-sxm"]},
        "constraints": ["tp == 8"],
    },
}
ONE_NODE = ["one pool", "SGLang", "AMD", "rented", "prefixes in memory", "prefixes in memory by SGLang"]
POOLS, POOLS_OF_VLLM = ["two pools", "two pools by SGLang"], ["two pools"]
SEVERAL = ["two nodes", "experts over two nodes", "two nodes by SGLang"]
OF_VLLM = ["one pool", "two pools", "two nodes", "experts over two nodes", "AMD", "rented", "prefixes in memory"]
STARTED = {
    "command": list(LAUNCHES),
    "compose": [*ONE_NODE, "TensorRT-LLM"],
    "kubernetes": [*ONE_NODE, *POOLS, "TensorRT-LLM"],
    "lws": [*ONE_NODE, *POOLS, *SEVERAL],
    "llm-d": OF_VLLM,
    "kserve": [name for name in OF_VLLM if name != "two nodes"],
    "dynamo": [*POOLS, *SEVERAL, *(name for name in ONE_NODE if name != "AMD")],
    "skypilot": [*(name for name in ONE_NODE if name != "AMD"), *SEVERAL],
    "gke-tpu": ["a TPU"],
}
OF_MANIFESTS = ["kubernetes", "lws", "llm-d", "kserve", "dynamo", "gke-tpu"]
READY: dict[str, Launch] = {}


def ready(name: str) -> Launch:
    if name not in READY:
        READY[name] = launch(LAUNCHES[name])
    return READY[name]


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.json").read_text())


def pods(node: Any, schema_of: Any) -> Iterator[Any]:
    """The pod specs of a document, as its schema marks them."""
    if schema_of.get("x-pod-spec"):
        yield node
    if isinstance(node, dict):
        for key, value in node.items():
            yield from pods(value, schema_of.get("properties", {}).get(key, {}))
    if isinstance(node, list):
        for value in node:
            yield from pods(value, schema_of.get("items", {}))


def validate(document: dict[str, Any]) -> None:
    kind = document["kind"]
    if kind not in OF_KIND:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        return
    of_kind = schema(OF_KIND[kind])
    jsonschema.validate(document, of_kind)
    for spec in pods(document, of_kind):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": {**spec}}
        for container in spec["containers"]:
            container.setdefault("image", "the operator's")
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


@pytest.mark.parametrize(("target", "name"), [(target, name) for target in OF_MANIFESTS for name in STARTED[target]])
def test_manifests_are_valid(target: str, name: str) -> None:
    documents = list(yaml.safe_load_all(written(ready(name), target)["manifests.yaml"]))
    assert documents
    for document in documents:
        validate(document)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_starts_what_it_can_and_refuses_the_rest(target: str) -> None:
    for name in LAUNCHES:
        if name in STARTED[target]:
            assert "benchmark.sh" in written(ready(name), target)
        else:
            with pytest.raises(LaunchError, match=f"--to {target}: .*; try --to "):
                written(ready(name), target)


def test_what_is_not_known_is_refused() -> None:
    (document, *_) = yaml.safe_load_all(written(ready("one pool"), "kubernetes")["manifests.yaml"])
    document["spec"]["template"]["spec"]["containers"][0]["comand"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(document)
    (group, *_) = yaml.safe_load_all(written(ready("two nodes"), "lws")["manifests.yaml"])
    group["spec"]["leaderWorkerTemplate"]["sizes"] = 2
    with pytest.raises(jsonschema.ValidationError):
        validate(group)


@pytest.mark.parametrize("name", STARTED["skypilot"])
def test_tasks_of_skypilot_are_valid(name: str) -> None:
    task = yaml.safe_load(written(ready(name), "skypilot")["task.yaml"])
    jsonschema.validate(task, schema("skypilot_task"))
    assert task["num_nodes"] == ready(name).servers[0].nodes


@pytest.mark.parametrize("name", STARTED["compose"])
def test_compose_files_are_valid(name: str) -> None:
    document = yaml.safe_load(written(ready(name), "compose")["compose.yaml"])
    jsonschema.validate(document, schema("compose"))
    assert document["services"]
    for service in document["services"].values():
        reserved = service.get("deploy")
        assert (reserved is None) == ("devices" in service)
        read([word.replace("$$", "$") for word in service["command"]], ready(name).engine.program)


def containers(name: str, target: str) -> list[dict[str, Any]]:
    documents = yaml.safe_load_all(written(ready(name), target)["manifests.yaml"])
    deployments = [document for document in documents if document["kind"] == "Deployment"]
    return [document["spec"]["template"]["spec"]["containers"][0] for document in deployments]


def test_checkpoints_are_kept_where_the_hub_is_told_whoever_an_image_runs_as() -> None:
    (container,) = containers("one pool", "kubernetes")
    (told,) = [variable["value"] for variable in container["env"] if variable["name"] == "HF_HOME"]
    assert {"name": "models", "mountPath": told} in container["volumeMounts"]
    (service, *_) = yaml.safe_load(written(ready("one pool"), "compose")["compose.yaml"])["services"].values()
    assert service["volumes"] == [f"models:{service['environment']['HF_HOME']}"]


def test_a_deployment_asks_for_chips_probes_and_shared_memory() -> None:
    (container,) = containers("one pool", "kubernetes")
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert container["startupProbe"]["httpGet"] == {"path": "/health", "port": 8000}
    assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
    assert read([*container["command"], *container["args"]], "vllm").tensor_parallel_size == 2
    assert containers("AMD", "kubernetes")[0]["resources"]["limits"] == {"amd.com/gpu": "1"}


@pytest.mark.parametrize(("engine", "shared"), [("vllm", 16 + 256), ("sglang", 16)])
def test_pods_ask_for_the_memory_of_prefixes_and_those_of_vllm_share_it(engine: str, shared: int) -> None:
    text = written(launch({**KEPT, "engine": engine}), "kubernetes")["manifests.yaml"]
    (deployment, *_) = yaml.safe_load_all(text)
    pod = deployment["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["requests"]["memory"] == f"{16 + 256}Gi"
    assert pod["volumes"][0]["emptyDir"]["sizeLimit"] == f"{shared}Gi"
    where = "/dev/shm" if engine == "vllm" else "pinned memory"
    assert f"keeps 275 GB of prefixes for each server in {where}" in text


def test_pods_stand_on_the_instances_that_are_rented() -> None:
    text = written(ready("rented"), "kubernetes")["manifests.yaml"]
    (deployment, *_) = yaml.safe_load_all(text)
    instance = ready("rented").plan.instance
    assert instance is not None
    assert deployment["spec"]["template"]["spec"]["nodeSelector"] == {"node.kubernetes.io/instance-type": instance}


def test_a_router_finds_both_pools() -> None:
    *_, router = containers("two pools", "kubernetes")
    for role in ("prefill", "decode"):
        assert (
            f"--{role}-selector app.kubernetes.io/name=qwen3-32b app.kubernetes.io/component={role}"
            in router["args"][0]
        )


def test_a_slice_of_64_tpus_is_a_group_of_16_hosts() -> None:
    (group, service) = yaml.safe_load_all(written(example("llama-3-405b-vllm-tpu"), "gke-tpu")["manifests.yaml"])
    validate(group)
    validate(service)
    template = group["spec"]["leaderWorkerTemplate"]
    assert template["size"] == 16
    pod = template["workerTemplate"]["spec"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice", "cloud.google.com/gke-tpu-topology": "8x8",
    }  # fmt: skip
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": "4"}


def test_kserve_states_parallelism_and_the_rest_as_arguments() -> None:
    _, service = yaml.safe_load_all(written(ready("two pools"), "kserve")["manifests.yaml"])
    plan = ready("two pools").plan
    assert plan.prefill is not None
    assert service["spec"]["parallelism"] == {"tensor": plan.tp}
    assert (service["spec"]["replicas"], service["spec"]["prefill"]["replicas"]) == (1, 2)  # two of one chip prefill
    (variables,) = [
        variable["value"]
        for variable in service["spec"]["template"]["containers"][0]["env"]
        if variable["name"] == "VLLM_ADDITIONAL_ARGS"
    ]
    assert f"--max-num-seqs {plan.batch}" in variables
    assert "--tensor-parallel-size" not in variables


def test_kserve_runs_images_of_root_and_downloads_with_the_secret_of_its_account() -> None:
    """Its template asks for another user; what downloads the model has the secrets of the pod's account alone."""
    account, service = yaml.safe_load_all(written(ready("two pools"), "kserve")["manifests.yaml"])
    assert (account["kind"], account["secrets"]) == ("ServiceAccount", [{"name": "hf-token"}])
    for pool in (service["spec"], service["spec"]["prefill"]):
        assert pool["template"]["serviceAccountName"] == account["metadata"]["name"]
        (main,) = pool["template"]["containers"]
        assert main["securityContext"] == {"runAsNonRoot": False}
        assert main["startupProbe"]["periodSeconds"] * main["startupProbe"]["failureThreshold"] == 3600


def test_dynamo_starts_the_pools_by_their_modes() -> None:
    (graph,) = yaml.safe_load_all(written(ready("two pools"), "dynamo")["manifests.yaml"])
    frontend, prefill, decode = graph["spec"]["components"]
    assert (frontend["type"], prefill["type"], decode["type"]) == ("frontend", "prefill", "decode")
    words = prefill["podTemplate"]["spec"]["containers"][0]["args"]
    assert words[words.index("--disaggregation-mode") + 1] == "prefill"
    (spread,) = yaml.safe_load_all(written(ready("experts over two nodes"), "dynamo")["manifests.yaml"])
    assert spread["spec"]["components"][1]["multinode"] == {"nodeCount": 2}


def test_llm_d_has_a_sidecar_beside_decode_servers() -> None:
    prefill, decode, pool = yaml.safe_load_all(written(ready("two pools"), "llm-d")["manifests.yaml"])
    assert pool["kind"] == "InferencePool"
    assert "initContainers" not in prefill["spec"]["template"]["spec"]
    container = decode["spec"]["template"]["spec"]["containers"][0]
    assert read([*container["command"], *container["args"]], "vllm").port == 8200


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("SGLang", "kserve", r"--to kserve: cannot start SGLang 0\.5\.23; try --to command or "),
        (
            "two nodes",
            "kubernetes",
            "starts servers of one node, and this one stands on 2; try --to command",
        ),
        ("two pools", "compose", r"--to compose: starts one pool, and the plan has a prefill pool beside it"),
        ("a TPU", "dynamo", r"--to dynamo: cannot start vLLM-TPU 0\.32; try --to command or gke-tpu"),
        ("AMD", "dynamo", r"--to dynamo: starts nothing on mi300x"),
    ],
)
def test_what_a_target_cannot_start_names_those_that_can(name: str, target: str, message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        written(ready(name), target)


def test_headless_nodes_answer_nothing_of_llm_d() -> None:
    group, pool = yaml.safe_load_all(written(ready("experts over two nodes"), "llm-d")["manifests.yaml"])
    (selected,) = pool["spec"]["selector"]["matchLabels"].items()
    template = group["spec"]["leaderWorkerTemplate"]
    assert selected in template["leaderTemplate"]["metadata"]["labels"].items()
    assert selected not in template["workerTemplate"]["metadata"]["labels"].items()


def test_kserves_template_of_one_node_knows_no_experts() -> None:
    _, service = yaml.safe_load_all(written(example("deepseek-v3-vllm-h200"), "kserve")["manifests.yaml"])
    (told,) = [
        variable["value"]
        for variable in service["spec"]["template"]["containers"][0]["env"]
        if variable["name"] == "VLLM_ADDITIONAL_ARGS"
    ]
    assert "--data-parallel-size 8 --enable-expert-parallel" in told
    with pytest.raises(LaunchError, match="spans nodes by data parallelism alone"):
        written(ready("two nodes"), "kserve")


def test_skypilot_has_a_disk_for_what_is_downloaded() -> None:
    """Qwen3 32B in bf16 is 65.5 GB, 61.02 GiB; as vLLM makes fp8 of it, that is what is downloaded of Gemma 2."""
    of_bf16 = {**CHAT, "search": {**CHAT["search"], "weights": ["bf16"]}}
    assert yaml.safe_load(written(launch(of_bf16), "skypilot")["task.yaml"])["resources"]["disk_size"] == 123 + 200
    made = launch({**CHAT, "model": "gemma-2-27b", "search": {**CHAT["search"], "weights": ["fp8"]}})
    assert made.servers[0].loading.quantises is not None
    assert yaml.safe_load(written(made, "skypilot")["task.yaml"])["resources"]["disk_size"] == 102 + 200


@pytest.mark.parametrize(("text", "expected"), [("70B Chat", "model-70b-chat"), ("a_b", "a-b"), ("--", "model")])
def test_a_label_is_a_name_that_a_service_may_have(text: str, expected: str) -> None:
    assert label(text) == expected
    assert label("7" * 60, 40) == "model-" + "7" * 34


def test_what_no_target_starts_says_why() -> None:
    server = replace(ready("one pool").servers[0], chip=load_chip("h100-sxm").model_copy(update={"vendor": "Acme"}))
    with pytest.raises(LaunchError, match=r"a chip of Acme; it knows those of NVIDIA.*no other target"):
        written(replace(ready("one pool"), servers=(server,)), "command")


def test_a_rate_at_which_requests_come_alone_is_benchmarked_one_after_another() -> None:
    """A hundred at 0.001 a second would take 28 hours."""
    found = launch({**CHAT, "workload": {**CHAT["workload"], "requests_per_s": 0.001}})
    script = written(found, "command")["benchmark.sh"]
    assert "--num-prompts 100 \\\n  --max-concurrency 1" in script
    assert "tokens/s" not in script
    assert "0.5 output tokens/s at 0.001 requests/s" in written(found, "command")["serve.sh"]
    long = {"prompt_tokens": 2000, "output_tokens": 30_000, "requests_per_s": 0.02}
    assert "--request-rate 0.02" in written(launch({**CHAT, "workload": long}), "command")["benchmark.sh"]


def test_skypilot_rents_where_the_plan_does_or_says_that_it_cannot() -> None:
    task = yaml.safe_load(written(ready("rented"), "skypilot")["task.yaml"])
    assert task["resources"]["infra"].startswith("aws/")
    search = {"chips": ["h100-sxm"], "topologies": {"h100-sxm": ["8x1"]}}
    elsewhere = {**CHAT, "search": search, "price_book": "all", "buy": "instances", "cloud": "coreweave"}
    elsewhere["constraints"] = ["tp == 8"]
    with pytest.raises(LaunchError, match="--to skypilot: coreweave is not known there"):
        written(launch(elsewhere), "skypilot")
    shared = {**elsewhere, "cloud": "aws", "search": {**search, "topologies": {"h100-sxm": ["2x1"]}}}
    with pytest.raises(LaunchError, match=r"4 servers share a p5\.48xlarge, and it rents one for each"):
        written(launch({**shared, "constraints": ["instances == 1", "chips == 8"]}), "skypilot")
