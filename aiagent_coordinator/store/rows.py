"""From rows to the product's own values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from aiagent_coordinator.events import Event
from aiagent_coordinator.runs import Purpose, Run, RunOutcome, RunPhase, ShimIdentity, Verification
from aiagent_coordinator.tasks import (
    Agent,
    AgentKind,
    Approval,
    Check,
    Duty,
    Project,
    Question,
    Task,
    TaskKind,
    TaskStatus,
    WaitReason,
    WorkspaceKind,
)

if TYPE_CHECKING:
    from sqlalchemy import RowMapping


def checks_of(document: Iterable[Any]) -> tuple[Check, ...]:
    """Read a list of commands."""
    return tuple(Check(tuple(argv)) for argv in document)


def checks_document(checks: Iterable[Check]) -> list[list[str]]:
    """Write a list of commands."""
    return [list(check.argv) for check in checks]


def project_of(row: RowMapping) -> Project:
    """A row of `project`."""
    return Project(
        id=row["id"],
        name=row["name"],
        path=row["path"],
        base_ref=row["base_ref"],
        workspace=WorkspaceKind(row["workspace"]),
        allow_dirty=row["allow_dirty"],
        checks=checks_of(row["checks"]),
        max_concurrent=row["max_concurrent"],
        status=row["status"],
    )


def agent_of(row: RowMapping) -> Agent:
    """A row of `agent`."""
    return Agent(
        id=row["id"],
        name=row["name"],
        provider=row["provider"],
        model=row["model"],
        role=row["role"],
        approval=Approval(row["approval"]),
        max_concurrent=row["max_concurrent"],
        enabled=row["enabled"],
        hierarchy=Duty(row["hierarchy"]),
        parent_id=row["parent_id"],
        workflow=row["workflow"],
        kind=AgentKind(row["kind"]),
        mode=row["mode"],
        permissions=row["permissions"],
    )


def task_of(row: Mapping[str, Any] | RowMapping) -> Task:
    """A row of `task`."""
    wait_reason = row["wait_reason"]
    return Task(
        id=row["id"],
        project_id=row["project_id"],
        agent_id=row["agent_id"],
        title=row["title"],
        description=row["description"],
        status=TaskStatus(row["status"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        kind=TaskKind(row["kind"]),
        parent_id=row["parent_id"],
        priority=row["priority"],
        wait_reason=WaitReason(wait_reason) if wait_reason else None,
        status_reason=row["status_reason"],
        acceptance=tuple(row["acceptance"]),
        checks=checks_of(row["checks"]),
        branch=row["branch"],
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        infra_requeues=row["infra_requeues"],
        not_before=row["not_before"],
        handoff=row["handoff"],
        progress=row["progress"],
        version=row["version"],
        result=row["result"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        workflow=row["workflow"],
        workflow_state=row["workflow_state"],
        awaited=row["awaited"],
        batch_key=row["batch_key"],
        local_id=row["local_id"],
        approval=row["approval"],
        review_by=row["review_by"],
        review_rounds=row["review_rounds"],
        budget=row["budget"],
        options=row["options"],
        feedback=tuple(row["feedback"] or ()),
        reviews_id=row["reviews_id"],
        audit_firing_id=row["audit_firing_id"],
        is_locked=row["is_locked"],
    )


def run_of(row: RowMapping) -> Run:
    """A row of `run`."""
    shim = row["shim"]
    return Run(
        id=row["id"],
        task_id=row["task_id"],
        agent_id=row["agent_id"],
        project_id=row["project_id"],
        provider=row["provider"],
        attempt=row["attempt"],
        purpose=Purpose(row["purpose"]),
        slot=row["slot"],
        phase=RunPhase(row["phase"]),
        fence=row["fence"],
        coordinator_id=row["coordinator_id"],
        holder=row["holder"],
        created_at=row["created_at"],
        lease_until=row["lease_until"],
        outcome=RunOutcome(row["outcome"]) if row["outcome"] else None,
        reason=row["reason"],
        verification=Verification(row["verification"]) if row["verification"] else None,
        shim=ShimIdentity(**shim) if shim else None,
        host_id=row["host_id"],
        stage=row["stage"],
        hello_at=row["hello_at"],
        authenticated_at=row["authenticated_at"],
        reported_result=row["reported_result"],
        reported_summary=row["reported_summary"],
        reported_at=row["reported_at"],
        evidence=tuple(row["evidence"] or ()),
        missing_evidence=tuple(row["missing_evidence"] or ()),
        report_refusals=row["report_refusals"],
        stop_reason=row["stop_reason"],
        exit_code=row["exit_code"],
        signal=row["signal"],
        error=row["error"],
        branch=row["branch"],
        base_commit=row["base_commit"],
        commit=row["sealed_commit"],
        log_path=row["log_path"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        tool_timeout_seconds=row["tool_timeout_seconds"],
        provider_session_id=row["provider_session_id"],
        resumed_session_id=row["resumed_session_id"],
        summary=row["summary"],
        cpu_seconds=row["cpu_seconds"],
        peak_rss=row["peak_rss"],
        warnings=row["warnings"],
        usage=row["usage"],
        leftovers=tuple(row["leftovers"] or ()),
        leftovers_ended=row["leftovers_ended"],
        answers_on_stdin=row["answers_on_stdin"],
        duty=Duty(row["duty"]),
        listens=row["listens"],
        activity=row["activity"],
        context=row["context"],
        compactions=row["compactions"],
        limits=tuple(row["limits"] or ()),
        counts=row["counts"],
        account=row["account"],
        model=row["model"],
    )


def question_of(row: RowMapping) -> Question:
    """A row of `question`."""
    columns: dict[str, Any] = {**row, "options": tuple(row["options"])}
    return Question(**columns)


def event_of(row: RowMapping) -> Event:
    """A row of `event`."""
    return Event(
        seq=row["seq"],
        ts=row["ts"],
        actor=row["actor"],
        action=row["action"],
        project_id=row["project_id"],
        task_id=row["task_id"],
        run_id=row["run_id"],
        agent_id=row["agent_id"],
        data=row["data"],
    )
