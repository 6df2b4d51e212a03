"""Time as a value that is passed in: instants are UTC, durations are monotonic seconds."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol


class Clock(Protocol):
    """What time it is, for whoever was given it."""

    def now(self) -> datetime:
        """The current instant, timezone-aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...


#: How far a fault set this process's clock, in seconds; only `jump` changes it.
_jumped = 0.0


def jump(seconds: float) -> None:
    """Set what this process takes for the wall clock forward or back: a fault, see `failpoints`."""
    global _jumped  # noqa: PLW0603 - the clock of a process is one
    _jumped += seconds


def wall_seconds() -> float:
    """Seconds since 1970 as the machine says, or as a fault has it."""
    return time.time() + _jumped


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """The current instant, timezone-aware, UTC."""
        return datetime.fromtimestamp(wall_seconds(), UTC)

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told: for tests and replays."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 1, tzinfo=UTC)
        self._monotonic = 0.0

    def now(self) -> datetime:
        """The instant it was set to."""
        return self._now

    def monotonic(self) -> float:
        """Seconds advanced since it was made."""
        return self._monotonic

    def jump(self, seconds: float) -> None:
        """Move what the wall shows and nothing else: somebody set the clock, or the machine slept."""
        self._now += timedelta(seconds=seconds)

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds


def iso(instant: datetime | None) -> str | None:
    """Write an instant as ISO-8601 in UTC with microseconds and a `Z`, or pass None on."""
    if instant is None:
        return None
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def zone_named(name: str) -> tzinfo:
    """A time zone by its IANA name; UTC where the system does not know it."""
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - quick commands in UTC need none of it

    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        return UTC


def local(text: str, zone: str) -> str:
    """Write an ISO-8601 instant as people of a time zone read it; what is no instant stays as it is."""
    try:
        instant = parse_iso(text)
    except ValueError:
        return text
    if instant is None:
        return text
    return instant.astimezone(zone_named(zone)).isoformat(sep=" ", timespec="seconds")


def parse_iso(text: str | None) -> datetime | None:
    """Read an ISO-8601 instant; one without a zone is UTC.

    Raises:
        ValueError: the text is no instant.
    """
    if text is None:
        return None
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        return instant.replace(tzinfo=UTC)
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        message = f"{text} is before or after all time"
        raise ValueError(message) from error
