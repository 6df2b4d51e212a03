"""Whether an error line of a CLI names a limit of its provider, and how long to leave its pair alone for that.

For the coordinator's work for a server of another make, and for coordinators of another make that work for
our server: neither side there keeps a ledger, and all that is told of a run's end is one line that somebody picked
out of its output. So the line alone decides, and what follows is a rest of seconds. What our own runs
print is judged with the rules of their definition (`diagnosis`). When a limit is over is read in both cases by
`resets`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from aiagent_coordinator.providers.resets import limit_of

_QUOTA = re.compile(r"terminalquotaerror|quota\b", re.IGNORECASE)
_RATE = re.compile(r"rate[\s_-]?limit|too many requests|\b429\b", re.IGNORECASE)

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
    text: str,
    now: datetime,
    *,
    margin_percent: float = MARGIN_PERCENT,
    most_seconds: float = MAX_SECONDS,
) -> Told | None:
    """Read one error line; None when it names no limit.

    Args:
        text: The line.
        now: The instant, in the zone of times of day that name none.
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
    named = limit_of([line], now, now.tzinfo) if now.tzinfo else limit_of([line], now)
    if named.resets_at is not None:
        seconds = (named.resets_at - now).total_seconds()
    return Told(reason, min(seconds * (1 + margin_percent / 100), most_seconds))
