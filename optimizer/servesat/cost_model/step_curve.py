"""How times grow with the batch, and up to which batch they stay within a limit (docs/cost-model.md, "Step").

Loading weights grows as more experts are visited, and levels off; all else is a line. So every time grows with the
batch, and its share for each sequence falls or stays.
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
"""More than any batch: where the search for the last batch ends."""


@dataclass(frozen=True)
class WeightLoadTime:
    """Time to load weights for so many tokens, of which experts are read as they are visited [s].

    fixed + experts · (1 - kept^tokens), where `kept` is the share of experts that one token does not visit.
    """

    fixed_s: Array
    experts_s: Array
    kept: float
    chunk_tokens: Array = 0.0  # tokens that ride on each step beside the batch

    def at(self, batch: Array) -> Array:
        """The time for a batch [s]."""
        if not self.kept:
            return self._all_s
        return self.fixed_s + self.experts_s * (1.0 - self.kept ** (batch + self.chunk_tokens))

    @property
    def _all_s(self) -> Array:
        return self.fixed_s + self.experts_s

    def largest_batch_within(self, limit_s: Array, slope_s: Array) -> Array:
        """The largest B for which load + slope · B is within the limit; not rounded where nothing is visited."""
        if not self.kept:
            return (limit_s - self._all_s) / slope_s
        most = np.asarray((limit_s - self.fixed_s) / slope_s)
        return _last_true(lambda batch: self.at(batch) + slope_s * batch <= limit_s, most)

    def largest_batch_within_line(self, slope_s: Array) -> Array:
        """The largest B for which slope · B is within the load; not rounded where nothing is visited."""
        most: Floats = np.asarray(self._all_s / slope_s)
        return _last_true(lambda batch: slope_s * batch <= self.at(batch), most) if self.kept else most

    def smallest_batch_for(self, left_s: Array) -> Array:
        """The least B with load ≤ left · B; not rounded where nothing is visited, infinite where nothing is left."""
        enough = _break_even_batch(self._all_s, left_s)
        if not self.kept:
            return enough
        short = _last_true(lambda batch: self.at(batch) > left_s * batch, np.asarray(enough))
        return np.where(np.isfinite(enough), short + 1.0, np.inf)


def _last_true(holds: Callable[[Floats], Any], most: Floats) -> Floats:
    """The last whole number up to `most` at which a condition holds that, once it fails, fails for good; 0 for none."""
    high = np.floor(np.clip(np.nan_to_num(most, nan=0.0), 0.0, MAX_TOKENS_PER_STEP))
    low = np.zeros_like(high)
    while np.any(low < high):
        middle = np.ceil((low + high) / 2)
        fine = np.asarray(holds(middle))
        low, high = np.where(fine, middle, low), np.where(fine, high, middle - 1)
    return low


@dataclass(frozen=True)
class AffineTime:
    """Time that grows with the batch: fixed + slope · B [s]."""

    fixed_s: Array
    slope_s: Array


@dataclass(frozen=True)
class StepTime:
    """The time per output token as a function of the batch: max(load, flops, ici) + kv · B [s].

    `load` is loading the weights; the two lines are the FLOPs and the interconnect; `kv` is a sequence's cache, and
    what else each sequence adds. It grows with the batch, and falls, or stays, for each sequence of it.
    """

    load: WeightLoadTime
    flops: AffineTime
    ici: AffineTime
    kv_s: Array

    def at(self, batch: Array) -> Array:
        """The time per output token at a batch [s]."""
        flops, ici = (line.fixed_s + line.slope_s * batch for line in (self.flops, self.ici))
        return np.maximum(np.maximum(self.load.at(batch), flops), ici) + self.kv_s * batch

    def largest_batch_within(self, limit_s: Array) -> Array:
        """The largest B that takes no longer than the limit; below 1 where there is none, not always rounded."""
        flops, ici = ((limit_s - line.fixed_s) / (line.slope_s + self.kv_s) for line in (self.flops, self.ici))
        return np.minimum(self.load.largest_batch_within(limit_s, self.kv_s), np.minimum(flops, ici))

    def smallest_batch_for(self, sequences_per_s: Array) -> Array:
        """The least B at which so many sequences a second get a token; infinite where none does, not always rounded."""
        budget_s = 1 / np.maximum(sequences_per_s, 1e-30)  # what a sequence of the batch may add to the step
        least = self.load.smallest_batch_for(budget_s - self.kv_s)
        for line in (self.flops, self.ici):
            least = np.maximum(least, _break_even_batch(line.fixed_s, budget_s - self.kv_s - line.slope_s))
        return least


def _break_even_batch(fixed_s: Array, left_s: Array) -> Array:
    """The least B with fixed ≤ left · B; infinite where nothing is left."""
    fixed_s, left_s = np.broadcast_arrays(fixed_s, left_s)
    enough = (left_s > 0) | ((left_s >= 0) & (fixed_s <= 0))
    return np.where(enough, fixed_s / np.where(left_s > 0, left_s, 1.0), np.inf)


def hidden_tokens(model: ModelSpec, replica: Replica, slack: float) -> Array:
    """The most tokens of a step whose MLP matmuls do not wait for the interconnect; infinite where none would.

    `slack` is what t_ici may exceed the others by, relatively.
    """
    most: Array = np.inf
    for matmul, loads in zip(mlp_matmuls(model, replica, 1.0), _matrix_loads(model, replica), strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            ici_s = np.asarray(matmul.ici_s / (1 + slack))
            here = loads.largest_batch_within_line(ici_s)
        most = np.minimum(most, np.where(matmul.ici_s <= matmul.math_s * (1 + slack), np.inf, here))
    return most


def _matrix_loads(model: ModelSpec, replica: Replica) -> list[WeightLoadTime]:
    """Time to load the MLP matrix of each kind of layer, in the order of `mlp_matmuls`."""
    kept, found = not_visited(model), []
    if model.d_ff:
        found.append(WeightLoadTime(mlp_matmuls(model, replica, 1.0)[0].hbm_s, 0.0, 0.0))
    if model.moe is not None:
        found.append(WeightLoadTime(*expert_matrix_s(model, replica), kept))
    return found
