"""Requests: when they arrive, and how long they are."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from servesat.core.arrays import Floats, Ints
from servesat.core.tolerances import round_down


@dataclass(frozen=True)
class Requests:
    """Requests in the order of their arrival; arrays of shape [requests].

    Of a prompt's tokens, `cached` are in a replica's KV cache already.
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


@dataclass(frozen=True)
class Lengths:
    """How long requests are: `prompt_cv` and `output_cv` spread them about their means, log-normally; 0: all alike."""

    prompt_tokens: float
    output_tokens: float
    cached_share: float = 0.0
    prompt_cv: float = 0.0
    output_cv: float = 0.0

    def draw(self, count: int, source: np.random.Generator) -> tuple[Ints, Ints]:
        """Prompts and answers [tokens], at least one each; the same random numbers whatever the means."""
        prompts = _spread(self.prompt_tokens, self.prompt_cv, source.standard_normal(count))
        return prompts, _spread(self.output_tokens, self.output_cv, source.standard_normal(count))


def _spread(mean: float, cv: float, normal: Floats) -> Ints:
    """Log-normal lengths: of variance ln(1 + cv²) about the logarithm that gives the mean."""
    variance = np.log1p(cv**2)
    drawn = mean * np.exp(np.sqrt(variance) * normal - variance / 2)
    whole: Ints = np.maximum(1, np.rint(drawn)).astype(np.int64)
    return whole


def gaps(count: int, cv: float, source: np.random.Generator) -> Floats:
    """The times between arrivals, of mean 1: exponential of cv 1 (Poisson arrivals), else of a Gamma distribution."""
    if cv == 0:
        return np.ones(count)
    return source.gamma(1 / cv**2, cv**2, count)


def drawn(requests_per_s: float, count: int, lengths: Lengths, *, cv: float = 1.0, seed: int = 0) -> Requests:
    """Requests at a rate, each a renewal after the last; the same seed has the same gaps at every rate."""
    of_times, of_lengths = (np.random.default_rng([seed, stream]) for stream in (0, 1))
    prompts, outputs = lengths.draw(count, of_lengths)
    arrival_s = np.cumsum(gaps(count, cv, of_times)) / requests_per_s
    return Requests(
        arrival_s, prompts, outputs, round_down(prompts.astype(np.float64) * lengths.cached_share).astype(np.int64)
    )
