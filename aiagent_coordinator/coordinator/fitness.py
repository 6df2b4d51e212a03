"""Whether this coordinator can start an agent at all. Nothing is tried.

What does not fit here may fit elsewhere, or here after a change: its tasks stay queued.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from aiagent_coordinator.coordinator.drift import Drifts
from aiagent_coordinator.coordinator.needs import Needs
from aiagent_coordinator.coordinator.plan import Action
from aiagent_coordinator.coordinator.programs import Programs
from aiagent_coordinator.providers.catalog import Catalog
from aiagent_coordinator.runs import Assignment
from aiagent_coordinator.sandbox.keeper import Sandboxes


@dataclass(frozen=True)
class Verdict:
    """What cannot be started here, with the reasons in words for people."""

    lines: dict[Assignment, str]
    #: Agents that cannot be started in any project.
    agents: dict[str, str]


@dataclass(frozen=True)
class Fitness:
    """What this coordinator has: its definitions, and the sandboxes that can be made."""

    catalog: Catalog
    sandboxes: Sandboxes = field(default_factory=Sandboxes)
    drifts: Drifts = field(default_factory=Drifts)
    #: None: it is not looked whether programs are installed.
    programs: Programs | None = None
    #: What agents need before anything is started for them.
    needs: Needs = field(default_factory=Needs)

    def fitting(self, actions: Sequence[Action]) -> list[Action]:
        """The same actions, each on the first of its lanes that can be had here, if any can."""
        return [self._on_a_lane(action) for action in actions]

    def _on_a_lane(self, action: Action) -> Action:
        for lane in action.lanes:
            tried = replace(action, provider=lane.provider, model=lane.model, lanes=(lane,))
            if self._not_to_be_had(tried) is None:
                return tried
        return action

    def judge(self, actions: Iterable[Action]) -> Verdict:
        """Say what of these cannot be started here."""
        lines: dict[Assignment, str] = {}
        agents: dict[str, str | None] = {}
        for action in actions:
            agent_id, reason = action.assignment.agent_id, self.why_not(action)
            if reason:
                lines[action.assignment] = reason
            agents[agent_id] = reason and agents.get(agent_id, reason)
        return Verdict(lines, {agent_id: reason for agent_id, reason in agents.items() if reason})

    def why_not(self, action: Action) -> str | None:
        """Why this line of work cannot be started here, or None."""
        line = action.assignment
        missing = self._not_to_be_had(action) or self.needs.why_not(line)
        return missing or self.sandboxes.refusal(line.agent_id, line.project_id, action.approval)

    def _not_to_be_had(self, action: Action) -> str | None:
        """Why its provider or its model is not to be had here, or None."""
        if action.provider not in self.catalog:
            return f"there is no provider {action.provider!r} here"
        definition = self.catalog.get(action.provider)
        reason = self.programs.why_not(definition) if self.programs else None
        reason = reason or self.drifts.why_not(definition)
        if reason:
            return reason
        models = definition.models
        if models and action.model not in models:
            wanted = f"no model {action.model!r}" if action.model else "no default model"
            return f"provider {action.provider} has {wanted} here, only {', '.join(models)}"
        return None
