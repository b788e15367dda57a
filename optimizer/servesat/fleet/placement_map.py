"""Where the slices of a fleet stand."""

from collections import defaultdict
from dataclasses import dataclass

from servesat.fleet.formulation.limits import FleetSolution
from servesat.fleet.instance import FleetInstance, ReplicaOption
from servesat.fleet.pods.packing import pack
from servesat.fleet.pods.slices import Placed, Pods, Slice, whole_pods


@dataclass(frozen=True, kw_only=True)
class FloorMap:
    """Where the slices of one place stand in the period in which they take the most chips, each with its workload."""

    region: str
    chip: str
    pods: Pods
    period: int
    placed: tuple[tuple[ReplicaOption, Placed], ...]


def floor_map(instance: FleetInstance, solution: FleetSolution, place: tuple[str, str]) -> FloorMap:
    """The map of a floor at its fullest."""
    periods = range(len(instance.hours))
    floors = [instance.slices(place, period, solution.replicas) for period in periods]
    fullest = max(periods, key=lambda period: sum(one.chips * count for one, count in floors[period]))
    pods = instance.pods[place]
    blocks: dict[Slice, list[Placed]] = defaultdict(list)
    for block in pack(pods, floors[fullest]).placed:
        blocks[block.slice].append(block)
    placed = []
    for option, counts in zip(instance.options, solution.replicas, strict=True):
        for one, times in option.configuration.slices if option.place == place else ():
            number = times * counts[fullest] * (whole_pods(pods.shape, one) or 1)
            placed += [(option, blocks[one].pop(0)) for _ in range(number)]
    return FloorMap(region=place[0], chip=place[1], pods=pods, period=fullest, placed=tuple(placed))
