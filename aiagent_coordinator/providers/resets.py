"""When a limit of a provider is over, by the words in which CLIs and servers say it. Pure.

Units are honoured: `retry-after-ms` is milliseconds, `3 days 4 h` is three days and four hours. A time of
day is the next one of its zone. What is said of no time gives no time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from email.utils import parsedate_to_datetime
from typing import Final
from zoneinfo import ZoneInfo

from aiagent_coordinator.quota import FARTHEST, Confidence, Limit, window_of

#: Longer texts are looked at up to here.
MAX_CHARS: Final = 8000
#: A time that has just passed is a clock that is wrong, or old words: it is tried again after this.
PASSED: Final = timedelta(minutes=5)
#: A time of day that passed so long ago was meant, and not tomorrow's.
JUST_PASSED: Final = timedelta(hours=2)

_UNITS: Final = (
    (r"milliseconds?|msecs?|ms", 0.001),
    (r"months?", 30 * 86_400.0),
    (r"weeks?|wks?|w", 7 * 86_400.0),
    (r"days?|d", 86_400.0),
    (r"hours?|hrs?|h", 3600.0),
    (r"minutes?|mins?|m", 60.0),
    (r"seconds?|secs?|s", 1.0),
)
_UNIT = "|".join(f"(?:{names})" for names, _ in _UNITS)
_PART = rf"\d+(?:\.\d+)?\s*(?:{_UNIT})(?![a-z])"
_LONG = rf"(?:{_PART}|\d+(?:\.\d+)?\s*(?:{_UNIT})(?=\d))(?:(?:\s*,\s*|\s+and\s+|\s*)\d+(?:\.\d+)?\s*(?:{_UNIT})(?![a-z]|\Z(?<!\w)))*"
_SPAN = re.compile(
    rf"(?:(?:try|retry|trying|again|reset|resets|resetting|available|wait|renews?|refresh(?:es)?)\s+"
    rf"(?:again\s+)?(?:in|after|for)|\bwait|delay|after)\W{{1,4}}(?:about\s+|~)?({_LONG})",
    re.IGNORECASE,
)
_ONE = re.compile(rf"(\d+(?:\.\d+)?)\s*({_UNIT})", re.IGNORECASE)
#: `retry-after-ms: 3000`, `"resets_in_seconds":12`, `retryDelay: "34s"`: a name, then a number.
_FIELD = re.compile(
    r"(?<![a-z])(retry[-_ ]?after(?:[-_]?(?:ms|millis(?:econds)?|secs?|seconds?))?|retryAfter(?:Ms|Seconds?)?|"
    r"resets?[-_]?in[-_]?(?:ms|secs?|seconds?)|retry[-_]?delay(?:[-_]?ms)?|retryDelay(?:Ms)?)"
    r"[\"']?\s*[:=]\s*[\"'\[]*\s*(\d+(?:\.\d+)?)(?:\s*(ms|s|m|h)\b)?",
    re.IGNORECASE,
)
_MILLIS = re.compile(r"ms\Z|millis", re.IGNORECASE)
#: Seconds or milliseconds since 1970.
_EPOCH = re.compile(
    r"(?:\||(?:reset\w*|resetsAt|[-_]reset[-_a-z]*)[\"']?\s*(?:at\s*)?[:=]?\s*[\"'\[]*)"
    r"\s*(1\d{9}(?:\d{3})?)(?!\d)",
    re.IGNORECASE,
)
_ISO = re.compile(
    r"(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)\s*(Z|UTC|GMT|[+-]\d{2}:?\d{2})?"
)
_HTTP_DATE = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT"
)
_MONTHS: Final[list[str]] = [
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
]
_ZONE = r"\s*(?:\(([A-Za-z_+\-/0-9]+)\)|((?:GMT|UTC)(?:[+-]\d{1,2}(?::?\d{2})?)?|Z)(?![A-Za-z])|([A-Z]{2,5})(?![A-Za-z]))?"
_CLOCK = rf"(\d{{1,2}})(?::(\d{{2}}))?(?::\d{{2}})?\s*([ap]\.?m\.?)?{_ZONE}"
_DATE = (
    rf"(?:(?:({'|'.join(_MONTHS)})[a-z]*\.?\s+(\d{{1,2}})(?:st|nd|rd|th)?"
    rf"(?:,?\s+(\d{{4}}))?(?:\s*,\s*|\s+at\s+|\s+))|((?:to|tonight)?morrow)\s+(?:at\s+)?)?"
)
_WHEN = re.compile(
    rf"(?:(?:resets?|(again)|available|renews?|back)\s+(?:at|on|until)?|until)\s*:?\s*{_DATE}{_CLOCK}",
    re.IGNORECASE,
)
#: `retry after 10`, as the header has it: seconds.
_BARE = re.compile(r"\b(?:re)?try[-_ ]?after\s+(\d+(?:\.\d+)?)(?![\d.]|\s*[a-z])", re.IGNORECASE)
#: Zones that are written as letters; others of these mean several places.
_LETTERS: Final = {"UTC": 0, "GMT": 0, "Z": 0}

_PACIFIC = "America/Los_Angeles"
#: Whose days end at midnight there.
_GOOGLE = re.compile(
    r"gemini|google|RESOURCE_EXHAUSTED|TerminalQuotaError|your daily quota on this model",
    re.IGNORECASE,
)


def limit_of(texts: Iterable[str], seen_at: datetime, zone: tzinfo = UTC) -> Limit:
    """Read what some texts say of a limit: the first that names a time counts.

    Args:
        texts: The words of the error first, then what came with it: headers, bodies.
        seen_at: When they were said.
        zone: The zone of times of day that name none: that of the machine.
    """
    said = [text[:MAX_CHARS] for text in texts]
    whole = "\n".join(said)
    window, of_model = window_of(whole)
    for text in said:
        found = _time_of(text, seen_at, zone)
        if found is not None:
            at, confidence = found
            return Limit(at, confidence, window, of_model)
    derived = _derived(window, whole, seen_at)
    if derived is not None:
        return Limit(derived, Confidence.DERIVED, window, of_model)
    return Limit(window=window, of_model=of_model)


_Found = tuple[datetime, Confidence]


def _time_of(text: str, seen_at: datetime, zone: tzinfo) -> _Found | None:
    for read in _READERS:
        found = read(text, seen_at, zone)
        if found is None:
            continue
        at, confidence = found
        if at > seen_at + FARTHEST:
            continue
        if at <= seen_at:
            return seen_at + PASSED, Confidence.DERIVED
        return at, confidence
    return None


def _derived(window: str, whole: str, seen_at: datetime) -> datetime | None:
    """The end of a window that has a fixed one."""
    if window == "minute":
        return seen_at + timedelta(minutes=1)
    if window == "daily" and _GOOGLE.search(whole):
        # its days are those of California
        here = seen_at.astimezone(_zone_named(_PACIFIC) or UTC)
        midnight = here.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        return (midnight + timedelta(days=1)).replace(tzinfo=here.tzinfo).astimezone(UTC)
    return None


def _epoch(text: str, seen_at: datetime, zone: tzinfo) -> _Found | None:
    del seen_at, zone
    match = _EPOCH.search(text)
    if match is None:
        return None
    seconds = int(match[1]) / (1000 if len(match[1]) == 13 else 1)
    return datetime.fromtimestamp(seconds, UTC), Confidence.STATED


def _http_date(text: str, seen_at: datetime, zone: tzinfo) -> _Found | None:
    del seen_at, zone
    match = _HTTP_DATE.search(text)
    if match is None:
        return None
    try:
        return parsedate_to_datetime(match[0]).astimezone(UTC), Confidence.STATED
    except ValueError:
        return None


def _iso(text: str, seen_at: datetime, zone: tzinfo) -> _Found | None:
    """An instant; the nearest one ahead, as lines also say when they were written."""
    found: list[_Found] = []
    for match in _ISO.finditer(text):
        offset = {"Z": "+00:00", "UTC": "+00:00", "GMT": "+00:00"}.get(match[3] or "", match[3])
        try:
            at = datetime.fromisoformat(f"{match[1]}T{match[2]}{offset or ''}")
        except ValueError:
            continue
        local = at.tzinfo is None
        at = at.replace(tzinfo=zone) if local else at
        confidence = Confidence.DERIVED if local else Confidence.STATED
        found.append((at.astimezone(UTC), confidence))
    return min((one for one in found if one[0] > seen_at), default=None)


def _field(text: str, seen_at: datetime, zone: tzinfo) -> _Found | None:
    del zone
    match = _FIELD.search(text)
    if match is None:
        return None
    name, number, unit = match[1], float(match[2]), (match[3] or "").lower()
    if not unit:
        unit = "ms" if _MILLIS.search(name) else "s"
    return _later(seen_at, number * _seconds_of(unit)), Confidence.STATED


def _span(text: str, seen_at: datetime, zone: tzinfo) -> _Found | None:
    del zone
    match = _SPAN.search(text)
    if match is None:
        return None
    seconds = sum(float(number) * _seconds_of(unit) for number, unit in _ONE.findall(match[1]))
    return _later(seen_at, seconds), Confidence.STATED


def _bare(text: str, seen_at: datetime, zone: tzinfo) -> _Found | None:
    del zone
    match = _BARE.search(text)
    return None if match is None else (_later(seen_at, float(match[1])), Confidence.STATED)


def _later(seen_at: datetime, seconds: float) -> datetime:
    # beyond what dates can hold is beyond what is believed
    return seen_at + timedelta(seconds=min(seconds, 2 * FARTHEST.total_seconds()))


def _seconds_of(unit: str) -> float:
    return next(size for names, size in _UNITS if re.fullmatch(names, unit, re.IGNORECASE))


def _when(text: str, seen_at: datetime, zone: tzinfo) -> _Found | None:
    """A time of day, perhaps with its date and its zone."""
    match = _WHEN.search(text)
    if match is None:
        return None
    cut, month, day, year, tomorrow, hour, minute, half, named, offset, letters = match.groups()
    if half is None and minute is None:
        return None  # a bare number is no time
    place, confidence = _place(named, offset, letters, zone)
    hours = int(hour) % 12 + (12 if half.lower().startswith("p") else 0) if half else int(hour)
    here = seen_at.astimezone(place)
    try:
        at = here.replace(hour=hours, minute=int(minute or 0), second=0, microsecond=0)
        if month is None:
            days = 1 if tomorrow or at < here - JUST_PASSED else 0
            at = (at.replace(tzinfo=None) + timedelta(days=days)).replace(tzinfo=place)
        else:
            at = at.replace(
                month=_MONTHS.index(month.lower()) + 1, day=int(day), year=int(year or here.year)
            )
            if year is None and at < here - timedelta(days=180):
                at = at.replace(year=at.year + 1)
    except ValueError:
        return None
    if cut and minute:
        at += timedelta(minutes=1)  # `try again at 9:18 PM` is Codex, which leaves out the seconds
    return at.astimezone(UTC), confidence


def _place(
    named: str | None, offset: str | None, letters: str | None, zone: tzinfo
) -> tuple[tzinfo, Confidence]:
    """The zone of a time of day, and how sure that is."""
    if named:
        known = _zone_named(named) or _zone_named(named.upper())
        if known is not None:
            return known, Confidence.STATED
    if offset:
        return _offset(offset), Confidence.STATED
    if letters and letters.upper() in _LETTERS:
        return UTC, Confidence.STATED
    return zone, Confidence.DERIVED


def _offset(text: str) -> tzinfo:
    match = re.fullmatch(r"(?:GMT|UTC|Z)(?:([+-])(\d{1,2}):?(\d{2})?)?", text, re.IGNORECASE)
    if match is None or match[1] is None:
        return UTC
    minutes = int(match[2]) * 60 + int(match[3] or 0)
    return timezone(timedelta(minutes=minutes if match[1] == "+" else -minutes))


def _zone_named(name: str) -> tzinfo | None:
    if name in _LETTERS:
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        return None


_READERS: tuple[Callable[[str, datetime, tzinfo], _Found | None], ...] = (
    _epoch,
    _field,
    _http_date,
    _span,
    _bare,
    _when,
    _iso,
)
