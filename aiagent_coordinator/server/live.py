"""Pushes: tells subscribed connections that a resource changed, soon and not too often.

A push says only that there is something to look at; what it is, the next call tells. So one push
may stand for many changes, and nothing is lost when a connection has none.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from aiagent_coordinator.server.calls import Channel

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

#: The least time between two pushes to one connection: what happens in it becomes one.
COALESCE_SECONDS = 0.005


@dataclass
class _Subscriber:
    uris: set[str] = field(default_factory=set[str])
    due: set[str] = field(default_factory=set[str])
    is_sending: bool = False


class Live:
    """Who wants to hear of what."""

    def __init__(self) -> None:
        self._tasks: TaskGroup | None = None
        self._subscribers: dict[Channel, _Subscriber] = {}

    def begin(self, tasks: TaskGroup) -> None:
        """Push from this task group from now on; it outlives every subscriber."""
        self._tasks = tasks

    def subscribe(self, channel: Channel, uri: str) -> None:
        """Push to this connection from now on. Twice is once."""
        self._subscribers.setdefault(channel, _Subscriber()).uris.add(uri)

    def unsubscribe(self, channel: Channel, uri: str) -> None:
        """Push this resource no more."""
        if channel in self._subscribers:
            self._subscribers[channel].uris.discard(uri)

    def forget(self, channel: Channel) -> None:
        """The connection is gone."""
        self._subscribers.pop(channel, None)

    def publish(self, uris: Iterable[str]) -> None:
        """Say that these resources changed. Returns at once; a slow reader delays only itself."""
        changed = set(uris)
        for channel, subscriber in self._subscribers.items():
            subscriber.due |= changed & subscriber.uris
            if self._tasks and subscriber.due and not subscriber.is_sending:
                subscriber.is_sending = True
                self._tasks.start_soon(self._push, channel, subscriber)

    async def _push(self, channel: Channel, subscriber: _Subscriber) -> None:
        """Send what is due, the first at once, until nothing came during the last wait."""
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            while subscriber.due:
                due, subscriber.due = subscriber.due, set()
                for uri in sorted(due):
                    await channel.updated(uri)
                await anyio.sleep(COALESCE_SECONDS)
        subscriber.is_sending = False
