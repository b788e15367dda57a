"""Commands that share their work out over processes write what one process writes.

Of `whatif` and `batch` tests/cli/test_whatif.py and tests/runs/test_batch.py have the same; of a frontier and a
decomposed fleet, which take longer, the tests of a cluster.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.core.parallel.commands import portfolio, replay, written


@pytest.mark.slow
@pytest.mark.parametrize("command", [portfolio, replay])
def test_two_processes_write_what_one_writes(command: Callable[[Path], tuple[str, ...]], tmp_path: Path) -> None:
    asked = command(tmp_path)
    assert written(tmp_path / "two", asked, "--workers", "2") == written(tmp_path / "one", asked, "--workers", "1")
