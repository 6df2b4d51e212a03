"""Reading what happened. Events are written by units, never from here."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from aiagent_coordinator.events import Event
from aiagent_coordinator.store import tables
from aiagent_coordinator.store.rows import event_of
from aiagent_coordinator.store.unit import Unit

_event = tables.event


@dataclass(frozen=True)
class EventFilter:
    """Which events; all that is None does not matter."""

    project_id: str | None = None
    task_id: str | None = None
    run_id: str | None = None
    agent_id: str | None = None


def list_events(
    unit: Unit, which: EventFilter | None = None, *, after: int = 0, limit: int = 100
) -> list[Event]:
    """Events with a number above `after`, oldest first."""
    query = select(_event).where(_event.c.seq > after).order_by(_event.c.seq).limit(limit)
    for name, value in vars(which or EventFilter()).items():
        if value is not None:
            query = query.where(_event.c[name] == value)
    return [event_of(row) for row in unit.conn.execute(query).mappings()]


def last_of_task(unit: Unit, task_id: str, limit: int = 50) -> list[Event]:
    """The newest events of a task, oldest first."""
    query = select(_event).where(_event.c.task_id == task_id).order_by(_event.c.seq.desc())
    found = unit.conn.execute(query.limit(limit)).mappings()
    return [event_of(row) for row in found][::-1]


def last_seq(unit: Unit) -> int:
    """The number of the newest event, 0 before the first."""
    return unit.conn.scalar(select(func.coalesce(func.max(_event.c.seq), 0))) or 0
