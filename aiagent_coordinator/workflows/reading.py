"""A workflow file as a `Workflow`: every mistake with its file, line and key, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeGuard

from aiagent_coordinator.config.source import KeyPath, Problem, Source, read_source, refuse
from aiagent_coordinator.ids import CHOSEN_ID
from aiagent_coordinator.tasks import Duty
from aiagent_coordinator.workflows.checking import problems_of
from aiagent_coordinator.workflows.definition import (
    ABOUT,
    FACTS,
    PLACEHOLDER,
    Action,
    Rule,
    Stage,
    Workflow,
)

SCHEMA: Final = 1
#: Longest text of a rule: it goes to the agent whole.
MAX_SAY_CHARS: Final = 8_000
#: Nobody follows more, and the checks stay quick.
MAX_STAGES: Final = 100
MAX_RULES: Final = 50
MAX_TIMES: Final = 1_000

_TOP: Final = ("schema", "role", "title", "groups", "stages")
_STAGE: Final = ("rules", "after_reading", "choices", "times")
_RULE: Final = ("do", "say", "when", "next", "about", "state", "tools", "use")


def load_workflow(file: Path) -> Workflow:
    """Read a workflow; its name is its file's.

    Raises:
        ConfigError: it cannot be used; the message says where and why, `problems` lists all.
    """
    source = read_source(file)
    reader = _Reader(source)
    workflow = reader.read(file.stem)
    problems = reader.problems or problems_of(workflow)
    if problems:
        placed = [Problem(source.line_of(one.key), one.key, one.reason) for one in problems]
        raise refuse(source.file, placed)
    return workflow


@dataclass
class _Reader:
    """Takes the values of a file; what is wrong is noted, and something harmless put in its place."""

    source: Source
    problems: list[Problem] = field(default_factory=list[Problem])

    def read(self, name: str) -> Workflow:
        data = self.source.data
        self._known((), data, _TOP)
        if not CHOSEN_ID.match(name):
            self._wrong((), f"{name!r} is no name: lower-case letters, digits, `.`, `_` and `-`")
        if data.get("schema") != SCHEMA:
            self._wrong(("schema",), f"must be {SCHEMA}, the only one there is")
        role = self._one_of(("role",), data.get("role"), [*Duty])
        groups = self._mapping(("groups",), data.get("groups", {}))
        stages = self._mapping(("stages",), data.get("stages"))
        if not stages or len(stages) > MAX_STAGES:
            self._wrong(("stages",), f"needs 1 to {MAX_STAGES} stages")
        return Workflow(
            name,
            Duty(role or Duty.WORKER),
            self._text(("title",), data.get("title"), 200),
            {one: self._stage(("stages", one), one, stages[one], groups) for one in stages},
            self.source.file,
        )

    def _stage(self, at: KeyPath, name: str, value: object, groups: Mapping[str, Any]) -> Stage:
        given = self._mapping(at, value)
        self._known(at, given, _STAGE)
        times = given.get("times")
        if times is not None and not (_is_number(times) and 1 <= times <= MAX_TIMES):
            self._wrong((*at, "times"), f"must be a whole number from 1 to {MAX_TIMES}")
            times = None
        choices = self._mapping((*at, "choices"), given.get("choices", {}))
        return Stage(
            name,
            tuple(self._rules((*at, "rules"), given.get("rules"), groups)),
            self._word((*at, "after_reading"), given.get("after_reading")),
            {one: self._word((*at, "choices", one), choices[one]) or "" for one in choices},
            times,
        )

    def _rules(
        self, at: KeyPath, value: object, groups: Mapping[str, Any], *, is_group: bool = False
    ) -> Iterable[Rule]:
        if not _is_list(value) or not 1 <= len(value) <= MAX_RULES:
            self._wrong(at, f"needs a list of 1 to {MAX_RULES} rules")
            return
        for place, item in enumerate(value):
            here: KeyPath = (*at, place)
            given = self._mapping(here, item)
            self._known(here, given, _RULE)
            if "use" not in given:
                yield self._rule(here, given)
                continue
            used = self._word((*here, "use"), given["use"]) or ""
            if is_group or len(given) > 1:
                self._wrong((*here, "use"), "stands alone, and not inside a group")
            elif used not in groups:
                near = _near(used, groups)
                self._wrong((*here, "use"), f"there is no group {used!r}{near}; add it to `groups`")
            else:
                yield from self._rules(("groups", used), groups[used], {}, is_group=True)

    def _rule(self, at: KeyPath, given: Mapping[str, Any]) -> Rule:
        do = self._one_of((*at, "do"), given.get("do"), [*Action])
        about = given.get("about")
        if about is not None:
            about = self._one_of((*at, "about"), about, ABOUT)
        say = self._text((*at, "say"), given.get("say"), MAX_SAY_CHARS)
        if about is None and PLACEHOLDER.search(say):
            self._wrong((*at, "say"), "speaks of a sub-task; say with `about` which one is meant")
        return Rule(
            Action(do or Action.EXIT),
            say,
            tuple(self._conditions((*at, "when"), given.get("when", []))),
            self._word((*at, "next"), given.get("next")),
            about,
            self._word((*at, "state"), given.get("state")),
            tuple(self._words((*at, "tools"), given.get("tools", []))),
        )

    def _conditions(self, at: KeyPath, value: object) -> Iterable[tuple[str, bool]]:
        for place, word in enumerate(self._words(at, value)):
            fact = word.removeprefix("not ")
            if fact in FACTS:
                yield fact, fact == word
            else:
                near = _near(fact, FACTS)
                listed = ", ".join(FACTS)
                self._wrong((*at, place), f"unknown fact {fact!r}{near}; there are: {listed}")

    def _words(self, at: KeyPath, value: object) -> list[str]:
        if not _is_list(value) or len(value) > MAX_RULES:
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

    def _one_of(self, at: KeyPath, value: object, known: Iterable[str]) -> str | None:
        words = [str(one) for one in known]
        if isinstance(value, str) and value in words:
            return value
        near = _near(value, words) if isinstance(value, str) else ""
        self._wrong(at, f"must be one of {', '.join(words)}{near}")
        return None

    def _mapping(self, at: KeyPath, value: object) -> Mapping[str, Any]:
        if _is_mapping(value):
            return value
        self._wrong(at, "must be a mapping of `key: value` lines")
        return {}

    def _known(self, at: KeyPath, given: Mapping[str, Any], known: Iterable[str]) -> None:
        for key in given:
            if key not in known:
                self._wrong((*at, key), f"unknown key{_near(key, known)}; remove it")

    def _wrong(self, key: KeyPath, reason: str) -> None:
        self.problems.append(Problem(0, key, reason))


def _near(word: str, known: Iterable[str]) -> str:
    near = get_close_matches(word[:100], list(known), 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _is_mapping(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)
