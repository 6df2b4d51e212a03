"""Hand-offs: what one agent leaves another for a task. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

#: Most characters of each part.
MAX_SUMMARY_CHARS = 2000
MAX_CONTEXT_CHARS = 8000
MAX_RECOMMENDATIONS_CHARS = 4000


@dataclass(frozen=True)
class Handoff:
    """One hand-off. Pending until somebody for whom it is accepts it."""

    id: str
    project_id: str
    task_id: str
    from_agent_id: str
    from_run_id: str
    summary: str
    created_at: datetime
    #: None: whoever works on the task.
    to_agent_id: str | None = None
    context: str | None = None
    recommendations: str | None = None
    accepted_at: datetime | None = None
    accepted_by: str | None = None
    accepted_run_id: str | None = None

    @property
    def is_pending(self) -> bool:
        """Whether nobody has accepted it."""
        return self.accepted_at is None


@dataclass(frozen=True)
class LeftHandoff:
    """A hand-off as a run of its task is shown it."""

    id: str
    from_agent_id: str
    summary: str
    context: str | None = None
    recommendations: str | None = None


def words(summary: str, context: str | None, recommendations: str | None) -> str:
    """The three parts as one text."""
    parts = (
        summary,
        f"Context: {context}" if context else "",
        f"Recommendations: {recommendations}" if recommendations else "",
    )
    return "\n\n".join(part for part in parts if part)
