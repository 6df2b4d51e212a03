"""A workflow file as a `Workflow`: every mistake with its file, line and key, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from aiagent_coordinator.config.source import KeyPath, read_source
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
from aiagent_coordinator.workflows.values import Reader, is_list, near

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
    reader = _Reader(read_source(file))
    workflow = reader.read(file.stem)
    error = reader.refusal([] if reader.problems else problems_of(workflow))
    if error is not None:
        raise error
    return workflow


class _Reader(Reader):
    """Reads one workflow."""

    def read(self, name: str) -> Workflow:
        data = self._head(name, _TOP)
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
        if times is not None:
            times = self._number((*at, "times"), times, 1, MAX_TIMES)
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
        if not is_list(value) or not 1 <= len(value) <= MAX_RULES:
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
                nearest = near(used, groups)
                self._wrong(
                    (*here, "use"), f"there is no group {used!r}{nearest}; add it to `groups`"
                )
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
                nearest = near(fact, FACTS)
                listed = ", ".join(FACTS)
                self._wrong((*at, place), f"unknown fact {fact!r}{nearest}; there are: {listed}")
