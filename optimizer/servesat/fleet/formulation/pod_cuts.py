"""What the pods of one place add to the compact model: measures that every packing keeps to, and collisions."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations

from ortools.math_opt.python import mathopt

from servesat.fleet.instance import FleetInstance
from servesat.fleet.pods.packing import collision, measures
from servesat.fleet.pods.slices import Counts, Slice, contains, fits


class Floor:
    """The pods of a place in every period: rows of the model, to which collisions are added as they are found.

    `proved` says whether all that is forbidden is proved not to stand.
    """

    def __init__(
        self,
        model: mathopt.Model,
        instance: FleetInstance,
        place: tuple[str, str],
        replicas: Sequence[Sequence[mathopt.Variable]],
    ) -> None:
        self.model, self.instance, self.place = model, instance, place
        self.pods, self.periods, self.proved = instance.pods[place], range(len(instance.hours)), True
        self.standing = instance.standing.get(place, ((),) * len(instance.hours))
        self.of_slice: dict[Slice, list[tuple[int, Sequence[mathopt.Variable]]]] = {}
        for option, counts in zip(instance.options, replicas, strict=True):
            for one, times in option.configuration.slices if option.place == place else ():
                self.of_slice.setdefault(one, []).append((times, counts))
        self._keep_out_what_never_fits()
        self._keep_to_measures()

    def forbid_collisions(self, replicas: Sequence[Sequence[int]], until: float) -> bool:
        """Forbid what does not stand together in some period of a plan, in every period; whether there is any."""
        floors = {self.instance.slices(self.place, period, replicas) for period in self.periods}
        found = [clash for floor in floors if (clash := collision(self.pods, floor, until))]
        for slices, proved in found:
            self._forbid(slices)
            self.proved = self.proved and proved
        return bool(found)

    def _keep_out_what_never_fits(self) -> None:
        for one, users in self.of_slice.items():
            if not fits(self.pods.shape, one):
                for _, counts in users:
                    for count in counts:
                        count.upper_bound = 0

    def _keep_to_measures(self) -> None:
        standing = {one for slices in self.standing for one, _ in slices}
        slices = sorted(one for one in {*self.of_slice, *standing} if fits(self.pods.shape, one))
        for shares, whole in measures(self.pods.shape, tuple(slices)) if slices else ():
            for period in self.periods:
                taken = self._count(dict(zip(slices, shares, strict=True)), period)
                self.model.add_linear_constraint(taken <= self.pods.count * whole)

    def _forbid(self, clash: Counts) -> None:
        """In no period slices that contain those, each another one.

        There are such slices if and only if, for every choice of kinds among those that collide, at least as many
        contain one of these kinds as collide of them (Hall's theorem).
        """
        shape, smallest = self.pods.shape, min(one.chips for one in self._kinds())
        for period in self.periods:
            reached = []
            for kinds in _choices(clash):
                counts = {one: 1 for one in self._kinds() if any(contains(shape, one, kind) for kind, _ in kinds)}
                least = sum(count for _, count in kinds)
                enough = self.model.add_binary_variable()
                most = max(self.pods.chips // smallest, least)
                there = self._count(counts, period)
                self.model.add_linear_constraint(there <= least - 1 + (most - least + 1) * enough)
                reached.append(enough)
            self.model.add_linear_constraint(mathopt.fast_sum(reached) <= len(reached) - 1)

    def _kinds(self) -> Collection[Slice]:
        return {*self.of_slice, *(one for slices in self.standing for one, _ in slices)}

    def _count(self, weights: Mapping[Slice, int], period: int) -> mathopt.LinearSum:
        """The slices in a period, each with a weight, those that stand there besides included."""
        standing = sum(weights.get(one, 0) * count for one, count in self.standing[period])
        return mathopt.fast_sum(
            (
                standing,
                *(
                    weight * times * counts[period]
                    for one, weight in weights.items()
                    for times, counts in self.of_slice.get(one, ())
                ),
            )
        )


def _choices(clash: Counts) -> Iterator[Counts]:
    """Every choice of kinds of slices among those that collide, but none of them."""
    for size in range(1, len(clash) + 1):
        yield from combinations(clash, size)
