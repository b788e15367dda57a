"""The duration of one step of a replica, whatever tokens are in it, by the cost model of a plan."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import inf

from servesat.catalogue.model import ModelSpec
from servesat.core.plan import Assignment
from servesat.cost_model import calibrated
from servesat.cost_model.decode import (
    Replica,
    decode_step,
    layers_ici_s,
    load_parts_s,
    replica_kv_read_s,
    stage_hop_s,
)
from servesat.cost_model.memory import active_parameters, not_visited
from servesat.cost_model.prefill import HOST_LINK_REACH, attention_flop, host_load_s, prompt_flops_s
from servesat.cost_model.roofline import load_s
from servesat.spec.spec import Spec


@dataclass(frozen=True)
class StepTimes:
    """The duration of a step with s decoding sequences, c prompt tokens, and their KV cache [s].

    step = max(least + draft_least, fixed + max(resident + experts · (1 - not_visited^(s + c)), s · token + c · prompt
         + pairs · attention) + max(head, ends · head_token) + s · sequence + (s + c) · sent + kv · kv_token + draft)
         + ends · prompt_end

    With speculative decoding, s counts the tokens verified of every sequence (in s · sequence, the sequences), and if
    any sequence decodes, draft = draft_fixed + max(draft_resident + draft_experts · (1 - draft_not_visited^s), s ·
    draft_token).

    `pairs` counts each prompt token with every token that it attends to, `ends` the prompts whose last tokens are in
    the step, `kv` the tokens in the KV cache of decoding sequences. The engine spends `prompt_end_s` on a prompt in the
    step with its last tokens, and a request waits `request_s` in addition to its steps. With pipeline stages, a step
    takes a token through all of them; the later stages of a prompt are part of `request_s`. Before its steps a request
    waits until one of `host_links` groups of chips has loaded its cached tokens from the memory of the host,
    `host_token_s` each on average, after those of the requests before it.
    """

    fixed_s: float
    resident_s: float
    experts_s: float
    not_visited: float
    token_s: float
    prompt_token_s: float
    attention_s: float
    head_s: float
    head_token_s: float
    sequence_s: float
    sent_s: float
    kv_token_s: float
    request_s: float
    host_token_s: float = 0.0
    least_s: float = 0.0
    prompt_end_s: float = 0.0
    verified: int = 1
    host_links: int = 1
    draft_fixed_s: float = 0.0
    draft_resident_s: float = 0.0
    draft_experts_s: float = 0.0
    draft_not_visited: float = 0.0
    draft_token_s: float = 0.0
    draft_least_s: float = 0.0

    def scaled(self, factor: float) -> "StepTimes":
        """The same, slower by a factor."""
        return replace(
            self, **{one.name: factor * getattr(self, one.name) for one in fields(self) if one.name.endswith("_s")}
        )

    def _draft_s(self, sequences: int) -> float:
        """The time that drafting for this many sequences takes."""
        visited = self.draft_experts_s * (1.0 - self.draft_not_visited**sequences) if self.draft_experts_s else 0.0
        return self.draft_fixed_s + max(self.draft_resident_s + visited, sequences * self.draft_token_s)

    def decode_run(self, sequences: int, kv_tokens: float, grown: float) -> tuple[float, float, float]:
        """Consecutive decode steps, in each of which the KV cache grows by `grown` tokens.

        Returns the duration of the first, how much longer each is than the one before, and for how many steps that
        holds. While launching a step takes the host longer than the step itself, all take the same time.
        """
        without_kv_s = self._without_kv.get(sequences)
        if without_kv_s is None:
            without_kv_s = self._without_kv[sequences] = self._decode_without_kv_s(sequences)
        busy_s, longer_s = without_kv_s + kv_tokens * self.kv_token_s, grown * self.kv_token_s
        least_s = self.least_s + self.draft_least_s
        if busy_s >= least_s:
            return busy_s, longer_s, inf
        return least_s, 0.0, (least_s - busy_s) // longer_s + 1 if longer_s else inf

    @cached_property
    def _without_kv(self) -> dict[int, float]:
        """What decode steps take without a KV cache, by their sequences, as replays ask for the same ones."""
        return {}

    def _decode_without_kv_s(self, sequences: int) -> float:
        tokens = sequences * self.verified
        loaded = self.resident_s
        if self.experts_s:
            loaded += self.experts_s * (1.0 - self.not_visited**tokens)
        return (
            self.fixed_s
            + max(loaded, tokens * self.token_s)
            + max(self.head_s, tokens * self.head_token_s)
            + sequences * self.sequence_s
            + tokens * self.sent_s
            + (self._draft_s(sequences) if self.verified > 1 else 0.0)
        )

    def mixed_run(  # noqa: PLR0917 - called for each step of a replay
        self,
        sequences: int,
        kv_tokens: float,
        prompt_tokens: float,
        pairs: float,
        ends: float,
        grown: float,
        steps: int,
    ) -> list[float]:
        """The durations of consecutive steps with as many prompt tokens in each; `ends` prompts end in each.

        From step to step the KV cache of decoding sequences grows by `grown` tokens. If there are several steps, they
        are successive chunks of one prompt: each attends to all chunks before it, so `pairs` grows by the square of the
        chunk.
        """
        verified = sequences * self.verified
        tokens = verified + prompt_tokens
        loaded_s = self.resident_s
        if self.experts_s:
            loaded_s += self.experts_s * (1.0 - self.not_visited**tokens)
        flops_s = verified * self.token_s + prompt_tokens * self.prompt_token_s + pairs * self.attention_s
        head_s = (verified + ends) * self.head_token_s
        rest_s = (
            self.fixed_s
            + (self.head_s if self.head_s > head_s else head_s)
            + sequences * self.sequence_s
            + tokens * self.sent_s
            + kv_tokens * self.kv_token_s
        )
        least_s, end_s = self.least_s, ends * self.prompt_end_s
        if sequences and self.verified > 1:
            rest_s += self._draft_s(sequences)
            least_s += self.draft_least_s
        found: list[float] = []
        while True:
            busy_s = rest_s + (loaded_s if loaded_s > flops_s else flops_s)
            found.append((least_s if least_s > busy_s else busy_s) + end_s)
            if len(found) == steps:
                return found
            flops_s += prompt_tokens * prompt_tokens * self.attention_s
            rest_s += grown * self.kv_token_s


def step_times(spec: Spec, replica: Replica, assignment: Assignment) -> StepTimes:
    """The times of a replica of a plan by the cost model of its spec.

    KV cache and attention are interpolated linearly in tokens and pairs between the workload's lengths: exact for
    models without attention windows.
    """
    times = _ideal(spec, replica) if spec.calibration is None else _calibrated(spec, replica, assignment)
    loaded, cached = spec.workload.host_prompt_tokens, spec.workload.cached_prompt_tokens
    if not loaded:
        return times
    reach = 1.0 if spec.calibration is None else HOST_LINK_REACH
    token_s = float(host_load_s(spec.model, replica, loaded, reach)) / cached
    return replace(times, host_token_s=token_s, host_links=round(float(replica.ep)))


def constants_of(spec: Spec, assignment: Assignment) -> calibrated.Constants:
    """The constants of a plan's chip and engine under the calibrated cost model. Raises ValueError under the ideal."""
    calibration = spec.calibration
    if calibration is None:
        raise ValueError("the ideal cost model has no constants")
    engine = spec.engine_of(assignment.engine) if assignment.engine else None
    reach, host = calibration.reach_of(assignment.chip, assignment.compute), calibration.host_of(engine)
    return calibrated.Constants(*reach, *host).slowed(spec.step_factor)


def _calibrated(spec: Spec, replica: Replica, assignment: Assignment) -> StepTimes:
    workload = spec.workload
    request = calibrated.Request(workload.cached_prompt_tokens, workload.new_prompt_tokens, workload.read_tokens)
    return of_work(
        calibrated.work_of(spec.model, replica, request), constants_of(spec, assignment), *_kv(spec, replica)
    )


def of_work(
    work: calibrated.Work, constants: calibrated.Constants, kv_sequence_s: float, kv_token_s: float, pairs: float
) -> StepTimes:
    """The times of a replica's work, given the pairs of a prompt and the KV cache read for a sequence."""
    prompt = max(1.0, float(work.prompt_tokens))
    attention_s = float(work.prompt_attention_s) / (calibrated.ATTENTION_EFFICIENCY * float(constants.flops))
    weights, link = constants.weights, constants.link
    token_s = float(calibrated.matmuls_s(work.sequence_flops_s, work.sequence_experts_flops_s, constants))
    of_prompt_s = float(calibrated.matmuls_s(work.prompt_flops_s, work.prompt_experts_flops_s, constants))
    drafted, reading = float(work.draft_tokens), float(constants.kv_cache)
    verified = 1 + round(drafted)
    of_draft = calibrated.step_curve(work, constants)
    ahead = 1 + drafted * float(work.draft_kv_share)
    return StepTimes(
        fixed_s=float(work.stages * constants.step_s + calibrated.launched_s(work, constants)),
        resident_s=float(work.resident_s / weights) + (0.0 if work.not_visited else float(work.experts_s / weights)),
        experts_s=float(work.experts_s / weights) if work.not_visited else 0.0,
        not_visited=float(work.not_visited ** (1 / work.stages)),
        token_s=token_s,
        prompt_token_s=of_prompt_s / prompt,
        attention_s=attention_s / pairs if pairs else 0.0,
        head_s=float(work.head_s / weights),
        head_token_s=float(work.sequence_head_flops_s / constants.flops),
        sequence_s=float(constants.sequence_s / work.groups + verified * work.sequence_exchange_s / link)
        + ahead * kv_sequence_s / reading,
        sent_s=float(work.sequence_sent_s / link),
        kv_token_s=ahead * kv_token_s / reading,
        request_s=float(constants.request_s + (work.stages - 1) * calibrated.prompt_work_s(work, constants)),
        least_s=float(calibrated.least_s(work, constants)),
        prompt_end_s=float(constants.prompt_s),
        verified=verified,
        draft_fixed_s=drafted * float(calibrated.draft_launched_s(work, constants) + constants.draft_s),
        draft_resident_s=float(of_draft.draft_resident_s),
        draft_experts_s=float(of_draft.draft_experts_s),
        draft_not_visited=float(of_draft.draft_not_visited),
        draft_token_s=float(of_draft.draft_flops_s),
        draft_least_s=float(calibrated.draft_least_s(work, constants)),
    )


def _ideal(spec: Spec, replica: Replica) -> StepTimes:
    """The roofline: if collectives count at all, they overlap with the FLOPs, for one token as for many."""
    alone = decode_step(spec.model, spec.workload.read_tokens, replica, 1.0, pay_ici=spec.pays_ici)
    resident, experts = load_parts_s(replica)
    sent = float(layers_ici_s(spec.model, replica, 1.0)) if spec.pays_ici else 0.0
    a_flop = replica.dearest_stage / (replica.chips * replica.flop_per_s * spec.mfu_of_prefill)
    kv_sequence_s, kv_token_s, pairs = _kv(spec, replica)
    attention = attention_flop(spec.model, spec.workload.cached_prompt_tokens, spec.workload.new_prompt_tokens)
    hop_s, draft = float(stage_hop_s(spec.model, replica)), replica.drafting
    drafted, verified = float(draft.tokens), 1 + round(float(draft.tokens))
    ahead = 1 + drafted * float(draft.kv_share)
    tokens = spec.workload.cached_prompt_tokens, spec.workload.new_prompt_tokens
    sent_of_prompt_s = float(layers_ici_s(spec.model, replica, tokens[1])) if spec.pays_ici else 0.0
    of_stage_s = max(float(prompt_flops_s(spec.model, *tokens, replica, spec.mfu_of_prefill)), sent_of_prompt_s)
    return StepTimes(
        fixed_s=0.0,
        resident_s=float(resident) + (0.0 if not_visited(spec.model) else float(experts)),
        experts_s=float(experts) if not_visited(spec.model) else 0.0,
        not_visited=not_visited(spec.model) ** (1 / float(replica.pp)),
        token_s=max(float(alone.flops_s) / verified, sent),
        prompt_token_s=max(float(2 * active_parameters(spec.model) * a_flop), sent),
        attention_s=float(attention * a_flop) / pairs if pairs else 0.0,
        head_s=0.0,
        head_token_s=0.0,
        sequence_s=float(alone.kv_exchange_s) + ahead * kv_sequence_s,
        sent_s=hop_s,
        kv_token_s=ahead * kv_token_s,
        request_s=(float(replica.pp) - 1) * (of_stage_s + tokens[1] * hop_s),
        verified=verified,
        draft_resident_s=drafted * float(load_s(draft.read_bytes, replica.tp, replica.hbm_bytes_per_s)),
        draft_experts_s=drafted * float(load_s(draft.expert_bytes, replica.stage_chips, replica.hbm_bytes_per_s)),
        draft_not_visited=not_visited(spec.model),
        draft_token_s=drafted * float(load_s(draft.flop, replica.chips, replica.head_flop_per_s)),
    )


def _kv(spec: Spec, replica: Replica) -> tuple[float, float, float]:
    """The time to read a sequence's KV cache at peak bandwidth, fixed and per token [s], and the pairs of a prompt."""
    workload = spec.workload
    fixed_s, token_s = kv_line(spec.model, replica, workload.prompt_tokens or 0, workload.output_tokens or 1)
    return fixed_s, token_s, pairs_of(workload.cached_prompt_tokens, workload.new_prompt_tokens)


def kv_line(model: ModelSpec, replica: Replica, prompt_tokens: float, output_tokens: float) -> tuple[float, float]:
    """The line through a sequence's KV read times at its first and last token: fixed, and per token [s]."""

    def read_s(tokens: float) -> float:
        return float(replica_kv_read_s(model, tokens, replica))

    first_s = read_s(prompt_tokens)
    token_s = (read_s(prompt_tokens + output_tokens) - first_s) / output_tokens
    return first_s - token_s * prompt_tokens, token_s


def pairs_of(before: float, tokens: float) -> float:
    """The pairs of k new tokens with the d tokens before them and with each other: k · (d + k / 2)."""
    return tokens * (before + tokens / 2)
