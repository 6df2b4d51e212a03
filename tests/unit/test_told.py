"""What an error line says of a limit."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from aiagent_coordinator.providers.told import told

NOW = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "reason", "seconds"),
    [
        ("Error: quota exhausted, please retry after 70 seconds", "quota", 77),
        ("Your quota will reset after 22m55s.", "quota", 1512.5),
        ("quota exceeded; try again in 2 h", "quota", 3600),
        ("TerminalQuotaError: no more", "quota", 1980),
        ("Claude usage: rate limit, resets 1:20pm (UTC)", "rate_limited", 1320),
        ("RateLimitError", "rate_limited", 330),
        ("API rate limit reached, retry after 10", "rate_limited", 11),
        ("429 Too Many Requests", "rate_limited", 330),
        ("too many requests: " + "retry " * 10_000, "rate_limited", 330),
    ],
)
def test_a_limit_is_read_with_its_time(line: str, reason: str, seconds: float):
    found = told(line, NOW)
    assert found is not None
    assert (found.reason, round(found.seconds, 3)) == (reason, seconds)


@pytest.mark.parametrize(
    "line", ["", "Error: no such file", "retry after 10 seconds", "4290 files"]
)
def test_other_failures_are_no_limit(line: str):
    assert told(line, NOW) is None
