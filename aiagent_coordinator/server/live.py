"""Pushes: tells subscribed connections that a resource changed, soon and not too often.

A push says only that there is something to look at; what it is, the next call tells. So one push
may stand for many changes, and nothing is lost when a connection has none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
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
        #: How many want to hear of each resource: most changes interest nobody.
        self._wanted: Counter[str] = Counter()
        self._listeners: list[Callable[[set[str]], None]] = []

    def begin(self, tasks: TaskGroup) -> None:
        """Push from this task group from now on; it outlives every subscriber."""
        self._tasks = tasks

    def on_publish(self, listener: Callable[[set[str]], None]) -> None:
        """Call a listener with every set of changed resources that somebody wants to hear of."""
        self._listeners.append(listener)

    @contextmanager
    def wanting(self, uris: Iterable[str]) -> Generator[None]:
        """Let listeners hear of these resources as long as this context."""
        kept = tuple(uris)
        self._wanted.update(kept)
        try:
            yield
        finally:
            self._release(kept)

    def wanted(self) -> list[str]:
        """Every resource that somebody wants to hear of."""
        return list(self._wanted)

    def subscribe(self, channel: Channel, uri: str) -> None:
        """Push to this connection from now on. Twice is once."""
        subscriber = self._subscribers.setdefault(channel, _Subscriber())
        if uri not in subscriber.uris:
            subscriber.uris.add(uri)
            self._wanted[uri] += 1

    def unsubscribe(self, channel: Channel, uri: str) -> None:
        """Push this resource no more."""
        subscriber = self._subscribers.get(channel)
        if subscriber is not None and uri in subscriber.uris:
            subscriber.uris.discard(uri)
            self._release((uri,))

    def forget(self, channel: Channel) -> None:
        """The connection is gone."""
        subscriber = self._subscribers.pop(channel, None)
        if subscriber is not None:
            self._release(subscriber.uris)

    def publish(self, uris: Iterable[str]) -> None:
        """Say that these resources changed. Returns at once; a slow reader delays only itself."""
        changed = {uri for uri in uris if uri in self._wanted}
        if not changed:
            return
        for channel, subscriber in self._subscribers.items():
            subscriber.due |= changed & subscriber.uris
            if self._tasks and subscriber.due and not subscriber.is_sending:
                subscriber.is_sending = True
                self._tasks.start_soon(self._push, channel, subscriber)
        for listener in self._listeners:
            listener(changed)

    def _release(self, uris: Iterable[str]) -> None:
        for uri in uris:
            self._wanted[uri] -= 1
            if self._wanted[uri] <= 0:
                del self._wanted[uri]

    async def _push(self, channel: Channel, subscriber: _Subscriber) -> None:
        """Send what is due, the first at once, until nothing came during the last wait."""
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            while subscriber.due:
                due, subscriber.due = subscriber.due, set()
                for uri in sorted(due):
                    await channel.updated(uri)
                await anyio.sleep(COALESCE_SECONDS)
        subscriber.is_sending = False
