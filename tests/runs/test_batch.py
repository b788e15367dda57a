import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from servesat import Status
from servesat.cli import app
from servesat.core.errors import ServesatError
from servesat.core.journal import Journal
from servesat.deployment.solve import solve
from servesat.fleet.plan import plan_fleet
from servesat.questions.portfolio import solve_portfolio
from servesat.report.batch import print_batch, status_words
from servesat.runs.batch import _solved, flat, spec_files
from tests.helpers import ROOT

DECODE: dict[str, Any] = {
    "cost_model": "ideal",
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


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Solve the specs of a batch here, one after another: a process takes longer to start than these take."""
    monkeypatch.setattr("servesat.runs.batch.as_finished", lambda task, specs, workers, lost: map(task, specs))


@pytest.mark.slow
def test_every_spec_has_the_answer_that_it_has_alone(tmp_path: Path) -> None:
    specs, out = folder(tmp_path / "specs", 5), tmp_path / "out.csv"
    assert run(specs, "--out", out).exit_code == 0
    table = pd.read_csv(out)
    for path, usd in zip(table["spec"], table["usd_per_million_output_tokens"], strict=True):
        plan = solve(path).plan
        assert plan is not None
        assert usd == plan.usd_per_million_output_tokens
    assert not out.with_name("out.csv.partial").exists()


@pytest.mark.soak
def test_one_malformed_spec_of_fifty_is_a_row_with_its_reason(tmp_path: Path) -> None:
    specs, out = folder(tmp_path / "specs", 50), tmp_path / "out.json"
    (specs / "020.yaml").write_text(yaml.safe_dump({**DECODE, "model": "no-such-model"}))
    assert run(specs, "--out", out).exit_code == 1
    rows = json.loads(out.read_text())["rows"]
    assert [row["status"] for row in rows].count("optimal") == 49
    assert rows[20]["status"] == "error"
    assert "no-such-model" in rows[20]["error"]


@pytest.mark.usefixtures("in_this_process")
def test_deployments_fleets_portfolios_and_infeasible_specs_stand_side_by_side(tmp_path: Path) -> None:
    specs = folder(tmp_path / "specs", 1)
    served = {**DECODE, "workload": {"prompt_tokens": 512, "output_tokens": 128, "requests_per_s": 5}}
    both = {"deployments": {"chat": served, "code": served}, "shared": ["chip"]}
    (specs / "portfolio.yaml").write_text(json.dumps(both))
    (specs / "scarce.yaml").write_text(json.dumps({**both, "max_chips": 1}))
    (specs / "fleet.yaml").write_text(yaml.safe_dump(FLEET))
    (specs / "small.yml").write_text(yaml.safe_dump({**DECODE, "slo": {"tpot_ms": 0.01}}))
    result = run(specs, "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)["rows"]
    assert [(row["kind"], row["status"]) for row in rows] == [
        ("deployment", "optimal"),
        ("fleet", "optimal"),
        ("portfolio", "optimal"),
        ("portfolio", "infeasible"),
        ("deployment", "infeasible"),
    ]
    assert rows[1]["total_usd"] > 0
    assert rows[2]["total_usd"] == rows[2]["bound_usd"] == solve_portfolio(both).usd_per_hour
    assert [row["chip_types"] for row in rows] == [["tpu-v5e"], ["tpu-v5e"], ["tpu-v5e"], [], []]
    assert [row["conflict"] for row in rows[3:]] == [[["max_chips"]], [["tpot"]]]


@pytest.mark.soak
@pytest.mark.parametrize("ending", ["csv", "parquet", "json"])
def test_the_table_is_the_same_for_any_number_of_workers(tmp_path: Path, ending: str) -> None:
    specs = folder(tmp_path / "specs", 7)
    written = []
    for workers in (1, 2):
        out = tmp_path / f"{workers}.{ending}"
        assert run(specs, "--out", out, "--workers", workers).exit_code == 0
        written.append(out.read_bytes())
    assert written[0] == written[1]


@pytest.mark.soak
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


def cut_off(specs: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that is cut off when all is solved and nothing is written."""

    def no_table(*_: object, **__: object) -> None:
        raise ServesatError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("servesat.report.files.write_table", no_table)
        assert run(specs, "--out", out, "--workers", 1).exit_code == 1
    assert out.with_name(out.name + ".partial").exists()


def going_on(specs: Path, out: Path, *more: object) -> str:
    """What a resumed batch says of the answers that it takes over."""
    result = run(specs, "--out", out, "--workers", 1, "--resume", *more)
    assert result.exit_code == 0, result.output
    return str(result.output).partition(" have an answer that stands")[0].removeprefix("going on: ")


@pytest.mark.slow
def test_a_table_that_cannot_be_written_keeps_the_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs, out = folder(tmp_path / "specs", 3), tmp_path / "out.csv"
    cut_off(specs, out, monkeypatch)
    assert going_on(specs, out) == "3 of 3 specs"


@pytest.mark.usefixtures("in_this_process")
def test_resuming_solves_what_is_new_or_changed_and_drops_what_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs, out = folder(tmp_path / "specs", 4), tmp_path / "out.csv"
    cut_off(specs, out, monkeypatch)
    (specs / "000.yaml").unlink()
    (specs / "002.yaml").write_text(yaml.safe_dump({**DECODE, "slo": {"tpot_ms": 77}}))
    (specs / "aaa.yaml").write_text(yaml.safe_dump({**DECODE, "slo": {"tpot_ms": 99}}))
    assert going_on(specs, out) == "2 of 4 specs"
    table = pd.read_csv(out)
    assert [Path(name).name for name in table["spec"]] == ["001.yaml", "002.yaml", "003.yaml", "aaa.yaml"]
    whole = tmp_path / "whole.csv"
    assert run(specs, "--out", whole, "--workers", 1).exit_code == 0
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.usefixtures("in_this_process")
def test_a_run_that_is_cut_off_again_tells_no_answer_to_an_earlier_spec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs, out = folder(tmp_path / "specs", 2), tmp_path / "out.csv"
    cut_off(specs, out, monkeypatch)
    (specs / "000.yaml").write_text(yaml.safe_dump({**DECODE, "slo": {"tpot_ms": 77}}))
    monkeypatch.setattr("servesat.runs.batch.collect", lambda *_: False)  # Ctrl-C before anything is solved
    result = run(specs, "--out", out, "--workers", 1, "--resume", "--json")
    assert result.exit_code == 130
    assert [Path(row["spec"]).name for row in json.loads(result.stdout)["rows"]] == ["001.yaml"]
    assert "cut off: 1 of 2 specs are done" in result.output


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    "row", [{"foo": 1}, {"spec": ["x"], "status": "optimal", "asked": [], "files": {}, "plan": None}]
)
def test_a_journal_with_rows_of_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: dict[str, Any]
) -> None:
    specs, out = folder(tmp_path / "specs", 1), tmp_path / "out.csv"
    cut_off(specs, out, monkeypatch)
    with out.with_name("out.csv.partial").open("a") as journal:
        journal.write(json.dumps(row) + "\n")
    result = run(specs, "--out", out, "--workers", 1, "--resume")
    assert result.exit_code == 1
    assert "expected the answer of a spec; delete its .partial file" in " ".join(result.output.split())


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("named", ["prices", "column", "deployment", "model"])
def test_resuming_sees_a_change_of_a_file_that_a_spec_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    specs, out = tmp_path / "specs", tmp_path / "out.csv"
    (specs / "parts").mkdir(parents=True)
    workload = FLEET["workloads"]["chat"]
    prices = specs / "parts" / "prices.toml"
    prices.write_text((ROOT / "hardware/prices/list-2026-11.toml").read_text())
    model = specs / "parts" / "model.toml"
    model.write_text((ROOT / "models/llama-3-8b.toml").read_text())
    column = specs / "parts" / "demand.csv"
    column.write_text("chat\n2\n")
    deployment = specs / "parts" / "chat.yml.part"
    deployment.write_text(yaml.safe_dump({**workload["deployment"], "model": "./model.toml"}))
    fleet = {
        "regions": {"east": {"quota": {"tpu-v5e": 16}, "price_book": "parts/prices.toml"}},
        "workloads": {
            "chat": {
                "deployment": "parts/chat.yaml",
                "demand": {"csv": "parts/demand.csv", "column": "chat"},
            }
        },
    }
    deployment.rename(specs / "parts" / "chat.yaml")
    (specs / "fleet.yaml").write_text(yaml.safe_dump(fleet))
    cut_off(specs, out, monkeypatch)
    changed = {"prices": prices, "column": column, "deployment": specs / "parts" / "chat.yaml", "model": model}[named]
    changed.write_text(changed.read_text() + "\n")
    assert going_on(specs, out) == ("0 of 2 specs" if named in {"deployment", "model"} else "1 of 2 specs")


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.soak
def test_resuming_asks_again_what_failed_and_what_had_another_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs, out = folder(tmp_path / "specs", 3), tmp_path / "out.csv"
    (specs / "001.yaml").write_text(yaml.safe_dump({**DECODE, "model": "./coming.toml"}))
    cut_off(specs, out, monkeypatch)
    (specs / "coming.toml").write_text((ROOT / "models/llama-3-8b.toml").read_text())
    cut_off_again = run(specs, "--out", out, "--workers", 1)
    assert "an earlier run was cut off here" in cut_off_again.output
    assert going_on(specs, out) == "2 of 3 specs"
    cut_off(folder(tmp_path / "others", 2), out, monkeypatch)
    assert going_on(tmp_path / "others", out, "--time-limit", 60) == "0 of 2 specs"


def test_a_second_run_on_the_same_table_is_refused(tmp_path: Path) -> None:
    specs, out = folder(tmp_path / "specs", 2), tmp_path / "out.csv"
    with closing(Journal(out, "another", resume=False)):
        result = run(specs, "--out", out, "--resume")
    assert result.exit_code == 1
    assert "another run is writing here" in result.output


def test_a_table_does_not_replace_a_spec(tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(DECODE))
    refused = run(spec, "--out", spec)
    assert (refused.exit_code, json.loads(spec.read_text())) == (2, DECODE)


def test_what_names_no_spec_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServesatError, match="names no spec"):
        spec_files([str(tmp_path / "*.yaml")])
    specs = folder(tmp_path / "specs", 2)
    (specs / "inner").mkdir()
    assert len(spec_files([str(specs / "*")])) == 2  # a pattern may match folders too
    assert len(spec_files([str(specs), str(specs / "0*.yaml"), str(specs / "000.yaml")])) == 2


@pytest.mark.soak
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


@pytest.mark.soak
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


@pytest.mark.usefixtures("in_this_process")
def test_a_name_that_is_no_text_has_its_row(tmp_path: Path) -> None:
    specs, out = folder(tmp_path / "specs", 1), tmp_path / "out.parquet"
    os.rename(os.fsencode(specs / "000.yaml"), os.fsencode(specs) + b"/caf\xe9.yaml")
    assert run(specs, "--out", out, "--workers", 1).exit_code == 0
    (name,) = pd.read_parquet(out)["spec"]
    assert name.endswith("caf\\udce9.yaml")


def test_a_gap_stands_beside_what_is_not_proved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump(FLEET))

    def cut_short(spec: Path, **_: object) -> Any:
        return replace(plan_fleet(spec), status=Status.FEASIBLE, total_usd=10.0, bound_usd=9.0)

    monkeypatch.setattr("servesat.runs.batch.plan_fleet", cut_short)
    (row,) = _solved((path, "fleet.yaml", ["version", 1.0]))
    assert (row["status"], row["bound_usd"], row["gap"]) == ("feasible", 9.0, pytest.approx(0.1))
    assert flat(row)["gap"] == pytest.approx(0.1)
    printed = io.StringIO()
    print_batch(Console(file=printed, width=120), [row], Counter([row["status"]]))
    assert "feasible, gap 10.00%" in printed.getvalue()
    by_replay = io.StringIO()
    print_batch(Console(file=by_replay, width=200), [row | {"status": "optimal"}], Counter())
    assert "verified by replay, gap 10.00%" in by_replay.getvalue()
    assert status_words(row | {"status": "optimal"}) == "verified by replay"
    assert status_words(row | {"status": "optimal", "gap": 0.0}) == "optimal"
    (proved,) = _solved((folder(tmp_path / "specs", 1) / "000.yaml", "000.yaml", ["version", None]))
    assert proved["gap"] == 0
    assert proved["bound_usd_per_million_output_tokens"] == proved["plan"]["usd_per_million_output_tokens"]


@pytest.mark.slow
def test_a_spec_whose_process_dies_is_an_error_row_and_the_rest_is_solved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = folder(tmp_path / "specs", 3)
    monkeypatch.setattr("servesat.runs.batch._solved", partial(dies_at, str(specs / "001.yaml")))
    result = run(specs, "--json", "--workers", 2)
    assert result.exit_code == 1
    rows = json.loads(result.stdout)["rows"]
    assert [row["status"] for row in rows] == ["optimal", "error", "optimal"]
    assert "001.yaml: the process that ran it died, and so did the next" in rows[1]["error"]


def dies_at(path: str, task: Any) -> Any:
    """Solve a spec of a batch, but one."""
    if str(task[0]) == path:
        os._exit(9)
    return _solved(task)
