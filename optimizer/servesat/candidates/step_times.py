"""The times of requests on a spec's layouts, by the batch: under the ideal cost model, and under the calibrated one."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np

from servesat.candidates.layouts import Layouts
from servesat.core.arrays import Array, Bools, Floats
from servesat.cost_model import calibrated
from servesat.cost_model.decode import decode_step, layers_ici_s, load_parts_s
from servesat.cost_model.memory import not_visited
from servesat.cost_model.prefill import HOST_LINK_REACH, host_load_s, prompt_flops_s, prompt_s
from servesat.cost_model.step_curve import AffineTime, StepTime, WeightLoadTime, last_true
from servesat.spec.spec import Spec


class Times(NamedTuple):
    """What requests take on a replica of each layout at a batch [s], and what it puts out; shape [layouts] each.

    `tpot_s` is the mean time per output token, `stall_s` the longest pause between two tokens.
    """

    tpot_s: Floats
    stall_s: Floats
    ttft_s: Floats
    e2e_s: Floats
    tokens_per_s: Floats


class ReplicaTimes(ABC):
    """The times of layouts as functions of the batch: each grows with it, or stays, and so does what is put out."""

    def __init__(self, spec: Spec, layouts: Layouts) -> None:
        """Of the layouts of a spec, in their serving modes."""
        self.spec, self.layouts = spec, layouts

    @abstractmethod
    def at(self, batch: Array) -> Times:
        """The times at a batch of each layout."""

    @abstractmethod
    def largest_batch_within_tpot(self, limit_s: Array) -> Floats:
        """The largest batch of each layout whose time per output token is within a limit; not always whole."""

    @abstractmethod
    def largest_batch_within_ttft(self, limit_s: Array) -> Floats:
        """The largest batch whose first token is in time; infinite where no decode step precedes it."""

    @abstractmethod
    def largest_batch_within_e2e(self, limit_s: Array) -> Floats:
        """The largest batch whose last token is in time."""

    @abstractmethod
    def largest_batch_within_stall(self, limit_s: Array) -> Floats:
        """The largest batch that no pause keeps from a limit, those of whole prompts aside."""

    @abstractmethod
    def smallest_batch_for(self, tokens_per_s: Array) -> Floats:
        """The smallest batch at which a replica puts out so many tokens a second; infinite where none does."""


def replica_times(spec: Spec, layouts: Layouts) -> ReplicaTimes:
    """The times of some layouts of a spec, by its cost model."""
    if spec.calibration is not None:
        return CalibratedTimes(spec, layouts)
    return DraftedTimes(spec, layouts) if spec.drafts else IdealTimes(spec, layouts)


class _BisectedTimes(ReplicaTimes):
    """Batches within a limit are found by bisection, as times are sums of maxima; those found are whole."""

    def _largest(self, holds: Callable[[Times], Bools]) -> Floats:
        most = np.full(len(self.layouts), float(self.spec.search.max_batch))
        return last_true(lambda batch: holds(self.at(np.maximum(batch, 1.0))), most)

    def largest_batch_within_tpot(self, limit_s: Array) -> Floats:
        """By bisection."""
        return self._largest(lambda times: times.tpot_s <= limit_s)

    def largest_batch_within_ttft(self, limit_s: Array) -> Floats:
        """By bisection; where no step precedes the first token no batch delays it."""
        largest = self._largest(lambda times: times.ttft_s <= limit_s)
        return np.where(self.layouts.serving.first_token_steps > 0, largest, np.inf)

    def largest_batch_within_e2e(self, limit_s: Array) -> Floats:
        """By bisection."""
        return self._largest(lambda times: times.e2e_s <= limit_s)

    def largest_batch_within_stall(self, limit_s: Array) -> Floats:
        """By bisection, with the prompt."""
        return self._largest(lambda times: times.stall_s <= limit_s)

    def smallest_batch_for(self, tokens_per_s: Array) -> Floats:
        """By bisection: one more than the last batch that puts out less."""
        too_small = self._largest(lambda times: times.tokens_per_s < tokens_per_s)
        return np.where(too_small < self.spec.search.max_batch, too_small + 1.0, np.inf)


class DraftedTimes(_BisectedTimes):
    """The ideal cost model where tokens are drafted ahead: a step is a sum of maxima."""

    def at(self, batch: Array) -> Times:
        """As without a draft, of the tokens that a step makes."""
        return ideal_times(self.spec, self.layouts, batch)


class IdealTimes(ReplicaTimes):
    """A step is a maximum of affine terms, so that the batches within a limit have a closed form."""

    def at(self, batch: Array) -> Times:
        """Prefill delays tokens by its mean, and the first token by itself."""
        return ideal_times(self.spec, self.layouts, batch)

    @cached_property
    def curve(self) -> StepTime:
        """The time per output token as a function of the batch."""
        spec, serving, replica = self.spec, self.layouts.serving, self.layouts.replica
        ones = np.ones(len(self.layouts))
        alone = decode_step(spec.model, spec.workload.read_tokens, replica, ones, pay_ici=spec.pays_ici)
        chunk_tokens = serving.chunk_tokens_per_step
        chunk_ici_s = layers_ici_s(spec.model, replica, chunk_tokens) if spec.pays_ici else 0.0 * alone.ici_s
        return StepTime(
            load=WeightLoadTime(*load_parts_s(replica), not_visited(spec.model), chunk_tokens, replica.pp),
            flops=AffineTime(serving.chunk_s_per_step, alone.flops_s),
            ici=AffineTime(chunk_ici_s, alone.ici_s),
            kv_s=alone.kv_cache_s + alone.kv_exchange_s + alone.pipeline_s + serving.prefill_s_per_output_token,
        )

    def largest_batch_within_tpot(self, limit_s: Array) -> Floats:
        """That of the curve."""
        return np.asarray(self.curve.largest_batch_within(limit_s))

    def largest_batch_within_ttft(self, limit_s: Array) -> Floats:
        """A chunked prompt takes as many steps as it has chunks; another does not depend on the batch."""
        serving = self.layouts.serving
        of_step_s = (limit_s - serving.first_token_s) / np.maximum(serving.first_token_steps, 1.0)
        return np.where(serving.first_token_steps > 0, self.curve.largest_batch_within(of_step_s), np.inf)

    def largest_batch_within_e2e(self, limit_s: Array) -> Floats:
        """The steps of the first token, and G - 1 more; with one token to a request, no batch delays its end."""
        serving = self.layouts.serving
        steps = serving.first_token_steps + (self.spec.workload.output_tokens or 0) - 1
        of_step_s = (limit_s - serving.first_token_s) / np.maximum(steps, 1.0)
        first_alone = np.where(of_step_s >= 0, np.inf, 0.0)
        return np.where(steps > 0, self.curve.largest_batch_within(of_step_s), first_alone)

    def largest_batch_within_stall(self, limit_s: Array) -> Floats:
        """The step alone."""
        curve, prefill_s = self.curve, self.layouts.serving.prefill_s_per_output_token
        step = StepTime(curve.load, curve.flops, curve.ici, curve.kv_s - prefill_s)
        return np.asarray(step.largest_batch_within(limit_s))

    def smallest_batch_for(self, tokens_per_s: Array) -> Floats:
        """That of the curve, but for more than is loaded from hosts."""
        is_loaded = tokens_per_s <= loaded_tokens_per_s(self.spec, self.layouts)
        return np.where(is_loaded, self.curve.smallest_batch_for(tokens_per_s), np.inf)


def ideal_times(spec: Spec, layouts: Layouts, batch: Array) -> Times:
    """The times of layouts at a batch by the ideal cost model; a step makes `accepted` tokens of each sequence."""
    serving, replica = layouts.serving, layouts.replica
    step = decode_step(
        spec.model,
        spec.workload.read_tokens,
        replica,
        batch,
        pay_ici=spec.pays_ici,
        chunk_tokens=serving.chunk_tokens_per_step,
        chunk_s=serving.chunk_s_per_step,
    )
    step_s = np.asarray(step.total_s)
    tpot_s = step_s / replica.drafting.accepted + serving.prefill_s_per_output_token * batch
    whole_prefill_s = np.where(serving.prefill_s_per_output_token > 0, serving.prefill_s / replica.pp, 0.0)
    ttft_s = serving.first_token_s + serving.first_token_steps * step_s
    return Times(
        tpot_s=tpot_s,
        stall_s=np.maximum(step_s, whole_prefill_s),
        ttft_s=ttft_s,
        e2e_s=ttft_s + ((spec.workload.output_tokens or 0) - 1) * tpot_s,
        tokens_per_s=np.minimum(batch / tpot_s, loaded_tokens_per_s(spec, layouts)),
    )


def loaded_tokens_per_s(spec: Spec, layouts: Layouts) -> Floats:
    """Output tokens/s of a replica whose groups load one prompt after another from their hosts; infinite without."""
    with np.errstate(divide="ignore"):
        return np.asarray(layouts.replica.ep * (spec.workload.output_tokens or 1) / layouts.serving.host_load_s)


class CalibratedTimes(_BisectedTimes):
    """A closed loop of B requests, whose prompts share the replica with the tokens of others (docs/cost-model.md)."""

    @cached_property
    def _constants(self) -> calibrated.Constants:
        return constants_of(self.layouts)

    @cached_property
    def _step(self) -> calibrated.StepCurve:
        return calibrated.step_curve(work_of(self.spec, self.layouts), self._constants)

    def at(self, batch: Array) -> Times:
        """By Little's law a replica puts out B · G tokens in the time of a request; without prompts B in a step."""
        serving, output_tokens = self.layouts.serving, self.spec.workload.output_tokens or 1
        step_s, work_s = self._step.at(batch), serving.prompt_work_s
        pace_s = step_s / self.layouts.replica.drafting.accepted
        queue_s = calibrated.queue_s(self._constants.prompts_first, work_s, pace_s, batch, output_tokens)
        beside_s = (np.maximum(batch - 1, 0.0) * work_s - queue_s) / output_tokens
        tpot_s = pace_s + beside_s
        ttft_s = serving.first_token_s + serving.first_token_steps * step_s + queue_s + beside_s
        e2e_s = ttft_s + (output_tokens - 1) * tpot_s
        request_s = np.where(work_s > 0, e2e_s, output_tokens * pace_s)
        return Times(
            tpot_s=tpot_s,
            stall_s=step_s + self._prompt_of_a_step_s,
            ttft_s=ttft_s,
            e2e_s=e2e_s,
            tokens_per_s=np.minimum(batch * output_tokens / request_s, loaded_tokens_per_s(self.spec, self.layouts)),
        )

    @property
    def _prompt_of_a_step_s(self) -> Floats:
        """What a prompt adds to a step: a chunk of it, or all that a stage computes."""
        serving = self.layouts.serving
        whole = serving.prefill_s_per_output_token > 0
        return np.where(whole, serving.prefill_s / self.layouts.replica.pp, serving.chunk_s_per_step)


def constants_of(layouts: Layouts) -> calibrated.Constants:
    """The constants of the calibrated cost model on each layout. Raises ValueError under the ideal one."""
    if layouts.constants is None:
        raise ValueError("the ideal cost model has no constants")
    return layouts.constants


def work_of(spec: Spec, layouts: Layouts) -> calibrated.Work:
    """What a replica of each layout does for the requests of a spec."""
    workload = spec.workload
    request = calibrated.Request(workload.cached_prompt_tokens, workload.new_prompt_tokens, workload.read_tokens)
    return calibrated.work_of(spec.model, layouts.replica, request)


class PromptTimes(NamedTuple):
    """One prompt on a replica of each layout [s]; shape [layouts] each.

    `work_s` is the part of it that other prompts wait for in a stage, and `chunked_s` what a prompt adds there to the
    steps that it is spread over. `request_s` passes before it starts, and `host_load_s` while what is cached of it is
    loaded from the memory of the host, beside the steps of others.
    """

    prefill_s: Floats
    work_s: Floats
    chunked_s: Floats
    request_s: Floats
    host_load_s: Floats


def prompt_times(spec: Spec, layouts: Layouts) -> PromptTimes:
    """The time of one prompt on a replica of each layout, by the cost model of the spec.

    Under the ideal one a chunk takes its FLOPs, and nothing waits.
    """
    workload, model, replica = spec.workload, spec.model, layouts.replica
    none = np.zeros(len(layouts))
    if spec.calibration is not None:
        work, constants = work_of(spec, layouts), constants_of(layouts)
        work_s = np.asarray(calibrated.prompt_work_s(work, constants))
        request_s = np.asarray(constants.request_s + none)
        load_s = np.asarray(host_load_s(model, replica, workload.host_prompt_tokens, HOST_LINK_REACH))
        return PromptTimes(np.asarray(calibrated.prompt_s(work, constants)), work_s, work_s, request_s, load_s)
    tokens, mfu = (workload.cached_prompt_tokens, workload.new_prompt_tokens), spec.mfu_of_prefill
    prefill_s = prompt_s(model, *tokens, replica, mfu=mfu, pay_ici=spec.pays_ici)
    load_s = np.asarray(host_load_s(model, replica, workload.host_prompt_tokens))
    chunked_s = np.asarray(prompt_flops_s(model, *tokens, replica, mfu))
    return PromptTimes(np.asarray(prefill_s), none, chunked_s, none, load_s)
