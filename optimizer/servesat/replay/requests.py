"""Requests: when they arrive, and how long they are."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self

import numpy as np

from servesat.core.arrays import Floats, Ints
from servesat.core.tolerances import round_down
from servesat.spec.workload import MAX_TOKENS, log_normal


@dataclass(frozen=True)
class Requests:
    """Requests in the order of their arrival; arrays of shape [requests].

    Of a prompt's tokens, `cached_tokens` are in a replica's KV cache already.
    """

    arrival_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    cached_tokens: Ints

    def __len__(self) -> int:
        return len(self.arrival_s)

    def take(self, rows: Ints) -> Self:
        """Some of them, in this order."""
        return type(self)(
            self.arrival_s[rows], self.prompt_tokens[rows], self.output_tokens[rows], self.cached_tokens[rows]
        )

    def at_rate(self, requests_per_s: float) -> Self:
        """The same requests with the time between them stretched, so that so many arrive in a second."""
        if len(self) < 2 or self.arrival_s[-1] == self.arrival_s[0]:
            return self
        own = (len(self) - 1) / (self.arrival_s[-1] - self.arrival_s[0])
        stretched = (self.arrival_s - self.arrival_s[0]) * (own / requests_per_s)
        return type(self)(stretched, self.prompt_tokens, self.output_tokens, self.cached_tokens)


def steps_of(output_tokens: Ints, drafted: int, accepted: float, seed: int) -> Ints:
    """Steps that make answers of which a step makes `accepted` tokens on average, 1 to drafted + 1 each, the first too.

    Each drafted token is accepted as likely as any before it: a step makes n < δ + 1 with probability a^(n-1)(1 - a),
    and δ + 1 with a^δ. The steps of G - 1 tokens are those of a renewal process: normal about (G - 1) / A, of variance
    (G - 1) · var / A^3 (Feller, An Introduction to Probability Theory II, XI).
    """
    chance = _chance_of(drafted, accepted)
    made = np.arange(1, drafted + 2)
    odds = chance ** (made - 1.0) * np.where(made <= drafted, 1 - chance, 1.0)
    mean = float(np.sum(made * odds))
    variance = float(np.sum(made**2 * odds)) - mean**2
    left = output_tokens - 1.0
    spread = np.sqrt(left * variance / mean**3) * np.random.default_rng([seed, 3]).standard_normal(len(left))
    drawn = np.rint(left / mean + spread)
    steps: Ints = 1 + np.clip(drawn, np.ceil(left / (drafted + 1)), left).astype(np.int64)
    return steps


def _chance_of(drafted: int, accepted: float) -> float:
    """The chance a of each drafted token with 1 + a + … + a^k = accepted, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        tokens = sum(middle**power for power in range(drafted + 1))
        low, high = (middle, high) if tokens < accepted else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class Lengths:
    """How long requests are: `prompt_cv` and `output_cv` spread them about their means, log-normally; 0: all alike.

    None has more than `longest_tokens`, prompt and answer together, as servers take no longer ones.
    """

    prompt_tokens: float
    output_tokens: float
    cached_share: float = 0.0
    prompt_cv: float = 0.0
    output_cv: float = 0.0
    longest_tokens: int = 2 * MAX_TOKENS

    def draw(self, count: int, source: np.random.Generator) -> tuple[Ints, Ints]:
        """Prompts and answers [tokens], at least one each; the same random numbers whatever the means."""
        prompts = _spread(self.prompt_tokens, self.prompt_cv, source.standard_normal(count))
        answers = _spread(self.output_tokens, self.output_cv, source.standard_normal(count))
        prompts = np.minimum(prompts, max(1, self.longest_tokens - 1))
        return prompts, np.clip(answers, 1, np.maximum(1, self.longest_tokens - prompts))


def _spread(mean: float, cv: float, normal: Floats) -> Ints:
    """Lengths that spread log-normally about a mean, at least 1."""
    whole: Ints = np.maximum(1, np.rint(mean * log_normal(cv, normal))).astype(np.int64)
    return whole


def cached_tokens(prompt_tokens: Ints, share: float) -> Ints:
    """The tokens of each prompt that are in a KV cache: a share of it, but for its last token at least."""
    return np.minimum(round_down(prompt_tokens.astype(np.float64) * share), prompt_tokens - 1).astype(np.int64)


def gaps(count: int, cv: float, source: np.random.Generator, one_of: float = 1) -> Floats:
    """The times between arrivals, of mean 1: exponential of cv 1 (Poisson arrivals), else of a Gamma distribution.

    At `one_of` n replicas, each of which a request finds at random, K gaps lie between two requests, with the chance
    (1 - 1/n)^(K - 1) / n: their sum is of a Gamma distribution too, of K times the shape, and its mean over n is 1.
    Exponential gaps stay such.
    """
    n = 1 if cv == 1 else one_of
    passed = source.geometric(1 / n, count) if n > 1 else np.ones(count)
    return passed / n if cv == 0 else source.gamma(passed / cv**2, cv**2 / n)


def drawn(
    requests_per_s: float, count: int, lengths: Lengths, *, cv: float = 1.0, seed: int = 0, one_of: float = 1
) -> Requests:
    """Requests at a rate, each a renewal after the last; the same seed has the same gaps at every rate.

    At an infinite rate all come at once. They are those of `one_of` several replicas, which has this rate.
    """
    at_one = _drawn_at_one(count, lengths, cv, seed, 1 if cv == 1 else one_of)
    return replace(at_one, arrival_s=at_one.arrival_s / requests_per_s)


@lru_cache(maxsize=64)
def _drawn_at_one(count: int, lengths: Lengths, cv: float, seed: int, one_of: float) -> Requests:
    """Requests of which one arrives in a second; searches ask for the same ones at many rates."""
    of_times, of_lengths = (np.random.default_rng([seed, stream]) for stream in (0, 1))
    prompts, outputs = lengths.draw(count, of_lengths)
    cached = cached_tokens(prompts, lengths.cached_share)
    return Requests(np.cumsum(gaps(count, cv, of_times, one_of)), prompts, outputs, cached)
