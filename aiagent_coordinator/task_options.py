"""What of its agent's equipment a task is given: servers of the user's beside ours, and skills. Values, pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

#: Names by kind. A kind that is absent: everything that the agent has; an empty list: nothing of it.
TaskOptions: TypeAlias = dict[str, list[str]]

MCP_SERVERS: Final = "mcp_servers"
SKILLS: Final = "skills"
#: The kinds there are.
KINDS: Final = (MCP_SERVERS, SKILLS)
MAX_NAMES: Final = 50


def options_of(
    mcp_servers: Iterable[str] | None = None, skills: Iterable[str] | None = None
) -> TaskOptions | None:
    """Put together what was said; None when nothing was."""
    said = {MCP_SERVERS: mcp_servers, SKILLS: skills}
    made = {kind: sorted(set(names)) for kind, names in said.items() if names is not None}
    return made or None


def allowed(options: object, kind: str) -> frozenset[str] | None:
    """The names of a kind that a task is given; None: all there are.

    Args:
        options: As a claim carries it, over whatever way: what is no such value restricts nothing.
        kind: One of `KINDS`.
    """
    if not isinstance(options, Mapping):
        return None
    names = cast("Mapping[str, Any]", options).get(kind)
    if not isinstance(names, Sequence) or isinstance(names, str):
        return None
    return frozenset(str(name) for name in cast("Sequence[object]", names))


def switched_off(options: TaskOptions | None) -> TaskOptions | None:
    """What is off for the task's parts too; names are for its own agent alone, others have others."""
    return {kind: [] for kind, names in (options or {}).items() if not names} or None
