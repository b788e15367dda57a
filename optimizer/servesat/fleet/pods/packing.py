"""Whether slices fit together in pods: first fit decides most cases, CP-SAT the rest."""

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import islice, pairwise, product
from math import floor, inf, prod
from typing import Any

from servesat.catalogue.chip import CUBIC
from servesat.core.result import Status
from servesat.deployment.formulation.cp_sat import cp_model, solve_model
from servesat.fleet.pods.slices import (
    Box,
    Counts,
    Placement,
    Pods,
    Slice,
    contains,
    first_fit,
    fits,
    orientations,
    volumes,
    whole_pods,
)

PACKING_TIME_LIMIT = 2.0
"""Deterministic seconds that CP-SAT may spend on one packing: the answer is then the same on every machine."""

SINGLE_POD_TIME_LIMIT = 1.0
"""The same limit for filling a single pod."""


@dataclass(frozen=True)
class Packing:
    """Where slices are placed; OPTIMAL if they fit, INFEASIBLE if they cannot, UNKNOWN if neither was proved."""

    status: Status
    placed: tuple[Placement, ...] = ()


@lru_cache(maxsize=10_000)
def pack(pods: Pods, slices: Counts) -> Packing:
    """Place slices in pods."""
    if not all(fits(pods.shape, item) for item, _ in slices) or not _meets_inequalities(pods, slices):
        return Packing(Status.INFEASIBLE)
    placed = first_fit(pods, slices)
    if placed is not None:
        return Packing(Status.OPTIMAL, tuple(placed))
    # slices of whole cubes and single chips need no search: any cubes, and any chips left over, will do
    whole = [(item, count) for item, count in slices if whole_pods(pods.shape, item)]
    single = [(item, count) for item, count in slices if item.chips == 1]
    shared = [pair for pair in slices if pair not in whole and pair not in single]
    shared_pods = Pods(pods.shape, pods.count - sum(whole_pods(pods.shape, item) * count for item, count in whole))
    pack_jointly = _pack_cubes if len(pods.shape) == CUBIC else _pack_rectangles
    packing = _pack_pod_by_pod(shared_pods, shared) or pack_jointly(shared_pods, shared)
    if packing.status is not Status.OPTIMAL:
        return packing
    corner = (0,) * len(pods.shape)
    cubes = iter(range(shared_pods.count, pods.count))
    placed = list(packing.placed)
    for item, count in whole:
        placed += [
            Placement(item, next(cubes), corner, pods.shape) for _ in range(count * whole_pods(pods.shape, item))
        ]
    return Packing(Status.OPTIMAL, (*placed, *_place_single_chips(shared_pods, single, placed)))


def collision(pods: Pods, slices: Counts, until: float = inf) -> tuple[Counts, bool] | None:
    """A subset of these slices that does not fit together, and whether that is proved; None if all slices fit.

    If it is proved, the subset is minimal, unless the time to reduce it ran out: `until` is a moment of
    `time.perf_counter`.
    """
    packing = pack(pods, slices)
    if packing.status is not Status.INFEASIBLE:
        return None if packing.status is Status.OPTIMAL else (slices, False)
    colliding = dict(slices)
    for item in sorted(colliding, key=lambda item: item.chips):
        collides, fitting = colliding[item], -1  # bisection for the smallest number of this slice that collides
        while collides - fitting > 1 and time.perf_counter() < until:
            trial = (collides + fitting) // 2
            infeasible = pack(pods, _nonzero({**colliding, item: trial})).status is Status.INFEASIBLE
            collides, fitting = (trial, fitting) if infeasible else (collides, trial)
        colliding[item] = collides
    return _nonzero(colliding), True


def _nonzero(counts: dict[Slice, int]) -> Counts:
    return tuple(sorted((item, count) for item, count in counts.items() if count))


def _meets_inequalities(pods: Pods, slices: Counts) -> bool:
    return all(
        sum(volume * count for volume, (_, count) in zip(item_volumes, slices, strict=True)) <= pods.count * pod_volume
        for item_volumes, pod_volume in packing_inequalities(pods.shape, tuple(item for item, _ in slices))
    )


@cache
def packing_inequalities(shape: Box, slices: tuple[Slice, ...]) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Valid inequalities of every packing: scaled volumes, and how many of each slice a single pod holds.

    Each is the coefficient of every slice, and the right-hand side for one pod.
    """
    per_pod = [
        (tuple(int(contains(shape, other, item)) for other in slices), max_per_pod(shape, item))
        for item in slices
        if not whole_pods(shape, item) and prod(shape) % item.chips
    ]
    return (*volumes(shape, slices), *per_pod)


@cache
def max_per_pod(shape: Box, item: Slice) -> int:
    """The maximum number of a slice in one pod, or an upper bound on it if the maximum was not proved."""
    by_chips = prod(shape) // item.chips
    in_rows = max(
        prod(room // size for room, size in zip(shape, sizes, strict=True)) for sizes in orientations(shape, item)
    )
    return by_chips if in_rows == by_chips else _fill_single_pod(shape, ((item, by_chips),))[1] // item.chips


def _pack_pod_by_pod(pods: Pods, slices: Iterable[tuple[Slice, int]]) -> Packing | None:
    """A greedy packing that fills each pod as far as the remaining slices can; None if some slices remain."""
    remaining, placed = dict(slices), list[Placement]()
    for pod in range(pods.count):
        candidates = tuple(
            (item, min(count, max_per_pod(pods.shape, item))) for item, count in remaining.items() if count
        )
        if not candidates:
            break
        for block in _fill_single_pod(pods.shape, candidates)[0]:
            remaining[block.slice] -= 1
            placed.append(replace(block, pod=pod))
    return None if any(remaining.values()) else Packing(Status.OPTIMAL, tuple(placed))


@lru_cache(maxsize=10_000)
def _fill_single_pod(shape: Box, slices: Counts) -> tuple[tuple[Placement, ...], int]:
    """The slices that fill one pod with the most chips, and an upper bound on the chips that they can fill."""
    model, positions = _position_model(Pods(shape, 1), slices)
    for item, count in slices:
        model.add(sum(chosen for chosen, block in positions if block.slice == item) <= count)
    model.maximize(sum(block.slice.chips * chosen for chosen, block in positions))
    solver, status = solve_model(model, deterministic_limit=SINGLE_POD_TIME_LIMIT)
    if status not in {Status.OPTIMAL, Status.FEASIBLE}:
        return (), prod(shape)
    max_chips = min(prod(shape), floor(solver.best_objective_bound + 0.5))
    return tuple(block for chosen, block in positions if solver.value(chosen)), max_chips


def _pack_rectangles(pods: Pods, slices: list[tuple[Slice, int]]) -> Packing:
    """Two-dimensional packing: the pods side by side form one strip, in which no slice crosses a pod's border."""
    model = cp_model.CpModel()
    width, height = pods.shape
    x_intervals, y_intervals, rectangles = [], [], []
    for item, count in slices:
        positions = []
        for _ in range(count):
            x = model.new_int_var(0, pods.count * width - 1, "")
            y = model.new_int_var(0, height - 1, "")
            turns = []
            for w, h in orientations(pods.shape, item):
                turn = model.new_bool_var("")
                starts = [[pod * width, (pod + 1) * width - w] for pod in range(pods.count)]
                model.add_linear_expression_in_domain(x, cp_model.Domain.from_intervals(starts)).only_enforce_if(turn)
                model.add(y <= height - h).only_enforce_if(turn)
                x_intervals.append(model.new_optional_fixed_size_interval_var(x, w, turn, ""))
                y_intervals.append(model.new_optional_fixed_size_interval_var(y, h, turn, ""))
                turns.append(((w, h), turn))
            model.add_exactly_one(turn for _, turn in turns)
            rectangles.append((item, x, y, turns))
            positions.append(x * height + y)
        for before, after in pairwise(positions):  # identical slices in order, to break the symmetry
            model.add(before < after)
    model.add_no_overlap_2d(x_intervals, y_intervals)
    solver, status = solve_model(model, deterministic_limit=PACKING_TIME_LIMIT)
    if status is not Status.OPTIMAL:
        return Packing(status)

    def placement(item: Slice, x: int, y: int, sizes: tuple[int, int]) -> Placement:
        return Placement(item, x // width, (x % width, y), sizes)

    return Packing(
        status,
        tuple(
            placement(item, solver.value(x), solver.value(y), sizes)
            for item, x, y, turns in rectangles
            for sizes, turn in turns
            if solver.value(turn)
        ),
    )


def _pack_cubes(pods: Pods, slices: list[tuple[Slice, int]]) -> Packing:
    """Three-dimensional packing: a binary variable for each slice, cube and position."""
    model, positions = _position_model(pods, slices)
    for item, count in slices:
        model.add(sum(chosen for chosen, block in positions if block.slice == item) == count)
    solver, status = solve_model(model, deterministic_limit=PACKING_TIME_LIMIT)
    return Packing(
        status, tuple(block for chosen, block in positions if status is Status.OPTIMAL and solver.value(chosen))
    )


def _position_model(
    pods: Pods, slices: Iterable[tuple[Slice, int]]
) -> tuple[cp_model.CpModel, list[tuple[Any, Placement]]]:
    """A binary variable for each position of each slice in each pod, with at most one slice on each chip."""
    model = cp_model.CpModel()
    users_of_chip = defaultdict(list)
    positions = []
    for item, _ in slices:
        for pod, sizes in product(range(pods.count), orientations(pods.shape, item)):
            corners = [range(room - size + 1) for room, size in zip(pods.shape, sizes, strict=True)]
            for at in product(*corners):
                chosen = model.new_bool_var("")
                positions.append((chosen, Placement(item, pod, at, sizes)))
                for offset in product(*map(range, sizes)):
                    users_of_chip[pod, tuple(map(int.__add__, at, offset))].append(chosen)
    for users in users_of_chip.values():
        model.add_at_most_one(users)
    return model, positions


def _place_single_chips(pods: Pods, slices: list[tuple[Slice, int]], placed: list[Placement]) -> list[Placement]:
    """Single chips, on cells that the other placements leave free."""
    taken = {
        (block.pod, *map(int.__add__, block.at, offset))
        for block in placed
        for offset in product(*map(range, block.sizes))
    }
    sizes = (1,) * len(pods.shape)
    free = (cell for cell in product(range(pods.count), *map(range, pods.shape)) if cell not in taken)
    return [Placement(item, cell[0], cell[1:], sizes) for item, count in slices for cell in islice(free, count)]
