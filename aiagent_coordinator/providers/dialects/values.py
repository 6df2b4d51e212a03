"""Values of foreign JSON, taken as what they should be: nonsense counts as nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast

Json = dict[str, Any]

#: What is kept of one text.
MAX_TEXT_CHARS = 32 * 1024
#: What is kept of a name.
MAX_NAME_CHARS = 200
#: More than any model takes; a larger number is nonsense.
_MOST = 10**15


def text(value: object, most: int = MAX_TEXT_CHARS) -> str:
    """The value as text that can be written anywhere; not more than its beginning.

    It is cut between words where it can be: half a secret would not be known as one.
    """
    if value is None:
        return ""
    whole_text = value if isinstance(value, str) else str(value)
    found = whole_text[:most]
    if len(found) < len(whole_text):
        border = max(found.rfind(" ", most * 3 // 4), found.rfind("\n", most * 3 // 4))
        found = found[: border if border > 0 else most * 3 // 4]
    # half of a pair, as JSON can write it, is no text
    return found if found.isascii() else found.encode("utf-8", "replace").decode("utf-8")


def name(value: object) -> str:
    """The value as a short text."""
    return text(value, MAX_NAME_CHARS) if isinstance(value, str | int) else ""


def said(value: object) -> str | None:
    """A short text, or None where there is none."""
    return (name(value) or None) if isinstance(value, str) else None


def mapping(value: object) -> Json:
    """The object, or an empty one."""
    return cast("Json", value) if isinstance(value, dict) else {}


def items(value: object) -> Iterator[Json]:
    """The objects of a list."""
    if isinstance(value, list):
        for one in cast("list[object]", value):
            if isinstance(one, dict):
                yield cast("Json", one)


def names(value: object) -> tuple[str, ...] | None:
    """The texts of a list; None where it is none."""
    if not isinstance(value, list):
        return None
    return tuple(name(one) for one in cast("list[object]", value)[:1000] if isinstance(one, str))


def count(value: object) -> int:
    """A number of tokens."""
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return value if 0 <= value < _MOST else 0


def whole(value: object) -> int | None:
    """A number that counts something; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < _MOST else None


def number(value: object) -> float | None:
    """A number that is not negative; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < _MOST else None


def instant(value: object) -> str | None:
    """Seconds since 1970 as ISO 8601 in UTC."""
    seconds = number(value)
    if seconds is None or not 0 < seconds < 10**11:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def seconds_of(value: object) -> float | None:
    """A moment as seconds since 1970, from ISO 8601 or from milliseconds since then."""
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).timestamp()
        except (ValueError, OverflowError):
            return None
    found = number(value)
    return None if found is None else found / 1000


def arguments(value: object, line_bytes: int) -> Json | str:
    """The arguments of a call; where the line that told them is too long, the beginning of their JSON."""
    told = mapping(value)
    if isinstance(value, str):
        return text(value)
    if line_bytes <= MAX_TEXT_CHARS or not told:
        return told
    return text(json.dumps(told, ensure_ascii=False))


def content(value: object) -> str:
    """The text of what a tool gave: a text, or a list of parts of which some are."""
    if not isinstance(value, list):
        return text(value)
    parts: list[str] = []
    room = MAX_TEXT_CHARS
    for part in cast("list[object]", value):
        known = mapping(part)
        found = text(known.get("text", known.get("result")) if known else part, room)
        if not found and known:
            kind = name(known.get("type"))
            found = f"[{kind}]" if kind else text(json.dumps(known, ensure_ascii=False), room)
        parts.append(found)
        room -= len(found)
        if room <= 0:
            break
    return "\n".join(parts)
