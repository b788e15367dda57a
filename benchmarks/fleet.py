"""Generated fleets: solution time, bill, dual bound and gap by the number of workloads.

python benchmarks/fleet.py --workloads 10 100 [--periods 24] [--regions 5] [--time-limit 60] [--shares N] [--machines N]
    [--workers 2] [--plot FILE]
"""

import argparse
import json
import resource
import time
from dataclasses import replace
from math import ceil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from servesat.catalogue.price_book import Price
from servesat.core.parallel.runs import Workers
from servesat.fleet.configurations import Configuration
from servesat.fleet.instance import RESOLUTION, FleetInstance, ReplicaOption, WorkloadDemand
from servesat.fleet.machines import Machine
from servesat.fleet.plan import plan_instance

CONFIGURATIONS = 9
DISCOUNT = {"on_demand": 1.0, "reserved": 0.65, "spot": 0.4}


def generate(workloads: int, regions: int, periods: int, seed: int = 0) -> FleetInstance:
    """A fleet with a median demand of two replicas, a daily curve, three purchases and nearly tight quotas."""
    random = np.random.default_rng(seed)
    chips = [f"chip{i}" for i in range(CONFIGURATIONS)]
    price = {chip: float(random.uniform(1, 8)) for chip in chips}  # of a chip-hour
    level = {f"region{r}": float(random.uniform(0.9, 1.25)) for r in range(regions)}
    curve = 0.65 + 0.35 * np.sin(np.arange(periods) / periods * 2 * np.pi - 2)
    demands, options = [], []
    use = dict.fromkeys(chips, 0.0)
    for number in range(workloads):
        name = f"workload{number}"
        size = {chip: int(random.choice([1, 2, 4, 8])) for chip in chips}
        rate = {chip: price[chip] * size[chip] * float(random.uniform(0.6, 1.4)) for chip in chips}
        peak = float(np.median(list(rate.values())) * random.lognormal(np.log(2.0), 0.8))
        demand = [peak * float(c) * float(random.uniform(0.85, 1.15)) for c in curve]
        unit = max(demand) / RESOLUTION
        demands.append(
            WorkloadDemand(
                name=name,
                demand=tuple(int(np.ceil(requests / unit)) for requests in demand),
                requests_per_s=tuple(demand),
                unit=unit,
                redundant_replicas=0,
                max_share_per_region=None,
                max_spot_share=float(random.choice([0.0, 0.3, 0.5])),
                one_chip=False,
                priority=1,
            )
        )
        for chip in chips:
            configuration = Configuration(f"{chip} x{size[chip]}", chip, size[chip], rate[chip])
            use[chip] += max(demand) / rate[chip] * size[chip]
            for region, factor in level.items():
                for purchase, discount in DISCOUNT.items():
                    usd = price[chip] * factor * discount
                    served = rate[chip] * (0.9 if purchase == "spot" else 1.0)
                    options.append(
                        ReplicaOption(name, configuration, region, purchase, usd, served, int(served / unit))
                    )
    quotas = {(region, chip): int(2 + 1.3 * use[chip] / regions / 4) for region in level for chip in chips}
    return FleetInstance(tuple(demands), tuple(options), (1.0,) * periods, quotas, None)


def with_shares(instance: FleetInstance, every: int) -> FleetInstance:
    """The fleet with a limit on the share per region for every n-th workload."""
    demands = [
        replace(workload, max_share_per_region=0.6) if number % every == 0 else workload
        for number, workload in enumerate(instance.workloads)
    ]
    return replace(instance, workloads=tuple(demands))


def in_machines(instance: FleetInstance, chips: int) -> FleetInstance:
    """The fleet without reservations in instances of so many chips, with quotas of whole ones."""
    price = Price(instance="machine", instance_chips=chips, usd_per_instance_hour=1.0, source="generated")
    options = tuple(
        replace(
            option,
            machine=Machine(
                region=option.region,
                chip=option.configuration.chip,
                purchase=option.purchase,
                chips=chips,
                usd_per_hour=chips * option.usd_per_chip_hour,
                price=price,
            ),
        )
        for option in instance.options
        if option.purchase != "reserved"
    )
    quotas = {place: chips * ceil(quota / chips) for place, quota in instance.quotas.items()}
    return replace(instance, options=options, quotas=quotas)


def figure(results: list[dict[str, float]], path: Path) -> None:
    """Plot time, bill with its dual bound, and gap over the number of workloads, for the runs that found a plan."""
    results = [result for result in results if result["usd"]]
    workloads = [result["workloads"] for result in results]
    drawn, (times, bills, gaps) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    times.loglog(workloads, [result["seconds"] for result in results], "o-")
    times.set_ylabel("seconds")
    for name, style in (("usd", "o-"), ("bound", "x--")):
        bills.semilogx(workloads, [result[name] / result["workloads"] for result in results], style, label=name)
    bills.set_ylabel("$ a workload")
    bills.legend()
    gaps.loglog(workloads, [100 * result["gap"] for result in results], "o-")
    gaps.set_ylabel("proved gap [%]")
    for axes in (times, gaps):
        for formatted in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            formatted("{x:g}")
    for axes in (times, bills, gaps):
        axes.set_xlabel("workloads")
        axes.grid(alpha=0.3)
    drawn.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--regions", type=int, default=5)
    parser.add_argument("--periods", type=int, default=24)
    parser.add_argument("--time-limit", type=float, default=60.0)
    parser.add_argument(
        "--shares", type=int, help="Every N-th workload still serves 40 %% of its demand if a region is lost."
    )
    parser.add_argument("--machines", type=int, help="Replicas stand in instances of so many chips.")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    results = []
    for workloads in arguments.workloads:
        instance = generate(workloads, arguments.regions, arguments.periods)
        if arguments.shares:
            instance = with_shares(instance, arguments.shares)
        if arguments.machines:
            instance = in_machines(instance, arguments.machines)
        start = time.perf_counter()
        workers = Workers(arguments.workers)
        result = plan_instance(instance, start + arguments.time_limit, goals=("usd",), workers=workers)
        results.append(
            {
                "workloads": workloads,
                "variables": len(instance.options) * arguments.periods,
                "status": str(result.status),
                "usd": result.total_usd,
                "bound": result.bound_usd,
                "gap": result.gap,
                "engine": result.engine,
                "seconds": round(time.perf_counter() - start, 1),
                "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
            }
        )
        print(json.dumps(results[-1]), flush=True)
    if arguments.plot:
        figure(results, arguments.plot)


if __name__ == "__main__":
    main()
