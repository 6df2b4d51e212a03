"""Tasks that a file describes, for templates and audits alike: their keys, orders, and what they name."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from aiagent_coordinator.config.source import KeyPath
from aiagent_coordinator.errors import ConfigError
from aiagent_coordinator.ids import CHOSEN_ID
from aiagent_coordinator.tasks import Duty
from aiagent_coordinator.templates import TaskDraft, circle_of, mistake_in, variables_in
from aiagent_coordinator.workflows.values import Reader, is_list, near

#: Of one template, or of one rule of an audit.
MAX_TASKS: Final = 50
#: Before variables are replaced; the board has its own limits for what comes of it.
MAX_TITLE_CHARS: Final = 300
MAX_TEXT_CHARS: Final = 16_000
_MAX_PRIORITY: Final = 1_000_000
_MAX_ATTEMPTS: Final = 100
_TASK: Final = (
    *("order", "title", "description", "agent", "role", "depends_on_orders", "priority"),
    *("acceptance", "max_attempts", "needs_approval", "review_by", "mcp_servers", "skills"),
)
#: What a whole file may say for those of its tasks that do not.
ASSIGNEE: Final = ("agent", "role")
#: Whose work is given by what they are; reviewers are asked through `review_by`.
_ROLES: Final = (Duty.WORKER, Duty.MANAGER)


class DraftReader(Reader):
    """Reads lists of tasks."""

    def _drafts(
        self, at: KeyPath, value: object, variables: Collection[str], default: TaskDraft
    ) -> tuple[TaskDraft, ...]:
        """A list of tasks, each looked at, and all together.

        Args:
            at: Where the list stands.
            value: What stands there.
            variables: What its texts may name.
            default: Says who does what names nobody.
        """
        if not is_list(value) or not 1 <= len(value) <= MAX_TASKS:
            self._wrong(at, f"needs a list of 1 to {MAX_TASKS} tasks")
            return ()
        drafts: list[TaskDraft] = []
        for place, item in enumerate(value):
            drafts.append(self._draft((*at, place), self._mapping((*at, place), item), default))
            self._check_texts((*at, place), drafts[-1], variables)
        self._check_orders(at, drafts)
        return tuple(drafts)

    def _draft(self, at: KeyPath, given: Mapping[str, Any], default: TaskDraft) -> TaskDraft:
        self._known(at, given, _TASK)
        agent_id, role = self._assignee(at, given)
        if agent_id is None and role is None:
            agent_id, role = default.agent_id, default.role
        attempts = given.get("max_attempts")
        return TaskDraft(
            order=self._number((*at, "order"), given.get("order"), 1, 1_000) or 0,
            title=self._text((*at, "title"), given.get("title"), MAX_TITLE_CHARS),
            description=self._maybe_text((*at, "description"), given.get("description")),
            agent_id=agent_id,
            role=role,
            depends_on_orders=tuple(self._numbers((*at, "depends_on_orders"), given)),
            priority=self._number(
                (*at, "priority"), given.get("priority", 0), -_MAX_PRIORITY, _MAX_PRIORITY
            )
            or 0,
            acceptance=tuple(self._texts((*at, "acceptance"), given.get("acceptance", []))),
            max_attempts=None
            if attempts is None
            else self._number((*at, "max_attempts"), attempts, 1, _MAX_ATTEMPTS),
            needs_approval=self._flag((*at, "needs_approval"), given.get("needs_approval", False)),
            review_by=self._id((*at, "review_by"), given.get("review_by")),
            mcp_servers=self._names((*at, "mcp_servers"), given.get("mcp_servers")),
            skills=self._names((*at, "skills"), given.get("skills")),
        )

    def _names(self, at: KeyPath, value: object) -> tuple[str, ...] | None:
        """Names of what a task is given of its agent's; an empty list: nothing of it."""
        return None if value is None else tuple(self._words(at, value))

    def _assignee(self, at: KeyPath, given: Mapping[str, Any]) -> tuple[str | None, Duty | None]:
        """Who is named by `agent`, or meant by `role`."""
        role = given.get("role")
        if role is not None:
            role = self._one_of((*at, "role"), role, _ROLES)
            if given.get("agent") is not None:
                self._wrong((*at, "role"), "`agent` says already who does it; remove one of them")
        return self._id((*at, "agent"), given.get("agent")), Duty(role) if role else None

    def _id(self, at: KeyPath, value: object) -> str | None:
        if value is None or (isinstance(value, str) and CHOSEN_ID.match(value)):
            return value
        self._wrong(at, "must be the id of an agent")
        return None

    def _maybe_text(self, at: KeyPath, value: object) -> str:
        return "" if value is None else self._text(at, value, MAX_TEXT_CHARS)

    def _texts(self, at: KeyPath, value: object) -> Iterable[str]:
        if not is_list(value) or len(value) > MAX_TASKS:
            self._wrong(at, "must be a list of texts")
            return
        for place, item in enumerate(value):
            yield self._text((*at, place), item, MAX_TEXT_CHARS)

    def _numbers(self, at: KeyPath, given: Mapping[str, Any]) -> Iterable[int]:
        value = given.get("depends_on_orders", [])
        if not is_list(value) or len(value) > MAX_TASKS:
            self._wrong(at, "must be a list of orders")
            return
        for place, item in enumerate(value):
            number = self._number((*at, place), item, 1, 1_000)
            if number is not None:
                yield number

    def _check_texts(self, at: KeyPath, draft: TaskDraft, variables: Collection[str]) -> None:
        named: list[tuple[KeyPath, str]] = [
            ((*at, "title"), draft.title),
            ((*at, "description"), draft.description),
            *(((*at, "acceptance", place), one) for place, one in enumerate(draft.acceptance)),
        ]
        for key, text in named:
            mistake = mistake_in(text)
            if mistake is not None:
                self._wrong(key, mistake)
            for name in variables_in(text):
                if name not in variables:
                    listed = ", ".join(variables) or "none"
                    self._wrong(
                        key,
                        f"unknown variable {name!r}{near(name, variables)}; there are: {listed}",
                    )

    def _check_orders(self, at: KeyPath, drafts: list[TaskDraft]) -> None:
        orders = [one.order for one in drafts]
        for place, one in enumerate(drafts):
            if one.order in orders[:place]:
                self._wrong((*at, place, "order"), f"order {one.order} is there twice")
            for number, need in enumerate(one.depends_on_orders):
                if need not in orders:
                    listed = ", ".join(map(str, sorted(set(orders))))
                    self._wrong(
                        (*at, place, "depends_on_orders", number),
                        f"there is no order {need}; there are: {listed}",
                    )
        if not self.problems and (circle := circle_of(drafts)):
            first = orders.index(circle[0])
            way = " -> ".join(map(str, circle))
            self._wrong((*at, first, "depends_on_orders"), f"these wait for each other: {way}")


def digest_of(file: Path) -> str:
    """What a file says, hashed.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
