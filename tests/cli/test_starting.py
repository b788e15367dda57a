from pathlib import Path

import pytest
from typer.testing import CliRunner

from servesat import Spec
from servesat.cli import app
from tests.cli.commands import run
from tests.helpers import ROOT


def answered(lines: str, *arguments: str):
    return CliRunner().invoke(app, ["init", *arguments], input=lines)


@pytest.mark.soak
def test_what_is_written_without_questions_solves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("init", "--yes")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "wrote spec.yaml; next: servesat solve spec.yaml\n"
    assert run("solve", "spec.yaml").exit_code == 0


@pytest.mark.parametrize(
    "options",
    [
        ("--rate", "none"),
        ("--rate", "none", "--limits", "none", "--model", "llama-3.1-8b"),
        ("--rate", "none", "--limits", "none,25", "--cloud", "aws,gcp", "--tokens", "100 1000"),
    ],
)
def test_what_is_written_from_options_solves(options: tuple[str, ...], tmp_path: Path) -> None:
    path = str(tmp_path / "mine.yaml")
    assert run("init", path, "--yes", *options).exit_code == 0
    assert run("solve", path).exit_code == 0


def test_five_questions_are_asked_and_a_wrong_answer_again(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    done = answered("qwen3-33b\nllama-3.1-8b\n5\n100, 50\n-3\n2.5\nnone,20\nawz\naws gcp\n", str(path))
    assert done.exit_code == 0
    questions = [line for line in done.stderr.split("\n") if "]: " in line]
    assert "".join(questions).count("]: ") == 9
    for complaint in (
        "no model 'qwen3-33b' in the catalogue; did you mean 'qwen3-32b'",
        "expected two whole numbers, of the prompt and of the answer, as 2000,300",
        "-3: expected a number greater than 0, or none",
        "awz: no such cloud; did you mean 'aws'",
    ):
        assert complaint in done.stderr
    spec = Spec.load(path)
    assert (spec.model.id, spec.workload.prompt_tokens, spec.workload.output_tokens) == ("llama-3.1-8b", 100, 50)
    assert (spec.workload.requests_per_s, spec.slo.ttft_ms, spec.slo.tpot_ms) == (2.5, None, 20)
    assert spec.cloud == ("aws", "gcp")


def test_an_empty_answer_is_the_default_and_options_are_not_asked(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    done = answered("\n\n\n", str(path), "--rate", "none", "--cloud", "any")
    assert done.stderr.count("]: ") == 3
    assert Spec.load(path).model.id == "qwen3-32b"


def test_a_path_of_a_model_is_seen_from_the_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").mkdir()
    (tmp_path / "mine.toml").write_text((ROOT / "models" / "llama-3-8b.toml").read_text())
    assert run("init", "specs/spec.yaml", "--yes", "--model", "mine.toml").exit_code == 0
    assert "\nmodel: ../mine.toml  #" in (tmp_path / "specs" / "spec.yaml").read_text()
    assert Spec.load(tmp_path / "specs" / "spec.yaml").model.id == "mine"


def test_a_file_is_written_over_with_force_alone(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("mine")
    done = run("init", str(path), "--yes")
    assert (done.exit_code, path.read_text()) == (1, "mine")
    assert done.stderr == f"error: {path}: is there already; --force writes over it\n"
    assert run("init", str(path), "--yes", "--force").exit_code == 0
    assert Spec.load(path).model.id == "qwen3-32b"


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("spec.txt",), 1, "spec.txt: a spec ends in .yaml"),
        (("no/such/spec.yaml",), 1, "no/such/spec.yaml: cannot be written: No such file or directory"),
        (("spec.yaml", "--tokens", "5"), 2, "--tokens 5: expected two whole numbers"),
        (("spec.yaml", "--tokens", "0,5"), 2, "--tokens 0,5: expected two whole numbers"),
        (("spec.yaml", "--tokens", "2000000000,1"), 1, "workload.prompt_tokens = 2000000000: expected at most"),
        (("spec.yaml", "--limits", "5"), 2, "--limits 5: expected two limits"),
        (("spec.yaml", "--limits", "5,x"), 2, "--limits 5,x: x: expected a number greater than 0, or none"),
        (("spec.yaml", "--rate", "nan"), 2, "--rate nan: nan: expected a number greater than 0"),
        (("spec.yaml", "--rate", "inf"), 2, "--rate inf: inf: expected a number greater than 0"),
        (("spec.yaml", "--model", "none.toml"), 2, "--model none.toml: none.toml: no such file"),
        (("spec.yaml", "--cloud", ""), 2, "--cloud : expected names of clouds, as aws,gcp, or any"),
    ],
)
def test_a_mistake_writes_nothing(
    arguments: tuple[str, ...], code: int, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("init", *arguments, "--yes")
    assert done.exit_code == code
    assert complaint in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_questions_without_an_answer_are_an_error(tmp_path: Path) -> None:
    done = answered("", str(tmp_path / "spec.yaml"))
    assert done.exit_code == 1
    assert "error: standard input ended before every question had an answer; --yes asks none" in done.stderr
