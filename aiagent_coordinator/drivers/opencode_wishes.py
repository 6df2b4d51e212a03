"""From what OpenCode asks leave for to wishes that rules can be written for. Pure but for links in the workspace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from aiagent_coordinator.drivers.leave import OUTSIDE, Wish, changes_of
from aiagent_coordinator.drivers.opencode_events import list_of, object_of

Json = dict[str, Any]
#: Its names for what other programs have too: theirs, and what they are about.
_TOOLS: Final = {
    "webfetch": ("WebFetch", "url"),
    "websearch": ("WebSearch", "query"),
    "read": ("Read", "path"),
    "external_directory": ("external_directory", "path"),
}


def wishes_of(asked: Json, given: Json) -> list[Wish]:
    """What a request for leave is about, one by one.

    Args:
        asked: The request.
        given: What its call is made with; empty where that is not known.
    """
    kind, told = str(asked.get("permission") or ""), object_of(asked.get("metadata"))
    patterns = [str(one) for one in list_of(asked.get("patterns"))]
    if kind == "edit":
        return changes_of(_files(told, patterns))
    command = told.get("command") or given.get("command")
    if kind == "bash" and isinstance(command, str) and command:
        return [Wish("Bash", "execute", command, {**given, "command": command})]
    if kind == "bash":
        return [Wish("Bash", "execute", one, {"command": one}) for one in patterns]
    if kind in _TOOLS:
        tool, name = _TOOLS[kind]
        return [Wish(tool, OUTSIDE, one, {name: one}) for one in patterns]
    # a tool of a server, by the name that its model sees; ours need nobody's word
    return [Wish(kind or "tool", "other", kind, given or told or {"patterns": patterns})]


def _files(told: Json, patterns: list[str]) -> Iterator[str]:
    """The files that a change is about, and those that others become."""
    listed = [object_of(one) for one in list_of(told.get("files"))]
    whole = [one.get(name) for one in listed for name in ("filePath", "movePath")]
    path = told.get("filepath")
    if any(whole):
        yield from (str(one) for one in whole if one)
    elif isinstance(path, str) and path and len(patterns) <= 1:
        yield path
    else:
        yield from patterns
