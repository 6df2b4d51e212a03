"""An audit file as an `Audit`: every mistake with its file, line and key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from aiagent_coordinator.audits import FACTS, Audit, LockSubject, Rule, Trigger, can_lock_task
from aiagent_coordinator.config.source import KeyPath, read_source
from aiagent_coordinator.tasks import TaskStatus
from aiagent_coordinator.templates import TaskDraft
from aiagent_coordinator.workflows.drafts import DraftReader, digest_of
from aiagent_coordinator.workflows.values import is_list

_TOP: Final = ("schema", "title", "rules")
_RULE: Final = ("trigger", "to", "agents", "lock", "tasks")
MAX_RULES: Final = 20
_MAX_TITLE_CHARS: Final = 200


def load_audit(file: Path) -> Audit:
    """Read an audit; its name is its file's.

    Raises:
        ConfigError: it cannot be used; the message says where and why, `problems` lists all.
    """
    digest = digest_of(file)
    reader = _Reader(read_source(file))
    audit = reader.read(file.stem, digest)
    error = reader.refusal()
    if error is not None:
        raise error
    return audit


class _Reader(DraftReader):
    """Reads one audit."""

    def read(self, name: str, digest: str) -> Audit:
        data = self._head(name, _TOP)
        title = self._text(("title",), data.get("title"), _MAX_TITLE_CHARS)
        rules = data.get("rules")
        if not is_list(rules) or not 1 <= len(rules) <= MAX_RULES:
            self._wrong(("rules",), f"needs a list of 1 to {MAX_RULES} rules")
            rules = []
        read = tuple(
            self._rule(("rules", place), self._mapping(("rules", place), one))
            for place, one in enumerate(rules)
        )
        return Audit(name, title, read, self.source.file, digest)

    def _rule(self, at: KeyPath, given: Mapping[str, Any]) -> Rule:
        self._known(at, given, _RULE)
        on = Trigger(
            self._one_of((*at, "trigger"), given.get("trigger"), Trigger) or Trigger.TASK_COMPLETED
        )
        rule = Rule(
            on,
            self._statuses((*at, "to"), on, given.get("to")),
            tuple(self._words((*at, "agents"), given.get("agents", []))),
            tuple(self._locks((*at, "lock"), given.get("lock", []))),
        )
        if LockSubject.TASK in rule.lock and not can_lock_task(rule):
            reason = "the task may run then, and what its run brings is taken; lock its agent"
            self._wrong((*at, "lock"), reason)
        if "tasks" not in given:
            if not rule.lock:
                self._wrong(at, "does nothing; add `tasks`, or `lock`")
            return rule
        drafts = self._drafts((*at, "tasks"), given["tasks"], FACTS, TaskDraft(0, ""))
        return Rule(rule.trigger, rule.to, rule.agents, rule.lock, drafts)

    def _statuses(self, at: KeyPath, on: Trigger, value: object) -> tuple[TaskStatus, ...]:
        if on is not Trigger.STATUS_CHANGED:
            if value is not None:
                self._wrong(at, f"is for `trigger: {Trigger.STATUS_CHANGED}` alone; remove it")
            return ()
        words = self._words(at, value)
        if not words:
            self._wrong(at, "needs the statuses that count")
        read = [self._one_of((*at, place), word, TaskStatus) for place, word in enumerate(words)]
        return tuple(TaskStatus(one) for one in read if one)

    def _locks(self, at: KeyPath, value: object) -> list[LockSubject]:
        read = [
            self._one_of((*at, place), word, LockSubject)
            for place, word in enumerate(self._words(at, value))
        ]
        return [LockSubject(one) for one in dict.fromkeys(read) if one]
