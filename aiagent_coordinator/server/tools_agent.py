"""What an agent calls: who am I, what is my task, what next, how far, how it went, goodbye.

Ids are those of the agent's run; an argument that names another is refused before a tool sees it.
"""

from __future__ import annotations

from pydantic import Field

from aiagent_coordinator.runs import Purpose, Run
from aiagent_coordinator.server import following
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.tools import (
    ANY_PURPOSE,
    MAX_MESSAGE_CHARS,
    AgentArguments,
    Context,
    table,
    tool,
)
from aiagent_coordinator.store import legacy, people, projects, questions, sessions, talks
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.transitions import set_progress
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Duty, TaskStatus

_NEXT = "Call get_next_action."

GUIDE = (
    "1. authenticate, once. 2. get_next_action, and do only what its instruction says; call it again "
    "after each step, until it says exit. 3. get_my_task gives the task, what an attempt before left, "
    "and answers of people. 4. report_progress when a step took long. 5. ask_human when only a "
    "person can decide; when no answer comes in time, commit and exit. 6. report_completed with "
    "success, failed or blocked, a summary, and evidence for each acceptance criterion. 7. logout, "
    "and exit. Work only in the current folder and on its branch; do not push. Parts of your task can "
    "be sub-tasks: create_tasks_batch, then update_task_status as you go; you work them off yourself."
)
#: What is another for those who do no work themselves.
GUIDES = {
    Duty.MANAGER: (
        "1. authenticate, once. 2. get_next_action, and do only what its instruction says; call it again "
        "after each step, until it says wait or exit. 3. Others do your task: create_tasks_batch cuts it, "
        "assign_task gives its parts to those who work for you, select_action says how you go on; with "
        "wait you leave, and are started again when you are needed. 4. get_my_task_progress shows what "
        "came of each part: its summary, branch and commit. 5. ask_human when only a person can decide. "
        "6. report_completed with success, failed or blocked, and a summary. 7. logout, and exit."
    ),
    Duty.REVIEWER: (
        "1. authenticate, once. 2. get_next_action, and do only what its instruction says; call it again "
        "after each step, until it says exit. 3. get_my_task says whose result you judge and how to see "
        "it. Change nothing. 4. review_task gives your verdict, once, with a comment. 5. report_completed "
        "with success. 6. logout, and exit."
    ),
}

CHAT_GUIDE = (
    "1. get_next_action, and do only what its instruction says; call it again after each step, until "
    "it says logout or exit. 2. get_pending_messages gives what people and other agents wrote; answer with "
    "send_message, another agent with the message's conversation_id. start_conversation begins a "
    "conversation with an agent of your project, end_conversation ends it. 3. A person's message with @@タスク作成 lets you call request_task, with @@通知 "
    "notify_task_session, with @@調整 update_task_from_chat, with @@開始 start_task_from_chat; name the "
    "message by its id. 4. logout, and exit. Change no files."
)


class Authenticate(AgentArguments):
    """Arguments of `authenticate`; none are needed over a run's own bridge."""

    passkey: str | None = None
    """With `agent_id`: for a process that is not inside the run's tree."""


class ReportProgress(AgentArguments):
    """Arguments of `report_progress`."""

    progress: int = Field(ge=0, le=100)
    """Percent done."""
    message: str | None = Field(None, max_length=MAX_MESSAGE_CHARS)
    """What was just done, in one sentence."""


async def authenticate(context: Context, arguments: Authenticate) -> Json:
    """Say who the caller is."""
    # over a bridge the connection says who calls, and a token would lie in the kept answer
    has_session = arguments.passkey is not None and context.call.session.caller.nonce is None

    def work(unit: Unit, run: Run) -> Json:
        said = {
            "success": True,
            "run_id": run.id,
            "task_id": run.task_id,
            "agent_id": run.agent_id,
            "project_id": run.project_id,
            "instruction": _NEXT,
        }
        return said | _session(unit, run) if has_session else said

    return await context.board.as_agent(context, work)


def _session(unit: Unit, run: Run) -> Json:
    """What an agent is given that nothing but its passkey makes known."""
    if legacy.is_legacy(run):
        legacy.greet(unit, run)
    agent = projects.get_agent(unit, run.agent_id)
    return {
        "session_token": sessions.begin(unit, run),
        "expires_in": int(legacy.SESSION_SECONDS),
        "agent_name": agent.name,
        "system_prompt": agent.role,
        "working_directory": people.place_for(
            unit, run.agent_id, projects.get_project(unit, run.project_id)
        ),
    }


async def get_my_task(context: Context, arguments: AgentArguments) -> Json:
    """Give the agent its task."""
    del arguments

    def work(unit: Unit, run: Run) -> Json:
        if run.task_id is None:
            return {"success": True, "has_task": False, "instruction": _NEXT}
        task = task_store.get_task(unit, run.task_id)
        following.read_task(unit, run, context.board.workflows)
        facts: Json = {
            "task_id": task.id,
            "title": task.title,
            "description": task.description,
            "acceptance": list(task.acceptance),
            "checks": [list(check.argv) for check in task.checks],
            "attempt": run.attempt,
            "max_attempts": task.max_attempts,
            "handoff": task.handoff,
            "answers": [
                {"question": one.text, "answer": one.answer}
                for one in questions.of_task(unit, task.id)
                if one.answer is not None
            ],
        }
        if task.feedback:
            facts["feedback"] = list(task.feedback)
        if task.reviews_id is not None:
            facts["review"] = _reviewed(unit, task.reviews_id)
        return {"success": True, "has_task": True, "task": facts, "instruction": _NEXT}

    return await context.board.as_agent(context, work)


def _reviewed(unit: Unit, task_id: str) -> Json:
    """What a reviewer judges: the task, its report, and between which commits its changes lie."""
    task = task_store.get_task(unit, task_id)
    run = run_store.latest_run_of(unit, task_id)
    return {
        "task_id": task.id,
        "title": task.title,
        "description": task.description,
        "acceptance": list(task.acceptance),
        "summary": task.result.get("summary"),
        "verification": task.result.get("verification"),
        "branch": task.result.get("branch"),
        "base_commit": run.base_commit if run else None,
        "commit": task.result.get("commit"),
        "rounds": task.review_rounds,
        "feedback": list(task.feedback),
    }


async def report_progress(context: Context, arguments: ReportProgress) -> Json:
    """Note how far the agent is."""

    def work(unit: Unit, run: Run) -> Json:
        # a run that is being stopped may have lost its task to a cancellation already
        stop = run.stop_reason is not None
        task = None if run.task_id is None else task_store.get_task(unit, run.task_id)
        # a task that waits for an answer makes no progress, and its agent no mistake
        if task is not None and task.status is TaskStatus.RUNNING and not stop:
            set_progress(
                unit,
                task,
                arguments.progress,
                actor=context.identity.actor,
                message=arguments.message,
                run_id=run.id,
            )
        return {
            "success": True,
            "progress": arguments.progress,
            "instruction": "This run is being stopped: exit now." if stop else "Go on.",
        }

    return await context.board.as_agent(context, work)


async def get_session_guide(context: Context, arguments: AgentArguments) -> Json:
    """Tell an agent how to work here, and where it stands."""
    del arguments

    def work(unit: Unit, run: Run) -> Json:
        task = None if run.task_id is None else task_store.get_task(unit, run.task_id)
        return {
            "success": True,
            "guide": _guide(run),
            "hierarchy_type": run.duty.value,
            "session_purpose": run.purpose.value,
            "agent_id": run.agent_id,
            "project_id": run.project_id,
            "task_id": run.task_id,
            "title": task.title if task else None,
            "attempt": run.attempt,
            "stage": run.stage,
            "ask_seconds": questions.hold_seconds(run, context.board.terms.ask),
            "instruction": _NEXT,
        }

    return await context.board.as_agent(context, work)


async def logout(context: Context, arguments: AgentArguments) -> Json:
    """End the agent's session; authenticate begins a new one as long as the run lives."""
    token = arguments.session_token

    def work(unit: Unit, run: Run) -> Json:
        if token is not None:
            sessions.end(unit, token)
        if run.purpose is Purpose.CHAT and run.reported_at is None:
            run_store.record_agent_report(unit, run, "success", None)
        talks.session_over(unit, run)
        unit.emit(
            "session.ended",
            actor=context.identity.actor,
            project_id=run.project_id,
            task_id=run.task_id,
            run_id=run.id,
            agent_id=run.agent_id,
        )
        return {"success": True, "instruction": "Call no more tools and exit."}

    answer = await context.board.as_agent(context, work)
    context.board.auth.log_out(context.call.session.caller)
    return answer


def _guide(run: Run) -> str:
    if run.purpose is Purpose.CHAT:
        return CHAT_GUIDE
    return GUIDES.get(run.duty, GUIDE)


TOOLS = table(
    (
        tool(
            Authenticate,
            authenticate,
            "Say who you are. Needs no arguments: the connection knows. Call this first.",
            Role.AGENT,
            is_open=True,
            purposes=ANY_PURPOSE,
        ),
        tool(AgentArguments, get_my_task, "Read your task.", Role.AGENT, purposes=ANY_PURPOSE),
        tool(ReportProgress, report_progress, "Tell how far you are.", Role.AGENT),
        tool(
            AgentArguments,
            get_session_guide,
            "Read how to work here, and where you stand.",
            Role.AGENT,
            purposes=ANY_PURPOSE,
        ),
        tool(
            AgentArguments,
            logout,
            "End your session, just before you exit.",
            Role.AGENT,
            purposes=ANY_PURPOSE,
        ),
    )
)
