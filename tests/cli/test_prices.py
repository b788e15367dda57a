import json
import os
from pathlib import Path

import pytest

from servesat.catalogue.load import load_price_book
from tests.cli.commands import run

LIST = """instance,chip,chips,usd_per_instance_hour,cloud,region
box,h100-sxm,8,20,mine,eu
box,h100-sxm,8,22,mine,us
,tpu-v5e,8,9.6,mine,eu
,tpu-v5e,8,0,mine,us
"""


def prices_csv(folder: Path, text: str = LIST, name: str = "prices.csv") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_a_price_list_is_imported_as_a_book(tmp_path: Path) -> None:
    source, out = prices_csv(tmp_path), tmp_path / "mine.toml"
    result = run("prices", "import", source, "--out", str(out), "--checked", "2026-10-01")
    assert result.exit_code == 0
    assert result.stdout == f"wrote 2 offers of 1 instance, and of tpu-v5e by the chip, at 3 prices to {out}\n"
    assert result.stderr == "note: left out 1 price (zero): tpu-v5e (1)\n"
    assert str(load_price_book(str(out)).checked) == "2026-10-01"
    rows = json.loads(run("prices", str(out), "--chip", "h100-sxm", "--json").stdout)["prices"]
    assert [row["usd_per_chip_hour"] for row in rows] == [2.5, 2.75]
    printed = run("prices", "import", source, "--checked", "2026-10-01")
    assert printed.stdout == out.read_text()


@pytest.mark.parametrize("before", [[], ["--json", "--cloud", "mine"]])
def test_the_facts_of_an_import_are_one_document(tmp_path: Path, before: list[str]) -> None:
    text = "instance,chip,chips,usd_per_instance_hour\nbox,h100-sxm,8,20\nbox,l4,0,1\n,,,\n"
    after = [] if before else ["--json", "--cloud", "mine"]
    result = run("prices", *before, "import", prices_csv(tmp_path, text), "--checked", "2026-10-01", *after)
    assert json.loads(result.stdout) == {
        "file": None, "name": "mine offers from prices.csv", "checked": "2026-10-01", "format": "own",
        "offers": 1, "instances": 1, "prices": 1, "chips": ["h100-sxm"],
        "left_out": [
            {"what": "row", "why": "no accelerator", "name": None, "count": 1},
            {
                "what": "row", "why": "the number of accelerators is not a whole number of at least 1",
                "name": "l4", "count": 1,
            },
        ],
    }  # fmt: skip


def test_names_cannot_drive_the_terminal(tmp_path: Path) -> None:
    header = "instance_name,location,price,gpu_count,gpu_name,spot\n"
    rows = 'a3-highgpu-8g,r,9,8,H100,False\n"\x1b[2J\x9b1m",r,9,1,L4,False\nx,r,9,1,"K80\x1b[31m",False\n'
    result = run("prices", "import", prices_csv(tmp_path, header + rows, "my\x1b]0;cloud.csv"))
    assert result.exit_code == 0
    assert not {"\x1b", "\x9b"} & {*result.stdout, *result.stderr}
    assert r"K80\x1b[31m (1)" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["/dev/zero"], 1, "error: /dev/zero: is a pipe or a device, expected a file"),
        (["PIPE"], 1, "is a pipe or a device, expected a file"),
        (["FOLDER"], 1, "is a folder, expected a file"),
        (["none.csv"], 1, "error: none.csv: no such file"),
        (["LIST", "--out", "mine.csv"], 2, "--out mine.csv: a price book ends in .toml"),
        (["LIST", "--checked", "soon"], 2, "--checked"),
        (["BAD"], 1, "line 2: usd_per_instance_hour = 'much': expected a number"),
        (["LATIN"], 1, "cannot be read: is not UTF-8 text"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_printed(
    tmp_path: Path, arguments: list[str], code: int, complaint: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin.csv").write_bytes(b"instance,chip,chips,usd_per_instance_hour\nZ\xfcrich,h100-sxm,8,20\n")
    named = {
        "PIPE": str(tmp_path / "pipe"), "FOLDER": str(tmp_path), "LATIN": str(tmp_path / "latin.csv"),
        "LIST": prices_csv(tmp_path), "BAD": prices_csv(tmp_path, LIST.replace("20", "much"), "bad.csv"),
    }  # fmt: skip
    result = run("prices", "import", *(named.get(word, word) for word in arguments))
    assert result.exit_code == code
    assert complaint in result.stderr
    assert result.stdout == ""


def test_options_stand_before_a_book_or_after_it(tmp_path: Path) -> None:
    book = ["aws-2026-11", "--chip", "h100-sxm", "--region", "us-east-1", "--purchase", "spot", "--wide", "--json"]
    after, before = run("prices", *book), run("prices", *book[1:], book[0])
    assert json.loads(after.stdout)
    assert before.stdout == after.stdout
    assert run("prices", "--wide", "aws-2026-11").stdout == run("prices", "aws-2026-11", "--wide").stdout
    assert {row["cloud"] for row in json.loads(run("prices", "--cloud", "verda", "--json").stdout)["prices"]} == {
        "verda"
    }
    assert "no price for h100-sxm, nowhere" in run("prices", "--chip", "h100-sxm", "--cloud", "nowhere").stderr
    refused = run("prices", "--chip", "l4", "import", prices_csv(tmp_path))
    assert (refused.exit_code, "--chip: a list is imported whole" in refused.stderr) == (2, True)
