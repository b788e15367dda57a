"""How long the product takes: the command line cold, and solving in-process. Compare ratios within one run.

python benchmarks/solve.py --runs 10
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from servesat import Spec
from servesat.candidates.evaluation import evaluate
from servesat.candidates.serving_modes import enumerate_layouts
from servesat.deployment.formulation.instance import round_columns
from servesat.deployment.formulation.solver import solve as solve_instance
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.questions.explain import answer

EXAMPLE = Path(__file__).parents[1] / "examples" / "llama-3-405b-under-15ms.yaml"
EVERY_DTYPE = ["bf16", "int8", "fp8", "int4", "mxfp4", "nvfp4"]
WHOLE_CATALOGUE = {
    "cost_model": "ideal",
    "model": "llama-3-70b",
    "workload": {"context_tokens": 8192},
    "slo": {"tpot_ms": 50},
    "search": {"weights": EVERY_DTYPE, "kv_cache": EVERY_DTYPE[:4], "compute": EVERY_DTYPE},
    "price": {"l4": 0.8},
}


def milliseconds(action: Callable[[], object], runs: int) -> dict[str, float]:
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        action()
        taken.append((time.perf_counter() - start) * 1e3)
    return {"median_ms": round(statistics.median(taken), 1), "min_ms": round(min(taken), 1)}


def cold(*arguments: str) -> Callable[[], object]:
    servesat = str(Path(sys.executable).with_name("servesat"))
    return lambda: subprocess.run([servesat, *arguments], check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs

    figures: dict[str, object] = {
        "servesat --help, cold": milliseconds(cold("--help"), runs),
        "servesat solve example, cold": milliseconds(cold("solve", str(EXAMPLE)), runs),
    }
    figures["peak memory of a cold command, MB"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3

    example, whole = Spec.load(EXAMPLE), Spec.load(WHOLE_CATALOGUE)
    requests = Spec.load(WHOLE_CATALOGUE | {"workload": {"prompt_tokens": 8192, "output_tokens": 512}})
    default = requests.changed(
        {"search.weights": ["bf16", "int8"], "search.kv_cache": ["bf16", "int8"], "search.compute": ["bf16"]}
    )
    infeasible = whole.changed({"slo.tpot_ms": 0.1, "search.max_chips": 4})
    experts, expert_requests = (spec.changed({"model": "deepseek-v3"}) for spec in (whole, requests))
    columns = evaluate(whole, enumerate_layouts(whole, undominated=True))
    instance = round_columns(columns)
    figures |= {
        "example, in-process": milliseconds(lambda: solve(example), runs),
        "whole catalogue, every dtype, in-process": milliseconds(lambda: solve(whole), runs),
        "  of it: the contenders' columns evaluated": milliseconds(
            lambda: evaluate(whole, enumerate_layouts(whole, undominated=True)), runs
        ),
        "  of it: CP-SAT, built and proved": milliseconds(lambda: solve_instance(instance, Settings()), runs),
        "whole catalogue, whole requests in every mode": milliseconds(lambda: solve(default), runs),
        "whole catalogue, whole requests in every mode, every dtype": milliseconds(lambda: solve(requests), runs),
        "  with a demand": milliseconds(lambda: solve(requests.changed({"workload.requests_per_s": 100})), runs),
        "whole catalogue, every dtype, DeepSeek-V3": milliseconds(lambda: solve(experts), runs),
        "  whole requests in every mode": milliseconds(lambda: solve(expert_requests), runs),
        "peak memory so far, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "whole catalogue, explained": milliseconds(lambda: answer(whole, top=5), runs),
        "whole catalogue, infeasible and corrected": milliseconds(lambda: answer(infeasible), runs),
        "whole catalogue: columns of contenders": len(columns),
        "whole catalogue: columns that satisfy every requirement": int((columns.violated == 0).sum()),
        "peak memory of this process, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
