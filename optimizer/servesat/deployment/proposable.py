"""The layouts that may pass a replay, the batch that each is proposed with, and how close its means are to limits."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.evaluation import evaluate
from servesat.candidates.layouts import Layouts, decoding
from servesat.candidates.requirement_formulas import tokens_per_s_to_meet_demand
from servesat.candidates.rule import REQUIREMENT_BIT
from servesat.candidates.serving_modes import in_modes, searched_layouts
from servesat.candidates.step_times import prompt_times, replica_times
from servesat.core.arrays import Bools, Floats, Ints
from servesat.core.plan import Mode
from servesat.core.tolerances import is_at_most
from servesat.replay.replayed import Limit, limits_of
from servesat.spec.spec import Spec


def worth_replaying(spec: Spec, offered: Spec, *, undominated: bool = True) -> Columns:
    """Every batch worth trying of each layout, with what it violates besides the limits that replays verify.

    `offered` is the spec in means, without those limits; of `undominated` layouts, or of all.
    """
    layouts = _layouts(spec, offered, undominated=undominated)
    columns = evaluate(offered, layouts)
    return replace(columns, violated=columns.violated | _beyond_bounds(spec, columns.layouts))


def largest_batches(columns: Columns) -> Columns:
    """The largest batch of each layout that violates nothing: it needs the fewest slices."""
    legal = columns.take(np.flatnonzero(columns.violated == 0))
    order = np.lexsort((-legal.batch, legal.usd_per_hour, legal.layouts.number))
    _, first = np.unique(legal.layouts.number[order], return_index=True)
    return legal.take(order[first])


def largest_shares(spec: Spec, columns: Columns, limits: Sequence[Limit]) -> Floats:
    """How much of a limit the means use at most, for each column at the smallest batch that serves the load.

    Without limits the time per token [s], as the fastest of the cheapest plans is the best.
    """
    batch = np.clip(fewest_sequences(spec, columns.layouts, columns.slices), 1, columns.batch)
    at = replica_times(spec, columns.layouts).at(batch)
    figures = {"ttft": at.ttft_s, "tpot": at.tpot_s, "e2e": at.e2e_s}
    shares = [figures[limit.requirement] / limit.limit_s for limit in limits]
    return np.asarray(np.max(shares, axis=0)) if shares else at.tpot_s


def assume_networks(layouts: Layouts) -> Bools:
    """Which layouts have two pools on instances of whose network no price says anything; shape [layouts]."""
    of_place = np.array([place.offer.assumes_network for place in layouts.places], dtype=np.bool_)
    pool = layouts.serving.pool_place
    assumed: Bools = (pool >= 0) & (of_place[layouts.place] | of_place[pool])
    return assumed


def fewest_sequences(spec: Spec, layouts: Layouts, slices: Ints) -> Floats:
    """The smallest batch at which so much of this many slices as is counted on serves the demand; infinite if none."""
    demanded = tokens_per_s_to_meet_demand(spec, np.asarray(slices, dtype=np.float64))
    return replica_times(spec, layouts).smallest_batch_for(demanded / layouts.counted_replicas)


def _layouts(spec: Spec, offered: Spec, *, undominated: bool) -> Layouts:
    """The layouts of a search; of pairs of pools those that are cheapest, and those whose means are within limits.

    Constraints on what follows the number of slices are asked of each number later (`SliceLimits`).
    """
    one_pool = [mode for mode in spec.modes if mode is not Mode.DISAGGREGATED]
    searched = searched_layouts(offered, undominated=undominated)
    parts = []
    if one_pool:
        parts.append(in_modes(offered.changed({"search.modes": one_pool}), searched))
    if Mode.DISAGGREGATED in spec.modes and spec.has_network:
        for limited in (offered, spec.in_means().changed({"constraints": offered.constraints})):
            parts.append(in_modes(limited.changed({"search.modes": [Mode.DISAGGREGATED]}), searched))
    parts = [part for part in parts if len(part)] or parts[:1]
    joined = parts[0].join(*parts[1:])
    return replace(joined, number=np.arange(len(joined)))


def _beyond_bounds(spec: Spec, layouts: Layouts) -> Ints:
    """The bits of limits that a request alone on a replica breaks: its prompt's work, and a step of one sequence.

    Where lengths differ, the work is that of the prompt that as many requests exceed as may be beyond the limit, and
    the step that of a short context; two pools are then left to replays.
    """
    workload, slower = spec.workload, 1 + layouts.tpot_margin
    without_prompts = replace(layouts, serving=decoding(layouts.serving.slices))
    drafting = layouts.replica.drafting  # with luck every token drafted is accepted
    of_step = spec if workload.is_alike else _with_lengths(spec, 1, 1)
    step = replica_times(of_step, without_prompts).at(np.ones(len(layouts))).tpot_s * slower
    step = step * (drafting.accepted / drafting.verified)
    mask = np.zeros(len(layouts), dtype=np.int64)
    for limit in limits_of(spec):
        prompt_tokens, output_tokens = workload.lengths_at(limit.share, spec.longest_request_tokens)
        at_share = spec if workload.is_alike else _with_lengths(spec, prompt_tokens, output_tokens)
        prompt = prompt_times(at_share, layouts)
        work = (prompt.request_s + np.minimum(prompt.prefill_s, prompt.chunked_s)) * slower
        of_pools = layouts.serving.first_token_s if workload.is_alike else np.zeros(len(layouts))
        work = np.where(layouts.serving.pool_place >= 0, of_pools, work)
        answer = (output_tokens - 1) * step
        whole = work + answer if workload.is_alike else np.maximum(work, answer)
        least = {"ttft": work, "tpot": step, "e2e": whole}[limit.requirement]
        mask |= np.where(is_at_most(least, limit.limit_s), 0, REQUIREMENT_BIT[limit.requirement])
    return mask


def _with_lengths(spec: Spec, prompt_tokens: int, output_tokens: int) -> Spec:
    """The spec with requests of other lengths."""
    lengths = {"prompt_tokens": prompt_tokens, "output_tokens": output_tokens, "context_tokens": None}
    return spec.model_copy(update={"workload": spec.workload.model_copy(update=lengths)})
