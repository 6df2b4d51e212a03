"""What an agent calls about executions, as AI Agent PM calls runs: their output, start and end.

Start and end of a run are its coordinator's to tell. An agent's word of them is kept only where no
coordinator of ours watches: there nobody else tells the exit code.
"""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from pydantic import Field

from aiagent_coordinator.clock import iso
from aiagent_coordinator.errors import NotFoundError
from aiagent_coordinator.runs import Run, RunOutcome, RunPhase
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.log_tail import tail_of
from aiagent_coordinator.server.tools import ANY_PURPOSE, AgentArguments, Context, table, tool
from aiagent_coordinator.store import legacy
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.unit import Unit

#: What of an output one answer shows.
MAX_LINES = 100


class OneExecution(AgentArguments):
    """Arguments of `get_execution_log`."""

    execution_id: str
    """One of get_my_execution_history."""


class ExecutionComplete(AgentArguments):
    """Arguments of `report_execution_complete`."""

    execution_log_id: str
    """As report_execution_start gave it."""
    exit_code: Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
    duration_seconds: Annotated[float, Field(ge=0, le=1e9)]
    log_file_path: str | None = None
    """Not kept: only a coordinator says where output lies."""
    error_message: str | None = None


async def get_execution_log(context: Context, arguments: OneExecution) -> Json:
    """Show the end of what one of the agent's own runs printed."""
    board = context.board

    def work(unit: Unit, run: Run) -> Json:
        return {"execution": _shown(_own(unit, run, arguments.execution_id))}

    told: Json = (await board.as_agent(context, work))["execution"]
    state = board.terms.state
    folder = None if state is None else state.run(arguments.execution_id)
    try:
        text = await to_thread.run_sync(tail_of, folder, told["log_file_path"], board.terms.mask)
    except NotFoundError:
        return {"success": False, "error": "execution_log_not_found", **told}
    lines = text.splitlines()
    shown = lines[-MAX_LINES:]
    return {
        "success": True,
        **told,
        "log_content": shown,
        "total_lines": len(lines),
        "returned_lines": len(shown),
        "truncated": len(shown) < len(lines),
    }


async def report_execution_start(context: Context, arguments: AgentArguments) -> Json:
    """Say which run this is; it has begun already."""
    del arguments

    def work(unit: Unit, run: Run) -> Json:
        del unit
        return {"success": True, **_shown(run)}

    return await context.board.as_agent(context, work)


async def report_execution_complete(context: Context, arguments: ExecutionComplete) -> Json:
    """Take an exit code where nobody else tells it."""

    def work(unit: Unit, run: Run) -> Json:
        found = _own(unit, run, arguments.execution_log_id)
        if found.id == run.id and legacy.is_legacy(run):
            legacy.note_exit(unit, run, arguments.exit_code)
            if arguments.error_message:
                legacy.note_error(unit, run, arguments.error_message)
            found = run_store.get_run(unit, run.id)
        return {"success": True, **_shown(found)}

    return await context.board.as_agent(context, work)


def _own(unit: Unit, run: Run, execution_id: str) -> Run:
    """One of the agent's own runs in this project; another's is not there.

    Raises:
        NotFoundError: there is no such run of it.
    """
    try:
        found = run_store.get_run(unit, execution_id)
    except NotFoundError:
        found = None
    if found is None or (found.agent_id, found.project_id) != (run.agent_id, run.project_id):
        raise NotFoundError(f"Execution log not found: {execution_id[:100]}")
    return found


def _shown(run: Run) -> Json:
    worked = "completed" if run.outcome is RunOutcome.SUCCEEDED else "failed"
    seconds = None
    if run.started_at is not None and run.ended_at is not None:
        seconds = (run.ended_at - run.started_at).total_seconds()
    return {
        "execution_log_id": run.id,
        "task_id": run.task_id,
        "agent_id": run.agent_id,
        "status": worked if run.phase is RunPhase.ENDED else "running",
        "reason": run.reason,
        "started_at": iso(run.started_at or run.created_at),
        "completed_at": iso(run.ended_at),
        "duration_seconds": seconds,
        "exit_code": run.exit_code,
        "signal": run.signal,
        "log_file_path": run.log_path,
        "error_message": run.error,
    }


TOOLS = table(
    (
        tool(
            OneExecution,
            get_execution_log,
            "Read the end of what one of your own runs printed.",
            Role.AGENT,
            purposes=ANY_PURPOSE,
        ),
        tool(
            AgentArguments,
            report_execution_start,
            "Old: say that you begin. Nothing needs it.",
            Role.AGENT,
        ),
        tool(
            ExecutionComplete,
            report_execution_complete,
            "Old: say how your program ended. Nothing needs it.",
            Role.AGENT,
        ),
    )
)
