"""Parsers of the engines' command lines, built from the snapshots that benchmarks/engine_flags.py writes."""

import argparse
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

ENGINES = Path(__file__).parent / "published" / "engines"

_FILES = {"vllm": "vllm-0.32.json", "sglang": "sglang-0.5.23.json", "trtllm": "trtllm.json"}
_TYPES: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "text": str, "json": json.loads}
_WITH_MODEL = {"vllm", "trtllm"}  # `vllm serve MODEL` and `trtllm-serve MODEL`; SGLang takes --model-path


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises what is wrong instead of ending the process."""

    def error(self, message: str) -> Any:
        raise ValueError(message)


@functools.cache
def snapshot_of(engine: str) -> dict[str, Any]:
    """The snapshot of an engine: its version, its flags and, for TensorRT-LLM, the keys of its file."""
    snapshot: dict[str, Any] = json.loads((ENGINES / _FILES[engine]).read_text(encoding="utf-8"))
    return snapshot


def parser_of(engine: str) -> argparse.ArgumentParser:
    """A parser that takes the engine's own flags by their exact names, with their types and choices."""
    parser = Parser(prog=engine, allow_abbrev=False, add_help=False)
    if engine in _WITH_MODEL:
        parser.add_argument("model")
    for flag in snapshot_of(engine)["flags"]:
        _add(parser, flag)
    return parser


def _add(parser: argparse.ArgumentParser, flag: dict[str, Any]) -> None:
    """Adds one flag of a snapshot; a boolean flag may have names that say no."""
    names = flag["names"]
    dest = _dest(flag)
    if flag["kind"] != "flag":
        kind, choices = _TYPES[flag["kind"]], flag["choices"]
        parser.add_argument(*names, dest=dest, type=kind, choices=choices, nargs=flag["nargs"])
        return
    denied = [name for name in names if f"--{name.removeprefix('--no-')}" in names and name.startswith("--no-")]
    parser.add_argument(*(name for name in names if name not in denied), dest=dest, action="store_true", default=None)
    if denied:
        parser.add_argument(*denied, dest=dest, action="store_false", default=None)


def _dest(flag: dict[str, Any]) -> str:
    """The attribute of the parsed namespace: the first long name, as argparse would; `--model` is also a position."""
    name = next((name for name in flag["names"] if name.startswith("--")), flag["names"][0])
    dest: str = name.lstrip("-").replace("-", "_")
    return "model_option" if dest == "model" else dest
