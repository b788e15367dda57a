"""The best plan of each serving mode, for a workload and over the ratio of prompt to output."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servesat.core.errors import SpecError
from servesat.core.plan import Mode
from servesat.core.result import Result
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.spec.searched import WHOLE_REQUEST
from servesat.spec.spec import Spec

RATIOS = tuple(2.0 ** (half / 2) for half in range(-8, 17))
"""Ratios of prompt to output tokens at which `crossover` solves: 1/16 to 256."""


@dataclass(frozen=True)
class Crossing:
    """The best plan of each mode at a ratio of prompt to output."""

    prompt_tokens: int
    output_tokens: int
    results: Mapping[Mode, Result]


def compare_modes(spec: Spec | Mapping[str, Any] | str | Path, settings: Settings | None = None) -> dict[Mode, Result]:
    """Solve a spec in each serving mode alone, regardless of search.modes; under percentiles by replays, as any spec.

    Disaggregated plans are left out where no chip has a known network, and with a cache in the memory of hosts. Raises
    SpecError for a spec without prompts.
    """
    spec = Spec.load(spec)
    if spec.workload.prompt_tokens is None:
        raise SpecError("workload: modes differ in how they serve prompts; give prompt_tokens and output_tokens")
    has_pools = spec.workload.host_cache is None and spec.has_network
    modes = [mode for mode in WHOLE_REQUEST if has_pools or mode is not Mode.DISAGGREGATED]
    return {mode: solve(spec.changed({"search.modes": [mode]}), settings) for mode in modes}


def crossover(
    spec: Spec | Mapping[str, Any] | str | Path, ratios: Sequence[float] = RATIOS, settings: Settings | None = None
) -> list[Crossing]:
    """Compare the modes over the ratio of prompt to output, by means, at a constant number of tokens per request.

    Raises SpecError for a spec without prompts.
    """
    spec = Spec.load(spec).in_means()
    total = (spec.workload.prompt_tokens or 0) + (spec.workload.output_tokens or 0)
    crossings = []
    for ratio in ratios:
        output = max(1, round(total / (1 + ratio)))
        split = {"workload.prompt_tokens": max(1, total - output), "workload.output_tokens": output}
        results = compare_modes(spec.changed(split), settings)
        crossings.append(Crossing(split["workload.prompt_tokens"], output, results))
    return crossings
