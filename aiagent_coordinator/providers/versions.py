"""Versions of CLIs: numbers with dots, and the ranges that definitions speak of. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from enum import StrEnum

_PART = re.compile(r"(>=|<=|>|<|==)\s*(\d+(?:\.\d+)*)\Z")
_COMPARE: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}
#: Numbers of a version that count; what follows is a build.
_NUMBERS = 3


class Standing(StrEnum):
    """How an installed version stands to the range that was looked at."""

    #: It did not say its version, or the definition names no range.
    UNKNOWN = "unknown"
    CHECKED = "checked"
    OLDER = "older"
    NEWER = "newer"
    #: No version of the program was looked at: its documentation was.
    UNVERIFIED = "unverified"
    #: Older than what the definition was written for at all.
    TOO_OLD = "too_old"


def check_range(text: str) -> None:
    """Look whether a text is a range like `>=2.1.197, <2.2`.

    Raises:
        ValueError: it is none.
    """
    _parts(text)


def standing(version: str | None, versions: str, supported: str = "") -> Standing:
    """Say how a version stands.

    Args:
        version: What the program said; None when it did not.
        versions: The range that was looked at.
        supported: The range that the definition was written for.
    """
    if version is None:
        return Standing.UNKNOWN
    found = numbers(version)
    if supported and not _reaches(found, _parts(supported)):
        return Standing.TOO_OLD
    wanted = _parts(versions)
    if not wanted:
        return Standing.UNKNOWN
    if not _reaches(found, wanted):
        return Standing.OLDER
    return Standing.CHECKED if _holds(found, wanted) else Standing.NEWER


def numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, three of them."""
    found = [int(part) for part in re.findall(r"\d+", version)[:_NUMBERS]]
    return tuple(found + [0] * (_NUMBERS - len(found)))


def _parts(text: str) -> list[tuple[str, tuple[int, ...]]]:
    parts: list[tuple[str, tuple[int, ...]]] = []
    for part in filter(None, (one.strip() for one in text.split(","))):
        match = _PART.match(part)
        if match is None:
            message = f"{part!r} is no range; write it like >=2.1, <2.2"
            raise ValueError(message)
        parts.append((match[1], numbers(match[2])))
    return parts


def _holds(version: tuple[int, ...], parts: list[tuple[str, tuple[int, ...]]]) -> bool:
    return all(_COMPARE[sign](version, bound) for sign, bound in parts)


def _reaches(version: tuple[int, ...], parts: list[tuple[str, tuple[int, ...]]]) -> bool:
    """Whether the version reaches every lower bound."""
    return _holds(version, [(sign, bound) for sign, bound in parts if sign in {">=", ">"}])
