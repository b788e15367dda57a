"""The README is true: its example, its output, and its set-up commands."""

import re

import pytest
import yaml
from typer.testing import CliRunner

from servesat.cli import app
from servesat.fleet.spec import FleetSpec, FleetWorkload, PodsGiven, Region
from servesat.spec.search_space import Search
from servesat.spec.spec import Spec
from servesat.spec.workload import Slo, Workload
from tests.helpers import ROOT

README = (ROOT / "README.md").read_text()
FLEETS = (ROOT / "docs" / "fleets.md").read_text()
EXAMPLE = ROOT / "examples" / "qwen3-32b-chat.yaml"


def test_the_spec_shown_is_the_example() -> None:
    shown = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert shown is not None
    assert yaml.safe_load(shown[1]) == yaml.safe_load(EXAMPLE.read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("command", "output"), re.findall(r"```\n\$ servesat (.*?)\n(.*?)```", README, re.DOTALL))
def test_the_output_shown_is_the_real_one(command: str, output: str) -> None:
    printed = CliRunner().invoke(app, command.replace("examples/", f"{ROOT}/examples/").split()).stdout
    assert without_times(output) == without_times(printed)


def without_times(text: str) -> list[str]:
    return [re.sub(r" \(\d+\.\d+ s\)$", "", line.rstrip()) for line in text.rstrip().splitlines()]


def test_there_are_two_set_up_commands() -> None:
    commands = re.findall(r"```sh\n(.*?)\n```", README, re.DOTALL)
    assert len(commands) == 2
    assert all("\n" not in command for command in commands)
    assert commands[0].endswith("examples/qwen3-32b-chat.yaml")
    assert commands[1].endswith(".venv/bin/pytest -n auto")


def test_the_python_shown_runs(capsys) -> None:
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    assert len([line for line in code[1].splitlines() if line]) <= 5
    exec(code[1].replace("examples/", f"{ROOT / 'examples'}/"), {})
    assert capsys.readouterr().out.startswith("optimal 8x8 88\n2.7301")


def test_every_example_is_listed_with_its_answer() -> None:
    for path in (ROOT / "examples").glob("*.yaml"):
        row = next(line for line in README.splitlines() if line.startswith(f"| [{path.stem}]"))
        cost = re.search(r"^# Answer: .*\$([\d.,]+) (?:per|for)", path.read_text(), re.MULTILINE)
        assert f"${cost[1]}" in row if cost else "infeasible" in row


def test_every_key_of_a_spec_is_described() -> None:
    keys = {
        f"{name}.{key}"
        for name, part in {"workload": Workload, "slo": Slo, "search": Search}.items()
        for key in part.model_fields
    }
    keys |= set(Spec.model_fields) - {"workload", "slo", "search"}
    assert {key for key in keys if f"`{key}`" not in README} == set()


def test_every_key_of_a_fleet_is_described() -> None:
    keys = {*FleetSpec.model_fields, *FleetWorkload.model_fields, *Region.model_fields, *PodsGiven.model_fields}
    assert {key for key in keys if f"`{key}`" not in FLEETS} == set()
