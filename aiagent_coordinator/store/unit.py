"""One unit of work: a transaction's connection, its instant, and the events it writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import Final

from sqlalchemy import Connection, func, insert, select

from aiagent_coordinator.events import STORE_EVENTS, Event
from aiagent_coordinator.store import tables

#: Orders the events of all servers on one PostgreSQL; any constant will do.
EVENT_LOCK: Final = 0x61616331
#: Where servers on one PostgreSQL tell each other that there are new events.
EVENT_CHANNEL: Final = "aiagent_coordinator_events"
# Statements of the hot path are built once, here and in the other modules: building one costs four
# times what running it does.
# The other servers are woken by the commit itself, in the same round trip as the lock.
_LOCK_EVENTS = select(
    func.pg_advisory_xact_lock(EVENT_LOCK),
    func.pg_notify(EVENT_CHANNEL, func.current_setting("application_name")),
)
_LAST = select(func.coalesce(func.max(tables.event.c.seq), 0))
_INSERT = insert(tables.event)


#: More than this between what the wall clock and the steady one went on is a jump, not a correction.
JUMP_SECONDS: Final = 5.0


class Moment:
    """Where a unit's time comes from, and since when it can be trusted.

    Args:
        now: The instant of a unit.
        monotonic: The clock that nobody sets.
        began: The instant at which this process opened the store.
    """

    def __init__(
        self,
        now: Callable[[Connection], datetime],
        monotonic: Callable[[], float],
        began: datetime,
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._last = (began, monotonic())
        #: Leases that ran out while nobody served, while the machine slept, or because somebody set
        #: the clock, start anew from here.
        self.opened_at = began

    def now(self, conn: Connection) -> datetime:
        """The current instant; notices when it jumped."""
        before, steady_before = self._last
        now, steady = self._now(conn), self._monotonic()
        jumped = (now - before).total_seconds() - (steady - steady_before)
        self._last = (now, steady)
        if abs(jumped) > JUMP_SECONDS:
            self.opened_at = now
        return now


class Unit:
    """What a unit function works with: plain, synchronous, in one transaction.

    Events are kept until the end and written just before the commit: a refused unit leaves none,
    and on PostgreSQL the lock that orders them is held for a moment only.
    """

    def __init__(self, conn: Connection, moment: Moment, *, read_only: bool = False) -> None:
        self.conn = conn
        self._moment = moment
        self._read_only = read_only
        self._events: list[Event] = []
        self._refusals: list[Event] = []

    @cached_property
    def now(self) -> datetime:
        """The instant of this unit, UTC; the same for all it writes."""
        return self._moment.now(self.conn)

    @property
    def opened_at(self) -> datetime:
        """When this process opened the store."""
        return self._moment.opened_at

    def emit(
        self,
        action: str,
        *,
        actor: str,
        project_id: str | None = None,
        task_id: str | None = None,
        run_id: str | None = None,
        agent_id: str | None = None,
        refusal: bool = False,
        **data: object,
    ) -> None:
        """Say that something happened; it becomes true with the unit's commit.

        Args:
            action: One of `STORE_EVENTS`.
            actor: Who did it: `person`, `coordinator:<id>`, `agent:<id>`, `server`.
            project_id: The project it is about.
            task_id: The task it is about.
            run_id: The run it is about.
            agent_id: The agent it is about.
            refusal: Written only if the unit raises: everything else is rolled back, this stands.
            **data: What `STORE_EVENTS` says goes with it.
        """
        if self._read_only:
            message = "a reading unit writes no event"
            raise RuntimeError(message)
        if action not in STORE_EVENTS:
            message = f"unknown store event {action!r}"
            raise ValueError(message)
        happened = Event(0, self.now, actor, action, project_id, task_id, run_id, agent_id, data)
        (self._refusals if refusal else self._events).append(happened)

    def take_events(self, *, refused: bool) -> list[Event]:
        """What is to be written at the end of a unit that went well, or of one that raised."""
        return self._refusals if refused else self._events


def write_events(conn: Connection, events: Sequence[Event]) -> list[Event]:
    """Number the events without a gap and store them.

    Returns:
        The same events with their numbers.
    """
    if not events:
        return []
    if conn.dialect.name == "postgresql":
        conn.execute(_LOCK_EVENTS)
    last = conn.scalar(_LAST) or 0
    numbered = [replace(event, seq=last + place) for place, event in enumerate(events, 1)]
    conn.execute(_INSERT, [vars(event) for event in numbered])
    return numbered
