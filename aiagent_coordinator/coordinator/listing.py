"""What the server says should run: read, and remembered by the name that the server gave it.

An answer to a thousand lines of work that all hold is long, and mostly the one before. Who shows its
name is told no more than that it still stands.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from aiagent_coordinator.coordinator.plan import Action
from aiagent_coordinator.errors import ProtocolError
from aiagent_coordinator.quota import DEFAULT_ACCOUNT, Lane
from aiagent_coordinator.runs import Assignment, Purpose
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: So long an answer is not asked for as a whole again.
KNOWN_SECONDS = 60.0


@dataclass(frozen=True)
class Listing:
    """One answer to `list_agent_actions`."""

    version: int = 0
    actions: Sequence[Action] = ()
    #: The server's name for these actions; None where they must be told again.
    etag: str | None = None
    #: Until when the name is shown, monotonic.
    until: float = 0.0

    def known(self, now: float) -> dict[str, str]:
        """The argument that names what is known; none when the whole is wanted."""
        return {"known": self.etag} if self.etag is not None and now < self.until else {}

    def after(self, answer: Mapping[str, object], now: float) -> Listing:
        """What is known after an answer.

        Only that nothing is to be done is remembered. What leads to something, or is not understood,
        is asked for anew.

        Raises:
            ProtocolError: there is no list of actions, and it does not name ours.
        """
        said, etag = answer.get("version"), answer.get("etag")
        version = said if isinstance(said, int) else 0
        if "actions" not in answer and self.known(now) == {"known": etag}:
            return Listing(version, self.actions, self.etag, self.until)
        items = answer.get("actions")
        if not isinstance(items, list):
            raise ProtocolError("the server answered list_agent_actions without a list of actions")
        items = cast("list[dict[str, Any]]", items)
        actions = _read(items)
        is_idle = len(actions) == len(items) and all(one.action == "hold" for one in actions)
        if is_idle and isinstance(etag, str):
            return Listing(version, actions, etag, now + KNOWN_SECONDS)
        return Listing(version, actions)


def _read(items: list[dict[str, Any]]) -> list[Action]:
    """Read the lines of an answer; one that makes no sense is skipped and said."""
    actions: list[Action] = []
    for item in items:
        try:
            actions.append(
                Action(
                    Assignment(
                        str(item["agent_id"]),
                        str(item["project_id"]),
                        Purpose(item.get("purpose", "task")),
                    ),
                    str(item["action"]),
                    str(item.get("reason", "")),
                    str(item.get("provider") or ""),
                    item.get("model"),
                    item.get("task_id"),
                    int(item.get("slots_free", 1)),
                    item.get("max_concurrent"),
                    str(item.get("approval") or "edits"),
                    _lanes(item),
                )
            )
        except (KeyError, TypeError, ValueError) as error:
            log_event(
                logger,
                logging.WARNING,
                "loop.failed",
                "an action was not understood",
                error=repr(error),
            )
    return actions


def _lanes(item: Mapping[str, Any]) -> tuple[Lane, ...]:
    """What an action may work on, as it is offered."""
    told: list[Mapping[str, Any]] = item.get("lanes") or []
    if not told and item.get("account"):
        told = [item]
    return tuple(
        Lane(str(one["provider"]), str(one.get("account") or DEFAULT_ACCOUNT), one.get("model"))
        for one in told
    )
