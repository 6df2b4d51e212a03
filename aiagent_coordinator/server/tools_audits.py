"""What persons call about audits: which there are, let them fire or rest, and let go of what they hold."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from aiagent_coordinator.audits import Audit, AuditStatus, LockSubject
from aiagent_coordinator.errors import NotFoundError
from aiagent_coordinator.server import rows
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.tools import Arguments, Context, table, tool
from aiagent_coordinator.server.tools_person import OneTask, meant_agent, meant_project
from aiagent_coordinator.server.tools_templates import folder_of
from aiagent_coordinator.store import audits, locks
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.workflows.finding import Found
from aiagent_coordinator.workflows.values import problems_of

Name = Annotated[str, Field(min_length=1, max_length=100)]


class ListAudits(Arguments):
    """Arguments of `list_audits`."""

    project_id: str


class OneAudit(Arguments):
    """An audit of a project."""

    project_id: str
    name: Name


class OneAgent(Arguments):
    """An agent by its id, or the beginning of it."""

    agent_id: str


async def list_audits(context: Context, arguments: ListAudits) -> Json:
    """List the audits of a project: those that there is a file of, and those that were activated."""

    def work(unit: Unit) -> Json:
        project_id = meant_project(unit, arguments.project_id)
        found = {
            one.name: one for one in context.board.audit_files.list(folder_of(unit, project_id))
        }
        kept = {one.audit.name: one for one in audits.list_of(unit, project_id)}
        names = sorted(found.keys() | kept.keys())
        return {"audits": [_line(name, found.get(name), kept.get(name)) for name in names]}

    return await context.board.store.read(work)


async def get_audit(context: Context, arguments: OneAudit) -> Json:
    """Show an audit: its rules, whether they fire, what they did last, and what they hold."""

    def work(unit: Unit) -> Json:
        project_id = meant_project(unit, arguments.project_id)
        known = {
            one.name: one for one in context.board.audit_files.list(folder_of(unit, project_id))
        }
        found = known.get(arguments.name)
        kept = {one.audit.name: one for one in audits.list_of(unit, project_id)}.get(arguments.name)
        if found is None and kept is None:
            listed = ", ".join(sorted(known)) or "none"
            raise NotFoundError(
                f"there is no audit {arguments.name!r}", hint=f"there are: {listed}"
            )
        rules = kept.audit if kept else found.value if found else None
        firings = audits.last_firings(unit, kept.id) if kept else []
        return {
            "audit": {
                **_line(arguments.name, found, kept),
                "rules": [rows.plain(one) for one in rules.rules] if rules else [],
                "firings": [{**one, "at": rows.instant(one["at"])} for one in firings],
                "holds": [rows.plain(one) for one in locks.of_audit(unit, kept.id)] if kept else [],
            }
        }

    return await context.board.store.read(work)


async def activate_audit(context: Context, arguments: OneAudit) -> Json:
    """Keep the rules of an audit as its file has them now, and let them fire."""

    def work(unit: Unit) -> Json:
        project_id = meant_project(unit, arguments.project_id)
        found = context.board.audit_files.find(arguments.name, folder_of(unit, project_id))
        kept = audits.activate(
            unit,
            project_id,
            found,
            max_attempts=context.board.terms.retry.max_attempts,
            actor=context.identity.actor,
        )
        return {"audit": _line(kept.audit.name, None, kept)}

    return await context.board.store.write(work)


async def suspend_audit(context: Context, arguments: OneAudit) -> Json:
    """Let an audit rest: nothing fires, what it holds stays held."""
    return await _set(context, arguments, AuditStatus.SUSPENDED)


async def deactivate_audit(context: Context, arguments: OneAudit) -> Json:
    """Put an audit away: nothing fires, and what it holds is let go."""
    return await _set(context, arguments, AuditStatus.INACTIVE)


async def _set(context: Context, arguments: OneAudit, status: AuditStatus) -> Json:
    def work(unit: Unit) -> Json:
        project_id = meant_project(unit, arguments.project_id)
        actor = context.identity.actor
        kept = audits.set_status(unit, project_id, arguments.name, status, actor=actor)
        return {"audit": _line(kept.audit.name, None, kept)}

    return await context.board.store.write(work)


async def unlock_task(context: Context, arguments: OneTask) -> Json:
    """Let go of a task that an audit holds."""

    def work(unit: Unit) -> Json:
        task_id = task_store.find_task(unit, arguments.task_id).id
        actor = context.identity.actor
        held = locks.unlock(unit, LockSubject.TASK, task_id, actor=actor)
        task = task_store.get_task(unit, task_id)
        return {"task": rows.task(task), "held_by": [one.audit for one in held]}

    return await context.board.store.write(work)


async def unlock_agent(context: Context, arguments: OneAgent) -> Json:
    """Let go of an agent that an audit holds."""

    def work(unit: Unit) -> Json:
        agent_id = meant_agent(unit, arguments.agent_id)
        actor = context.identity.actor
        held = locks.unlock(unit, LockSubject.AGENT, agent_id, actor=actor)
        return {"agent_id": agent_id, "held_by": [one.audit for one in held]}

    return await context.board.store.write(work)


def _line(name: str, found: Found[Audit] | None, kept: audits.Kept | None) -> Json:
    """An audit in a list. What fires is what was activated; `is_changed`: its file says something else."""
    rules = kept.audit if kept else found.value if found else None
    now = found.value if found else None
    return {
        "name": name,
        "status": kept.status.value if kept else AuditStatus.INACTIVE.value,
        "title": rules.title if rules else None,
        "rules": len(rules.rules) if rules else None,
        "origin": found.origin if found else None,
        "file": str(found.file) if found else rules.file if rules else None,
        "is_changed": bool(kept and now and now.digest != kept.audit.digest),
        "problems": [] if found is None or found.problem is None else problems_of(found.problem),
    }


TOOLS = table(
    (
        tool(ListAudits, list_audits, "List the audits of a project.", Role.PERSON),
        tool(OneAudit, get_audit, "Show an audit.", Role.PERSON),
        tool(OneAudit, activate_audit, "Let an audit fire.", Role.PERSON),
        tool(OneAudit, suspend_audit, "Let an audit rest.", Role.PERSON),
        tool(OneAudit, deactivate_audit, "Put an audit away.", Role.PERSON),
        tool(OneTask, unlock_task, "Let go of a task that an audit holds.", Role.PERSON),
        tool(OneAgent, unlock_agent, "Let go of an agent that an audit holds.", Role.PERSON),
    )
)
