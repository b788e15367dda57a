"""Which numbers of slices of a layout the limits on resources and the constraints of a spec allow."""

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property, reduce
from itertools import islice
from operator import or_

import numpy as np

from servesat.candidates.columns import Columns, columns_at
from servesat.candidates.requirements import RULES, bits_of, violations
from servesat.core.arrays import Bools, Ints
from servesat.core.plan import Plan
from servesat.deployment.check.plan import rederive
from servesat.replay.verdict import GOODPUT
from servesat.spec.expressions import (
    Expression,
    ends_with_slices,
    follows_alone,
    follows_slices,
    upper_limit_with_slices,
)
from servesat.spec.keys import MAX_CONSTRAINTS
from servesat.spec.slo import LIMITS
from servesat.spec.spec import Spec

BLOCKS = (64, 1024, 16_384)
"""Numbers of slices among which the next allowed one is looked for, block by block."""


class SliceLimits:
    """The limits of a spec with percentiles on the number of slices.

    Columns have as many slices as the load needs. So constraints on figures that follow the number of slices are left
    out of `offered`, the spec that columns are evaluated under, and are asked of each number here.
    """

    def __init__(self, spec: Spec) -> None:
        """Of a spec whose limits on times are verified by replays, and left out of `offered` as well."""
        self.spec = spec
        self.constraints = [one for one in spec.expressions if follows_slices(one)]
        kept = [one for one in spec.expressions if one not in self.constraints]
        texts = {one.text: _with_limits(spec, one) for one in (*kept, *self.constraints)}
        self._texts = texts
        times = {f"slo.{name}": None for name in LIMITS}
        offered = tuple(dict.fromkeys(texts[one.text] for one in kept))
        self.offered = spec.in_means().changed({**times, "constraints": offered})
        implied = {one.text: upper_limit_with_slices(one) for one in self.constraints}
        told = {limit: text for text, limit in implied.items() if limit is not None and limit not in texts.values()}
        self._implied = dict(islice(told.items(), MAX_CONSTRAINTS - len(texts)))  # as many as masks have bits for
        # constraints of `offered` come first, so that a bit stands for the same constraint in the masks of both
        counted = tuple(dict.fromkeys((*texts.values(), *self._implied)))
        self._counted = self.offered.changed({"constraints": counted})

    @cached_property
    def bits(self) -> dict[str, int]:
        """The bit of each requirement in a mask, and that of the share of requests within all limits."""
        bits = bits_of(self._counted)
        stated = {text: bits[offered] for text, offered in self._texts.items()}
        others = {name: bit for name, bit in bits.items() if name not in {*self._texts.values(), *self._implied}}
        return {**others, **stated, GOODPUT: 2 * max(bits.values())}

    @cached_property
    def ending(self) -> int:
        """The mask of limits that more slices break, once some do: on resources, and constraints such as chips <= 8.

        Among them are the upper limits that equalities imply: `chips == 8` is broken for good above 8.
        """
        bits = bits_of(self._counted)
        resources = sum(self.bits[name] for name, rule in RULES.items() if rule.shared is not None)
        implied = sum(bits[limit] for limit in self._implied)
        return resources | implied | _joined(self.bits[one.text] for one in self.constraints if ends_with_slices(one))

    @cached_property
    def stated(self) -> int:
        """The mask of what a spec states: all but the upper limits that equalities imply."""
        return _joined(self.bits.values())

    @cached_property
    def on_prefill(self) -> int:
        """The mask of constraints that count the slices of a prefill pool alone."""
        return self._on("prefill.slices")

    @cached_property
    def on_decode(self) -> int:
        """The mask of constraints that count the slices of the other pool alone, or of the only one."""
        return self._on("slices")

    def _on(self, name: str) -> int:
        return _joined(self.bits[one.text] for one in self.constraints if follows_alone(one, name))

    @cached_property
    def on_resources(self) -> bool:
        """Whether there are limits on resources."""
        search = self.spec.search
        return any((search.max_chips, search.max_usd_per_hour, search.max_instances, search.max_slices, search.quota))

    def resources_violated(self, plan: Plan) -> int:
        """The limits on resources that a plan violates, as a mask."""
        if not self.on_resources:
            return 0
        _, margins = rederive(self.spec, plan)
        return self.ending & sum(self.bits[name] for name in {one.requirement for one in margins if not one.holds})

    def violated(self, candidate: Columns, slices: Ints, pool_slices: Ints) -> Ints:
        """What numbers of slices of one candidate violate of these limits, as masks; shape [numbers].

        Upper limits that equalities imply are among them.
        """
        return self._violated(candidate.take(np.zeros(len(slices), dtype=np.int64)), slices, pool_slices)

    def _violated(self, columns: Columns, slices: Ints, pool_slices: Ints) -> Ints:
        """The same for a number of each column."""
        layouts = replace(columns.layouts, serving=replace(columns.layouts.serving, pool_slices=pool_slices))
        mask = self.ending | _joined(self.bits[one.text] for one in self.constraints)
        return violations(self._counted, columns_at(self._counted, layouts, columns.batch, slices), mask)

    def _told(self, masks: Ints) -> Ints:
        """What ends the numbers of slices, as a spec states it: equalities in place of the limits that they imply."""
        bits, told = bits_of(self._counted), masks & self.ending & self.stated
        for limit, equality in self._implied.items():
            told |= np.where(masks & bits[limit], self.bits[equality], 0)
        return told

    def beyond(self, columns: Columns) -> Ints:
        """What more slices than columns have cannot mend of these limits, as masks; shape [columns]."""
        if not self.constraints:
            return np.zeros_like(columns.batch)
        return self._told(violations(self._counted, columns, self.ending))

    def first_allowed(self, columns: Columns) -> tuple[Ints, Bools, set[int]]:
        """The fewest slices allowed to each column, which columns have none, and what fewer violate, as masks.

        Columns of two pools, and those whose number is not among the first of `BLOCKS`, are left to `next_allowed`.
        """
        slices, is_ended, broken = columns.slices.copy(), np.zeros(len(columns), dtype=np.bool_), set[int]()
        if not self.constraints:
            return slices, is_ended, broken
        left = np.flatnonzero(columns.layouts.serving.pool_slices == 0)
        for _ in range(BLOCKS[0]):
            masks = self._violated(columns.take(left), slices[left], np.zeros_like(left))
            ending = self._told(masks) | (masks & self.on_prefill)
            is_ended[left] = ending != 0
            broken.update(np.unique(np.where(ending != 0, ending, masks & self.stated)).tolist())
            left = left[(masks != 0) & (ending == 0)]
            if not len(left):
                break
            slices[left] += 1
        return slices, is_ended, broken - {0}

    def next_allowed(self, candidate: Columns, above: int) -> tuple[int | None, int]:
        """The next number of slices of one pool that is allowed, or None and the mask of what ends the numbers.

        The mask is 0 where none is found among those of `BLOCKS`.
        """
        for size in BLOCKS:
            slices = np.arange(above + 1, above + 1 + size)
            masks = self.violated(candidate, slices, np.zeros_like(slices))
            told = np.flatnonzero((masks == 0) | (masks & self.ending != 0))
            if len(told):
                first = told[0]
                return (int(slices[first]), 0) if masks[first] == 0 else (None, int(masks[first]))
            above += size
        return None, 0


def _joined(bits: Iterable[int]) -> int:
    """A mask of bits, of which constraints that say the same share one."""
    return reduce(or_, bits, 0)


def _with_limits(spec: Spec, constraint: Expression) -> str:
    """The text of a constraint with the numbers of the limits on times that it names, which are left out."""
    text = constraint.text
    for name in LIMITS:
        text = re.sub(rf"\bslo\.{name}\b", repr(getattr(spec.slo, name)), text)
    return text
