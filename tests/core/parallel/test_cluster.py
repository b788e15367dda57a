"""The workers of a Ray cluster; those marked `cluster` need Ray, and start two nodes of one CPU on this machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from servesat.cli import app
from servesat.core.errors import ServesatError
from servesat.core.parallel.cluster import _shipped_by_value, is_address
from servesat.core.parallel.runs import Workers, as_finished, in_chunks
from tests.core.parallel.commands import COMMANDS, GRID, ran, running, specs_in, written
from tests.core.parallel.kills import children, no_row_is_lost_or_doubled
from tests.core.parallel.test_runs import chunk_with_three, dies_at_three, dies_once
from tests.helpers import ROOT

ON_RAY = Workers(None, "ray")


@pytest.mark.parametrize("text", ["ray", "ray://head:10001", "ray://10.0.0.1:10001", "ray://[::1]:10001"])
def test_what_says_where_a_cluster_is(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize(
    "text", ["", "Ray", "ray:", "ray://", "ray://head", "ray://head:x", "ray://h:1/x", "http://h:1"]
)
def test_what_does_not(text: str) -> None:
    assert not is_address(text)
    with pytest.raises(ServesatError, match=r"expected ray, or ray://HOST:PORT"):
        list(in_chunks(len, range(2), Workers(None, text)))
    result = CliRunner().invoke(app, [*GRID, "--on", text])
    assert (result.exit_code, "expected ray, or ray://HOST:PORT" in result.stderr) == (2, True)


def test_without_the_extra_one_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = CliRunner().invoke(app, [*GRID, "--out", str(tmp_path / "out.csv"), "--on", "ray"])
    assert (result.exit_code, result.stderr) == (1, "error: on ray: Ray is not installed: pip install '.[ray]'\n")
    assert not list(tmp_path.iterdir())


def test_versions_tell_a_changed_price_and_not_how_servesat_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions, _ = _shipped_by_value()
    here = versions()
    package = tmp_path / "servesat"
    shutil.copytree(ROOT / "optimizer" / "servesat", package)
    for shelf in ("models", "hardware", "engines"):
        shutil.copytree(ROOT / shelf, package / "data" / shelf)
    wheel = SimpleNamespace(submodule_search_locations=[str(package)])
    monkeypatch.setattr("importlib.util.find_spec", lambda _: wheel)
    assert versions() == here
    for changed in ("data/hardware/prices/list-2026-11.toml", "core/plan.py"):
        with (package / changed).open("a") as file:
            file.write("#")
        before, here = here, versions()
        assert {name for name in here if here[name] != before[name]} == {"files of servesat"}


@pytest.mark.soak
def test_without_on_nothing_imports_ray() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from servesat.cli import app\n"
        f"assert CliRunner().invoke(app, {[*GRID[:4], '--workers', '2']}).exit_code == 0\n"
        "assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two nodes with a CPU each, which `--on ray` finds."""
    ray = pytest.importorskip("ray")
    utils = pytest.importorskip("ray.cluster_utils")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_USAGE_STATS_ENABLED", "0")
        small = {"num_cpus": 1, "object_store_memory": 100_000_000}
        started = utils.Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
        started.add_node(**small)
        started.wait_for_nodes()
        patched.setenv("RAY_ADDRESS", started.address)
        yield started
        ray.shutdown()
        started.shutdown()


on_a_cluster = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.filterwarnings("default")]


def marked(test: Any) -> Any:
    """A test on the cluster."""
    for mark in (*on_a_cluster, pytest.mark.usefixtures("cluster")):
        test = mark(test)
    return test


@marked
def test_every_item_is_answered_and_one_that_kills_its_worker_twice_is_named() -> None:
    assert sorted(as_finished(dies_at_three, range(7), ON_RAY, lambda item: -item)) == [-3, 0, 1, 2, 4, 5, 6]
    with pytest.raises(ServesatError, match=r"^items 3: the process that ran it died, and so did the next;"):
        list(in_chunks(chunk_with_three, range(8), ON_RAY, largest_chunk=1))
    chunks = in_chunks(chunk_with_three, range(4, 30), Workers(2, "ray"), largest_chunk=2)
    assert list(chunks) == [[n, n + 1] for n in range(4, 30, 2)]


@marked
def test_an_item_whose_worker_dies_once_is_tried_again(tmp_path: Path) -> None:
    items = [tmp_path / str(number) for number in range(6)]
    assert sorted(as_finished(dies_once, items, ON_RAY, lambda _: "lost")) == list("012345")


def fails(item: int) -> int:
    """A task that raises an error of its own."""
    raise ServesatError(f"no {item}")


@marked
def test_what_the_task_raises_is_raised() -> None:
    with pytest.raises(ServesatError, match=r"^no 0$"):
        list(as_finished(fails, [0], ON_RAY, lambda item: item))


@marked
def test_other_versions_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.python_version", lambda: "3.99.1")
    here = f"Python {sys.version_info[0]}.{sys.version_info[1]}, here 3.99"
    with pytest.raises(ServesatError, match=rf"^on ray: a worker has {here}: install the same on every machine$"):
        list(as_finished(dies_at_three, [0], ON_RAY, lambda item: item))


@marked
@pytest.mark.parametrize("command", COMMANDS)
def test_a_cluster_writes_what_processes_write(command: Callable[[Path], tuple[str, ...]], tmp_path: Path) -> None:
    asked = command(tmp_path)
    here = written(tmp_path / "here", asked, "--workers", "2")
    assert here == written(tmp_path / "one", asked, "--workers", "1")
    assert written(tmp_path / "there", asked, "--on", "ray") == here


@marked
def test_specs_that_differ_on_a_worker_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = specs_in(tmp_path / "specs", 2)
    monkeypatch.setattr("servesat.runs.batch.files_behind", lambda path: {str(path): "another digest"})
    result = CliRunner().invoke(app, ["batch", specs, "--on", "ray", "--wide"])
    assert result.exit_code == 1
    assert "000.yaml: the worker has another file, or none" in result.stdout


def rows_written(journal: Path) -> int:
    """The rows that a run has written so far."""
    return journal.read_bytes().count(b"\n") - 1 if journal.exists() else 0


def wait_for_rows(journal: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a run has written more rows than it had."""
    before, deadline = rows_written(journal), time.monotonic() + 60
    while rows_written(journal) <= before:
        assert process.poll() is None, "it ended before it was cut off"
        assert time.monotonic() < deadline
        time.sleep(0.01)


@marked
def test_a_driver_that_is_interrupted_then_killed_is_resumed_to_the_same_table(tmp_path: Path) -> None:
    out, whole = tmp_path / "out.csv", tmp_path / "whole.csv"
    ran(*GRID, "--out", str(whole), "--workers", "1")
    command = (*GRID, "--out", str(out), "--on", "ray", "--resume")
    journal = tmp_path / "out.csv.partial"
    with running(*command) as process:
        wait_for_rows(journal, process)
        os.killpg(process.pid, signal.SIGINT)
        told = process.communicate(timeout=30)[1].splitlines()[-1]
    assert process.returncode == 130
    assert told == f"cut off: {rows_written(journal)} of 400 scenarios are done; {journal} keeps them for --resume"
    with running(*command) as process:
        wait_for_rows(journal, process)
        process.kill()
    assert 0 < rows_written(journal) < 400
    ran(*command)
    assert out.read_bytes() == whole.read_bytes()


def workers(cluster: Any, *states: bytes) -> list[int]:
    """The processes of a cluster in some states: they run an item, or are idle."""
    raylets = {node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()}
    return [pid for state in states for pid in children(raylets, b"ray::" + state)]


def one_that_runs(cluster: Any, process: Any) -> int:
    """A process of a cluster that runs an item: between two items there is none."""
    while not (running := workers(cluster, b"run")):
        assert process.poll() is None, "it ended before a worker was killed"
        time.sleep(0.005)
    return running[0]


@marked
def test_no_row_is_lost_or_doubled_at_whatever_moment_a_worker_is_killed(cluster: Any, tmp_path: Path) -> None:
    no_row_is_lost_or_doubled(ON_RAY, lambda: workers(cluster, b"run", b"IDLE"), tmp_path)


@marked
@pytest.mark.parametrize("loss", ["worker", "node"])
def test_a_table_is_whole_though_a_worker_or_its_machine_dies(cluster: Any, tmp_path: Path, loss: str) -> None:
    out, whole = tmp_path / "out.csv", tmp_path / "whole.csv"
    ran(*GRID, "--out", str(whole), "--workers", "1")
    with running(*GRID, "--out", str(out), "--on", "ray", "--json") as process:
        wait_for_rows(tmp_path / "out.csv.partial", process)
        if loss == "worker":
            os.kill(one_that_runs(cluster, process), signal.SIGKILL)
        else:
            cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
            cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
        printed, told = process.communicate(timeout=120)
    assert (process.returncode, told) == (0, f"wrote {out}\n")
    assert out.read_bytes() == whole.read_bytes()
    assert len(json.loads(printed)["rows"]) == 400
