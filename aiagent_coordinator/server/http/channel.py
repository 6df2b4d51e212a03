"""How an HTTP client is reached beside the answers to its calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import anyio

from aiagent_coordinator.server.connection import RequestId

#: A stream of its own, and never answered before it is ended.
_LISTEN = "subscriptions/listen"


class Answering:
    """The requests that are being answered; the end of the server waits for them."""

    def __init__(self) -> None:
        self._open: set[tuple[object, RequestId]] = set()
        self._changed = anyio.Event()

    @property
    def is_busy(self) -> bool:
        """Whether any request waits for its answer."""
        return bool(self._open)

    @contextmanager
    def one(self, channel: object, frame: Mapping[str, Any]) -> Generator[None]:
        """Count a request as long as this context; what only opens a stream is not counted."""
        request_id = frame.get("id")
        if not isinstance(request_id, int | str) or frame.get("method") == _LISTEN:
            yield
            return
        self._open.add((channel, request_id))
        try:
            yield
        finally:
            self.end(channel, request_id)

    def end(self, channel: object, request_id: RequestId) -> None:
        """It has its answer, or will never have one."""
        self._open.discard((channel, request_id))
        if not self._open:
            self._changed.set()
            self._changed = anyio.Event()

    async def until_quiet(self) -> None:
        """Return when no request waits for its answer."""
        while self._open:
            await self._changed.wait()


class HttpChannel:
    """The stream that a session holds open, when it does."""

    def __init__(self, answering: Answering, *, is_lasting: bool = False) -> None:
        """Make a channel.

        Args:
            answering: Knows which requests wait for an answer.
            is_lasting: Whether there is a session; without one nothing can be pushed.
        """
        self._answering = answering
        self.is_lasting = is_lasting
        #: Set by a subscription: says over the session's stream that a resource changed.
        self.push: Callable[[str], Awaitable[None]] | None = None

    def settle(self, request_id: RequestId) -> None:
        """A request will never have an answer: nobody waits for it at the end of the server."""
        self._answering.end(self, request_id)

    async def updated(self, uri: str) -> None:
        """Say that a resource changed.

        Raises:
            anyio.ClosedResourceError: nobody hears it.
        """
        if self.push is None:
            raise anyio.ClosedResourceError
        await self.push(uri)
