"""Single values of the file: durations, sizes, text with `${VAR}`, paths. Pure but for `~`.

The caller adds file, line and key to the reason that `BadValueError` gives.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_DURATION = re.compile(r"(?P<number>\d{1,15}(\.\d{1,9})?)\s*(?P<unit>[A-Za-z]*)\Z")
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
#: Beyond this timers and dates overflow somewhere; nobody means it.
MAX_SECONDS = 10 * 366 * 86400.0
_BYTES = {
    "": 1,
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KIB": 1024,
    "MIB": 1024**2,
    "GIB": 1024**3,
    "TIB": 1024**4,
}
_VARIABLE = re.compile(r"\$(?P<escape>\$)?\{(?P<name>[^}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class BadValueError(ValueError):
    """A value of the file cannot be used; the message is the reason alone."""


@dataclass(frozen=True)
class Surroundings:
    """What the values of a file may refer to: the environment, and the folder of the file."""

    environment: Mapping[str, str]
    folder: Path


def parse_duration(value: object) -> float:
    """Read a duration as seconds: `10`, `10s`, `1.5h`, `500ms`.

    Raises:
        BadValueError: it is none, negative, or longer than ten years.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value) if abs(value) <= MAX_SECONDS else math.inf
    elif isinstance(value, str):
        match = _DURATION.match(value.strip())
        if match is None:
            raise BadValueError(f"expected a duration like 10s, 5m or 500ms, got {value!r}")
        if match["unit"] not in _SECONDS:
            raise BadValueError(
                f"unknown unit {match['unit']!r} in {value!r}; use ms, s, m, h or d"
            )
        seconds = float(match["number"]) * _SECONDS[match["unit"]]
    else:
        raise BadValueError(f"expected a duration like 10s, 5m or 500ms, got {describe(value)}")
    if not 0 <= seconds <= MAX_SECONDS:
        raise BadValueError(f"must lie between 0 and ten years, got {value}")
    return seconds


def parse_size(value: object) -> int:
    """Read a size as bytes: `10MB` (powers of 1000), `10MiB` (powers of 1024), `4096`.

    Raises:
        BadValueError: it is none.
    """
    match = _DURATION.match(str(value).strip()) if isinstance(value, (int, str)) else None
    if match is None or isinstance(value, bool):
        raise BadValueError(f"expected a size like 10MB or 64MiB, got {describe(value)}")
    if match["unit"].upper() not in _BYTES:
        raise BadValueError(
            f"unknown unit {match['unit']!r} in {value!r}; use B, KB, MB, GB or KiB, MiB, GiB"
        )
    return int(float(match["number"]) * _BYTES[match["unit"].upper()])


def describe(value: object) -> str:
    """Name a wrong value for people: its kind and, where short, itself."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {value[:60]!r}"
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return type(value).__name__


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace each `${VAR}` in one pass; `$${VAR}` stays `${VAR}`. Nothing else is expanded.

    Raises:
        BadValueError: a variable is not set, or the name is none.
    """

    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        if match["escape"]:
            return f"${{{name}}}"
        if not _NAME.match(name):
            raise BadValueError(f"${{{name}}} names no variable; only the form ${{NAME}} is known")
        if name not in environment:
            raise BadValueError(f"the environment variable {name} is not set")
        return environment[name]

    return _VARIABLE.sub(replace, text)


def parse_text(value: object, environment: Mapping[str, str]) -> str:
    """Read text and expand it.

    Raises:
        BadValueError: it is no text, or its expansion fails.
    """
    if not isinstance(value, str):
        raise BadValueError(f"expected text, got {describe(value)}{quoting(value)}")
    return expand(value, environment)


def quoting(value: object) -> str:
    """Advice for a word that YAML took for something else; empty where none helps."""
    if isinstance(value, bool):
        return "; put it in quotes if the word is meant"
    return f'; write "{value}" in quotes' if isinstance(value, (int, float)) else ""


def parse_path(value: object, around: Surroundings) -> Path:
    """Read a path: `${VAR}` and `~` expanded, relative to the folder of the file. Touches no file.

    Raises:
        BadValueError: it is none.
    """
    text = parse_text(value, around.environment)
    if not text.strip():
        raise BadValueError("expected a path, got nothing")
    if "\0" in text:
        raise BadValueError("a path holds no NUL character")
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise BadValueError(f"{text.split('/', maxsplit=1)[0]} names no home folder") from error
    # `..` goes by name only here: links are followed when the path is used
    return Path(os.path.normpath(around.folder / path))


def parse_command(value: object) -> str:
    """Read a program: a name looked up on PATH stays, anything with a slash is a path.

    Raises:
        BadValueError: it is none.
    """
    if not isinstance(value, str) or not value.strip():
        raise BadValueError(f"expected a program, got {describe(value)}")
    return value


def parse_argv(value: object) -> tuple[str, ...]:
    """Read a command: a list of words, or one line split like a shell would, never run by one.

    Raises:
        BadValueError: it is none, or empty.
    """
    words: list[object]
    if isinstance(value, str):
        try:
            words = list(shlex.split(value))
        except ValueError as error:
            raise BadValueError(f"{value!r} cannot be split into words: {error}") from None
    elif isinstance(value, (list, tuple)):
        words = list(value)  # pyright: ignore[reportUnknownArgumentType] - elements are checked below
    else:
        raise BadValueError(f"expected a command line or a list of words, got {describe(value)}")
    argv: list[str] = []
    for word in words:
        if not isinstance(word, str):
            raise BadValueError(
                f"every word of a command is text, got {describe(word)}{quoting(word)}"
            )
        if "\0" in word:
            raise BadValueError("a word of a command holds no NUL character")
        argv.append(word)
    if not argv or not argv[0]:
        raise BadValueError("the command is empty")
    return tuple(argv)
