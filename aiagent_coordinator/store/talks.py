"""What the end of a session for a chat means for all that it had to say."""

from __future__ import annotations

from aiagent_coordinator.runs import Purpose, Run
from aiagent_coordinator.store import (
    chat,
    conversation_ends,
    conversation_reads,
    delegations,
)
from aiagent_coordinator.store.unit import Unit


def session_over(unit: Unit, run: Run) -> int:
    """A session is over: what it talked about ends, what it had taken goes to the next. Again: nothing.

    Returns:
        How many conversations it ended.
    """
    if run.purpose is not Purpose.CHAT:
        return 0
    ended = conversation_ends.session_over(unit, run)
    delegations.session_over(unit, run)
    return ended


def owed(unit: Unit, run: Run) -> int | None:
    """How much a session for a chat leaves without an answer; None for one that is for a task."""
    if run.purpose is not Purpose.CHAT:
        return None
    return (
        chat.unanswered(unit, run)
        + conversation_reads.unanswered(unit, run)
        + len(delegations.held(unit, run))
    )
