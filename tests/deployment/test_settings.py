import time

import pytest

from servesat.deployment.settings import Settings


def test_what_is_left_of_a_time_limit() -> None:
    now = time.perf_counter()
    assert Settings(time_limit_s=1000.0).in_the_time_left(now - 400).time_limit_s == pytest.approx(600, rel=0.05)
    assert Settings(time_limit_s=10.0).in_the_time_left(now - 400).time_limit_s == 0
    assert Settings().in_the_time_left(now - 400).time_limit_s is None
