"""What is wrong with who works for whom in a configuration. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from aiagent_coordinator.config.source import KeyPath


class Ranked(Protocol):
    """An agent, as far as who works for whom."""

    @property
    def hierarchy(self) -> str:
        """`worker` or `manager`."""
        ...

    @property
    def parent(self) -> str | None:
        """The manager it works for."""
        ...


def contradictions(
    agents: Mapping[str, Ranked], people: Collection[str] = ()
) -> list[tuple[KeyPath, str]]:
    """Parents that are not there, that manage nobody, or that work for who works for them."""
    found: list[tuple[KeyPath, str]] = []
    for agent_id, agent in agents.items():
        if agent.parent is None or agent.parent in people:
            continue
        here: KeyPath = ("agents", agent_id, "parent")
        above = agents.get(agent.parent)
        if above is None:
            found.append((here, f"there is no agent {agent.parent!r}; declare it"))
        elif above.hierarchy != "manager":
            reason = f"{agent.parent} is no manager; set its hierarchy: manager"
            found.append((here, reason))
        elif _is_below_itself(agents, agent_id):
            found.append((here, "works for an agent that works for it; remove one `parent`"))
    return found


def _is_below_itself(agents: Mapping[str, Ranked], agent_id: str) -> bool:
    seen: set[str] = set()
    above = agents[agent_id].parent
    while above is not None and above in agents and above not in seen:
        if above == agent_id:
            return True
        seen.add(above)
        above = agents[above].parent
    return False
