"""What a plan's requests take, by either cost model: the mean times, the longest pause, and what a replica puts out."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from servesat.core.plan import Assignment, Mode
from servesat.deployment.check.calibrated import MeasuredReplica
from servesat.deployment.check.prompt import Prompt, cached_tokens, new_tokens
from servesat.deployment.check.replica import CheckedReplica, StepParts
from servesat.spec.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Times:
    """The times of an assignment [s]; `between_s` is what prompts add to the mean time per output token."""

    step: StepParts
    between_s: float
    stall_s: float
    prefill_s: float
    ttft_s: float
    e2e_s: float
    tokens_per_s: float
    accepted: float = 1.0
    loaded_s: float = 0.0

    @property
    def tpot_s(self) -> float:
        """The mean time per output token, of which a step makes `accepted` [s]."""
        return self.step.total_s / self.accepted + self.between_s


def times_of(spec: Spec, assignment: Assignment, replica: CheckedReplica, prompt: Prompt) -> Times:
    """The times of one replica at the batch of an assignment."""
    steps = ceil(new_tokens(spec) / Fraction(assignment.chunk_tokens or 1)) if prompt.chunk_tokens else 0
    if isinstance(replica, MeasuredReplica):
        return _closed_loop(spec, assignment, replica, prompt, steps)
    batch, output_tokens = float(assignment.batch), spec.workload.output_tokens or 0
    step = replica.step(batch, spec.workload.read_tokens, prompt.chunk_tokens, prompt.chunk_s)
    between_s = batch * prompt.s_per_output_token
    tpot_s = step.total_s / replica.accepted + between_s
    prefill_s = prompt.prefill_s + steps * step.total_s
    return Times(
        step=step,
        between_s=between_s,
        stall_s=max(step.total_s, prompt.pause_s),
        prefill_s=prefill_s,
        ttft_s=prompt.loaded_s + prefill_s + prompt.transfer_s,
        e2e_s=prompt.loaded_s + prefill_s + prompt.transfer_s + (output_tokens - 1) * tpot_s,
        tokens_per_s=_no_faster_than_loading(batch / tpot_s, output_tokens, prompt, replica),
        accepted=replica.accepted,
        loaded_s=prompt.loaded_s,
    )


def _no_faster_than_loading(tokens_per_s: float, output_tokens: int, prompt: Prompt, replica: CheckedReplica) -> float:
    """Each group of chips loads one prompt after another from its hosts."""
    return min(tokens_per_s, replica.ep * output_tokens / prompt.loaded_s) if prompt.loaded_s else tokens_per_s


def _closed_loop(spec: Spec, assignment: Assignment, replica: MeasuredReplica, prompt: Prompt, steps: int) -> Times:
    """So many requests under way all the time, whose prompts and tokens share the replica."""
    batch, output_tokens = float(assignment.batch), spec.workload.output_tokens or 0
    step = replica.step(batch, spec.workload.read_tokens)
    step_s, pace_s = step.total_s, step.total_s / replica.accepted
    if assignment.mode in {Mode.DECODE_ONLY, Mode.DISAGGREGATED}:
        ttft_s = replica.request_s + prompt.prefill_s + prompt.transfer_s
        return Times(
            step=step,
            between_s=0.0,
            stall_s=step_s,
            prefill_s=prompt.prefill_s,
            ttft_s=ttft_s,
            e2e_s=ttft_s + (output_tokens - 1) * pace_s,
            tokens_per_s=batch / pace_s,
            accepted=replica.accepted,
        )
    work_s = replica.prompt_work_s(float(cached_tokens(spec)), float(new_tokens(spec)))
    queue_s = replica.queue_s(work_s, pace_s, batch, output_tokens)
    between_s = (max(0.0, batch - 1) * work_s - queue_s) / output_tokens
    if steps:
        prefill_s = replica.pp * work_s + steps * step_s
        of_a_step_s = work_s * prompt.chunk_tokens / float(new_tokens(spec))
    else:
        prefill_s, of_a_step_s = prompt.prefill_s + step_s, prompt.pause_s
    ttft_s = replica.request_s + prompt.loaded_s + queue_s + prefill_s + between_s
    e2e_s = ttft_s + (output_tokens - 1) * (pace_s + between_s)
    return Times(
        step=step,
        between_s=between_s,
        stall_s=step_s + of_a_step_s,
        prefill_s=prefill_s,
        ttft_s=ttft_s,
        e2e_s=e2e_s,
        tokens_per_s=_no_faster_than_loading(batch * output_tokens / e2e_s, output_tokens, prompt, replica),
        accepted=replica.accepted,
        loaded_s=prompt.loaded_s,
    )
