"""Every command that shares its work out over processes writes what one process writes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.core.parallel.commands import COMMANDS, written


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_two_processes_write_what_one_writes(command: Callable[[Path], tuple[str, ...]], tmp_path: Path) -> None:
    asked = command(tmp_path)
    assert written(tmp_path / "two", asked, "--workers", "2") == written(tmp_path / "one", asked, "--workers", "1")
