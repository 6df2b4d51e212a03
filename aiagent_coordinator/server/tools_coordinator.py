"""What a coordinator calls: what should run, give me this run, this is how it goes, this is how it went.

The shapes are the store's own; every report carries its run's fence, and the store tells old from new.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

from aiagent_coordinator.clock import iso
from aiagent_coordinator.errors import StaleRunError
from aiagent_coordinator.runs import RunOutcome, Verification
from aiagent_coordinator.server import rooted
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.replies import BARE_LINE_BYTES, is_long_line
from aiagent_coordinator.server.tools import Arguments, Context, Tool, table, tool, wire_tool
from aiagent_coordinator.store import (
    claims,
    coordinators,
    leases,
    people,
    projects,
    reports,
    requests,
)
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.legacy import is_legacy
from aiagent_coordinator.store.unit import Unit

T = TypeVar("T")


class NoArguments(Arguments):
    """Nothing to say."""


class ListActiveProjects(Arguments):
    """Arguments of `list_active_projects_with_agents`."""

    root_agent_id: str | None = None
    """Only what belongs to this agent or person, where that person has it."""
    agent_id: str | None = None
    """The same in other words."""


@dataclass(frozen=True)
class DisownRequest:
    """Arguments of `disown_run`: what its own coordinator says of a run it does not hold."""

    run_id: str
    coordinator_id: str
    epoch: int
    outcome: Literal["lost", "not_started"]


async def health_check(context: Context, arguments: NoArguments) -> Json:
    """Say that the server and its store work."""
    del arguments

    def work(unit: Unit) -> tuple[int, int]:
        return len(projects.list_agents(unit)), len(projects.list_projects(unit))

    agents, known = await context.board.store.read(work)
    return {
        "success": True,
        "status": "ok",
        "version": context.board.terms.version,
        "timestamp": iso(context.board.clock.now()),
        "agent_count": agents,
        "project_count": known,
    }


async def list_active_projects_with_agents(context: Context, arguments: ListActiveProjects) -> Json:
    """List active projects, each with the agents that work there."""
    found: dict[str, Json] = {}
    board = context.board
    root = arguments.root_agent_id or arguments.agent_id
    live = {run.project_id for run in (await board.auth.live.all()).values() if is_legacy(run)}
    for agent, project in await board.store.read(projects.assignments):
        # who is asked about no more is never told to stop
        if (project.status != "active" and project.id not in live) or not agent.enabled:
            continue
        entry = found.setdefault(
            project.id,
            {
                "project_id": project.id,
                "project_name": project.name,
                "working_directory": project.path,
                "agents": [],
            },
        )
        entry["agents"].append(agent.id)

    def told(unit: Unit) -> Json:
        if root is not None:
            return rooted.of_projects(people.scope_of(unit, root), list(found.values()), unit)
        for project_id, ids in people.who_has(unit).items():
            if project_id in found:
                found[project_id]["agents"] += ids
        return {"projects": list(found.values())}

    listed = await board.store.read(told)
    return await _fitting(context, listed, live) if context.call.is_bare else listed


async def _fitting(context: Context, told: Json, live: Collection[str]) -> Json:
    """As many projects as the caller can read: those with runs first, then those with work."""
    if not is_long_line(json.dumps(told)):
        return told
    listed: list[Json] = told["projects"]
    snapshot = await context.board.snapshot.get()
    due = {line["project_id"] for line in snapshot["actions"] if line["action"] == "start"}
    ranked = sorted(listed, key=lambda one: _rank(one["project_id"], live, due))
    kept: list[Json] = []
    size = 0
    for one in ranked:
        # text in text: quotes and other letters take more room there
        size += len(json.dumps(json.dumps(one)))
        if size > BARE_LINE_BYTES // 2:
            break
        kept.append(one)
    note = f"{len(kept)} of {len(listed)} projects: your client reads lines of 64 KiB at most"
    return {"projects": kept, "truncated": True, "total_count": len(listed), "note": note}


def _rank(project_id: str, live: Collection[str], due: Collection[str]) -> int:
    return 0 if project_id in live else 1 if project_id in due else 2


async def list_agent_actions(context: Context, arguments: requests.ListActions) -> Json:
    """Say what should start, hold and stop, for all assignments at once."""
    if arguments.coordinator_id in context.board.coordinators:
        context.board.told[arguments.coordinator_id] = arguments
    answer = await context.board.snapshot.get()
    root, whole = arguments.root_agent_id, answer
    if root is not None:
        answer = await context.board.store.read(lambda unit: rooted.lines_for(unit, root, whole))
    if arguments.known == answer["etag"]:
        return {name: answer[name] for name in ("version", "etag")}
    return answer


async def claim_run(context: Context, arguments: requests.ClaimRequest) -> Json:
    """Start a run: the only call that does. Again under the same id changes nothing."""
    terms = context.board.terms

    def make(unit: Unit) -> requests.ClaimAnswer:
        return claims.claim_run(
            unit,
            arguments,
            terms.leases.seconds,
            terms.retry,
            terms.leases.takeover_grace_seconds,
        )

    if arguments.root_agent_id is None:
        return await _write(context, make)
    return await _write(context, lambda unit: rooted.claim(unit, arguments, make))


async def report_run_started(context: Context, arguments: requests.StartedReport) -> Json:
    """Take the news that a run's shim is up."""
    return await _write(context, lambda unit: reports.record_started(unit, arguments))


async def renew_runs(context: Context, arguments: requests.RenewRequest) -> Json:
    """Renew the leases of all that a coordinator holds."""
    lease_seconds = context.board.terms.leases.seconds
    return await _write(context, lambda unit: leases.renew_runs(unit, arguments, lease_seconds))


async def report_run_exit(context: Context, arguments: requests.ExitReport) -> Json:
    """Take the news that a run's processes are gone."""
    return await _write(context, lambda unit: reports.record_exit(unit, arguments))


async def report_run_result(context: Context, arguments: requests.ResultReport) -> Json:
    """Take a run's result; its task moves on."""
    terms = context.board.terms
    return await _write(
        context, lambda unit: reports.record_result(unit, arguments, terms.retry, terms.ask)
    )


async def disown_run(context: Context, arguments: DisownRequest) -> Json:
    """End a run that its coordinator should hold and knows nothing of."""
    policy = context.board.terms.retry

    def work(unit: Unit) -> requests.ResultAnswer:
        coordinators.seen(unit, arguments.coordinator_id, None, arguments.epoch)
        run = run_store.get_run(unit, arguments.run_id)
        if run.coordinator_id != arguments.coordinator_id:
            raise StaleRunError(f"run {run.id} belongs to another coordinator", run_id=run.id)
        report = requests.ResultReport(
            run_id=run.id,
            fence=run.fence,
            seq=leases.RESULT_SEQ,
            outcome=RunOutcome(arguments.outcome),
            verification=Verification.NOT_VERIFIED,
            reason="lost" if arguments.outcome == "lost" else None,
        )
        return reports.record_result(unit, report, policy)

    return await _write(context, work)


async def _write(context: Context, work: Callable[[Unit], T]) -> Json:
    return requests.to_wire(await context.board.store.write(work))


def _renewing(arguments: Json) -> Json:
    """Leave out runs whose claim has no answer yet: without a fence there is nothing to renew."""
    runs = arguments.get("runs")
    if not isinstance(runs, list):
        return arguments
    lines = cast("list[Json]", runs)
    claimed = [line for line in lines if not isinstance(line, dict) or "fence" in line]  # pyright: ignore[reportUnnecessaryIsInstance] - as it came over the wire
    return {**arguments, "runs": claimed}


TOOLS: dict[str, Tool] = table(
    (
        tool(NoArguments, health_check, "Say that you are well.", Role.COORDINATOR, Role.PERSON),
        tool(
            ListActiveProjects,
            list_active_projects_with_agents,
            "List active projects with their agents.",
            Role.COORDINATOR,
        ),
        wire_tool(
            requests.ListActions, list_agent_actions, "List what should start, hold and stop."
        ),
        wire_tool(requests.ClaimRequest, claim_run, "Claim a run under an id of yours."),
        wire_tool(requests.StartedReport, report_run_started, "Report that a shim is up."),
        wire_tool(
            requests.RenewRequest,
            renew_runs,
            "Renew all leases; the list is complete.",
            prepare=_renewing,
        ),
        wire_tool(requests.ExitReport, report_run_exit, "Report that a run's processes are gone."),
        wire_tool(requests.ResultReport, report_run_result, "Report how a run ended."),
        wire_tool(DisownRequest, disown_run, "Say that an unlisted run is lost or never began."),
    )
)
