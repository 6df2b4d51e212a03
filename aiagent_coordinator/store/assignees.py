"""Who is meant by what a file says about a task that is to be made: by name, or by what they are. Only reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from aiagent_coordinator.store import projects, subtasks
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, AgentKind
from aiagent_coordinator.templates import TaskDraft


class Staff:
    """The agents of a project, and how much each has to do; those that were chosen count from then on."""

    def __init__(self, unit: Unit, project_id: str) -> None:
        self._agents = {
            agent.id: agent
            for agent, project in projects.assignments(unit)
            if project.id == project_id and agent.kind is AgentKind.PROGRAM
        }
        self._load: Counter[str] = subtasks.load(unit, project_id)

    @property
    def ids(self) -> Collection[str]:
        """Ids of those who work in the project."""
        return self._agents.keys()

    def choose(self, draft: TaskDraft) -> str | None:
        """Who does a task: who is named, else the one of its role with the least to do, else anybody."""
        if draft.agent_id is not None or draft.role is None:
            chosen = draft.agent_id
        else:
            chosen = min(self._of(draft), key=lambda one: (self._load[one], one), default=None)
        if chosen is not None:
            self._load[chosen] += 1
        return chosen

    def why_nobody(self, draft: TaskDraft) -> str | None:
        """Why nobody here can do a task, or judge its result; None when somebody can."""
        listed = ", ".join(sorted(self._agents)) or "nobody"
        for who in (draft.agent_id, draft.review_by):
            if who not in (None, "person") and who not in self._agents:
                return f"agent {who} does not work in the project; there are: {listed}"
        if draft.review_by is not None and draft.review_by == draft.agent_id:
            return f"agent {draft.agent_id} cannot judge its own result"
        if draft.agent_id is None and draft.role is not None and not self._of(draft):
            return f"no agent of the project that is enabled is a {draft.role}; there are: {listed}"
        return None

    def _of(self, draft: TaskDraft) -> list[str]:
        def fits(one: Agent) -> bool:
            return one.enabled and one.hierarchy is draft.role and one.id != draft.review_by

        return [one.id for one in self._agents.values() if fits(one)]
