"""What became of requests: percentiles of their times, with confidence, and the share within limits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from servesat.core.arrays import Bools, Floats
from servesat.core.tolerances import round_up
from servesat.replay.requests import Requests
from servesat.replay.scheduler import Served

T_95 = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""Student's t at 95 % for 1, 2, … degrees of freedom; beyond, 1.96 + 2.4 / n within half a percent."""


@dataclass(frozen=True)
class RequestTimes:
    """The times of requests [s]; `tpot_s` is the mean after the first token, NaN for an answer of one token."""

    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats

    def take(self, rows: slice | Bools) -> "RequestTimes":
        """Of some requests."""
        return RequestTimes(self.ttft_s[rows], self.tpot_s[rows], self.e2e_s[rows])


def times_of(requests: Requests, served: Served) -> RequestTimes:
    """What each request took, from its arrival on."""
    tokens = np.maximum(requests.output_tokens - 1, 1)
    decoded_s = served.last_s - served.first_s
    return RequestTimes(
        ttft_s=served.first_s - requests.arrival_s,
        tpot_s=np.where(requests.output_tokens > 1, decoded_s / tokens, np.nan),
        e2e_s=served.last_s - requests.arrival_s,
    )


@dataclass(frozen=True)
class Estimate:
    """A figure from several runs, and how far at 95 % confidence it may be off."""

    value: float
    within: float

    @property
    def lowest(self) -> float:
        """The lower end of the interval."""
        return self.value - self.within

    @property
    def highest(self) -> float:
        """The upper end of the interval."""
        return self.value + self.within


def estimate(runs: Sequence[float]) -> Estimate:
    """The mean of runs, and t · s / √n; infinite from a single one."""
    values = np.array(runs)
    if len(values) < 2:
        return Estimate(float(values.mean()), float("inf"))
    return Estimate(float(values.mean()), float(t_95(len(values)) * values.std(ddof=1) / np.sqrt(len(values))))


def t_95(runs: int) -> float:
    """Student's t at 95 % confidence for the mean of so many runs."""
    freedom = runs - 1
    return T_95[freedom - 1] if freedom <= len(T_95) else 1.96 + 2.4 / freedom


def known(values: Floats) -> Floats:
    """Those of some values that are there: an answer of one token has no time per token."""
    missing = np.isnan(values)
    found: Floats = values[~missing] if missing.any() else values
    return found


def percentile(values: Floats, share: float) -> float:
    """The smallest of some values that at least this share of them do not exceed."""
    rank = min(len(values), max(1, int(round_up(share * len(values)))))
    return float(np.partition(values, rank - 1)[rank - 1])
