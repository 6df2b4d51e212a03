"""What should run, kept in memory: one answer for every coordinator until something changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio

from aiagent_coordinator.events import Event
from aiagent_coordinator.runs import Purpose
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.store import actions, chat, requests
from aiagent_coordinator.store.engine import Store
from aiagent_coordinator.store.leases import LeaseTerms

#: A scheduled retry falls due without an event; an answer is never older than this.
MAX_AGE_SECONDS = 0.5
#: Words, progress and looks of others change nothing about what should run.
_IRRELEVANT = frozenset({"task.progress", "run.hello", "run.authenticated", "run.refused"})


def changes_actions(event: Event) -> bool:
    """Whether what should run may be another after this event."""
    kind = event.action.partition(".")[0]
    return (
        kind in {"project", "agent", "task", "run", "message"} and event.action not in _IRRELEVANT
    )


class Snapshot:
    """The answer to `list_agent_actions`, made when asked for and dropped by events."""

    def __init__(
        self, store: Store, monotonic: Callable[[], float], leases: LeaseTerms | None = None
    ) -> None:
        self._store = store
        self._leases = leases
        self._monotonic = monotonic
        self._changes = 1
        self._made_at_change = 0
        self._made_at = 0.0
        self._answer: Json = {}
        self._by_pair: dict[tuple[str, str], Json] = {}
        self._chats: set[tuple[str, str]] = set()
        self._lock = anyio.Lock()

    def notice(self, events: Sequence[Event]) -> bool:
        """Forget the answer if these events make it old; say whether they do."""
        is_changed = any(changes_actions(event) for event in events)
        if is_changed:
            self._changes += 1
        return is_changed

    def drop(self) -> None:
        """Forget the answer: something fell due, which no event says."""
        self._changes += 1

    async def get(self) -> Json:
        """The answer, at least as new as this call. Shared: not to be changed."""
        wanted = self._changes
        if self._is_old(wanted):
            async with self._lock:
                if self._is_old(wanted):
                    change, now = self._changes, self._monotonic()
                    answer, self._chats = await self._store.read(
                        lambda unit: (actions.list_actions(unit, self._leases), chat.wanted(unit))
                    )
                    self._answer = requests.to_wire(answer)
                    self._by_pair = _by_pair(self._answer["actions"])
                    self._made_at_change, self._made_at = change, now
        return self._answer

    async def of_pair(self, agent_id: str, project_id: str) -> Json | None:
        """What should happen for one agent in one project; None: it does not work there."""
        await self.get()
        return self._by_pair.get((agent_id, project_id))

    async def wants_chat(self, agent_id: str, project_id: str) -> bool:
        """Whether somebody waits for an answer of an agent, and no session of its chat is there."""
        await self.get()
        return (agent_id, project_id) in self._chats

    def _is_old(self, wanted: int) -> bool:
        age = self._monotonic() - self._made_at
        return self._made_at_change < wanted or age > MAX_AGE_SECONDS


def _by_pair(lines: list[Json]) -> dict[tuple[str, str], Json]:
    """Index what should start or hold of tasks; stops are told of runs."""
    return {
        (line["agent_id"], line["project_id"]): line
        for line in lines
        if line["action"] != "stop" and line["purpose"] == Purpose.TASK
    }
