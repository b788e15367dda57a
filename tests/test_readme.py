"""The README is short and true: its example, its outputs and its set-up commands."""

import re
from pathlib import Path

import pytest
import yaml

from tests.helpers import ROOT
from tests.pages import is_shown, outputs

README = (ROOT / "README.md").read_text()
EXAMPLE = ROOT / "examples" / "qwen3-32b-chat.yaml"


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 90


def test_the_spec_shown_is_the_example() -> None:
    shown = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert shown is not None
    assert yaml.safe_load(shown[1]) == yaml.safe_load(EXAMPLE.read_text())


@pytest.mark.slow
def test_the_output_shown_is_the_real_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = list(outputs(README, tmp_path))
    assert [each.command.split()[1] for each in found] == ["solve", "launch"]
    assert [each.printed for each in found if not is_shown(each.shown, each.printed)] == []


def test_there_are_two_set_up_commands() -> None:
    commands = re.findall(r"```sh\n(.*?)\n```", README, re.DOTALL)
    assert len(commands) == 2
    assert all("\n" not in command for command in commands)
    assert commands[0].endswith("examples/qwen3-32b-chat.yaml")
    assert commands[1].endswith(".venv/bin/pytest -n auto")
