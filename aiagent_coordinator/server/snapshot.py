"""What should run, kept in memory: one answer for every coordinator until something changes."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import anyio

from aiagent_coordinator.events import Event
from aiagent_coordinator.runs import Purpose
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.store import actions, requests, wanting
from aiagent_coordinator.store.engine import Store
from aiagent_coordinator.store.events import last_seq
from aiagent_coordinator.store.leases import LeaseTerms
from aiagent_coordinator.store.unit import Unit

#: So long an answer is given without a look at the store. Then the store is asked whether anything
#: happened: other servers may have the same one.
MAX_AGE_SECONDS = 0.5
#: So old an answer may be in a store in which nothing happens.
MAX_QUIET_SECONDS = 60.0
_RELEVANT = frozenset(
    {"project", "agent", "task", "run", "message", "conversation", "delegation", "quota"}
)
#: Words, progress and looks of others change nothing about what should run.
_IRRELEVANT = frozenset({"task.progress", "run.hello", "run.authenticated", "run.refused"})

_Chats = dict[tuple[str, str], str]


def changes_actions(event: Event) -> bool:
    """Whether what should run may be another after this event."""
    kind = event.action.partition(".")[0]
    return kind in _RELEVANT and event.action not in _IRRELEVANT


@dataclass(frozen=True)
class _Made:
    """What an answer was made of."""

    #: The number of the newest event in it.
    version: int
    #: When it is old though nothing happens, by the clock of the store.
    until: datetime
    #: Monotonic seconds.
    at: float


class Snapshot:
    """The answer to `list_agent_actions`, made when asked for and dropped by events."""

    def __init__(
        self, store: Store, monotonic: Callable[[], float], leases: LeaseTerms | None = None
    ) -> None:
        self._store = store
        self._leases = leases
        self._monotonic = monotonic
        self._changes = 1
        self._made: _Made | None = None
        #: The newest change of this process, and when the store was asked, of the latest look.
        self._looked = (0, 0.0)
        #: Answers that say the same have the same name, of this server alone.
        self._life = secrets.token_hex(8)
        self._serial = 0
        self._answer: Json = {}
        self._by_pair: dict[tuple[str, str], Json] = {}
        self._chats: _Chats = {}
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
                    await self._renew()
        return self._answer

    async def _renew(self) -> None:
        look = (self._changes, self._monotonic())
        found = await self._store.read(self._look)
        if found is not None:
            answer, chats, until = found
            self._take(requests.to_wire(answer), chats)
            self._made = _Made(answer.version, until, look[1])
        self._looked = look

    def _look(self, unit: Unit) -> tuple[requests.ActionsAnswer, _Chats, datetime] | None:
        """What should run, and until when; None if that is what it was."""
        made = self._made
        if (
            made is not None
            and unit.now < made.until
            and self._monotonic() < made.at + MAX_QUIET_SECONDS
            and last_seq(unit) == made.version
        ):
            return None
        answer = actions.list_actions(unit, self._leases)
        return answer, wanting.wanted(unit), actions.holds_until(unit, self._leases)

    def _take(self, answer: Json, chats: _Chats) -> None:
        if answer["actions"] != self._answer.get("actions"):
            self._serial += 1
            self._by_pair = _by_pair(answer["actions"])
        self._answer = answer | {"etag": f"{self._life}.{self._serial}"}
        self._chats = chats

    async def of_pair(self, agent_id: str, project_id: str) -> Json | None:
        """What should happen for one agent in one project; None: it does not work there."""
        await self.get()
        return self._by_pair.get((agent_id, project_id))

    async def wants_chat(self, agent_id: str, project_id: str) -> bool:
        """Whether there is something to say for an agent, and no session of its chat is there."""
        await self.get()
        return (agent_id, project_id) in self._chats

    def _is_old(self, wanted: int) -> bool:
        change, at = self._looked
        return change < wanted or self._monotonic() - at > MAX_AGE_SECONDS


def _by_pair(lines: list[Json]) -> dict[tuple[str, str], Json]:
    """Index what should start or hold of tasks; stops are told of runs."""
    return {
        (line["agent_id"], line["project_id"]): line
        for line in lines
        if line["action"] != "stop" and line["purpose"] == Purpose.TASK
    }
