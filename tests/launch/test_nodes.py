from dataclasses import replace

import pytest
import yaml

from servesat.catalogue.load import load_chip
from servesat.launch.nodes import selector
from servesat.launch.targets import written
from tests.launch.launches import CHAT, launch

SERVER = launch(CHAT).servers[0]


@pytest.mark.parametrize(
    ("cloud", "instance", "chip", "found"),
    [
        ("aws", "p5.48xlarge", "h100-sxm", {"node.kubernetes.io/instance-type": "p5.48xlarge"}),
        ("oci", "BM.GPU.MI300X.8", "mi300x", {"node.kubernetes.io/instance-type": "BM.GPU.MI300X.8"}),
        ("runpod", "secure-H100-SXM", "h100-sxm", {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}),
        ("verda", "1A100 (SXM4 80GB)", "a100-80gb", {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}),
        (None, None, "t4", {"nvidia.com/gpu.product": "Tesla-T4"}),
        ("digitalocean", "gpu-mi300x1-192gb", "mi300x", {}),
        ("gcp", "ct6e-standard-8t", "tpu-v6e", {}),
    ],
)
def test_nodes_are_found_by_a_label_that_they_bear(
    cloud: str | None, instance: str | None, chip: str, found: dict[str, str]
) -> None:
    assert selector(replace(SERVER, cloud=cloud, instance=instance, chip=load_chip(chip))) == found


@pytest.mark.parametrize("target", ["kubernetes", "lws", "llm-d", "kserve", "dynamo"])
def test_every_target_says_by_what_nodes_are_found(target: str) -> None:
    search = {"chips": ["h100-sxm"], "topologies": {"h100-sxm": ["1x1"]}}
    rented = launch({**CHAT, "price_book": "all", "buy": "instances", "cloud": "runpod", "search": search})
    assert rented.plan.instance is not None
    text = written(rented, target)["manifests.yaml"]
    assert "# nodes      by nvidia.com/gpu.product, which NVIDIA's GPU feature discovery writes" in text
    assert "nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3" in text
    assert rented.plan.instance not in yaml.dump(list(yaml.safe_load_all(text)))


def test_of_other_chips_the_pods_ask_for_any() -> None:
    search = {"chips": ["mi300x"], "topologies": {"mi300x": ["8x1"]}}
    text = written(launch({**CHAT, "search": search}), "kubernetes")["manifests.yaml"]
    assert "# nodes      any with amd.com/gpu: see that they are of mi300x" in text
