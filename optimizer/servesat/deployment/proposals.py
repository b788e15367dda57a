"""The search for the cheapest plan under percentiles: proposals in order of cost, each tested by replays.

A first look rules most proposals out, and a verdict of many replays decides on those that pass it. Of a layout that
fails, the fewest slices that pass a first look are proposed next. Where constraints name what follows the number of
slices, numbers are proposed one after another, and those that they forbid passed over without a replay.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heappush

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.requirements import RULES
from servesat.candidates.rule import REQUIREMENT_BIT, Kind, Requirement
from servesat.core.errors import SolverError
from servesat.core.plan import Plan
from servesat.core.result import Fallen, Margin
from servesat.deployment.check.plan import rederive
from servesat.deployment.conflicts import minimal_conflicts
from servesat.deployment.fewest_slices import Deadline, FewestSlices
from servesat.deployment.first_looks import (
    ALONE,
    CHECK,
    FirstLooks,
    Key,
    Proposal,
    servers_slower,
    with_batch,
    with_slices,
)
from servesat.deployment.proposable import assume_networks, largest_batches, largest_shares, worth_replaying
from servesat.deployment.settings import Settings
from servesat.deployment.slice_limits import SliceLimits
from servesat.replay.pools import Servers
from servesat.replay.replayed import limits_of
from servesat.replay.verdict import GOODPUT, Verdict, verdict
from servesat.spec.spec import Spec

STEPS_TO_DOUBLE = 32
"""Slices are added in steps of this part of their number, at least 1, after a verdict or to two pools."""

SEEDS_OF_FEWER = 16
"""Most replays of a number of slices between one that failed and one that passed; if still undecided, it fails."""

FORBIDDEN = 64
"""Slices added to two pools whose numbers constraints forbid, after which no more are."""


@dataclass(frozen=True)
class Verified:
    """A plan that passed its replays, with its margins."""

    plan: Plan
    margins: tuple[Margin, ...]
    verdict: Verdict


class Search:
    """The proposals of a spec and the outcome of each test."""

    def __init__(
        self, spec: Spec, start: float, settings: Settings, on_progress: Callable[[str], None] = lambda _: None
    ) -> None:
        """`start` is when the time limit began, `on_progress` is called with a description of each step."""
        self.spec = spec
        self.slice_limits = SliceLimits(spec)
        self.bits = self.slice_limits.bits
        self.limits = limits_of(spec)
        self.deadline = Deadline(start, settings.time_limit_s)
        self.most_seeds = settings.most_seeds
        self.on_progress = on_progress
        self.fallen: list[Fallen] = []
        self.broken: set[int] = set()  # what each proposal that fell violates, as a mask
        self.undecided = False
        self._rejected: dict[int, int] = {}  # the most slices of a layout that a verdict rejected
        self._proposed: set[Key] = set()  # of two pools: each is reached by adding to either

    @cached_property
    def columns(self) -> Columns:
        """Every batch worth trying of each layout, with what it violates besides the limits that replays verify."""
        return worth_replaying(self.spec, self.slice_limits.offered)

    @cached_property
    def candidates(self) -> Columns:
        """The largest batch of each layout that may pass: it needs the fewest slices."""
        largest = largest_batches(self.columns)
        return largest.take(np.flatnonzero(self.slice_limits.beyond(largest) == 0))

    @cached_property
    def looks(self) -> FirstLooks:
        """The first look at each proposal."""
        return FirstLooks(self.spec, self.slice_limits.offered, self.candidates, self.limits)

    @cached_property
    def fewest(self) -> FewestSlices:
        """The numbers of slices of each layout."""
        return FewestSlices(self.looks, self.slice_limits, self.deadline)

    @property
    def bound_usd_per_million(self) -> float:
        """The least cost of a proposal."""
        return float(self.candidates.usd_per_million.min())

    def run(self) -> Verified | None:
        """The plan that passes."""
        queue = self._first_proposals()
        passing: dict[Key, float] = {}  # costs of queued proposals that passed a first look
        while queue and not self.deadline.is_over:
            proposal = heappop(queue)
            self.on_progress(
                f"plans from ${proposal.usd_per_hour:,.2f} an hour: {len(self.looks.outcomes):,} replayed, "
                f"{len(self.fallen):,} broke a limit"
            )
            passing.pop(proposal.key, None)
            if forbidden := self._forbidden(proposal):
                self.broken.add(forbidden & self.slice_limits.stated)
                for allowed in self._allowed_after(proposal, forbidden):
                    heappush(queue, allowed)
                continue
            found = self._tested(proposal, self.most_seeds)
            if not isinstance(found, tuple):
                return self._fewer(proposal, found)
            broken = found
            if self.looks.passes(proposal):
                self._rejected[proposal.row] = proposal.slices
            self._fell(proposal, broken)
            for following in self._following(proposal, broken, min(passing.values(), default=np.inf)):
                if (known := self.looks.outcomes.get(following.key)) is not None and not known.broken:
                    passing[following.key] = following.usd_per_hour
                heappush(queue, following)
        return None

    def _first_proposals(self) -> list[Proposal]:
        columns = self.candidates
        strain, pool_slices = largest_shares(self.spec, columns, self.limits), columns.layouts.serving.pool_slices
        slices, is_ended, broken = self.slice_limits.first_allowed(columns)
        self.broken |= broken
        usd = columns.layouts.purchase.usd_per_hour(slices, pool_slices)
        assumes = assume_networks(columns.layouts)
        queue = [
            Proposal(
                usd_per_hour=float(usd[row]),
                assumes_network=bool(assumes[row]),
                strain=float(strain[row]),
                row=row,
                slices=int(slices[row]),
                pool_slices=int(pool_slices[row]),
            )
            for row in np.flatnonzero(~is_ended).tolist()
        ]
        heapify(queue)
        return queue

    def _forbidden(self, proposal: Proposal) -> int:
        """The constraints on numbers of slices that a proposal violates, with the limits on resources, as a mask."""
        if not self.slice_limits.constraints:
            return 0
        slices, pool_slices = np.array([proposal.slices]), np.array([proposal.pool_slices])
        return int(self.slice_limits.violated(self._candidate(proposal), slices, pool_slices)[0])

    def _allowed_after(self, proposal: Proposal, forbidden: int) -> Iterator[Proposal]:
        """What to propose of a layout in place of numbers of slices that constraints forbid.

        Of one pool the next number that they allow, of two one more in either. Where none is found, and no limit ends
        the numbers, the search is undecided.
        """
        if forbidden & self.slice_limits.ending or (
            not proposal.pool_slices and forbidden & self.slice_limits.on_prefill
        ):
            return
        if not proposal.pool_slices:
            slices, ended = self.slice_limits.next_allowed(self._candidate(proposal), proposal.slices)
            if slices is not None:
                yield self.fewest.counted(proposal, slices, 0)
            elif ended:
                self.broken.add(ended & self.slice_limits.stated)
            else:
                self.undecided = True
            return
        steps: tuple[tuple[int, int], ...] = ((1, 0), (0, 1))
        if forbidden & self.slice_limits.on_decode:  # more slices of the other pool would not help
            steps = ((1, 0),)
        elif forbidden & self.slice_limits.on_prefill:
            steps = ((0, 1),)
        first = self._candidate(proposal)
        if proposal.slices + proposal.pool_slices < first.slices[0] + first.layouts.serving.pool_slices[0] + FORBIDDEN:
            yield from self._new(proposal, steps)
        else:
            self.undecided = True

    def _candidate(self, proposal: Proposal) -> Columns:
        """The column that a proposal began with."""
        return self.candidates.take(np.array([proposal.row]))

    def _tested(self, proposal: Proposal, most_seeds: int) -> Verified | tuple[str, ...]:
        """The plan of a proposal, at the largest batch that passes or a smaller one; or what it breaks."""
        look = self.looks.of(proposal)
        if look.broken:
            return look.broken
        found, whole = self._verified(proposal, look.batch, most_seeds), self.looks.plan(proposal.row)
        assert whole is not None
        if not isinstance(found, tuple) or (found != (Requirement.TPOT,) and look.batch == whole.batch):
            return found
        passed: list[Verified] = []

        def broken(plan: Plan) -> tuple[str, ...]:
            if self.deadline.is_over:
                return found
            tested = self.looks.broken(plan) or self._verified(proposal, plan.batch, most_seeds)
            if isinstance(tested, tuple):
                return tested
            passed.append(tested)
            return ()

        self.looks.smaller_batch(proposal, broken)
        return passed[0] if passed else found

    def _verified(self, proposal: Proposal, batch: int, most_seeds: int) -> Verified | tuple[str, ...]:
        """The plan of a proposal at a batch, or at as many sequences as its replays ran; or what it breaks."""
        whole = self.looks.plan(proposal.row)
        assert whole is not None
        plan = with_batch(with_slices(whole, proposal.slices, proposal.pool_slices), batch)
        servers = servers_slower(self.spec, plan)
        if self.looks.is_late(servers):
            return (Requirement.TTFT,)
        tested = self._verdict(servers, most_seeds)
        if tested.holds is not True:
            self.undecided |= tested.holds is None
            broken = tuple(dict.fromkeys(kept.limit.requirement for kept in tested.kept if kept.holds is False))
            self.looks.remember(servers, broken)
            return broken or ("undecided",)
        enough = int(self.looks.batches(proposal, tested.most_sequences)[0])
        for sequences in dict.fromkeys((min(enough, batch), batch)):
            try:
                final, margins = rederive(self.spec, with_batch(plan, sequences))
            except SolverError:
                continue
            # fewer sequences leave prompts a smaller budget in each step, and so have to pass replays of their own
            if all(margin.holds for margin in margins):
                tested = self._verdict(servers_slower(self.spec, final), most_seeds)
                if tested.holds:
                    return Verified(final, margins, tested)
        return (CHECK,)

    def _verdict(self, servers: Servers, most_seeds: int) -> Verdict:
        return verdict(self.spec.workload, servers, self.limits, self.spec.slo.goodput, most_seeds)

    def _fewer(self, proposal: Proposal, verified: Verified) -> Verified:
        """The plan with the fewest slices between those that a verdict rejected and those that passed, by bisection."""
        failed, passed = self._rejected.get(proposal.row, proposal.slices), proposal.slices
        while not proposal.pool_slices and passed - failed > 1 and not self.deadline.is_over:
            middle = self.fewest.counted(proposal, (failed + passed) // 2, 0)
            found = self._tested(middle, min(self.most_seeds, SEEDS_OF_FEWER))
            if isinstance(found, tuple):
                failed = middle.slices
            else:
                verified, passed = found, middle.slices
        return verified

    def _fell(self, proposal: Proposal, broken: tuple[str, ...]) -> None:
        columns = self.candidates
        place = columns.layouts.places[columns.layouts.place[proposal.row]]
        assignment = columns.assignment(proposal.row)
        names = tuple(name for name in broken if name in REQUIREMENT_BIT or name == GOODPUT)
        self.undecided |= not names  # replays did not tell, or the check refused what the columns allow
        if names:
            self.broken.add(sum(self.bits[name] for name in names))
        self.fallen.append(
            Fallen(
                chip=place.offer.chip.id,
                topology=place.topology,
                mode=str(assignment.mode),
                engine=assignment.engine,
                slices=proposal.slices,
                usd_per_hour=proposal.usd_per_hour,
                broken=names,
            )
        )

    def _following(self, proposal: Proposal, broken: tuple[str, ...], most: float) -> Iterator[Proposal]:
        """What to propose next of a layout that failed: the fewest slices that pass, or more in either pool."""
        if ALONE in broken or CHECK in broken:
            return
        if not proposal.pool_slices:
            if self.slice_limits.constraints:
                yield self.fewest.counted(proposal, proposal.slices + 1, 0)
                return
            passes = self.looks.passes
            if passes(proposal):  # a verdict rejected it, as it would reject others that pass a first look
                passes, step = self.looks.is_likely, max(1, proposal.slices // STEPS_TO_DOUBLE)
                ahead = self.fewest.proposal(proposal, proposal.slices + step, 0)
                if ahead is not None and ahead.usd_per_hour < most:
                    proposal = self.fewest.counted(proposal, proposal.slices + step - 1, 0)
            if (passing := self.fewest.passing_after(proposal, most, passes)) is not None:
                yield passing
            return
        of_prompts = Requirement.TTFT in broken  # more slices in the decode pool would not help
        steps = max(1, proposal.slices // STEPS_TO_DOUBLE), max(1, proposal.pool_slices // STEPS_TO_DOUBLE)
        yield from self._new(proposal, ((0, steps[1]),) if of_prompts else ((steps[0], 0), (0, steps[1])))

    def _new(self, proposal: Proposal, steps: Iterable[tuple[int, int]]) -> Iterator[Proposal]:
        """The proposals that are some steps from one, and were not proposed before."""
        for step, pool_step in steps:
            following = self.fewest.proposal(proposal, proposal.slices + step, proposal.pool_slices + pool_step)
            if following is not None and following.key not in self._proposed:
                self._proposed.add(following.key)
                yield following

    def conflicts(self) -> tuple[tuple[str, ...], ...]:
        """The minimal sets of requirements that no plan satisfies together.

        What no spec can change, as the memory of chips, is among them only where every layout breaks some of it.
        """
        found = self.columns
        if not len(found):  # what no engine runs is not among them
            found = worth_replaying(self.spec, self.slice_limits.offered, undominated=False)
        violated = found.violated | self.slice_limits.beyond(found)
        masks = [*violated[violated > 0].tolist(), *self.broken, *self.fewest.violated]
        given = sum(self.bits[name] for name, rule in RULES.items() if rule.kind in {Kind.STRUCTURE, Kind.HARDWARE})
        changeable = [mask for mask in masks if not mask & given]
        return minimal_conflicts(changeable or masks, self.bits)
