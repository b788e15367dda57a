"""Comparisons that several tests share explain what differs, as those in the tests themselves do."""

from datetime import date

import pytest

pytest.register_assert_rewrite("tests.whole_requests", "tests.fleet.fleets")


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print as to a file, however wide the terminal is that runs the tests."""
    monkeypatch.delenv("COLUMNS", raising=False)


class _DateOfTheCatalogue(date):
    """A day on which no price of the catalogue is old."""

    @classmethod
    def today(cls) -> date:
        return date(2026, 11, 28)


@pytest.fixture(autouse=True)
def _no_price_grows_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the notes of specs the same date whenever the tests run."""
    monkeypatch.setattr("servesat.spec.notes.date", _DateOfTheCatalogue)
