import pytest

from servesat.catalogue.accelerator_names import accelerator_names, cards_of, chip_named, chip_of_card, tpu_slice
from servesat.catalogue.load import chip_ids, load_price_book, price_book_ids

INSTANCES = {
    name: machine.chip for book in map(load_price_book, price_book_ids()) for name, machine in book.instances.items()
}


@pytest.mark.parametrize(
    ("name", "instance", "memory_gib", "chip"),
    [
        ("L4", "g6.xlarge", 22.35, "l4"),
        ("rtx 6000-ada", "x", None, "rtx-6000-ada"),
        ("A100", "p4d.24xlarge", 40, "a100-40gb"),
        ("A100", "p4d.24xlarge", None, "a100-40gb"),
        ("A100-80GB", "P4DE.24xlarge", 80, "a100-80gb"),
        ("A100", "a2-ultragpu-1g", 80, "a100-80gb"),
        ("A100", "8x-sxm-node", 40, "a100-40gb"),
        ("A100", "8x-sxm-node", 80, "a100-80gb"),
        ("A100-80GB", "1x_A100-80GB_SECURE", None, "a100-80gb-pcie"),
        ("A100-80GB", "Standard_NC24ads_A100_v4", None, "a100-80gb-pcie"),
        ("A100-80GB", "Standard_ND96amsr_A100_v4", None, "a100-80gb"),
        ("H100", "p5.48xlarge", 80, "h100-sxm"),
        ("H100", "gpu_1x_h100_pcie", 80, "h100-pcie"),
        ("H100", "Standard_NC40ads_H100_v5", None, "h100-nvl"),
        ("H100-SXM", "anything", None, "h100-sxm"),
        ("V100", "p3.2xlarge", 16, "v100-16gb"),
        ("V100", "p3dn.24xlarge", 32, "v100-32gb"),
    ],
)
def test_a_name_is_a_chip_where_it_tells_the_form_or_the_instance_does(
    name: str, instance: str, memory_gib: float | None, chip: str
) -> None:
    assert chip_named(name, instance, memory_gib) == chip


@pytest.mark.parametrize(
    ("name", "instance", "memory_gib"),
    [
        ("K80", "p2.xlarge", None),
        ("H100", "node-8x", 80),
        ("H200", "node-8x", 141),
        ("A100", "8x-sxm-node", None),
        ("A100-80GB", "node-8x", 80),
        ("A100", "2x-A100_PCIE", None),
        ("A100", "p4d.24xlarge", 80),
        ("RTX4090", "1x-RTX_4090", 48),
        ("A10", "Standard_NV6ads_A10_v5", 4),
        ("", "p5.48xlarge", None),
    ],
)
def test_what_is_not_certain_is_no_chip(name: str, instance: str, memory_gib: float | None) -> None:
    assert chip_named(name, instance, memory_gib) is None


@pytest.mark.parametrize(
    ("name", "slice_"),
    [
        ("tpu-v5litepod-8", ("tpu-v5e", 8)),
        ("v6e-256", ("tpu-v6e", 256)),
        ("tpu-v5p-8", ("tpu-v5p", 4)),
        ("tpu-v4-16", ("tpu-v4", 8)),
        ("TPU-V3-32", ("tpu-v3", 16)),
        ("tpu-v5p-1", ("tpu-v5p", 0.5)),
        ("tpu-v2-8", None),
        ("tpu-v6e", None),
        ("H100", None),
    ],
)
def test_the_size_of_a_slice_counts_chips_or_tensor_cores(name: str, slice_: tuple[str, float] | None) -> None:
    assert tpu_slice(name) == slice_


def test_the_table_names_chips_of_the_catalogue() -> None:
    table = accelerator_names()
    assert {entry.chip for entry in (*table.accelerators, *table.tpus)} <= set(chip_ids())


@pytest.mark.parametrize("name", sorted(accelerator_names().by_name))
def test_the_table_agrees_with_the_instances_of_the_price_books(name: str) -> None:
    possible = {entry.chip for entry in accelerator_names().by_name[name]}
    for instance, chip in INSTANCES.items():
        if chip in possible:
            assert chip_named(name, instance, None) in {None, chip}, instance


def test_cards_are_chips_of_the_catalogue() -> None:
    assert set(accelerator_names().cards.values()) <= set(chip_ids())
    assert chip_of_card("NVIDIA H100 80GB HBM3") == "h100-sxm"
    assert chip_of_card("NVIDIA H100") is None
    assert cards_of("h100-sxm") == ["NVIDIA H100 80GB HBM3"]
    assert cards_of("mi300x") == ["AMD Instinct MI300X", "AMD Instinct MI300X OAM"]
    assert cards_of("tpu-v5e") == []
