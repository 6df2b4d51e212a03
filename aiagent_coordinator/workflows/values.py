"""Takes the values of a file one by one; what is wrong is noted with its key, and something harmless put in its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, TypeGuard

from aiagent_coordinator.config.source import KeyPath, Problem, Source, refuse
from aiagent_coordinator.errors import ConfigError
from aiagent_coordinator.ids import CHOSEN_ID

SCHEMA: Final = 1
#: Longest list of words.
MAX_WORDS: Final = 50


@dataclass
class Reader:
    """Reads one file; a reader of one kind of file adds what that kind has."""

    source: Source
    problems: list[Problem] = field(default_factory=list[Problem])

    def _head(self, name: str, known: Iterable[str]) -> Mapping[str, Any]:
        """The file as a mapping, its name, its keys and its schema looked at."""
        data = self.source.data
        self._known((), data, known)
        if not CHOSEN_ID.match(name):
            self._wrong((), f"{name!r} is no name: lower-case letters, digits, `.`, `_` and `-`")
        if data.get("schema") != SCHEMA:
            self._wrong(("schema",), f"must be {SCHEMA}, the only one there is")
        return data

    def refusal(self, more: Iterable[Problem] = ()) -> ConfigError | None:
        """One error of all that was noted, each in its line; None when nothing was."""
        problems = self.problems or list(more)
        if not problems:
            return None
        placed = [Problem(self.source.line_of(one.key), one.key, one.reason) for one in problems]
        return refuse(self.source.file, placed)

    def _words(self, at: KeyPath, value: object) -> list[str]:
        if not is_list(value) or len(value) > MAX_WORDS:
            self._wrong(at, "must be a list of words")
            return []
        return [self._word((*at, place), item) or "" for place, item in enumerate(value)]

    def _word(self, at: KeyPath, value: object) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value) <= 100:
            self._wrong(at, "must be a word")
            return None
        return value

    def _text(self, at: KeyPath, value: object, most: int) -> str:
        if not isinstance(value, str) or not value.strip() or len(value) > most:
            self._wrong(at, f"needs a text of at most {most} characters")
            return ""
        return value.strip()

    def _number(self, at: KeyPath, value: object, least: int, most: int) -> int | None:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self._wrong(at, f"must be a whole number from {least} to {most}")
        return None

    def _flag(self, at: KeyPath, value: object) -> bool:
        if not isinstance(value, bool):
            self._wrong(at, "must be true or false")
        return value is True

    def _one_of(self, at: KeyPath, value: object, known: Iterable[str]) -> str | None:
        words = [str(one) for one in known]
        if isinstance(value, str) and value in words:
            return value
        nearest = near(value, words) if isinstance(value, str) else ""
        self._wrong(at, f"must be one of {', '.join(words)}{nearest}")
        return None

    def _mapping(self, at: KeyPath, value: object) -> Mapping[str, Any]:
        if is_mapping(value):
            return value
        self._wrong(at, "must be a mapping of `key: value` lines")
        return {}

    def _known(self, at: KeyPath, given: Mapping[str, Any], known: Iterable[str]) -> None:
        for key in given:
            if key not in known:
                self._wrong((*at, key), f"unknown key{near(key, known)}; remove it")

    def _wrong(self, key: KeyPath, reason: str) -> None:
        self.problems.append(Problem(0, key, reason))


def problems_of(error: ConfigError) -> list[str]:
    """Every line of what is wrong with a file."""
    listed = error.details.get("problems")
    return [str(line) for line in listed] if isinstance(listed, list) else [error.message]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - lines


def near(word: str, known: Iterable[str]) -> str:
    """What was probably meant, for the end of a sentence."""
    found = get_close_matches(word[:100], list(known), 1)
    return f" (did you mean {found[0]}?)" if found else ""


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether a value of a file is a list."""
    return isinstance(value, list)


def is_mapping(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a value of a file is a mapping."""
    return isinstance(value, dict)
