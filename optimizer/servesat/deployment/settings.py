"""How to solve a deployment, apart from what is solved."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to solve, apart from what: one worker is fastest here, and gives the same answer every time.

    With `screen` columns that cannot win are left out of the model before it is built; without, it states everything.
    """

    time_limit_s: float | None = None
    workers: int = 1
    seed: int = 0
    log: bool = False
    screen: bool = True
