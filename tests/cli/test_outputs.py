"""The `--out` of every command: several files, of the kinds that it can write."""

from pathlib import Path

import pytest

from tests.cli.commands import CHAT, EXAMPLE, run
from tests.helpers import ROOT

FLEET = str(ROOT / "examples" / "fleet-starter.yaml")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["modes", CHAT, "--set", "search.chips=[tpu-v6e]"], ["modes.html", "modes.svg"]),
        (["fleet", FLEET], ["fleet.csv", "fleet.html"]),
        (["batch", EXAMPLE], ["batch.csv", "batch.json"]),
        (["chips", "rank", "llama-3-8b"], ["rank.html", "rank.png"]),
        (["figure", "breakdown"], ["figure.html", "figure.svg"]),
        (["frontier", EXAMPLE], ["frontier.csv", "frontier.png"]),
    ],
)
def test_every_file_is_written(arguments: list[str], names: list[str], tmp_path: Path) -> None:
    files = [tmp_path / name for name in names]
    outs = [word for file in files for word in ("--out", str(file))]
    result = run(*arguments, *outs)
    assert result.exit_code == 0
    assert [line for line in result.stderr.splitlines() if line.startswith("wrote ")] == [f"wrote {f}" for f in files]
    assert all(file.stat().st_size > 100 for file in files)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["modes", CHAT, "--out", "x.csv"], "expected a file that ends in .html, .png, .svg, .pdf"),
        (["fleet", FLEET, "--out", "x.png"], "expected a file that ends in .csv, .parquet, .html"),
        (["batch", CHAT, "--out", "x.html"], "expected a file that ends in .csv, .parquet, .json"),
        (["chips", "rank", "llama-3-8b", "--out", "x.svg", "--out", "x.svg"], "x.svg: is given twice"),
        (["figure", "pareto", "--out", "none/x.svg"], "there is no folder none"),
    ],
)
def test_a_file_of_another_kind_is_a_usage_error(arguments: list[str], complaint: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, complaint in " ".join(result.stderr.split())) == (2, True)
