"""How an agent at work on a task has its own session for the chat talk with another agent."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from aiagent_coordinator.runs import Run
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.talk import MAX_CONTENT_CHARS
from aiagent_coordinator.server.tools import (
    CHAT,
    MAX_MESSAGE_CHARS,
    AgentArguments,
    Context,
    table,
    tool,
)
from aiagent_coordinator.store import delegations
from aiagent_coordinator.store.questions import clean_text
from aiagent_coordinator.store.unit import Unit

_Purpose = Annotated[str, Field(min_length=1, max_length=MAX_MESSAGE_CHARS)]
_Text = Annotated[str, Field(min_length=1, max_length=MAX_CONTENT_CHARS)]


class Delegate(AgentArguments):
    """Arguments of `delegate_to_chat_session`."""

    target_agent_id: str
    """Whom to talk with; it works in your project."""
    purpose: _Purpose
    """What for, in one sentence."""
    context: _Text | None = None
    """What there is to know."""


class Completed(AgentArguments):
    """Arguments of `report_delegation_completed`."""

    delegation_id: str
    result: _Text | None = None
    """What came of it; your session at work is told."""


async def delegate_to_chat_session(context: Context, arguments: Delegate) -> Json:
    """Keep what the agent's chat is to talk about; a session of it begins where none is there."""

    def work(unit: Unit, run: Run) -> Json:
        about = arguments.context
        one = delegations.delegate(
            unit,
            run,
            arguments.target_agent_id,
            clean_text(arguments.purpose, "purpose", 4 * MAX_MESSAGE_CHARS),
            None if about is None else clean_text(about, "context", 4 * MAX_CONTENT_CHARS),
        )
        return {
            "success": True,
            "delegation_id": one.id,
            "status": one.state.value,
            "target_agent_id": one.target_agent_id,
            "purpose": one.purpose,
            "instruction": "Your chat session talks with it. Go on with your task: a notification "
            "(get_notifications) tells you what came of it.",
        }

    return await context.board.as_agent(context, work)


async def report_delegation_completed(context: Context, arguments: Completed) -> Json:
    """Say that a delegation is done, and what came of it."""

    def work(unit: Unit, run: Run) -> Json:
        result = arguments.result
        said = None if result is None else clean_text(result, "result", 4 * MAX_CONTENT_CHARS)
        one = delegations.complete(unit, run, arguments.delegation_id, said)
        return {
            "success": True,
            "delegation_id": one.id,
            "status": one.state.value,
            "instruction": "Call get_next_action.",
        }

    return await context.board.as_agent(context, work)


TOOLS = table(
    (
        tool(
            Delegate,
            delegate_to_chat_session,
            "Have your chat session talk with another agent while you go on.",
            Role.AGENT,
        ),
        tool(
            Completed,
            report_delegation_completed,
            "Say what came of a talk that your task asked for.",
            Role.AGENT,
            purposes=CHAT,
        ),
    )
)
