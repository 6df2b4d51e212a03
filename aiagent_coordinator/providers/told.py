"""What an error line of a CLI says about a limit of its provider, and how long it asks to be left alone.

For lines that somebody else picked out of an output; what our own runs print is read with the rules
of their definition.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_QUOTA = re.compile(r"terminalquotaerror|quota\b", re.IGNORECASE)
_RATE = re.compile(r"rate[\s_-]?limit|too many requests|\b429\b", re.IGNORECASE)
_WAIT = re.compile(
    r"(?:retry|reset|resets|again)\s+(?:after|in)\s+((?:\d+(?:\.\d+)?\s*(?:[hms]\w*)?[\s,]*)+)",
    re.IGNORECASE,
)
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([hms])?", re.IGNORECASE)
_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0}

#: Where a line names a limit and no time.
QUOTA_SECONDS = 1800.0
RATE_SECONDS = 300.0
MAX_SECONDS = 3600.0
MARGIN_PERCENT = 10.0
#: Longer lines are looked at up to here.
_MAX_CHARS = 2000


@dataclass(frozen=True)
class Told:
    """A limit that an error line names."""

    #: `quota` or `rate_limited`.
    reason: str
    seconds: float


def told(
    text: str, *, margin_percent: float = MARGIN_PERCENT, most_seconds: float = MAX_SECONDS
) -> Told | None:
    """Read one error line; None when it names no limit.

    Args:
        text: The line.
        margin_percent: What is added to the time that it names.
        most_seconds: Never longer than this.
    """
    line = text[:_MAX_CHARS]
    if _QUOTA.search(line):
        reason, seconds = "quota", QUOTA_SECONDS
    elif _RATE.search(line):
        reason, seconds = "rate_limited", RATE_SECONDS
    else:
        return None
    named = _WAIT.search(line)
    if named:
        seconds = sum(
            float(number) * _UNIT_SECONDS[(unit or "s").lower()]
            for number, unit in _PART.findall(named[1])
        )
    return Told(reason, min(seconds * (1 + margin_percent / 100), most_seconds))
