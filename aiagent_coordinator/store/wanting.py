"""Whose chat should have a session: somebody waits for an answer, wants to talk, or asked for a talk."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select

from aiagent_coordinator.runs import Purpose, RunOutcome, RunPhase
from aiagent_coordinator.store import (
    chat,
    conversation_ends,
    conversation_reads,
    delegations,
    tables,
)
from aiagent_coordinator.store.unit import Unit

_run = tables.run
#: Where wishes come from, and how each is called; the first that is due names the reason.
_SOURCES: Final = (
    ("message", chat.waiting),
    ("conversation", conversation_reads.waiting),
    ("delegation", delegations.waiting),
)


def wanted(unit: Unit) -> dict[tuple[str, str], str]:
    """Agents and projects whose chat should have a session and has none, each with the reason.

    Reasons: `message`, `conversation`, `delegation`.
    """
    found: dict[tuple[str, str], str] = {}
    live: set[tuple[str, str]] | None = None
    for reason, source in _SOURCES:
        for pair, since in source(unit).items():
            live = _live(unit) if live is None else live
            if pair not in live and pair not in found and not _rests(unit, pair, since):
                found[pair] = reason
    return found


def rests_until(unit: Unit) -> list[datetime]:
    """When chats whose sessions left something as it was may have the next one; of each that rests."""
    ends: list[datetime] = []
    for _, source in _SOURCES:
        for pair, since in source(unit).items():
            failures, last = _failed(unit, pair, since)
            if last is not None and 0 < failures < chat.MAX_FAILURES:
                ends.append(last + timedelta(seconds=chat.REST_SECONDS * failures))
    return ends


def give_up(unit: Unit) -> bool:
    """End what nobody will take: talks that idle, and delegations that no session came for.

    Returns:
        Whether there was any.
    """
    idle = conversation_ends.expired(unit)
    conversation_ends.expire(unit)
    hopeless = [(one, "its task was cancelled") for one in delegations.withdrawn(unit)]
    known = {one.id for one, _ in hopeless}
    live = _live(unit)
    for one in delegations.all_pending(unit):
        pair = (one.agent_id, one.project_id)
        failures, _ = _failed(unit, pair, one.created_at)
        if one.id not in known and pair not in live and failures >= chat.MAX_FAILURES:
            hopeless.append((one, "no session for the chat took it up"))
    for one, reason in hopeless:
        delegations.fail(unit, one, reason)
    return bool(idle or hopeless)


def is_hopeless(unit: Unit) -> bool:
    """Whether `give_up` has to look; only reads."""
    return bool(conversation_ends.expired(unit) or delegations.all_pending(unit))


def _live(unit: Unit) -> set[tuple[str, str]]:
    query = select(_run.c.agent_id, _run.c.project_id).where(
        _run.c.purpose == Purpose.CHAT, _run.c.phase != RunPhase.ENDED
    )
    return {(agent, project) for agent, project in unit.conn.execute(query).all()}


def _rests(unit: Unit, pair: tuple[str, str], since: datetime) -> bool:
    """Whether sessions that began after a wish left it as it was: the next is not due yet."""
    failures, last = _failed(unit, pair, since)
    if not failures or last is None:
        return False
    waited = (unit.now - last).total_seconds()
    return failures >= chat.MAX_FAILURES or waited < chat.REST_SECONDS * failures


def _failed(unit: Unit, pair: tuple[str, str], since: datetime) -> tuple[int, datetime | None]:
    query = select(func.count(), func.max(_run.c.ended_at)).where(
        _run.c.agent_id == pair[0],
        _run.c.project_id == pair[1],
        _run.c.purpose == Purpose.CHAT,
        _run.c.phase == RunPhase.ENDED,
        _run.c.outcome.not_in((RunOutcome.STOPPED, RunOutcome.CANCELLED)),
        _run.c.created_at >= since,
    )
    failures, last = unit.conn.execute(query).one()
    return failures, last
