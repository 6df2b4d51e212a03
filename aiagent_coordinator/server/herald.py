"""From committed events to pushes: which resources changed, and for whom. Tools never push."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import anyio

from aiagent_coordinator.clock import Clock, parse_iso
from aiagent_coordinator.events import Event
from aiagent_coordinator.quota import midnight
from aiagent_coordinator.server.auth import LiveRuns
from aiagent_coordinator.server.library import changed_by
from aiagent_coordinator.server.live import Live
from aiagent_coordinator.server.snapshot import Snapshot
from aiagent_coordinator.store import actions, ledger
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.engine import Store
from aiagent_coordinator.tasks import TaskStatus
from aiagent_coordinator.wire.protocol import ACTIONS_URI, runs_uri

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

#: What a run's coordinator wants to hear at once: its agent spoke, or a person wants a stop.
_FOR_COORDINATOR = frozenset(
    {
        "run.hello",
        "run.authenticated",
        "run.reported",
        "run.stop_requested",
        "session.ended",
        "question.asked",
        "question.pending",
        "question.answered",
        "question.closed",
        "tell.passed",
    }
)
#: A task cannot be claimed before its time: the push comes a moment after, never before.
DUE_SLACK_SECONDS = 0.01
#: The clock may be set, or the machine sleep, while midnight is waited for.
LOOK_SECONDS = 600.0


class Herald:
    """Listens to the store. Its own work runs in the server's task group."""

    def __init__(
        self, store: Store, live_runs: LiveRuns, snapshot: Snapshot, live: Live, clock: Clock
    ) -> None:
        self._store = store
        self._live_runs = live_runs
        self._snapshot = snapshot
        self._live = live
        self._clock = clock
        self._tasks: TaskGroup | None = None

    def begin(self, tasks: TaskGroup) -> None:
        """Look things up in this task group from now on."""
        self._tasks = tasks
        tasks.start_soon(self._push_what_an_earlier_life_scheduled)
        tasks.start_soon(self._push_each_day)

    def end(self) -> None:
        """The task group is about to end."""
        self._tasks = None

    def notice(self, events: Sequence[Event]) -> None:
        """Take committed events; called by the store, on the event loop."""
        self._live_runs.notice(events)
        is_changed = self._snapshot.notice(events)
        if self._tasks is None:
            return
        if is_changed:
            self._live.publish((ACTIONS_URI,))
        self._live.publish(changed_by(events))
        spoken = {event.run_id for event in events if event.action in _FOR_COORDINATOR}
        for run_id in spoken:
            if run_id is not None:
                self._tasks.start_soon(self._tell_coordinator, run_id)
        for event in events:
            if _is_requeued(event) and event.task_id is not None:
                self._tasks.start_soon(self._push_when_due, event.task_id)
            elif event.action == "quota.closed":
                self._tasks.start_soon(self._push_at, parse_iso(event.data.get("until")))

    async def _tell_coordinator(self, run_id: str) -> None:
        run = await self._live_runs.get(run_id)
        if run is not None:
            self._live.publish((runs_uri(run.coordinator_id),))

    async def _push_when_due(self, task_id: str) -> None:
        """A retry falls due without an event: push at its time."""
        task = await self._store.read(lambda unit: task_store.get_task(unit, task_id))
        await self._push_at(task.not_before)

    async def _push_at(self, at: datetime | None) -> None:
        """Something falls due without an event: push at its time."""
        if at is None:
            return
        wait = (at - self._clock.now()).total_seconds()
        if wait > 0:
            await anyio.sleep(wait + DUE_SLACK_SECONDS)
            self._push()

    def _push(self) -> None:
        # what was answered a moment ago says `hold`
        self._snapshot.drop()
        self._live.publish((ACTIONS_URI,))

    async def _push_each_day(self) -> None:
        """Budgets of a day begin anew at midnight: one push a day, whoever has one by then."""
        today = midnight(self._clock.now())
        while True:
            now = self._clock.now()
            if midnight(now) > today:
                self._push()
            today = midnight(now)
            left = (today + timedelta(days=1) - now).total_seconds()
            await anyio.sleep(min(left + DUE_SLACK_SECONDS, LOOK_SECONDS))

    async def _push_what_an_earlier_life_scheduled(self) -> None:
        """Retries that a server before this one put off, and limits that it knew of."""
        async with anyio.create_task_group() as tasks:
            for task_id in await self._store.read(actions.not_due_yet):
                tasks.start_soon(self._push_when_due, task_id)
            for window in await self._store.read(ledger.closed):
                tasks.start_soon(self._push_at, window.until)


def _is_requeued(event: Event) -> bool:
    return (
        event.action == "task.status"
        and event.data.get("to") == TaskStatus.QUEUED
        and event.data.get("from") is not None
    )
