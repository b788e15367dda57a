"""Whether slices stand on a floor together, decided by CP-SAT where putting them down one by one does not show it."""

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import islice, pairwise, product
from math import floor, inf, prod
from typing import Any

from ortools.sat.python import cp_model

from servesat.core.result import Status
from servesat.fleet.pods.slices import (
    CUBIC,
    Box,
    Counts,
    Placed,
    Pods,
    Slice,
    contains,
    first_fit,
    fits,
    orientations,
    volumes,
    whole_pods,
)

EFFORT = 2.0
"""Deterministic seconds that CP-SAT may take over one floor; the answer is then the same on every machine."""

OF_ONE = 1.0
"""The same over a single pod."""


@dataclass(frozen=True)
class Packing:
    """Where slices stand; OPTIMAL if they do, INFEASIBLE if they cannot, UNKNOWN if neither was shown."""

    status: Status
    placed: tuple[Placed, ...] = ()


@lru_cache(maxsize=10_000)
def pack(pods: Pods, slices: Counts) -> Packing:
    """Put slices down in pods."""
    if not all(fits(pods.shape, one) for one, _ in slices) or not _have_room(pods, slices):
        return Packing(Status.INFEASIBLE)
    placed = first_fit(pods, slices)
    if placed is not None:
        return Packing(Status.OPTIMAL, tuple(placed))
    # whole cubes are all alike, and single chips take what the others leave
    whole = [(one, count) for one, count in slices if whole_pods(pods.shape, one)]
    single = [(one, count) for one, count in slices if one.chips == 1]
    shared = [pair for pair in slices if pair not in whole and pair not in single]
    rest = Pods(pods.shape, pods.count - sum(whole_pods(pods.shape, one) * count for one, count in whole))
    together = _in_cubes if len(pods.shape) == CUBIC else _in_rectangles
    decided = _pod_by_pod(rest, shared) or together(rest, shared)
    if decided.status is not Status.OPTIMAL:
        return decided
    corner = (0,) * len(pods.shape)
    cubes = iter(range(rest.count, pods.count))
    placed = list(decided.placed)
    for one, count in whole:
        placed += [Placed(one, next(cubes), corner, pods.shape) for _ in range(count * whole_pods(pods.shape, one))]
    return Packing(Status.OPTIMAL, (*placed, *_singles(rest, single, placed)))


def collision(pods: Pods, slices: Counts, until: float = inf) -> tuple[Counts, bool] | None:
    """Slices of these that do not stand together, and whether that is proved; None if all of them stand.

    Where it is proved none of them can be left out, if there was time to see to that until a moment of
    `time.perf_counter`.
    """
    found = pack(pods, slices)
    if found.status is not Status.INFEASIBLE:
        return None if found.status is Status.OPTIMAL else (slices, False)
    left = dict(slices)
    for one in sorted(left, key=lambda one: one.chips):
        enough, too_few = left[one], -1
        while enough - too_few > 1 and time.perf_counter() < until:
            tried = (enough + too_few) // 2
            collides = pack(pods, _nonzero({**left, one: tried})).status is Status.INFEASIBLE
            enough, too_few = (tried, too_few) if collides else (enough, tried)
        left[one] = enough
    return _nonzero(left), True


def _nonzero(counts: dict[Slice, int]) -> Counts:
    return tuple(sorted((one, count) for one, count in counts.items() if count))


def _have_room(pods: Pods, slices: Counts) -> bool:
    return all(
        sum(share * count for share, (_, count) in zip(shares, slices, strict=True)) <= pods.count * whole
        for shares, whole in measures(pods.shape, tuple(one for one, _ in slices))
    )


@cache
def measures(shape: Box, slices: tuple[Slice, ...]) -> tuple[tuple[tuple[int, ...], int], ...]:
    """What each slice takes of a pod, and what a pod has: volumes, and how many of each slice one pod holds."""
    counts = [
        (tuple(int(contains(shape, other, one)) for other in slices), most_in_one(shape, one))
        for one in slices
        if not whole_pods(shape, one) and prod(shape) % one.chips
    ]
    return (*volumes(shape, slices), *counts)


@cache
def most_in_one(shape: Box, one: Slice) -> int:
    """The most slices of a kind in one pod, or a little more where that is not found."""
    by_chips = prod(shape) // one.chips
    in_rows = max(
        prod(room // size for room, size in zip(shape, sizes, strict=True)) for sizes in orientations(shape, one)
    )
    return by_chips if in_rows == by_chips else _fullest(shape, ((one, by_chips),))[1] // one.chips


def _pod_by_pod(pods: Pods, slices: Iterable[tuple[Slice, int]]) -> Packing | None:
    """Each pod filled as far as it can be with what is left; None if something is left over."""
    left, placed = dict(slices), list[Placed]()
    for pod in range(pods.count):
        some = tuple((one, min(count, most_in_one(pods.shape, one))) for one, count in left.items() if count)
        if not some:
            break
        for block in _fullest(pods.shape, some)[0]:
            left[block.slice] -= 1
            placed.append(replace(block, pod=pod))
    return None if any(left.values()) else Packing(Status.OPTIMAL, tuple(placed))


@lru_cache(maxsize=10_000)
def _fullest(shape: Box, slices: Counts) -> tuple[tuple[Placed, ...], int]:
    """Slices of some that fill one pod, and the most chips of it that they could take."""
    model, chosen = _places(Pods(shape, 1), slices)
    for one, count in slices:
        model.add(sum(here for here, block in chosen if block.slice == one) <= count)
    model.maximize(sum(block.slice.chips * here for here, block in chosen))
    solver, status = _solved(model, OF_ONE)
    if status is not Status.OPTIMAL:
        return (), prod(shape)
    most = min(prod(shape), floor(solver.best_objective_bound + 0.5))
    return tuple(block for here, block in chosen if solver.value(here)), most


def _in_rectangles(pods: Pods, slices: list[tuple[Slice, int]]) -> Packing:
    """Pods side by side in one long strip, in which no two slices overlap and none lies across two pods."""
    model = cp_model.CpModel()
    width, height = pods.shape
    across, along, placed = [], [], []
    for one, count in slices:
        same = []
        for _ in range(count):
            x = model.new_int_var(0, pods.count * width - 1, "")
            y = model.new_int_var(0, height - 1, "")
            ways = []
            for w, h in orientations(pods.shape, one):
                way = model.new_bool_var("")
                starts = [[pod * width, (pod + 1) * width - w] for pod in range(pods.count)]
                model.add_linear_expression_in_domain(x, cp_model.Domain.from_intervals(starts)).only_enforce_if(way)
                model.add(y <= height - h).only_enforce_if(way)
                across.append(model.new_optional_fixed_size_interval_var(x, w, way, ""))
                along.append(model.new_optional_fixed_size_interval_var(y, h, way, ""))
                ways.append(((w, h), way))
            model.add_exactly_one(way for _, way in ways)
            placed.append((one, x, y, ways))
            same.append(x * height + y)
        for before, after in pairwise(same):
            model.add(before < after)
    model.add_no_overlap_2d(across, along)
    solver, status = _solved(model)
    if status is not Status.OPTIMAL:
        return Packing(status)

    def block(one: Slice, x: int, y: int, sizes: tuple[int, int]) -> Placed:
        return Placed(one, x // width, (x % width, y), sizes)

    return Packing(
        status,
        tuple(
            block(one, solver.value(x), solver.value(y), sizes)
            for one, x, y, ways in placed
            for sizes, way in ways
            if solver.value(way)
        ),
    )


def _in_cubes(pods: Pods, slices: list[tuple[Slice, int]]) -> Packing:
    """Every slice in one of the places it may have in every cube."""
    model, chosen = _places(pods, slices)
    for one, count in slices:
        model.add(sum(here for here, block in chosen if block.slice == one) == count)
    solver, status = _solved(model)
    return Packing(status, tuple(block for here, block in chosen if status is Status.OPTIMAL and solver.value(here)))


def _places(pods: Pods, slices: Iterable[tuple[Slice, int]]) -> tuple[cp_model.CpModel, list[tuple[Any, Placed]]]:
    """Every place of every slice in every pod, chosen or not, and no chip chosen twice."""
    model = cp_model.CpModel()
    at_chip = defaultdict(list)
    chosen = []
    for one, _ in slices:
        for pod, sizes in product(range(pods.count), orientations(pods.shape, one)):
            rooms = [range(room - size + 1) for room, size in zip(pods.shape, sizes, strict=True)]
            for at in product(*rooms):
                here = model.new_bool_var("")
                chosen.append((here, Placed(one, pod, at, sizes)))
                for offset in product(*map(range, sizes)):
                    at_chip[pod, tuple(map(int.__add__, at, offset))].append(here)
    for users in at_chip.values():
        model.add_at_most_one(users)
    return model, chosen


def _solved(model: cp_model.CpModel, effort: float = EFFORT) -> tuple[cp_model.CpSolver, Status]:
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_deterministic_time = effort
    code = solver.solve(model)
    known = {
        cp_model.OPTIMAL: Status.OPTIMAL,
        cp_model.FEASIBLE: Status.OPTIMAL,
        cp_model.INFEASIBLE: Status.INFEASIBLE,
    }
    return solver, known.get(code, Status.UNKNOWN)


def _singles(pods: Pods, slices: list[tuple[Slice, int]], placed: list[Placed]) -> list[Placed]:
    """Single chips, on what is left of some pods."""
    taken = {
        (block.pod, *map(int.__add__, block.at, offset))
        for block in placed
        for offset in product(*map(range, block.sizes))
    }
    ones = (1,) * len(pods.shape)
    free = (cell for cell in product(range(pods.count), *map(range, pods.shape)) if cell not in taken)
    return [Placed(one, cell[0], cell[1:], ones) for one, count in slices for cell in islice(free, count)]
