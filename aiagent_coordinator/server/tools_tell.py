"""What people call to tell a running agent something."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from aiagent_coordinator.errors import ConflictError
from aiagent_coordinator.server import rows
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.tools import Arguments, Context, table, tool
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store import tells
from aiagent_coordinator.store.questions import clean_text
from aiagent_coordinator.store.unit import Unit


class TellAgent(Arguments):
    """Arguments of `tell_agent`."""

    task_id: str
    """The task, or its run: an id, the beginning of one, or the title."""
    text: Annotated[str, Field(min_length=1, max_length=tells.MAX_BYTES)]
    interrupt: bool = False
    """What the agent does now is broken off first."""


async def tell_agent(context: Context, arguments: TellAgent) -> Json:
    """Tell the agent of a task something, now if it can hear, else when it can."""
    said = clean_text(arguments.text, "text", tells.MAX_BYTES)

    def work(unit: Unit) -> Json:
        task_id = _task_of(unit, arguments.task_id)
        task = task_store.lock_task(unit, task_id)
        sent = tells.send(
            unit, task, said, interrupts=arguments.interrupt, actor=context.identity.actor
        )
        return {"tell": rows.plain(sent)}

    return await context.board.store.write(work)


def _task_of(unit: Unit, text: str) -> str:
    """The task that a person means, by its own name or by that of its run."""
    if not text.startswith("run_"):
        return task_store.find_task(unit, text).id
    run = run_store.find_run(unit, text)
    if run.task_id is None:
        raise ConflictError(
            f"run {run.id} is a chat", hint=f"write to it with `chat send --agent {run.agent_id}`"
        )
    return run.task_id


TOOLS = table(
    (
        tool(
            TellAgent, tell_agent, "Tell the agent of a task something while it works.", Role.PERSON
        ),
    )
)
