"""Whether this coordinator can start an agent at all. Pure: nothing is tried.

What does not fit here may fit elsewhere, or here after a change: its tasks stay queued.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from aiagent_coordinator.coordinator.plan import Action
from aiagent_coordinator.providers.catalog import Catalog
from aiagent_coordinator.sandbox.keeper import Sandboxes


@dataclass(frozen=True)
class Fitness:
    """What this coordinator has: its definitions, and the sandboxes that can be made."""

    catalog: Catalog
    sandboxes: Sandboxes = field(default_factory=Sandboxes)

    def unfit(self, actions: Iterable[Action]) -> dict[str, str]:
        """The agents that cannot be started here, each with the reason in words for people.

        One that can be started in some project is not among them.
        """
        found: dict[str, str | None] = {}
        for action in actions:
            agent_id, reason = action.assignment.agent_id, self.why_not(action)
            found[agent_id] = reason and found.get(agent_id, reason)
        return {agent_id: reason for agent_id, reason in found.items() if reason}

    def why_not(self, action: Action) -> str | None:
        """Why this line of work cannot be started here, or None."""
        if action.provider not in set(self.catalog):
            return f"there is no provider {action.provider!r} here"
        models = self.catalog.get(action.provider).models
        if models and action.model not in models:
            wanted = f"no model {action.model!r}" if action.model else "no default model"
            return f"provider {action.provider} has {wanted} here, only {', '.join(models)}"
        line = action.assignment
        return self.sandboxes.refusal(line.agent_id, line.project_id, action.approval)
