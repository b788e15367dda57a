"""One replica, step by step, as an engine schedules it.

Each step has a budget of tokens: first one for each sequence that decodes, then prompts in the order of their arrival,
in chunks of what is left. A request is admitted where its whole prompt finds room; where the next token of all finds
none, the newest sequence makes way, and is computed again later. Runs of equal steps are taken at once, exactly.
"""

from collections import deque
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import ceil, inf, sqrt

import numpy as np

from servesat.core.arrays import Floats
from servesat.replay.requests import Requests
from servesat.replay.step_times import StepTimes, pairs_of

RESERVED = 0.4
"""The share of their answers for which SGLang keeps room when it admits prompts."""


@dataclass(frozen=True)
class Scheduling:
    """The limits of a replica, and how its engine fills steps.

    With `prompts_alone` steps take prompts or decode, prompts first; else both. With `lag` a step takes the requests
    that had come when the step before it began, as engines prepare a step while the last one runs. Where requests
    arrive `with_cache`, another pool has made their first token. A sequence that decodes has `verified` tokens in a
    step and keeps `accepted` of them on average, 1 each unless some are drafted ahead; the length of an answer is then
    that of its steps.
    """

    step_tokens: int
    sequences: int
    kv_tokens: float
    prompts_alone: bool = False
    lag: bool = False
    with_cache: bool = False
    verified: int = 1
    accepted: float = 1


@dataclass(frozen=True)
class Served:
    """When requests had their first token and their last [s], shape [requests]; what replicas did in the meantime."""

    first_s: Floats
    last_s: Floats
    preempted: int = 0
    most_sequences: int = 0
    busy_s: float = 0.0


class Ledger:
    """The state of all requests, each of which is with one of the replicas that share it."""

    def __init__(self, requests: Requests, *, with_cache: bool = False) -> None:
        """Of requests that nothing was done for, or whose prompts another pool has done."""
        held = requests.prompt_tokens if with_cache else requests.cached_tokens
        self.arrival = requests.arrival_s.tolist()
        self.prompt = requests.prompt_tokens.tolist()
        self.output = requests.output_tokens.tolist()
        self.cached = held.tolist()
        self.missing = (requests.prompt_tokens - held).tolist()  # tokens to compute before the next of the answer
        self.made = [1 if with_cache else 0] * len(requests)
        self.first, self.last = [inf] * len(requests), [inf] * len(requests)


class Replica:
    """A replica and the requests that it has been given."""

    def __init__(self, times: StepTimes, scheduling: Scheduling, ledger: Ledger) -> None:
        """A replica with nothing to do yet, which may be given any of the ledger's requests."""
        self.times, self.scheduling = times, scheduling
        self.arrival, self.prompt, self.output = ledger.arrival, ledger.prompt, ledger.output
        self.cached, self.missing, self.made = ledger.cached, ledger.missing, ledger.made
        self.first, self.last = ledger.first, ledger.last
        self.now = self.seen = self.busy_s = 0.0
        self.loaded_s = 0.0  # when the next link to the memory of a host is free
        self.steps = 0  # with decoding in them: a sequence that begins at one ends as many later as it has tokens
        self.kv: float = 0  # tokens held
        self.read: float = 0  # tokens of those that decode
        self.answers = 0  # tokens of the answers of those that decode
        self.coming: deque[int] = deque()
        self.next_s = inf  # when the first of them arrives
        self.waiting: deque[int] = deque()
        self.prompts: deque[list[int]] = deque()  # request, tokens left, tokens before them
        self.begun: dict[int, int] = {}  # the step at which a sequence that decodes began
        self.ends: list[tuple[int, int]] = []  # a heap of the steps at which sequences end
        self.admitted: list[int] = []
        self.preempted = self.most_sequences = 0

    def give(self, request: int) -> None:
        """Send a request to the replica; in the order of their arrival.

        It arrives once its cached tokens are loaded from the memory of the host, after those of all before it.
        """
        if self.times.host_token_s:
            came_s = max(self.loaded_s, self.arrival[request])
            load_s = self.cached[request] * self.times.host_token_s
            self.loaded_s = came_s + load_s / self.times.host_links
            self.arrival[request] = came_s + load_s
        if not self.coming:
            self.next_s = self.arrival[request]
        self.coming.append(request)

    @property
    def under_way(self) -> int:
        """The requests that it has been given and that are not done."""
        return len(self.coming) + len(self.waiting) + len(self.prompts) + len(self.begun)

    def advance(self, until_s: float = inf) -> None:
        """Run the steps that begin before a time."""
        lag, begun, prompts, waiting = self.scheduling.lag, self.begun, self.prompts, self.waiting
        while True:
            if self.next_s <= self.seen:
                self._arrive()
            idle = not (begun or prompts or waiting)
            if idle:
                if self.next_s >= until_s:
                    return
                self.now = max(self.now, self.next_s)
            if self.now >= until_s:
                return
            if idle or not lag:
                self.seen = self.now
                if self.next_s <= self.now:
                    self._arrive()
            chunks = self._chunks() if waiting or prompts else None
            self.seen = self.now
            if chunks:
                self.seen = self._prompt_steps(chunks, until_s)
            elif begun:
                self.seen = self._decode_steps(until_s)

    def _arrive(self) -> None:
        """What has come waits."""
        while self.next_s <= self.seen:
            self.waiting.append(self.coming.popleft())
            self.next_s = self.arrival[self.coming[0]] if self.coming else inf

    def _chunks(self) -> list[tuple[list[int], int]]:
        """The prompts of the next step, with how many tokens of each."""
        limits, begun, prompts, waiting = self.scheduling, len(self.begun), self.prompts, self.waiting
        alone = limits.prompts_alone
        chunks: list[tuple[list[int], int]] = []
        budget = limits.step_tokens - (0 if alone else begun * limits.verified)
        free = limits.kv_tokens - self.kv - begun * limits.accepted
        for prompt in prompts:
            if budget <= 0:
                return chunks
            taken = prompt[1] if prompt[1] < budget else budget
            chunks.append((prompt, taken))
            budget -= taken
            free -= prompt[1]
        running = begun + len(prompts)
        while waiting and running < limits.sequences and (budget > 0 or limits.with_cache):
            request = waiting[0]
            missing, cached = self.missing[request], self.cached[request]
            taken = missing if missing < budget else budget
            if running and free < (self._kept_for(request) if alone else missing + cached):
                break
            if alone and chunks and taken < missing:
                break
            waiting.popleft()
            self.admitted.append(request)
            self.kv += cached
            if not missing:
                self._begin(request)
                if request in self.begun:
                    running, free = running + 1, free - cached - limits.accepted
                continue
            running += 1
            prompt = [request, missing, cached]
            prompts.append(prompt)
            chunks.append((prompt, taken))
            budget -= taken
            free -= missing + cached
        self.most_sequences = max(self.most_sequences, running)
        return chunks

    def _kept_for(self, request: int) -> float:
        """The room that an engine wants before it admits a whole prompt."""
        steps = self.output[request] + self.answers / 2
        room: float = self.prompt[request] + RESERVED * self.scheduling.accepted * steps
        return room

    def _begin(self, request: int) -> None:
        """Start to decode: what is left of the answer, a step at a time."""
        made, output = self.made[request], self.output[request]
        held = self._held(request, made)
        if made >= output:
            self.last[request] = self.now
            self.kv -= held
            return
        self.begun[request] = self.steps
        self.read += held
        self.answers += output
        heappush(self.ends, (self.steps + output - made, request))

    def _held(self, request: int, made: int) -> float:
        """Tokens of a request in the KV cache once so much of its answer is made: the last is not in it yet."""
        tokens: float = self.prompt[request] + (made - 1) * self.scheduling.accepted
        return tokens

    def _prompt_steps(self, chunks: list[tuple[list[int], int]], until_s: float) -> float:
        """A step with tokens of prompts, or as many as one prompt fills; when the last of them began."""
        limits = self.scheduling
        decoding = 0 if limits.prompts_alone else len(self.begun)
        tokens, pairs, ending = 0, 0.0, 0
        for (_, left, before), taken in chunks:
            tokens += taken
            pairs += pairs_of(before, taken)
            ending += taken == left
        steps = 1
        if len(chunks) == 1 and not ending and not limits.with_cache:  # it has the whole budget until it ends
            steps = (left - 1) // taken
            if decoding:
                steps = min(steps, self.ends[0][0] - self.steps)
        read, grown = self.read if decoding else 0, decoding * limits.accepted
        now = began = self.now
        taken_steps = 0
        for time_s in self.times.mixed_run(decoding, read, tokens, pairs, ending, grown, steps):
            if taken_steps and now >= until_s:
                break
            began = now
            now += time_s
            taken_steps += 1
        self.busy_s += now - self.now
        self.now = now
        if decoding:
            self._decoded(taken_steps)
        for prompt, taken in chunks:
            computed = taken * taken_steps
            prompt[1] -= computed
            prompt[2] += computed
            self.kv += computed
            if not prompt[1]:
                self.prompts.popleft()
                request = prompt[0]
                if not self.made[request]:
                    self.first[request] = now
                self.made[request] += 1
                self.kv += self._held(request, self.made[request]) - prompt[2]
                self._begin(request)
        return began

    def _decode_steps(self, until_s: float) -> float:
        """The steps until a sequence ends, room is short, or a request may join; when the last of them began."""
        count, limits = len(self.begun), self.scheduling
        grown = count * limits.accepted
        steps = self.ends[0][0] - self.steps
        free = limits.kv_tokens - self.kv
        if steps * grown > free:
            if free < grown and count > 1:
                self._preempt()
                return self.now
            steps = max(1, int(free // grown))
        first_s, longer_s, alike = self.times.decode_run(count, self.read, grown)
        if alike < steps:
            steps = int(alike)
        if self.next_s < until_s and not self.waiting and count + len(self.prompts) < limits.sequences:
            until_s = self.next_s
        took_s = _span_s(steps, first_s, longer_s)
        if steps > 1 and self.now + took_s > until_s:
            steps = min(steps, _steps_within(until_s - self.now, first_s, longer_s))
            took_s = _span_s(steps, first_s, longer_s)
        self.now += took_s
        self.busy_s += took_s
        self._decoded(steps)
        return self.now - first_s - longer_s * (steps - 1)

    def _decoded(self, steps: int) -> None:
        """A token more for each sequence in each step; those that have all are done."""
        done = self.steps = self.steps + steps
        grown = steps * len(self.begun) * self.scheduling.accepted
        self.kv += grown
        self.read += grown
        ends = self.ends
        while ends and ends[0][0] <= done:
            _, request = heappop(ends)
            del self.begun[request]
            held, output = self._held(request, self.output[request]), self.output[request]
            self.read -= held
            self.kv -= held
            self.answers -= output
            self.last[request] = self.now

    def _preempt(self) -> None:
        """The newest sequence loses its KV cache, and waits at the front to be computed again with what it has made."""
        while self.admitted[-1] not in self.begun:
            self.admitted.pop()
        request = self.admitted.pop()
        made = self.steps - self.begun.pop(request)
        self.ends.remove((self.steps + self.output[request] - self.made[request] - made, request))
        heapify(self.ends)
        self.answers -= self.output[request]
        held = self._held(request, self.made[request] + made)
        self.kv -= held
        self.read -= held
        self.made[request] += made
        self.cached[request] = 0
        self.missing[request] = ceil(self._held(request, self.made[request] + 1))
        self.waiting.appendleft(request)
        self.preempted += 1


def _span_s(steps: int, first_s: float, longer_s: float) -> float:
    """The time that steps take, the first of `first_s`, each longer than the last."""
    return steps * first_s + longer_s * steps * (steps - 1) / 2


def _steps_within(time_s: float, first_s: float, longer_s: float) -> int:
    """The steps that begin within a time, the first of `first_s`, each longer than the last; at least one."""
    if time_s <= first_s:
        return 1
    if longer_s <= 0:
        return max(1, ceil(time_s / first_s - 1e-9))
    half = first_s - longer_s / 2
    return max(1, ceil((sqrt(half * half + 2 * longer_s * time_s) - half) / longer_s - 1e-9))


def served(ledger: Ledger, replicas: list[Replica]) -> Served:
    """What replicas made of the requests of their ledger."""
    return Served(
        first_s=np.array(ledger.first),
        last_s=np.array(ledger.last),
        preempted=sum(replica.preempted for replica in replicas),
        most_sequences=max(replica.most_sequences for replica in replicas),
        busy_s=sum(replica.busy_s for replica in replicas),
    )
