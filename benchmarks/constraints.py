"""How long constraints take on the whole catalogue with every dtype, and what they cost without any.

python benchmarks/constraints.py --runs 5
"""

import argparse
import json
import statistics
import time
from typing import Any

from servesat import Result, Spec, SpecError
from servesat.deployment.solve import solve

DTYPES = {
    "weights": ["bf16", "int8", "int4", "fp8"],
    "kv_cache": ["bf16", "int8", "fp8"],
    "compute": ["bf16", "int8", "fp8"],
}
MODELS = {"llama-3-405b": 15, "llama-3-70b": 20, "deepseek-v3": 40, "gpt-oss-120b": 20}
CONSTRAINTS: list[list[str]] = [
    [],
    ["batch % 8 == 0"],
    ["tp <= 8"],
    ["batch == 4 * tp"],
    ["batch <= 32"],
    ["kv_cache == bf16"],
    ["chip == h100-sxm implies weights == fp8"],
    ["tpot_ms <= 0.5 * slo.tpot_ms"],
    ["chip in [h100-sxm, h200, b200]", "tpot_ms <= 12 or batch <= 16"],
    ["usd_per_hour <= 2 * chips"],
    ["tokens_per_s >= 100 * chips", "batch % 16 == 0"],
    ["chip == h100-sxm", "weights == fp8", "batch % 16 == 0", "tp <= 4"],
    ["chips == 8", "not (weights == int4 or kv_cache == int8)"],
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    taken: dict[str, float] = {}
    for model, tpot_ms in MODELS.items():
        document: dict[str, Any] = {"cost_model": "ideal",
            "model": model, "workload": {"context_tokens": 8192}, "slo": {"tpot_ms": tpot_ms}, "search": DTYPES,
        }  # fmt: skip
        free = Spec.load(document)
        for stated in CONSTRAINTS:
            spec = free.constrained(stated)
            times, answer = [], ""
            for _ in range(runs):
                start = time.perf_counter()
                answer = _answer(spec)
                times.append((time.perf_counter() - start) * 1e3)
            taken[f"{model}: {'; '.join(stated)}"] = statistics.median(times)
            print(f"{statistics.median(times):8.1f} ms  {model}: {'; '.join(stated) or 'none'}: {answer}", flush=True)
    constrained = [ms for name, ms in taken.items() if not name.endswith(": ")]
    figures = {"median_ms": statistics.median(constrained), "worst_ms": max(constrained)}
    print(json.dumps({name: round(ms, 1) for name, ms in figures.items()}))


def _answer(spec: Spec) -> str:
    try:
        result: Result = solve(spec)
    except SpecError as fault:
        return str(fault)
    return result.status if result.plan is None else f"${result.plan.usd_per_million_output_tokens:.4f}"


if __name__ == "__main__":
    main()
