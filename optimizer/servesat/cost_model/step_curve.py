"""How the time of a step grows with the batch, and up to which batch it stays within a limit (docs/cost-model.md).

The time to load weights grows as more experts are visited, and levels off; every other term is affine. So each term
grows with the batch, and falls, or stays, for each sequence of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from servesat.catalogue.model import ModelSpec
from servesat.core.arrays import Array, Floats
from servesat.cost_model.decode import Replica, expert_matrix_s, mlp_matmuls
from servesat.cost_model.memory import not_visited

MAX_TOKENS_PER_STEP = 1 << 21
"""More than any batch: the upper end of every bisection."""


@dataclass(frozen=True)
class WeightLoadTime:
    """Time to load the weights for a batch: fixed + experts · (1 - not_visited^((B + chunk_tokens) / stages)) [s].

    `not_visited` is the share of experts that one token does not visit; 0 where every step loads everything.
    """

    fixed_s: Array
    experts_s: Array
    not_visited: float
    chunk_tokens: Array = 0.0  # of the prefill chunk scheduled with the step
    stages: Array = 1.0  # each of which has a part of the tokens at a time

    def at(self, batch: Array) -> Array:
        """The time for a batch [s]."""
        if not self.not_visited:
            return self._all_s
        visits = (batch + self.chunk_tokens) / self.stages
        return self.fixed_s + self.experts_s * (1.0 - self.not_visited**visits)

    @property
    def _all_s(self) -> Array:
        return self.fixed_s + self.experts_s

    def largest_batch_within(self, limit_s: Array, slope_s: Array) -> Array:
        """The largest B with load(B) + slope · B ≤ limit; a whole number only where experts are visited."""
        least = np.asarray((limit_s - self._all_s) / slope_s)
        if not self.not_visited:
            return least
        most = np.asarray((limit_s - self.at(np.fmax(least, 0.0))) / slope_s)
        return last_true(lambda batch: self.at(batch) + slope_s * batch <= limit_s, most + 1.0, least - 1.0)

    def largest_batch_hiding(self, slope_s: Array) -> Array:
        """The largest B with slope · B ≤ load(B); a whole number only where experts are visited."""
        bound: Floats = np.asarray(self._all_s / slope_s)
        if not self.not_visited:
            return bound
        return last_true(lambda batch: slope_s * batch <= self.at(batch), *self._around_hidden(slope_s))

    def smallest_batch_for(self, budget_s: Array) -> Array:
        """The smallest B with load(B) ≤ budget · B; infinite without a budget, whole where experts are visited."""
        bound = _break_even_batch(self._all_s, budget_s)
        if not self.not_visited:
            return bound
        within = np.where(np.isfinite(bound) & (budget_s > 0), budget_s, 1e30)
        too_small = last_true(lambda batch: self.at(batch) > within * batch, *self._around_hidden(within))
        return np.where(np.isfinite(bound), too_small + 1.0, np.inf)

    def _around_hidden(self, slope_s: Array) -> tuple[Floats, Floats]:
        """More than the B at which slope · B = load(B), and less.

        B ← load(B) / slope approaches it from above with all experts loaded at first, from below with none. A sequence
        more or less makes up for rounding.
        """
        most, least = self._all_s / slope_s, self.fixed_s / slope_s
        for _ in range(3):
            most, least = self.at(most) / slope_s, self.at(least) / slope_s
        return np.asarray(most + 1.0), np.asarray(least - 1.0)


def last_true(holds: Callable[[Floats], Any], bound: Floats, from_: Floats | float = 0.0) -> Floats:
    """The last whole number up to a bound at which a condition holds, by bisection; 0 where it holds at none.

    Once the condition fails, it fails for every larger number. It is known to hold at `from_`, where that is above 0.
    """
    high = np.floor(np.clip(np.nan_to_num(bound, nan=0.0), 0.0, MAX_TOKENS_PER_STEP))
    low: Floats = np.minimum(np.floor(np.clip(np.nan_to_num(from_, nan=0.0), 0.0, MAX_TOKENS_PER_STEP)), high)
    while np.any(low < high):
        middle = np.ceil((low + high) / 2)
        held = np.asarray(holds(middle))
        low, high = np.where(held, middle, low), np.where(held, high, middle - 1)
    return low


@dataclass(frozen=True)
class AffineTime:
    """Time that grows with the batch: fixed + slope · B [s]."""

    fixed_s: Array
    slope_s: Array


@dataclass(frozen=True)
class StepTime:
    """The time per output token as a function of the batch: max(load(B), flops(B), ici(B)) + kv · B [s].

    `kv_s` is the KV cache of one sequence, and what else each sequence adds. The time grows with the batch, and falls,
    or stays, for each sequence of it.
    """

    load: WeightLoadTime
    flops: AffineTime
    ici: AffineTime
    kv_s: Array

    def at(self, batch: Array) -> Array:
        """The time per output token at a batch [s]."""
        flops, ici = (term.fixed_s + term.slope_s * batch for term in (self.flops, self.ici))
        return np.maximum(np.maximum(self.load.at(batch), flops), ici) + self.kv_s * batch

    def largest_batch_within(self, limit_s: Array) -> Array:
        """The largest B that takes no longer than the limit; below 1 where there is none, not always whole."""
        flops, ici = ((limit_s - term.fixed_s) / (term.slope_s + self.kv_s) for term in (self.flops, self.ici))
        return np.minimum(self.load.largest_batch_within(limit_s, self.kv_s), np.minimum(flops, ici))

    def smallest_batch_for(self, sequences_per_s: Array) -> Array:
        """The smallest B at which that many sequences get a token each second; infinite where none does."""
        budget_s = 1 / np.maximum(sequences_per_s, 1e-30)  # that each sequence of the batch may add to the step
        smallest = self.load.smallest_batch_for(budget_s - self.kv_s)
        for term in (self.flops, self.ici):
            smallest = np.maximum(smallest, _break_even_batch(term.fixed_s, budget_s - self.kv_s - term.slope_s))
        return smallest


def _break_even_batch(fixed_s: Array, budget_s: Array) -> Array:
    """The smallest B with fixed ≤ budget · B; infinite without a budget, unless nothing is fixed."""
    fixed_s, budget_s = np.broadcast_arrays(fixed_s, budget_s)
    pays = (budget_s > 0) | ((budget_s >= 0) & (fixed_s <= 0))
    return np.where(pays, fixed_s / np.where(budget_s > 0, budget_s, 1.0), np.inf)


def hidden_tokens(model: ModelSpec, replica: Replica, slack: float) -> Array:
    """The most tokens of a step whose MLP matmuls do not wait for the interconnect; infinite where none would.

    `slack` is by how much t_ici may exceed the other times, relatively.
    """
    largest: Array = np.inf + 0 * np.asarray(replica.tp)
    for matmul, load in zip(mlp_matmuls(model, replica, 1.0), _matrix_load_times(model, replica), strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            ici_s = np.asarray(matmul.ici_s / (1 + slack))
            of_layer = load.largest_batch_hiding(ici_s)
        hidden_by_flops = matmul.ici_s <= matmul.math_s * (1 + slack)
        largest = np.minimum(largest, np.where(hidden_by_flops, np.inf, of_layer))
    return largest


def _matrix_load_times(model: ModelSpec, replica: Replica) -> list[WeightLoadTime]:
    """Time to load the MLP matrix of each kind of layer, in the order of `mlp_matmuls`."""
    times = []
    if model.dense_layers:
        times.append(WeightLoadTime(mlp_matmuls(model, replica, 1.0)[0].hbm_s, 0.0, 0.0))
    if model.moe is not None:
        times.append(WeightLoadTime(*expert_matrix_s(model, replica), not_visited(model)))
    return times
