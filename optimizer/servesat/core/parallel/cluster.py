"""The workers of a Ray cluster: one that runs, or one that is started on this machine."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic
from urllib.parse import urlsplit

from servesat.core.errors import ServesatError
from servesat.core.parallel.pool import Answer, Item, Ticket, WorkerLostError

RUNNING_OR_LOCAL = "ray"
"""The cluster of RAY_ADDRESS or of this machine if one runs, else one that is started here and ends with the run."""

LISTEN_S = 0.2
"""Seconds that a wait for workers takes before it is taken up again."""

Versions = dict[str, str | None]
"""The versions that answers depend on, by name; None: not installed."""


def is_address(on: str) -> bool:
    """Whether a text says where a cluster is: `ray`, or `ray://HOST:PORT`."""
    try:
        parts = urlsplit(on)
        named = parts.scheme == "ray" and bool(parts.hostname and parts.port)
    except ValueError:
        return False
    return on == RUNNING_OR_LOCAL or (named and on == f"ray://{parts.netloc}")


def connect(on: str) -> Any:
    """Connect this process to a cluster, unless it is already, and return Ray. Raises ServesatError."""
    if not is_address(on):
        raise ServesatError(f"on = {on!r}: expected ray, or ray://HOST:PORT")
    try:
        import ray
    except ImportError:
        raise ServesatError(f"on {on}: Ray is not installed: pip install '.[ray]'") from None
    if ray.is_initialized():
        return ray
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a cluster that is started here
    # Ray would say on standard output, where results stand, that a worker died.
    ray._private.worker._worker_logs_enabled = False
    address = None if on == RUNNING_OR_LOCAL else on
    try:
        with warnings.catch_warnings(action="ignore"):
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError) as fault:
        raise ServesatError(f"on {on}: cannot be connected to: {_one_line(fault)}") from None
    return ray


class RayCluster(Generic[Item, Answer]):
    """Workers of a cluster, with a CPU each; Ray finds another where one dies.

    The task is shipped to each worker once. What runs ends with this process, even if it is killed. A worker with other
    versions than this process refuses its item. Raises ServesatError without Ray, or where there is no cluster.
    """

    def __init__(self, task: Callable[[Item], Answer], workers: int | None, on: str) -> None:
        self._on = on
        self._ray = connect(on)
        self._versions, run = _shipped_by_value()
        self._run = self._ray.remote(num_cpus=1, max_retries=0)(run)
        self._running: set[Ticket] = set()
        with self._in_one_line():
            self.workers = workers or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
            self._shared = self._ray.put((self._versions(), os.getcwd(), self._ray.put(task)))

    def submit(self, item: Item) -> Ticket:
        """Hand an item to Ray, which finds a worker."""
        with self._in_one_line():
            ticket = self._run.remote(self._shared, item)
        self._running.add(ticket)
        return ticket

    def wait(self) -> list[Ticket]:
        """Wait until at least one item has finished."""
        with self._in_one_line():
            ended: list[Ticket] = []
            while not ended:  # Ctrl-C is heard between two waits
                ended = self._ray.wait(list(self._running), num_returns=1, timeout=LISTEN_S)[0]
        return ended

    def answer(self, ticket: Ticket) -> Answer:
        """Return the answer of a finished item, or raise what the task raised, or WorkerLostError."""
        self._running.discard(ticket)
        faults = self._ray.exceptions
        with self._in_one_line():
            try:
                kind, found = self._ray.get(ticket)
            except (
                faults.WorkerCrashedError, faults.OutOfMemoryError, faults.NodeDiedError, faults.ObjectLostError,
                faults.LocalRayletDiedError,
            ):  # fmt: skip
                raise WorkerLostError from None
        if kind == "raised":
            raise found
        if kind == "differs":
            raise ServesatError(f"on {self._on}: {_differences(found, self._versions())}")
        answer: Answer = found
        return answer

    def cancel(self) -> None:
        """End what runs; the cluster goes on, unless it was started here: then it ends with this process."""
        if not self._ray.is_initialized():  # the connection is lost, and Ray would make another
            return
        with suppress(ConnectionError, self._ray.exceptions.RayError):
            for ticket in self._running:
                self._ray.cancel(ticket, force=True)

    @contextmanager
    def _in_one_line(self) -> Iterator[None]:
        try:
            yield
        except (ConnectionError, self._ray.exceptions.RayError) as fault:
            raise ServesatError(f"on {self._on}: {_one_line(fault)}") from None


def _shipped_by_value() -> tuple[Callable[[], Versions], Callable[[Any, Any], tuple[str, Any]]]:
    """What tells versions, and what a worker runs: functions that import nothing of servesat.

    They belong to no module, so that Ray ships their code: a worker may have another servesat, or none.
    """
    task: list[Callable[[Any], Any]] = []  # of a worker, once it has run an item

    def versions() -> Versions:
        from importlib.metadata import PackageNotFoundError, version
        from platform import python_version

        found: Versions = {"Python": python_version().rpartition(".")[0]}
        for package in ("servesat", "numpy", "ortools"):
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                found[package] = None
        found["files of servesat"] = contents()
        return found

    def contents() -> str | None:
        # a digest of servesat's modules and data, which lie in its folder if it was installed from a wheel
        from hashlib import sha256
        from importlib.util import find_spec
        from pathlib import Path

        place = find_spec("servesat")
        if place is None or not place.submodule_search_locations:
            return None
        package = Path(place.submodule_search_locations[0])
        data = package / "data" if (package / "data").is_dir() else package.parents[1]
        named = [(str(file.relative_to(package)), file) for file in package.rglob("*.py")]
        for shelf in ("models", "hardware", "engines"):
            named += [(str(file.relative_to(data)), file) for file in (data / shelf).rglob("*.toml")]
        whole = sha256()
        for name, file in sorted(named):
            whole.update(name.encode() + b"\0" + sha256(file.read_bytes()).digest())
        return whole.hexdigest()[:12]

    def run(shared: tuple[Versions, str, Any], item: Any) -> tuple[str, Any]:
        if not task:
            import os
            from contextlib import suppress

            import ray

            expected, folder, shipped = shared
            found = versions()
            if found != expected:
                return "differs", found
            with suppress(OSError):  # a machine may lack the folder, which only matters to a task that reads files
                os.chdir(folder)
            task.append(ray.get(shipped))
        try:
            return "answer", task[0](item)
        except Exception as fault:
            return "raised", fault

    return versions, run


def _differences(there: Versions, here: Versions) -> str:
    found = [
        f"{name} {there[name]}, here {here[name]}" if there[name] else f"no {name}, here {here[name]}"
        for name in here
        if there[name] != here[name]
    ]
    return f"a worker has {'; '.join(found)}: install the same on every machine"


def _one_line(fault: Exception) -> str:
    text = str(fault).strip()
    if "Traceback" in text:  # of a server, whose last line says what is wrong
        text = text.splitlines()[-1]
    return " ".join(text.split()).rstrip(".") or type(fault).__name__
