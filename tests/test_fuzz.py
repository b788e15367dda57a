"""Whatever stands in a file or on the command line, a command ends in an answer or in an error."""

import copy
import json
import resource
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from servesat.cli import app
from tests.helpers import ROOT
from tests.strategies import examples

ENDS = {0, 1, 2, 3, 4, 130}
MAX_MEMORY_KB = 2_000_000

DEPLOYMENTS = [
    yaml.safe_load((ROOT / "examples" / name).read_text())
    for name in ("llama-3-70b-chat.yaml", "llama-3-405b-under-15ms.yaml", "llama-3.1-70b-within-one-percent.yaml")
]
FLEETS = [
    yaml.safe_load((ROOT / "examples" / name).read_text()) for name in ("fleet-starter.yaml", "fleet-by-size.yaml")
]
CHIP = tomllib.loads((ROOT / "hardware" / "chips" / "tpu-v5e.toml").read_text())
MODEL = tomllib.loads((ROOT / "models" / "llama-3-8b.toml").read_text())

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.sampled_from([0, 1, -1, 2, 10**6, 10**12, 10**400, 1e-300, 1e300, 0.5, -0.0]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["", "\x1b[2J", "=1+1", "a" * 300, "../" * 50, "/dev/zero", "1x1", "0x0", "4x4x4x4x4x4x4", "bf16", "é\u202e"]
    ),
    st.lists(st.integers(-3, 10**6), max_size=6),
    st.just({}),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)


def paths(document: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every entry of nested mappings and lists."""
    if isinstance(document, dict):
        return [prefix, *(path for key, value in document.items() for path in paths(value, (*prefix, key)))]
    if isinstance(document, list):
        return [prefix, *(path for at, value in enumerate(document) for path in paths(value, (*prefix, at)))]
    return [prefix]


@st.composite
def damaged(draw: Any, documents: list[Any]) -> Any:
    """A document with one to three of its entries replaced, removed, added or repeated."""
    document = copy.deepcopy(draw(st.sampled_from(documents)))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(paths(document)))
        if not path:
            document = draw(st.one_of(st.just(document), JUNK))
            continue
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        change = draw(st.sampled_from(["replace", "remove", "add"]))
        if change == "remove":
            del parent[path[-1]]
        elif change == "add" and isinstance(parent, dict):
            parent[draw(st.text(max_size=8))] = draw(JUNK)
        else:
            parent[path[-1]] = draw(JUNK)
        if not isinstance(document, dict | list):
            break
    return document


def text_of(draw: Any, document: Any) -> bytes:
    """The document as YAML, now and then with some of its bytes changed."""
    text = yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0 and text:
        at = draw(st.integers(0, len(text) - 1))
        text = text[:at] + draw(st.binary(max_size=4)) + text[at + draw(st.integers(0, 4)) :]
    return text


@st.composite
def commands(draw: Any) -> tuple[list[str], bytes]:
    """Arguments of a command on the file FILE, and what is in the file."""
    kind = draw(st.sampled_from(["deployment", "deployment", "fleet", "chip", "model"]))
    as_json = draw(st.sampled_from([[], ["--json"]]))
    if kind == "deployment":
        arguments = draw(
            st.sampled_from(
                [
                    ["solve", "FILE"], ["solve", "FILE", "--top", "2"], ["solve", "FILE", "--explain"],
                    ["why", "FILE", "--chip", "h100-sxm"], ["why", "FILE", "--topology", "4x4"], ["modes", "FILE"],
                    ["frontier", "FILE", "--set", "search.max_batch=64"], ["batch", "FILE"],
                    ["whatif", "FILE", "--noise", "10%", "--samples", "3"],
                ]
            )
        )  # fmt: skip
        key = draw(
            st.sampled_from(["slo.tpot_ms", "headroom", "search.weights", "price.tpu-v5e", "chip.tpu-v5e.x", "a.b"])
        )
        value = draw(st.one_of(st.text(max_size=12), st.integers(-5, 10**9).map(str), st.floats().map(str)))
        extra = draw(st.sampled_from([[], [], ["--set", f"{key}={value}"]]))
        if draw(st.integers(0, 4)) == 0:
            arguments, extra = ["whatif", "FILE", "--vary", f"{key}={value}"], []
        return [*arguments, *extra, *as_json], text_of(draw, draw(damaged(DEPLOYMENTS)))
    if kind == "fleet":
        options = draw(st.sampled_from([[], ["--degrade"], ["--earlier", "FILE"]]))
        return ["fleet", "FILE", "--time-limit", "1", *options, *as_json], text_of(draw, draw(damaged(FLEETS)))
    shelf, documents = ("chips", [CHIP]) if kind == "chip" else ("models", [MODEL])
    inline = (
        {"search": {"chips": [draw(damaged(documents))]}} if kind == "chip" else {"model": draw(damaged(documents))}
    )
    spec = {**DEPLOYMENTS[1], **inline}
    arguments = draw(st.sampled_from([["solve", "FILE"], [shelf, "FILE"], ["verify", "FILE"], ["prices", "FILE"]]))
    return [*arguments, *(as_json if arguments[0] != "prices" else [])], text_of(draw, spec)


@pytest.mark.slow
@examples(120)
@given(commands())
def test_every_command_ends_in_an_answer_or_an_error(tmp_path: Path, command: tuple[list[str], bytes]) -> None:
    arguments, text = command
    file = tmp_path / "file.yaml"
    file.write_bytes(text)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # what other tests of the process have taken
    result = CliRunner().invoke(app, [str(file) if word == "FILE" else word for word in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in ENDS
    assert "Traceback" not in result.output
    assert result.exit_code == 0 or result.stderr or result.stdout
    assert "\x1b" not in result.stderr
    if "--json" in arguments and result.exit_code in {0, 3, 4} and result.stdout:
        json.loads(result.stdout)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < max(MAX_MEMORY_KB, before_kb + 1)
