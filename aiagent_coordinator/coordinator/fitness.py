"""Whether this coordinator can start an agent at all. Pure: nothing is tried.

What does not fit here may fit elsewhere, or here after a change: its tasks stay queued.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aiagent_coordinator.coordinator.plan import Action
from aiagent_coordinator.providers.catalog import Catalog
from aiagent_coordinator.tasks import Approval


@dataclass(frozen=True)
class Fitness:
    """What this coordinator has: its definitions, and whether `bypass` is allowed."""

    catalog: Catalog
    unsandboxed: bool = False

    def unfit(self, actions: Iterable[Action]) -> dict[str, str]:
        """The agents that cannot be started here, each with the reason in words for people."""
        found = {action.assignment.agent_id: self._why_not(action) for action in actions}
        return {agent_id: reason for agent_id, reason in found.items() if reason}

    def _why_not(self, action: Action) -> str | None:
        if action.provider not in set(self.catalog):
            return f"there is no provider {action.provider!r} here"
        models = self.catalog.get(action.provider).models
        if models and action.model not in models:
            wanted = f"no model {action.model!r}" if action.model else "no default model"
            return f"provider {action.provider} has {wanted} here, only {', '.join(models)}"
        if action.approval == Approval.BYPASS and not self.unsandboxed:
            return "approval bypass needs i_understand_unsandboxed: true"
        return None
