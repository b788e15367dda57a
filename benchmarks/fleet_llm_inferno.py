"""The published fleets of llm-inferno, solved again: 15 servers on 6 accelerators, and 27 on 21.

python benchmarks/fleet_llm_inferno.py --data DIR [--json]     DIR: a folder with llm-inferno's sample data
"""

import argparse
import json
import time
from math import inf
from pathlib import Path

from servesat.fleet.configurations import Configuration
from servesat.fleet.instance import RESOLUTION, FleetInstance, ReplicaOption, WorkloadDemand
from servesat.fleet.plan import plan_instance

PUBLISHED = {
    ("small", True): 41857.75,
    ("small", False): 37929.0,
    ("large", True): 26300.5,
    ("large", False): 23410.5,
}
"""Proved optima, by size and by whether each server uses a single type of accelerator [cents/h]."""


def instance_of(folder: Path, size: str, *, one_type: bool) -> FleetInstance:
    rows = json.loads((folder / f"inferno_{size}_candidates.json").read_text())
    accelerators = json.loads((folder / size / "accelerator-data.json").read_text())["accelerators"]
    counts = json.loads((folder / size / "capacity-data.json").read_text())["count"]
    kinds = {entry["name"]: (entry["type"], entry["multiplicity"]) for entry in accelerators}
    demand = {row["Server"]: row["ArrivalRPM"] for row in rows}
    workloads = [
        WorkloadDemand(
            name=server,
            demand=(RESOLUTION,),
            requests_per_s=(rate,),
            unit=rate / RESOLUTION,
            redundant_replicas=0,
            max_share_per_region=None,
            max_spot_share=1.0,
            one_chip=one_type,
            priority=1,
        )
        for server, rate in demand.items()
    ]
    options = []
    for row in rows:
        chip, multiplicity = kinds[row["Acc"]]
        chips = row["Inst"] * multiplicity
        replica_cost = row["Cost"] / row["NumReplicas"]
        options.append(
            ReplicaOption(
                workload=row["Server"],
                configuration=Configuration(row["Acc"], chip, chips, row["RatePerReplicaRPM"]),
                region="all",
                purchase="on_demand",
                usd_per_chip_hour=replica_cost / chips,
                requests_per_s=row["RatePerReplicaRPM"],
                capacity=int(row["RatePerReplicaRPM"] / demand[row["Server"]] * RESOLUTION),
            )
        )
    quotas = {("all", entry["type"]): entry["count"] for entry in counts}
    usable = tuple(option for option in options if option.capacity > 0)
    return FleetInstance(tuple(workloads), usable, (1.0,), quotas, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = []
    for (size, one_type), published in PUBLISHED.items():
        instance = instance_of(arguments.data, size, one_type=one_type)
        start = time.perf_counter()
        result = plan_instance(instance, inf, goals=("usd",))
        figures.append(
            {
                "instance": f"{size}, {'one type' if one_type else 'mixed'}",
                "status": str(result.status),
                "cents_per_hour": result.total_usd,
                "bound": result.bound_usd,
                "published": published,
                "seconds": round(time.perf_counter() - start, 2),
            }
        )
    if arguments.json:
        print(json.dumps({"instances": figures}, indent=1))
        return
    for figure in figures:
        print(json.dumps(figure))


if __name__ == "__main__":
    main()
