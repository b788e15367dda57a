"""How to solve a deployment, apart from what is solved."""

import time
from dataclasses import dataclass, replace
from typing import Any

from servesat.replay.verdict import MOST_SEEDS


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to solve, apart from what: one worker is fastest here, and gives the same answer every time.

    With `screen` columns that cannot win are left out of the model before it is built; without, it states everything.
    Of a plan within limits for a share of the requests, `most_seeds` replays decide at most.
    """

    time_limit_s: float | None = None
    workers: int = 1
    seed: int = 0
    log: bool = False
    screen: bool = True
    most_seeds: int = MOST_SEEDS

    @property
    def of_solver(self) -> dict[str, Any]:
        """What `solve_model` is given."""
        return {"workers": self.workers, "seed": self.seed, "time_limit_s": self.time_limit_s, "log": self.log}

    def in_the_time_left(self, start: float) -> "Settings":
        """The settings with what is left of the time limit since `start`, a reading of `time.perf_counter` [s]."""
        if self.time_limit_s is None:
            return self
        return replace(self, time_limit_s=max(self.time_limit_s - (time.perf_counter() - start), 0.0))
