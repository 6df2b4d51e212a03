"""What a session was sent last, for clients that lose a stream and ask for the rest of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp.server.streamable_http import EventMessage, EventStore

if TYPE_CHECKING:
    from mcp.server.streamable_http import EventCallback
    from mcp_types import JSONRPCMessage

#: Per session: what came before is not said again.
MAX_EVENTS = 256
MAX_CHARS = 64 * 1024


@dataclass(frozen=True)
class _Event:
    number: int
    stream: str
    message: JSONRPCMessage | None
    chars: int


class Replays(EventStore):
    """The last messages of one session, over all its streams."""

    def __init__(self) -> None:
        self._events: deque[_Event] = deque()
        self._last = 0
        self._chars = 0

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        """Keep a message; None marks the begin of a stream."""
        chars = 0 if message is None else len(message.model_dump_json(by_alias=True))
        self._last += 1
        self._events.append(_Event(self._last, stream_id, message, chars))
        self._chars += chars
        while len(self._events) > MAX_EVENTS or self._chars > MAX_CHARS:
            self._chars -= self._events.popleft().chars
        return str(self._last)

    async def replay_events_after(
        self, last_event_id: str, send_callback: EventCallback
    ) -> str | None:
        """Send again what a stream had after one of its events; None when that is forgotten."""
        is_number = last_event_id.isascii() and last_event_id.isdecimal()
        last = int(last_event_id[:18]) if is_number else 0
        stream = next((event.stream for event in self._events if event.number == last), None)
        for event in list(self._events):
            if event.stream == stream and event.number > last and event.message is not None:
                await send_callback(EventMessage(event.message, str(event.number)))
        return stream
