"""Comparisons that several tests share explain what differs, as those in the tests themselves do."""

import pytest

pytest.register_assert_rewrite("tests.whole_requests", "tests.fleet.fleets")


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print as to a file, however wide the terminal is that runs the tests."""
    monkeypatch.delenv("COLUMNS", raising=False)
