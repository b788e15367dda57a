from pathlib import Path

import pytest

from servesat import Spec, SpecError
from tests.spec.texts import BASE, read


def test_numbers_are_read_as_yaml_1_2_writes_them(tmp_path: Path) -> None:
    model = "{name: m, layers: 2, d_model: 512, d_ff: 1024, query_heads: 8, kv_heads: 8, head_dim: 64, vocab_size: 10"
    spec = read(tmp_path, f"model: {model}, nominal_parameters: 7e9}}\nworkload: {{context_tokens: 10}}\n")
    assert spec.model.nominal_parameters == 7e9
    for text, value in (("010", 10), ("1_000", 1000), ("+12", 12)):
        assert read(tmp_path, BASE.replace("8192", text)).workload.context_tokens == value
    for text, number in ((".5", 0.5), ("1.", 1.0), ("2E3", 2000.0), ("15", 15.0)):
        assert read(tmp_path, BASE + f"slo: {{tpot_ms: {text}}}\n").slo.tpot_ms == number


def test_every_fault_has_its_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as error:
        read(tmp_path, BASE + "slo: {tpot_ms: -1, ttft: 3}\nheadroom: 2\n")
    assert len(str(error.value).splitlines()) == 3


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        Spec.load(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="is a folder"):
        Spec.load(tmp_path)
