"""Requests of several sizes on every chip of the catalogue with a price: the gap of one workload over a day.

python benchmarks/fleet_sizes.py [--sizes 3] [--periods 6 24] [--time-limit 60] [--n-plus 0] [--joined]

Two regions, on demand and spot, 40 % of the demand served if a region is lost; `--joined` adds chips reserved for all
periods, which couple them.
"""

import argparse
import json
import time
from math import pi, sin
from typing import Any

from servesat.fleet.plan import plan_fleet

USD = {"l4": 0.7, "l40s": 1.6, "a100-80gb": 3.0, "h100-sxm": 4.5, "tpu-v5e": 1.2, "tpu-v6e": 2.7}
"""Prices per chip-hour on demand; other chips are rented at the prices of the default price book, not reserved."""


def fleet(sizes: int, periods: int, *, n_plus: int, joined: bool) -> dict[str, Any]:
    """A fleet whose sizes each have three times the prompt of the previous one, half the demand and an earlier peak."""
    shares = {"on_demand": 1.0, "spot": 0.4} | ({"reserved": 0.6} if joined else {})
    regions = {
        name: {
            "purchases": list(shares),
            "price": {chip: {how: usd * level * share for how, share in shares.items()} for chip, usd in USD.items()},
        }
        for name, level in (("near", 1.0), ("far", 1.1))
    }
    requests = {
        f"size{n}": {
            "prompt_tokens": 100 * 3**n,
            "output_tokens": int(60 * 1.7**n),
            "demand": [40 / 2**n * (1.2 + sin(2 * pi * (hour + n) / periods)) for hour in range(periods)],
            "slo": {"ttft_ms": 500 + 400 * 3**n},
        }
        for n in range(sizes)
    }
    chat = {
        "deployment": {"cost_model": "ideal", "model": "llama-3-8b", "slo": {"tpot_ms": 50}, "headroom": 0.2},
        "sizes": requests,
        "max_spot_share": 0.5,
        "max_share_per_region": 0.6,
        "n_plus": n_plus,
    }
    hours = [24 / periods] * periods
    return {"periods_h": hours, "regions": regions, "spot_capacity": 0.9, "workloads": {"chat": chat}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, default=3)
    parser.add_argument("--periods", type=int, nargs="+", default=[6, 24])
    parser.add_argument("--time-limit", type=float, default=60.0)
    parser.add_argument("--n-plus", type=int, default=0)
    parser.add_argument("--joined", action="store_true")
    arguments = parser.parse_args()
    for periods in arguments.periods:
        spec = fleet(arguments.sizes, periods, n_plus=arguments.n_plus, joined=arguments.joined)
        start = time.perf_counter()
        result = plan_fleet(spec, time_limit_s=arguments.time_limit)
        print(
            json.dumps(
                {
                    "periods": periods,
                    "status": str(result.status),
                    "usd": result.total_usd,
                    "gap": result.gap,
                    "engine": result.engine,
                    "seconds": round(time.perf_counter() - start, 1),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
