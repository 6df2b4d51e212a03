"""What a server of another make answers, read with nothing taken for granted. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from aiagent_coordinator.errors import ProtocolError
from aiagent_coordinator.runs import Purpose

#: Longest id or word that is taken from such a server.
MAX_CHARS = 500
_ACTIONS = frozenset({"start", "hold", "stop", "restart"})


@dataclass(frozen=True)
class Place:
    """A project as the server lists it."""

    id: str
    name: str
    path: str
    agents: tuple[str, ...]


@dataclass(frozen=True)
class Said:
    """What the server says of an agent in a project."""

    action: str
    reason: str = ""
    provider: str = ""
    model: str | None = None
    task_id: str | None = None

    @property
    def purpose(self) -> Purpose:
        """What it is started for."""
        return Purpose.CHAT if self.reason == "has_chat_work" else Purpose.TASK


def read_places(answer: Mapping[str, Any]) -> tuple[list[Place], list[str]]:
    """Read the list of projects; also what of it makes no sense, in words.

    Raises:
        ProtocolError: there is no list at all.
    """
    listed = answer.get("projects")
    if not isinstance(listed, list):
        raise ProtocolError("the server lists no projects")
    found: list[Place] = []
    troubles: list[str] = []
    for number, item in enumerate(cast("list[object]", listed)):
        entry: Mapping[str, object] = (
            cast("Mapping[str, object]", item) if isinstance(item, dict) else {}
        )
        ident = _word(entry.get("project_id", entry.get("projectId")))
        agents = entry.get("agents")
        if ident is None or not isinstance(agents, list):
            troubles.append(f"project {number} of the list has no id or no agents")
            continue
        named = [_word(one) for one in cast("list[object]", agents)]
        name = entry.get("project_name", entry.get("projectName", entry.get("name")))
        path = entry.get("working_directory", entry.get("workingDirectory"))
        found.append(
            Place(
                ident,
                _word(name) or ident,
                path if isinstance(path, str) else "",
                tuple(dict.fromkeys(one for one in named if one is not None)),
            )
        )
    return found, troubles


def read_said(answer: Mapping[str, Any]) -> Said:
    """Read the answer about one pair.

    Raises:
        ProtocolError: it says nothing that can be followed.
    """
    action = answer.get("action")
    if action not in _ACTIONS:
        said = repr(action)[:100] if action is not None else "nothing"
        raise ProtocolError(f"the server says {said} where start, hold or stop is expected")
    if answer.get("kick_command"):
        raise ProtocolError("the server wants to choose the command: kick_command is not run")
    return Said(
        str(action),
        _word(answer.get("reason")) or "",
        _word(answer.get("provider")) or "",
        _word(answer.get("model")),
        _word(answer.get("task_id")),
    )


def _word(value: object) -> str | None:
    """A short text without control characters; None for everything else."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_CHARS or not value.isprintable():
        return None
    return value
