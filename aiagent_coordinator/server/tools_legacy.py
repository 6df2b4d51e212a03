"""What coordinators of another make call: pair by pair, without a claim, a run id or an exit code.

Names, arguments and answers are those of AI Agent PM's released clients. A `start` is answered only
after the run was claimed on the caller's behalf.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

from pydantic import Field

from aiagent_coordinator.errors import NotFoundError
from aiagent_coordinator.providers.told import told
from aiagent_coordinator.runs import Purpose, Run
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.profiles import (
    LegacyArguments,
    Profile,
    agent_named,
    get_subordinate_profile,
)
from aiagent_coordinator.server.tools import Context, table, tool
from aiagent_coordinator.store import chat, legacy, projects, sessions, talks
from aiagent_coordinator.store.unit import Unit

#: Our words for holding, where theirs is another.
_HOLD_WORDS = {"no_task": "no_work", "not_due": "no_work", "not_assigned": "agent_not_assigned"}
#: How long chat and task may stay undecided there; nothing of ours depends on it.
_PURPOSE_SECONDS = 300


class Pair(LegacyArguments):
    """An agent in a project."""

    agent_id: str
    project_id: str


class ProcessExit(Pair):
    """Arguments of `report_process_exit`."""

    remaining_processes: int = Field(0, ge=0)
    """How many processes of the same agent and project still run."""


class AgentError(Pair):
    """Arguments of `report_agent_error`."""

    error_message: str
    """A line of its output."""


class LogFile(LegacyArguments):
    """Arguments of `register_execution_log_file`."""

    agent_id: str
    task_id: str
    log_file_path: str


async def get_agent_action(context: Context, arguments: Pair) -> Json:
    """Say what should happen with an agent in a project; `start` is said once for each run."""
    board, pair = context.board, (arguments.agent_id, arguments.project_id)
    live = [
        run
        for run in (await board.auth.live.all()).values()
        if (run.agent_id, run.project_id) == pair
    ]
    ours = {run.purpose: run for run in live if legacy.is_legacy(run)}
    stopped = next((run for run in ours.values() if run.stop_reason is not None), None)
    if stopped is not None:
        await board.store.write(lambda unit: legacy.told_to_stop(unit, *pair))
        return {"action": "stop", "reason": stopped.stop_reason, "task_id": stopped.task_id}
    if ours and not board.keeps_apart:
        return _of_live(next(iter(ours.values())))
    line = await board.snapshot.of_pair(*pair)
    if line is None:
        await board.store.read(partial(_check_pair, arguments=arguments))
        return _hold("agent_not_assigned")
    if line["action"] == "start" and Purpose.TASK not in ours:
        return await _start(context, arguments, Purpose.TASK)
    is_open = line["reason"] not in {"agent_disabled", "agent_locked", "project_paused"}
    if is_open and Purpose.CHAT not in ours and await board.snapshot.wants_chat(*pair):
        return await _start(context, arguments, Purpose.CHAT)
    if ours:
        return _of_live(next(iter(ours.values())))
    told = {"progress": line["progress"]} if line.get("progress") else {}
    return {**_hold(line["reason"]), **told}


async def _start(context: Context, arguments: Pair, purpose: Purpose) -> Json:
    board, policy = context.board, context.board.terms.retry
    pair = (arguments.agent_id, arguments.project_id)
    claim = await board.store.write(lambda unit: legacy.claim(unit, *pair, policy, purpose))
    if not claim.claimed or claim.agent is None:
        return _hold(claim.reason or "no_work")
    said = {
        "action": "start",
        "reason": f"has_{purpose.value}_work",
        "task_id": claim.task.id if claim.task and purpose is Purpose.TASK else None,
        "provider": claim.agent.provider,
        "model": claim.agent.model,
    }
    return {key: value for key, value in said.items() if value is not None}


def _of_live(run: Run) -> Json:
    return _hold("spawn_in_progress" if run.authenticated_at is None else "already_running")


def _hold(reason: str) -> Json:
    return {"action": "hold", "reason": _HOLD_WORDS.get(reason, reason)}


def _check_pair(unit: Unit, arguments: Pair) -> None:
    """See that agent and project are there.

    Raises:
        NotFoundError: in the words of the server that these clients know.
    """
    agent_named(unit, arguments.agent_id)
    try:
        projects.get_project(unit, arguments.project_id)
    except NotFoundError:
        raise NotFoundError(f"Project not found: {arguments.project_id}") from None


async def list_managed_agents(context: Context, arguments: LegacyArguments) -> Json:
    """List the ids of the agents that may work."""
    del arguments
    agents = await context.board.store.read(projects.list_agents)
    return {
        "success": True,
        "agent_ids": [one.id for one in agents if one.enabled and not one.is_person],
    }


async def register_execution_log_file(context: Context, arguments: LogFile) -> Json:
    """Keep where a coordinator wrote what a run printed."""
    run = await context.board.store.write(
        lambda unit: legacy.note_log(
            unit, arguments.agent_id, arguments.task_id, arguments.log_file_path
        )
    )
    if run is None:
        return {"success": False, "error": "execution_log_not_found"}
    return {
        "success": True,
        "execution_log_id": run.id,
        "task_id": arguments.task_id,
        "agent_id": arguments.agent_id,
        "log_file_path": arguments.log_file_path,
    }


async def report_agent_error(context: Context, arguments: AgentError) -> Json:
    """Keep what a coordinator takes for the reason of a failure."""

    def work(unit: Unit) -> str:
        _check_pair(unit, arguments)
        run = legacy.live_of(unit, arguments.agent_id, arguments.project_id)
        if run is not None:
            legacy.note_error(unit, run, arguments.error_message)
        text = f"Error: {arguments.error_message[: legacy.MAX_ERROR_CHARS]}"
        pair = (arguments.agent_id, arguments.project_id)
        return chat.note(unit, *pair, text, actor=context.identity.actor).id

    message_id = await context.board.store.write(work)
    return {
        "success": True,
        "agent_id": arguments.agent_id,
        "project_id": arguments.project_id,
        "message_id": message_id,
    }


async def invalidate_session(context: Context, arguments: Pair) -> Json:
    """Take the news that the process of an agent in a project is gone."""
    return await context.board.store.write(partial(_exited, context=context, arguments=arguments))


async def report_process_exit(context: Context, arguments: ProcessExit) -> Json:
    """Take the news that one process is gone; with others left, the one that had said goodbye."""
    context.board.keeps_apart = True
    if arguments.remaining_processes:
        return await context.board.store.write(
            partial(_one_exited, context=context, arguments=arguments)
        )
    answer = await context.board.store.write(partial(_exited, context=context, arguments=arguments))
    return {"action": "invalidated_all", **answer}


def _one_exited(unit: Unit, *, context: Context, arguments: Pair) -> Json:
    """One of a pair's processes is gone. Of two runs it is the one that has said that it would go."""
    _check_pair(unit, arguments)
    pair = (arguments.agent_id, arguments.project_id)
    told = {"success": True, "agent_id": pair[0], "project_id": pair[1]}
    live = legacy.all_live_of(unit, *pair)
    if len(live) < 2:
        return {**told, "action": "none", "reason": "no_orphan_detected"}
    leaving = [run for run in live if run.reported_at is not None or legacy.has_left(unit, run)]
    if len(leaving) != 1:
        return {**told, "action": "none", "reason": "cannot_determine_orphan"}
    (gone,) = leaving
    legacy.end(unit, gone, cause_of(gone, unit.now, has_exited=True), context.board.terms.retry)
    return {
        **told,
        "action": "deleted_orphan",
        "deleted_purpose": gone.purpose.value,
        "deleted_session_id": gone.id,
    }


def _exited(unit: Unit, *, context: Context, arguments: Pair) -> Json:
    _check_pair(unit, arguments)
    live = legacy.all_live_of(unit, arguments.agent_id, arguments.project_id)
    ended = talked = 0
    for run in live:
        talked += talks.session_over(unit, run)
        ended += sessions.count_open(unit, run.id)
        legacy.end(unit, run, cause_of(run, unit.now, has_exited=True), context.board.terms.retry)
    return {
        "success": True,
        "agent_id": arguments.agent_id,
        "project_id": arguments.project_id,
        "deleted_agent_sessions": ended,
        "ended_workflow_sessions": len(live),
        "ended_conversations": talked,
    }


def cause_of(run: Run, now: datetime, *, has_exited: bool) -> legacy.Cause:
    """Why a run ends: what its coordinator read in its output counts when it names a limit."""
    limit = told(run.error, now) if run.error else None
    return legacy.Cause(
        run.coordinator_id if has_exited else "server",
        has_exited,
        limit.reason if limit else None,
        limit.seconds if limit else 0.0,
    )


async def get_app_settings(context: Context, arguments: LegacyArguments) -> Json:
    """Give the settings that such a coordinator asks for once."""
    del arguments
    # only clients ask for it that keep the processes of a pair apart
    context.board.keeps_apart = True
    return {
        "agent_base_prompt": None,
        "allow_remote_access": False,
        "pending_purpose_ttl_seconds": _PURPOSE_SECONDS,
    }


TOOLS = table(
    (
        tool(Pair, get_agent_action, "Say what an agent should do.", Role.COORDINATOR),
        tool(LegacyArguments, list_managed_agents, "List the agents.", Role.COORDINATOR),
        tool(
            LogFile,
            register_execution_log_file,
            "Say where the output of a run lies.",
            Role.COORDINATOR,
        ),
        tool(AgentError, report_agent_error, "Report an error of an agent.", Role.COORDINATOR),
        tool(Pair, invalidate_session, "Report that a process is gone.", Role.COORDINATOR),
        tool(ProcessExit, report_process_exit, "Report that a process is gone.", Role.COORDINATOR),
        tool(LegacyArguments, get_app_settings, "Read settings.", Role.COORDINATOR),
        tool(Profile, get_subordinate_profile, "Say who an agent is.", Role.COORDINATOR),
    )
)
