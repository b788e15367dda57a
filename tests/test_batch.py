import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from servesat import solve
from servesat.batch import Batch, spec_files
from servesat.cli import app
from servesat.errors import ServesatError
from servesat.journal import Journal
from servesat.parallel import as_finished

DECODE: dict[str, Any] = {
    "model": "llama-3-8b",
    "workload": {"context_tokens": 4096},
    "search": {"chips": ["tpu-v5e"], "weights": ["int8"], "kv_cache": ["int8"]},
}
FLEET: dict[str, Any] = {
    "regions": {"east": {"quota": {"tpu-v5e": 16}, "price": {"tpu-v5e": {"on_demand": 1.0}}}},
    "workloads": {
        "chat": {
            "deployment": {**DECODE, "workload": {"prompt_tokens": 512, "output_tokens": 128}},
            "demand": 1,
        }
    },
}


def folder(path: Path, count: int) -> Path:
    """A folder of decode specs with limits of 10 ms and more."""
    path.mkdir()
    for number in range(count):
        spec = {**DECODE, "slo": {"tpot_ms": 10 + number}}
        (path / f"{number:03}.yaml").write_text(yaml.safe_dump(spec))
    return path


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["batch", *map(str, arguments)])


def test_every_spec_has_the_answer_that_it_has_alone(tmp_path: Path) -> None:
    specs, out = folder(tmp_path / "specs", 5), tmp_path / "out.csv"
    assert run(specs, "--out", out).exit_code == 0
    table = pd.read_csv(out)
    for path, usd in zip(table["spec"], table["usd_per_million_output_tokens"], strict=True):
        plan = solve(path).plan
        assert plan is not None
        assert usd == plan.usd_per_million_output_tokens
    assert not out.with_name("out.csv.partial").exists()


def test_one_malformed_spec_of_fifty_is_a_row_with_its_reason(tmp_path: Path) -> None:
    specs, out = folder(tmp_path / "specs", 50), tmp_path / "out.json"
    (specs / "020.yaml").write_text(yaml.safe_dump({**DECODE, "model": "no-such-model"}))
    assert run(specs, "--out", out).exit_code == 1
    rows = json.loads(out.read_text())["rows"]
    assert [row["status"] for row in rows].count("optimal") == 49
    assert rows[20]["status"] == "error"
    assert "no-such-model" in rows[20]["error"]


def test_deployments_fleets_and_infeasible_specs_stand_side_by_side(tmp_path: Path) -> None:
    specs = folder(tmp_path / "specs", 1)
    (specs / "fleet.yaml").write_text(yaml.safe_dump(FLEET))
    (specs / "small.yml").write_text(yaml.safe_dump({**DECODE, "slo": {"tpot_ms": 0.01}}))
    result = run(specs, "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)["rows"]
    assert [(row["kind"], row["status"]) for row in rows] == [
        ("deployment", "optimal"),
        ("fleet", "optimal"),
        ("deployment", "infeasible"),
    ]
    assert rows[1]["total_usd"] > 0
    assert rows[2]["conflict"] == [["tpot"]]


@pytest.mark.parametrize("ending", ["csv", "parquet", "json"])
def test_the_table_is_the_same_for_any_number_of_workers(tmp_path: Path, ending: str) -> None:
    specs = folder(tmp_path / "specs", 7)
    written = []
    for workers in (1, 2):
        out = tmp_path / f"{workers}.{ending}"
        assert run(specs, "--out", out, "--workers", workers).exit_code == 0
        written.append(out.read_bytes())
    assert written[0] == written[1]


def test_a_batch_killed_and_resumed_is_that_of_one_that_ran_through(tmp_path: Path) -> None:
    specs, out, whole = folder(tmp_path / "specs", 30), tmp_path / "out.csv", tmp_path / "whole.csv"
    assert run(specs, "--out", whole, "--workers", 1).exit_code == 0
    command = [
        sys.executable,
        "-c",
        "from servesat.cli import app; app()",
        "batch",
        str(specs),
        "--out",
        str(out),
        "--workers",
        "2",
    ]
    process = subprocess.Popen(command, start_new_session=True)
    kept = tmp_path / "out.csv.partial"
    while process.poll() is None and (not kept.exists() or kept.read_bytes().count(b"\n") < 3):
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert kept.exists(), "it ended before it was killed"
    assert not out.exists()
    assert run(specs, "--out", out).exit_code == 1  # an earlier run is there, and --resume is not
    assert run(specs, "--out", out, "--resume").exit_code == 0
    assert out.read_bytes() == whole.read_bytes()


def test_a_batch_whose_specs_changed_is_not_resumed(tmp_path: Path) -> None:
    specs, out = folder(tmp_path / "specs", 3), tmp_path / "out.csv"
    asked = Batch(tuple(spec_files([str(specs)])))
    Journal(out, asked.identity, resume=False).append([{"number": 0}])
    (specs / "001.yaml").write_text(yaml.safe_dump(DECODE))
    result = run(specs, "--out", out, "--resume")
    assert result.exit_code == 1
    assert "another question" in result.output


def test_what_names_no_spec_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServesatError, match="names no spec"):
        spec_files([str(tmp_path / "*.yaml")])
    specs = folder(tmp_path / "specs", 2)
    (specs / "inner").mkdir()
    assert len(spec_files([str(specs / "*")])) == 2  # a pattern may match folders too
    assert len(spec_files([str(specs), str(specs / "0*.yaml"), str(specs / "000.yaml")])) == 2


def test_specs_are_named_once_and_none_is_left_out_in_silence(tmp_path: Path) -> None:
    specs = folder(tmp_path / "specs", 2)
    (specs / "UPPER.YAML").write_text((specs / "000.yaml").read_text())
    (specs / "gone.yaml").symlink_to(tmp_path / "nowhere.yaml")
    found = spec_files([str(specs), str(specs / ".." / "specs" / "001.yaml")])
    assert sorted(path.name for path in found) == ["000.yaml", "001.yaml", "UPPER.YAML", "gone.yaml"]
    ran = run(specs, "--json")
    assert ran.exit_code == 1
    (gone,) = [row for row in json.loads(ran.stdout)["rows"] if row["spec"].endswith("gone.yaml")]
    assert gone["status"] == "error"
    with pytest.raises(ServesatError, match="'' names no spec"):
        spec_files([""])


def test_a_reader_that_goes_away_leaves_the_table_and_no_journal(tmp_path: Path) -> None:
    specs, out = folder(tmp_path / "specs", 3), tmp_path / "out.csv"
    starter = "from servesat.cli import app; app()"
    command = [sys.executable, "-c", starter, "batch", str(specs), "--out", str(out), "--workers", "1", "--json"]
    reader, writer = os.pipe()
    os.close(reader)
    subprocess.run(command, stdout=writer, stderr=subprocess.DEVNULL, check=False)
    os.close(writer)
    assert len(pd.read_csv(out)) == 3
    assert not out.with_name("out.csv.partial").exists()


def dies(item: int) -> int:
    """A task whose process is gone before it answers."""
    os._exit(item)


def test_a_process_that_dies_is_told_with_the_way_on() -> None:
    with pytest.raises(ServesatError, match=r"a process died, .* go on with --resume"):
        list(as_finished(dies, [9, 9, 9], 2))
