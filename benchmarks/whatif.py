"""How many scenarios a second one core solves, how long frontiers take, and what a long grid needs in memory.

python benchmarks/whatif.py --runs 3
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from servesat import Spec
from servesat.questions.pareto import trace_frontier
from servesat.questions.scenarios import Factor, Scenarios
from servesat.questions.whatif import Question

ROOT = Path(__file__).parents[1]
EVERY_DTYPE = ["bf16", "int8", "fp8", "int4"]
ONE_CHIP = Spec.load(ROOT / "examples" / "llama-3-70b-on-v5e.yaml")
CATALOGUE = Spec.load(ROOT / "examples" / "llama-3-70b-chat.yaml")
EVERYTHING = CATALOGUE.changed(
    {"search.weights": EVERY_DTYPE, "search.kv_cache": EVERY_DTYPE, "search.compute": ["bf16", "int8", "fp8"]}
)
FRONTIERS = {
    "latency and cost": ("tpot_ms", "usd_per_million_output_tokens"),
    "latency, cost and chips": ("tpot_ms", "usd_per_million_output_tokens", "chips"),
}


def scenarios_per_s(base: Spec, count: int, runs: int) -> float:
    """The best of some runs over half as many latency limits at two prices, on one process."""
    limits = tuple(10 + 30 * number / count for number in range(count // 2))
    question = Question(base, Scenarios((Factor("slo.tpot_ms", limits), Factor("price.tpu-v5e", (0.9, 1.2)))))
    assert question.answer.plan is not None
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        rows = sum(len(chunk) for chunk in question.rows(range(len(question.scenarios))))
        taken.append((time.perf_counter() - start) / rows)
    return round(1 / min(taken), 1)


def long_grid(count: int) -> dict[str, float]:
    """A grid streamed to Parquet by the command line, on every core."""
    servesat = str(Path(sys.executable).with_name("servesat"))
    with tempfile.TemporaryDirectory() as folder:
        vary = ["--vary", f"slo.tpot_ms=5..40x{count // 100}", "--vary", "price.tpu-v5e=0.6..1.8x100"]
        spec, out = str(ROOT / "examples" / "llama-3-70b-on-v5e.yaml"), str(Path(folder) / "out.parquet")
        start = time.perf_counter()
        subprocess.run([servesat, "whatif", spec, *vary, "--out", out], check=True, capture_output=True)
        seconds = time.perf_counter() - start
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    return {"scenarios": count, "s": round(seconds, 1), "largest process, MB": round(largest, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--grid", type=int, default=10_000, help="Scenarios of the long grid; 0 leaves it out.")
    arguments = parser.parse_args()
    figures: dict[str, object] = {
        "scenarios/s on one core, one chip": scenarios_per_s(ONE_CHIP, 400, arguments.runs),
        "scenarios/s on one core, whole catalogue": scenarios_per_s(CATALOGUE, 100, arguments.runs),
        "scenarios/s on one core, whole catalogue, every dtype": scenarios_per_s(EVERYTHING, 40, arguments.runs),
    }
    for name, axes in FRONTIERS.items():
        found = trace_frontier(EVERYTHING, axes)
        figures[f"frontier of {name}, whole catalogue, every dtype"] = {
            "plans": found.compared,
            "points": len(found.points),
            "s": round(found.solve_s, 2),
        }
    if arguments.grid:
        figures["grid streamed to Parquet"] = long_grid(arguments.grid)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
