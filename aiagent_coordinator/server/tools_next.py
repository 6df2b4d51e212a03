"""What an agent calls to hear what to do next; its workflow decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from aiagent_coordinator.errors import ConfigError, NotFoundError
from aiagent_coordinator.runs import Purpose, Run
from aiagent_coordinator.server import delegation, following
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.chatting import next_action
from aiagent_coordinator.server.tools import ANY_PURPOSE, AgentArguments, Context, table, tool
from aiagent_coordinator.store import managing
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import TERMINAL, Duty, Task, TaskStatus
from aiagent_coordinator.workflows import engine
from aiagent_coordinator.workflows.definition import Action, State, Step, Workflow

#: The choice of a manager that ends its run until it is needed.
WAIT = "wait"


class NextAction(AgentArguments):
    """Arguments of `get_next_action`."""

    choice: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """One of the `choices` of the answer before, when it gave any."""
    timeout_seconds: int | None = Field(None, ge=0, le=3600)
    """In a chat: how long to wait for somebody to write."""


async def get_next_action(context: Context, arguments: NextAction) -> Json:
    """Tell the agent what to do next."""
    if context.identity.purpose is Purpose.CHAT:
        return await next_action(context, arguments.timeout_seconds)

    def work(unit: Unit, run: Run) -> Json:
        try:
            workflow = following.workflow_of(unit, run, context.board.workflows)
        except (ConfigError, NotFoundError) as error:
            text = following.give_up(unit, run, error)
            return {"success": True, "action": "exit", "instruction": text, "state": run.stage}
        parts = following.parts_of(unit, run)
        state = following.state_of(unit, run, parts)
        if arguments.choice is not None:
            choose(unit, run, workflow, state, arguments.choice)
            run = run_store.get_run(unit, run.id)
            state = following.state_of(unit, run, parts)
        step = engine.next_step(workflow, state)
        following.enter(unit, run, step.stage, step.enters)
        told: Json = {
            "success": True,
            "action": step.action.value,
            "instruction": step.instruction,
            "state": step.state or step.stage,
            **_parts(step, parts),
        }
        if step.choices:
            told["choices"] = list(step.choices)
        if run.duty is Duty.MANAGER:
            told |= _around(unit, run, step, state)
        return told

    return await context.board.as_agent(context, work)


def choose(unit: Unit, run: Run, workflow: Workflow, state: State, choice: str) -> None:
    """Take an agent's choice. A manager that chooses `wait` waits for its sub-tasks from then on.

    Raises:
        ValidationError: this cannot be chosen now.
        LimitError: it was chosen as often as it may be.
        ConflictError: there is nothing to wait for.
    """
    stage = engine.after_choice(workflow, state, choice)
    following.enter(unit, run, stage, engine.limited(workflow, stage))
    if choice == WAIT and run.duty is Duty.MANAGER:
        managing.wait(unit, delegation.own_task(unit, run), run)


def _parts(step: Step, parts: Sequence[Task]) -> Json:
    """Which sub-task is meant, and how far all are; nothing for a task without."""
    if not parts:
        return {}
    over = sum(one.status in TERMINAL for one in parts)
    running = sum(one.status is TaskStatus.RUNNING for one in parts)
    told: Json = {"progress": {"completed": over, "in_progress": running, "total": len(parts)}}
    key = {Action.EXECUTE_SUBTASK: "current_subtask", Action.START_SUBTASK: "next_subtask"}.get(
        step.action
    )
    meant = next((one for one in parts if step.subtask and one.id == step.subtask.id), None)
    if key is not None and meant is not None:
        told[key] = {"task_id": meant.id, "title": meant.title, "description": meant.description}
    return told


#: Where a manager is shown how everything stands.
_SHOWN = frozenset(
    {
        *(Action.AWARENESS, Action.ASSIGN, Action.BLOCK_SUBTASK, Action.REVIEW_BLOCKS),
        *(Action.DEADLOCK, Action.COMPLETION_CHECK, Action.DISPATCH, Action.ADJUST),
    }
)


def _around(unit: Unit, run: Run, step: Step, state: State) -> Json:
    """What a manager decides from: its sub-tasks and who works for it."""
    if step.action not in _SHOWN:
        return {}
    words = {one.id: one.status for one in state.subtasks}
    parts = following.ranked(following.parts_of(unit, run))
    lines = [delegation.line(unit, one, words.get(one.id)) for one in parts]
    blocked = [one for one in lines if one["standing"] == "blocked"]
    return {
        "subtasks": lines,
        "available_workers": delegation.workers(unit, run),
        **({"other_blocked_subtasks": blocked} if blocked else {}),
    }


TOOLS = table(
    (
        tool(
            NextAction,
            get_next_action,
            "Ask what to do next, and do only what the instruction says.",
            Role.AGENT,
            purposes=ANY_PURPOSE,
        ),
    )
)
