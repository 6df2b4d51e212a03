"""Events that other servers on the same database commit: told to the listeners here, each event once.

Only a shared database has neighbours. It wakes us when one of them commits; that a wake can be lost, or
never comes, costs no more than `LOOK_SECONDS`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import anyio

from aiagent_coordinator.errors import StoreError
from aiagent_coordinator.events import Event
from aiagent_coordinator.store.events import list_events
from aiagent_coordinator.store.unit import Unit

#: How old an event of another server gets at most, whatever became of the wake.
LOOK_SECONDS: Final = 1.0
#: Read at a time.
_PAGE: Final = 1000


class Ear(Protocol):
    """Hears that another server has committed something."""

    async def wait(self, seconds: float) -> bool:
        """Wait until it did, or so long; whether it did."""
        ...

    async def rest(self) -> None:
        """It missed something: begin anew."""
        ...

    async def aclose(self) -> None:
        """Hear no more."""
        ...


class News:
    """What the listeners have heard: all events up to a number, and some beyond it."""

    def __init__(self) -> None:
        #: None: nobody else writes here, and what we write is all there is.
        self._heard_to: int | None = None
        self._beyond: set[int] = set()
        #: We are committing: what is read meanwhile may be ours, and is no news that was missed.
        self.is_committing = False

    @property
    def heard_to(self) -> int:
        """Every event up to this number was told."""
        return self._heard_to or 0

    def begin(self, seq: int) -> None:
        """Others write here too; what is there up to this number is nobody's news."""
        self._heard_to = seq

    def ours(self, events: Sequence[Event]) -> Sequence[Event]:
        """Take what we committed; gives what of it was not told yet."""
        if self._heard_to is None:
            return events
        fresh = [event for event in events if event.seq > self.heard_to]
        self._beyond.update(event.seq for event in fresh)
        self._close_up()
        return fresh

    def theirs(self, events: Sequence[Event]) -> Sequence[Event]:
        """Take what stands in the database after `heard_to`, without a gap; gives what was not told yet."""
        fresh = [
            event for event in events if event.seq > self.heard_to and event.seq not in self._beyond
        ]
        self._beyond.update(event.seq for event in fresh)
        self._close_up()
        return fresh

    def _close_up(self) -> None:
        seq = self.heard_to
        while seq + 1 in self._beyond:
            seq += 1
            self._beyond.discard(seq)
        self._heard_to = seq


async def follow(
    read: Callable[[Callable[[Unit], list[Event]]], Awaitable[list[Event]]],
    ear: Ear,
    news: News,
    tell: Callable[[Sequence[Event]], None],
) -> None:
    """Tell the listeners what others commit, until cancelled."""
    try:
        while True:
            was_woken = await ear.wait(LOOK_SECONDS)
            try:
                is_theirs = await _catch_up(read, news, tell)
            except StoreError:
                # it is away; what it took meanwhile is read when it is back
                await anyio.sleep(LOOK_SECONDS)
                continue
            if is_theirs and not was_woken:
                await ear.rest()
    finally:
        with anyio.CancelScope(shield=True):
            await ear.aclose()


async def _catch_up(
    read: Callable[[Callable[[Unit], list[Event]]], Awaitable[list[Event]]],
    news: News,
    tell: Callable[[Sequence[Event]], None],
) -> bool:
    """Read and tell what is new; whether any of it is surely another's."""
    is_theirs = False
    while True:
        after, was_committing = news.heard_to, news.is_committing
        found = await read(lambda unit, after=after: list_events(unit, after=after, limit=_PAGE))
        fresh = news.theirs(found)
        if fresh:
            is_theirs = is_theirs or not (was_committing or news.is_committing)
            tell(fresh)
        if len(found) < _PAGE:
            return is_theirs
