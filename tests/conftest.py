"""Comparisons that several tests share explain what differs, as those in the tests themselves do."""

import pytest

pytest.register_assert_rewrite("tests.whole_requests", "tests.fleet.fleets")
