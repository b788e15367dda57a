"""What pods add to the compact model: valid inequalities of every packing, and cuts against collisions."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from ortools.math_opt.python import mathopt

from servesat.fleet.instance import FleetInstance, RegionChip
from servesat.fleet.pods.packing import collision, packing_inequalities
from servesat.fleet.pods.slices import Counts, Slice, contains, fits


class PodConstraints:
    """The constraints of the pods of one region and chip, in every period; cuts are added as collisions are found.

    `proved` is false once slices were forbidden that were not proved to collide.
    """

    def __init__(
        self,
        model: mathopt.Model,
        instance: FleetInstance,
        region_chip: RegionChip,
        replicas: Sequence[Sequence[mathopt.Variable]],
    ) -> None:
        self.model, self.instance, self.region_chip = model, instance, region_chip
        self.pods, self.periods, self.proved = instance.pods[region_chip], range(len(instance.hours)), True
        self.occupied = instance.occupied_slices.get(region_chip, ((),) * len(instance.hours))
        self.users: dict[Slice, list[tuple[int, Sequence[mathopt.Variable]]]] = {}  # slices per replica, replicas
        for option, counts in zip(instance.options, replicas, strict=True):
            for item, per_replica in option.configuration.slices if option.region_chip == region_chip else ():
                self.users.setdefault(item, []).append((per_replica, counts))
        self._fix_unplaceable_to_zero()
        self._add_packing_inequalities()

    def forbid_collisions(self, replicas: Sequence[Sequence[int]], until: float) -> bool:
        """Forbid, in every period, the slices of a plan that do not fit together in some period; whether any exist."""
        slices_by_period = {self.instance.slices(self.region_chip, period, replicas) for period in self.periods}
        collisions = [clash for slices in slices_by_period if (clash := collision(self.pods, slices, until))]
        for slices, proved in collisions:
            self._forbid(slices)
            self.proved = self.proved and proved
        return bool(collisions)

    def _fix_unplaceable_to_zero(self) -> None:
        for item, users in self.users.items():
            if not fits(self.pods.shape, item):
                for _, counts in users:
                    for count in counts:
                        count.upper_bound = 0

    def _add_packing_inequalities(self) -> None:
        slices = sorted(item for item in self._slice_types() if fits(self.pods.shape, item))
        for volumes, pod_volume in packing_inequalities(self.pods.shape, tuple(slices)) if slices else ():
            for period in self.periods:
                total = self._weighted_sum(dict(zip(slices, volumes, strict=True)), period)
                self.model.add_linear_constraint(total <= self.pods.count * pod_volume)

    def _forbid(self, clash: Counts) -> None:
        """Forbid, in every period, any slices that contain the colliding slices, each a different one.

        By Hall's theorem such slices exist if and only if, for every subset of the colliding types, the number of
        slices that contain one of these types is at least the number of colliding slices of these types.
        """
        shape, smallest = self.pods.shape, min(item.chips for item in self._slice_types())
        for period in self.periods:
            reached_all = []
            for subset in _nonempty_subsets(clash):
                weights = {
                    item: 1
                    for item in self._slice_types()
                    if any(contains(shape, item, member) for member, _ in subset)
                }
                required = sum(count for _, count in subset)
                reached = self.model.add_binary_variable()
                max_total = max(self.pods.chips // smallest, required)
                total = self._weighted_sum(weights, period)
                self.model.add_linear_constraint(total <= required - 1 + (max_total - required + 1) * reached)
                reached_all.append(reached)
            self.model.add_linear_constraint(mathopt.fast_sum(reached_all) <= len(reached_all) - 1)

    def _slice_types(self) -> set[Slice]:
        return {*self.users, *(item for slices in self.occupied for item, _ in slices)}

    def _weighted_sum(self, weights: Mapping[Slice, int], period: int) -> mathopt.LinearSum:
        """The weighted number of slices in a period, those of other workloads included."""
        occupied = sum(weights.get(item, 0) * count for item, count in self.occupied[period])
        return mathopt.fast_sum(
            (
                occupied,
                *(
                    weight * per_replica * counts[period]
                    for item, weight in weights.items()
                    for per_replica, counts in self.users.get(item, ())
                ),
            )
        )


def _nonempty_subsets(clash: Counts) -> Iterator[Counts]:
    """Every non-empty subset of the colliding slice types."""
    for size in range(1, len(clash) + 1):
        yield from combinations(clash, size)
