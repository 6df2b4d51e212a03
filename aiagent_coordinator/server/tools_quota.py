"""Limits of providers: which lanes are closed, and a person's word on that."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field

from aiagent_coordinator.clock import parse_iso
from aiagent_coordinator.errors import ForbiddenError, NotFoundError, ValidationError
from aiagent_coordinator.quota import DEFAULT_ACCOUNT, Lane, Terms
from aiagent_coordinator.server import rows
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.tools import Arguments, Context, table, tool
from aiagent_coordinator.store import actions, ledger, projects, terms
from aiagent_coordinator.store.lanes import Gate
from aiagent_coordinator.store.unit import Unit

#: No wait is longer: more is a slip of the pen.
MAX_SECONDS = 366 * 86_400

Name = Annotated[str, Field(min_length=1, max_length=200)]


class ListLimits(Arguments):
    """Arguments of `list_limits`."""


class WhichLane(Arguments):
    """What is meant."""

    provider: Name
    account: Name | None = None
    """Only of this account."""
    model: Name | None = None
    """Only what holds for this model alone."""


class ClearLanes(WhichLane):
    """Arguments of `clear_limits`."""

    logins_only: bool = False
    """Only what waits for a login: somebody has seen that there is one."""


class HoldLane(WhichLane):
    """Arguments of `set_limit`."""

    until: str | None = None
    """An instant, ISO 8601."""
    seconds: Annotated[int | None, Field(ge=1, le=MAX_SECONDS)] = None
    """Or so long from now. Neither: until somebody clears it."""


async def list_limits(context: Context, arguments: ListLimits) -> Json:
    """List what is known of limits, and how many tasks wait for each."""
    del arguments

    def work(unit: Unit) -> Json:
        waiting = _waiting(unit)
        limits = [
            {
                **rows.plain(one),
                "window": one.period or None,
                "state": "parked" if one.is_closed(unit.now) else _state(one),
                "name": one.name,
                "why": one.why if one.is_closed(unit.now) else None,
                "waiting_tasks": waiting.get((one.provider, one.account, one.model, one.period), 0),
            }
            for one in ledger.windows(unit)
        ]
        return {"limits": limits}

    return await context.board.store.read(work)


def _state(one: ledger.Window) -> str:
    return "open" if one.status == "rejected" else one.status


def _waiting(unit: Unit) -> dict[tuple[str, str, str, str], int]:
    """How many queued tasks wait for each limit: those whose agents can only work there."""
    gate, found = Gate.of(unit), dict[tuple[str, str, str, str], int]()
    if not gate.shut:
        return found
    shut = {agent.id: gate.closed_to(agent) for agent in projects.list_agents(unit)}
    for (project_id, agent_id), count in actions.due_counts(unit).items():
        able = [agent_id] if agent_id else _agents_of(unit, project_id)
        windows = [shut.get(one) for one in able]
        if windows and all(windows):
            one = windows[0]
            if one is not None:
                key = (one.provider, one.account, one.model, one.period)
                found[key] = found.get(key, 0) + count
    return found


def _agents_of(unit: Unit, project_id: str) -> list[str]:
    return [agent.id for agent, project in projects.assignments(unit) if project.id == project_id]


async def clear_limits(context: Context, arguments: ClearLanes) -> Json:
    """Let something start there again, whatever its provider said.

    Raises:
        ForbiddenError: a coordinator, which only sees whether somebody is logged in, would open more.
    """
    if context.identity.role is Role.COORDINATOR and not arguments.logins_only:
        raise ForbiddenError("a coordinator opens what waits for a login, and nothing else")

    def work(unit: Unit) -> Json:
        _check(unit, terms.current(unit), arguments)
        opened = ledger.clear(
            unit,
            provider=arguments.provider,
            account=arguments.account,
            model=arguments.model,
            reasons=("auth",) if arguments.logins_only else None,
            actor=context.identity.actor,
        )
        return {"cleared": [rows.plain(one) for one in opened]}

    return await context.board.store.write(work)


async def set_limit(context: Context, arguments: HoldLane) -> Json:
    """Let nothing start there for a while, or move when something may."""

    def work(unit: Unit) -> Json:
        _check(unit, terms.current(unit), arguments)
        lane = Lane(arguments.provider, arguments.account or DEFAULT_ACCOUNT, arguments.model)
        until = _until(arguments, unit.now)
        kept = ledger.hold_until(unit, lane, until, actor=context.identity.actor)
        return {"limit": rows.plain(kept)}

    return await context.board.store.write(work)


def _until(arguments: HoldLane, now: datetime) -> datetime | None:
    """When it opens.

    Raises:
        ValidationError: it is no instant, or not ahead.
    """
    if arguments.until is not None and arguments.seconds is not None:
        raise ValidationError("until and seconds say the same; give one", key="until")
    if arguments.seconds is not None:
        return now + timedelta(seconds=arguments.seconds)
    if arguments.until is None:
        return None
    try:
        until = parse_iso(arguments.until)
    except ValueError:
        raise ValidationError(
            "until is no instant; write it like 2026-01-31T18:00:00Z", key="until"
        ) from None
    if until is None or not now < until <= now + timedelta(seconds=MAX_SECONDS):
        raise ValidationError("until is ahead, by a year at most", key="until")
    return until


def _check(unit: Unit, said: Terms, which: WhichLane) -> None:
    """Refuse what nobody works on: it is a slip of the pen.

    Raises:
        NotFoundError: there is no such provider or account.
    """
    lanes = [
        lane
        for agent in projects.list_agents(unit)
        for lane in said.lanes_of(agent.id, agent.provider, agent.model)
    ]
    known = {one.provider for one in ledger.windows(unit)}
    known |= {*said.providers, *(lane.provider for lane in lanes)}
    if which.provider not in known:
        listed = ", ".join(sorted(known)) or "none"
        raise NotFoundError(
            f"no agent works with a provider {which.provider!r}", hint=f"there are: {listed}"
        )
    accounts = {
        *(said.providers[which.provider].accounts if which.provider in said.providers else ()),
        *(one.account for one in ledger.windows(unit) if one.provider == which.provider),
        *(lane.account for lane in lanes if lane.provider == which.provider),
    }
    if which.account is not None and which.account not in accounts:
        listed = ", ".join(sorted(accounts))
        raise NotFoundError(
            f"provider {which.provider} has no account {which.account!r}",
            hint=f"there are: {listed}",
        )


TOOLS = table(
    (
        tool(
            ListLimits,
            list_limits,
            "List limits of providers that are known.",
            Role.PERSON,
            Role.COORDINATOR,
        ),
        tool(
            ClearLanes,
            clear_limits,
            "Let something start there again.",
            Role.PERSON,
            Role.COORDINATOR,
        ),
        tool(HoldLane, set_limit, "Let nothing start there for a while.", Role.PERSON),
    )
)
