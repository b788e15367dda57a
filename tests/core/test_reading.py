import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from servesat import Spec, SpecError
from servesat.catalogue.load import load_price_book
from servesat.core.errors import ServesatError
from servesat.core.reading import table_rows
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


def test_what_is_no_file_is_refused_at_once() -> None:
    with pytest.raises(SpecError, match="/dev/zero: is a device, expected a file"):
        Spec.load("/dev/zero")
    with pytest.raises(SpecError, match="cannot be read: File name too long"):
        Spec.load("a" * 300)


def test_a_pipe_is_read_until_its_writer_closes_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as threads:
        threads.submit(pipe.write_text, BASE)
        assert Spec.load(pipe).workload.context_tokens == 8192


def test_a_pipe_is_read_as_far_as_a_file_of_its_kind(tmp_path: Path) -> None:
    pipe = tmp_path / "book.toml"
    os.mkfifo(pipe)
    text = "".join(f"[[chips.h100-sxm]]\nusd_per_chip_hour = {n}\nsource = '{'x' * 1000}'\n" for n in range(1, 2001))
    with ThreadPoolExecutor() as threads:
        threads.submit(pipe.write_text, f"name = 'large'\n{text}")
        assert len(load_price_book(str(pipe)).chips["h100-sxm"]) == 2000


def test_a_pipe_that_nothing_writes_to_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servesat.core.reading.MAX_WAIT_S", 0.1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(SpecError, match=r"nothing was written to this pipe for 0.1 s"):
        Spec.load(pipe)


def test_faults_beyond_ten_are_counted(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as error:
        read(tmp_path, BASE + f"search: {{chunk_tokens: {list(range(-60, 0))}}}\n")
    lines = str(error.value).splitlines()
    assert lines[0].endswith("search.chunk_tokens.0 = -60: expected at least 1")
    assert (len(lines), lines[-1]) == (11, f"{tmp_path}/spec.yaml: 50 more faults")
    with pytest.raises(SpecError, match=r"spec.yaml: 90 more faults"):
        read(tmp_path, BASE + "\n".join(f"key{n}: 1" for n in range(100)))


def test_rows_of_a_table_have_their_lines_and_what_they_lack_is_none() -> None:
    header, rows = table_rows(["model, tpot_ms\n", "\n", "a,1\n", "b\n", "c,3,,\n"], "x.csv", ServesatError)
    assert header == ["model", "tpot_ms"]
    assert list(rows) == [
        (3, {"model": "a", "tpot_ms": "1"}), (4, {"model": "b", "tpot_ms": None}), (5, {"model": "c", "tpot_ms": "3"}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,b\n", "1,2\n", "1,024,44\n"], "x.csv: line 3: expected 2 cells as in the header, not 3"),
        (["a,b,a \n", "1,2,3\n"], "x.csv: the column 'a' is written twice"),
    ],
)
def test_a_table_whose_cells_are_not_those_of_its_header_is_refused(lines: list[str], message: str) -> None:
    with pytest.raises(ServesatError, match=re.escape(message)):
        list(table_rows(lines, "x.csv", ServesatError)[1])


def test_closed_standard_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(SpecError, match="standard input is closed"):
        Spec.load("-")
