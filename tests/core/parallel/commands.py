"""Every command that shares its work out, on something small, and all that it writes."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import pi, sin
from pathlib import Path
from typing import Any

from tests.helpers import ROOT

EXAMPLE = str(ROOT / "examples" / "llama-3-70b-on-v5e.yaml")
GRID = ("whatif", EXAMPLE, "--vary", "slo.tpot_ms=7:26.9:0.1", "--vary", "search.weights=int8,int4")
STARTER = "from servesat.cli import app; app()"
REQUESTS = {"prompt_tokens": 500, "output_tokens": 100, "requests_per_s": 5}


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a process of its own, which ends here at the latest."""
    process = subprocess.Popen(
        [sys.executable, "-c", STARTER, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ran(*arguments: str) -> str:
    """What a command prints on standard output."""
    with running(*arguments) as process:
        printed, told = process.communicate()
    assert process.returncode == 0, told
    return printed


def written(folder: Path, command: tuple[str, ...], *options: str) -> list[bytes]:
    """The tables that a command writes, and its JSON without the time it took."""
    folder.mkdir()
    name, spec, *rest = command
    files = [folder / f"out.{ending}" for ending in TABLES[name]]
    printed = ran(name, spec, *rest, *options, "--json", *[word for file in files for word in ("--out", str(file))])
    return [_without_time(text) for text in (*(file.read_bytes() for file in files), printed.encode())]


def _without_time(text: bytes) -> bytes:
    return re.sub(rb'("solve_s":\s*)[0-9.e+-]+', rb"\1", text)


TABLES = {
    "whatif": ("csv", "parquet", "json"),
    "batch": ("csv", "parquet", "json"),
    "frontier": ("csv", "parquet", "json"),
    "portfolio": (),
    "replay": (),
    "fleet": ("csv", "parquet"),
}


def grid(_: Path) -> tuple[str, ...]:
    """400 scenarios."""
    return GRID


def batch(folder: Path) -> tuple[str, ...]:
    """A dozen specs, a portfolio and a fleet."""
    specs = specs_in(folder / "specs", 12)
    _write(folder / "specs" / "portfolio.yaml", _portfolio(2))
    _write(folder / "specs" / "fleet.yaml", _fleet(1, 2))
    return ("batch", specs)


def frontier(folder: Path) -> tuple[str, ...]:
    """More than 500 plans, slice by slice."""
    spec = {
        "cost_model": "ideal",
        "model": "llama-3-70b",
        "workload": {"prompt_tokens": 2000, "output_tokens": 300},
        "slo": {"tpot_ms": 60},
        "search": {"chips": ["h100-sxm", "h200", "tpu-v6e"]},
    }
    return ("frontier", _write(folder / "spec.yaml", spec), "--by", "topology")


def portfolio(folder: Path) -> tuple[str, ...]:
    """Three deployments on one chip."""
    return ("portfolio", _write(folder / "portfolio.yaml", _portfolio(3)))


def replay(folder: Path) -> tuple[str, ...]:
    """Eight seeds."""
    spec = {
        "cost_model": "ideal",
        "model": "llama-3-8b",
        "slo": {"percentile": 0.95, "ttft_ms": 500},
        "workload": REQUESTS,
        "search": {"chips": ["h100-sxm"]},
    }
    return ("replay", _write(folder / "spec.yaml", spec), "--requests", "200")


def fleet(folder: Path) -> tuple[str, ...]:
    """16 workloads over a day, decomposed."""
    return ("fleet", _write(folder / "fleet.yaml", _fleet(16, 12)))


COMMANDS: tuple[Callable[[Path], tuple[str, ...]], ...] = (grid, batch, frontier, portfolio, replay, fleet)


def specs_in(folder: Path, count: int) -> str:
    """A folder of specs."""
    folder.mkdir()
    spec = {"cost_model": "ideal", "model": "llama-3-8b", "workload": {"context_tokens": 4096}}
    for number in range(count):
        _write(folder / f"{number:03}.yaml", {**spec, "slo": {"tpot_ms": 10 + number}})
    return str(folder)


def _write(path: Path, spec: dict[str, Any]) -> str:
    path.write_text(json.dumps(spec))
    return str(path)


def _portfolio(deployments: int) -> dict[str, Any]:
    models = ("llama-3-70b", "gemma-2-27b", "llama-3-8b")
    chips = {"chips": ["h100-sxm", "tpu-v6e", "l40s"]}
    one = {"cost_model": "ideal", "workload": REQUESTS, "slo": {"tpot_ms": 50}, "search": chips}
    return {"deployments": {f"d{n}": {**one, "model": models[n]} for n in range(deployments)}, "shared": ["chip"]}


def _fleet(workloads: int, periods: int) -> dict[str, Any]:
    usd = {"tpu-v5e": 1.2, "tpu-v6e": 2.7, "h100-sxm": 3.0}
    purchases = {"on_demand": 1.0, "spot": 0.45, "reserved": 0.67}
    models = ("llama-3-8b", "qwen3-32b", "gemma-2-27b")
    limits = {"cost_model": "ideal", "slo": {"tpot_ms": 40}, "headroom": 0.2}
    return {
        "periods_h": [24 / periods] * periods,
        "regions": {
            name: {
                "purchases": list(ways),
                "quota": dict.fromkeys(usd, 96),
                "price": {chip: {how: usd[chip] * level * ways[how] for how in ways} for chip in usd},
            }
            for name, level, ways in (
                ("near", 1.0, purchases),
                ("far", 1.1, {how: purchases[how] for how in ("on_demand", "spot")}),
            )
        },
        "workloads": {
            f"w{n}": {
                "deployment": {
                    **limits, "model": models[n % 3], "workload": {"prompt_tokens": 800 + 50 * n, "output_tokens": 200}
                },
                "demand": [round((3 + n % 7) * (1.3 + sin(2 * pi * t / periods)), 2) for t in range(periods)],
                "max_spot_share": 0.5,
            }
            for n in range(workloads)
        },
    }  # fmt: skip
