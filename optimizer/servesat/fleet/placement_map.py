"""Where the slices of a fleet are placed in their pods."""

from collections import defaultdict
from dataclasses import dataclass

from servesat.fleet.formulation.limits import FleetSolution
from servesat.fleet.instance import FleetInstance, RegionChip, ReplicaOption
from servesat.fleet.pods.packing import pack
from servesat.fleet.pods.slices import Placement, Pods, Slice, whole_pods


@dataclass(frozen=True, kw_only=True)
class PlacementMap:
    """The placements in the pods of a region and chip, with their options, in the period with the most chips in use."""

    region: str
    chip: str
    pods: Pods
    period: int
    placed: tuple[tuple[ReplicaOption, Placement], ...]


def placement_map(instance: FleetInstance, solution: FleetSolution, region_chip: RegionChip) -> PlacementMap:
    """The placement map of the pods of a region and chip."""
    periods = range(len(instance.hours))
    slices = [instance.slices(region_chip, period, solution.replicas) for period in periods]
    fullest = max(periods, key=lambda period: sum(item.chips * count for item, count in slices[period]))
    pods = instance.pods[region_chip]
    blocks: dict[Slice, list[Placement]] = defaultdict(list)
    for block in pack(pods, slices[fullest]).placed:
        blocks[block.slice].append(block)
    placed = []
    for option, counts in zip(instance.options, solution.replicas, strict=True):
        for item, per_replica in option.configuration.slices if option.region_chip == region_chip else ():
            number = per_replica * counts[fullest] * (whole_pods(pods.shape, item) or 1)
            placed += [(option, blocks[item].pop(0)) for _ in range(number)]
    region, chip = region_chip
    return PlacementMap(region=region, chip=chip, pods=pods, period=fullest, placed=tuple(placed))
