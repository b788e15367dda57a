"""Launches to test, and the words of command lines as the engines' own parsers read them."""

import argparse
import shlex
from functools import cache
from typing import Any

from servesat import Spec
from servesat.deployment.solve import solve
from servesat.launch.flags import address_flags, arguments, flags_of, program
from servesat.launch.servers import Launch, Server, launch_of
from tests.engine_flags import parser_of
from tests.helpers import ROOT

CHAT: dict[str, Any] = {
    "cost_model": "ideal",
    "model": "qwen3-32b",
    "workload": {"prompt_tokens": 2000, "output_tokens": 500},
    "slo": {"tpot_ms": 50},
    "engine": "vllm",
    "search": {"chips": ["h100-sxm"], "topologies": {"h100-sxm": ["2x1"]}},
}
SPLIT: dict[str, Any] = {
    **CHAT,
    "workload": {**CHAT["workload"], "requests_per_s": 10},
    "search": {**CHAT["search"], "modes": ["disaggregated"]},
}
WIDE: dict[str, Any] = {  # over two nodes of eight
    **CHAT,
    "model": "llama-3-405b",
    "search": {"chips": ["h100-sxm"], "topologies": {"h100-sxm": ["8x2"]}, "weights": ["bf16"]},
    "constraints": ["tp == 16"],
    "ici": "pay",
}
SPREAD: dict[str, Any] = {  # experts over two nodes of eight
    **CHAT,
    "model": "deepseek-v3",
    "search": {"chips": ["h200"], "topologies": {"h200": ["8x2"]}},
    "constraints": ["ep == 16"],
    "ici": "pay",
}


def launch(spec: dict[str, Any] | Spec, **keys: Any) -> Launch:
    spec = Spec.load(spec)
    plan = solve(spec).plan
    assert plan is not None
    return launch_of(spec, plan, **keys)


@cache
def example(name: str) -> Launch:
    spec = Spec.load(ROOT / "examples" / f"{name}.yaml")
    plan = solve(spec).plan
    assert plan is not None
    return launch_of(spec, plan, proof="no plan of the spec costs less")


_WORDS = {"vllm": 2, "vllm-tpu": 2, "sglang": 3, "trtllm": 1}
"""Words of each program before its arguments."""


def read(words: list[str], engine: str) -> argparse.Namespace:
    """The arguments of a command line, read as the engine does. Raises ValueError where it would not take them."""
    return parser_of("vllm" if engine == "vllm-tpu" else engine).parse_args(words[_WORDS[engine] :])


def flags(server: Server) -> argparse.Namespace:
    """The flags of a server on one node, read back."""
    words = [*program(server), *arguments([*flags_of(server), *address_flags()])]
    return read(words, server.engine.program)


def commands(script: str) -> list[list[str]]:
    """The command lines of a shell script that start something, as words; variables as they stand."""
    joined = script.replace("\\\n", " ")
    return [shlex.split(line.removeprefix("exec ")) for line in joined.splitlines() if line.startswith("exec ")]
