"""One connection as lines of JSON: what may pass to the SDK, what is answered here, and when it ends.

Nothing here knows the SDK. A stranger gets an error or a closed connection, never silence: the
SDK leaves invalid frames unanswered, and answers `server/discover` in a way that then refuses the
`initialize` that clients send next.
"""

from __future__ import annotations

import logging
import select
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
from anyio.abc import SocketAttribute, SocketStream

from aiagent_coordinator.wire.framing import (
    FrameError,
    FrameTooLargeError,
    LineBuffer,
    decode,
    encode,
)
from aiagent_coordinator.wire.protocol import HELLO

logger = logging.getLogger(__name__)

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND = -32700, -32600, -32601
#: Requests of one connection that are answered at the same time; more wait unread in the socket.
MAX_OPEN_REQUESTS = 1024
#: How long a client that only closed its writing side may wait for the answers it still gets.
HALF_CLOSED_SECONDS = 60.0
#: A line that is begun ends within this time.
HALF_LINE_SECONDS = 30.0
#: A client takes what it is sent within this time.
STALLED_WRITE_SECONDS = 60.0
_READ_BYTES = 65536
_DISCOVER = "server/discover"
#: What the revision without a handshake says with each request.
_ENVELOPE = "io.modelcontextprotocol/protocolVersion"

RequestId = int | str
Frame = dict[str, Any]


class Connection:
    """A newline-JSON connection. One task reads; any task may send."""

    def __init__(
        self,
        stream: SocketStream,
        on_hello: Callable[[Frame], Awaitable[None]],
        monotonic: Callable[[], float],
    ) -> None:
        """Wrap an accepted stream.

        Args:
            stream: The accepted stream; closed by whoever accepted it.
            on_hello: Awaited with the params of our own first notification before the next frame
                is looked at, so that no call overtakes it.
            monotonic: Where the seconds of the two limits come from.
        """
        self._stream = stream
        self._on_hello = on_hello
        self._monotonic = monotonic
        self._buffer = LineBuffer()
        self._lines: deque[bytes] = deque()
        self._open: set[RequestId] = set()
        self._settled = anyio.Event()
        self._lock = anyio.Lock()
        self._is_muted = False
        self._is_stopping = False
        self._line_since: float | None = None
        self._write_since: float | None = None
        self.done = anyio.Event()

    async def next_frame(self) -> Frame | None:
        """Return the next frame that is well formed and not for us; None at the end."""
        while True:
            while self._lines and not self._is_stopping:
                if len(self._open) >= MAX_OPEN_REQUESTS:
                    await self._settled.wait()
                    continue
                found = await self._sort(self._lines.popleft())
                if found is not None:
                    return found
            if self._is_stopping or not await self._read():
                await self._drain()
                return None

    async def send(self, data: bytes, *, answers: RequestId | None = None) -> None:
        """Write one line; an answer also closes its request.

        Raises:
            anyio.ClosedResourceError: nothing more is sent on this connection.
            anyio.BrokenResourceError: the client is gone.
        """
        try:
            async with self._lock:
                if self._is_muted:
                    raise anyio.ClosedResourceError
                self._write_since = self._monotonic()
                try:
                    # half a line would spoil every later one: a write once begun is finished
                    with anyio.CancelScope(shield=True):
                        await self._stream.send(data)
                finally:
                    self._write_since = None
        except anyio.BrokenResourceError:
            self._open.clear()
            self.mute()
            raise
        finally:
            if answers is not None:
                self.settle(answers)

    async def updated(self, uri: str) -> None:
        """Say that a resource changed.

        Raises:
            anyio.ClosedResourceError, anyio.BrokenResourceError: nobody hears it any more.
        """
        params = {"uri": uri}
        method = "notifications/resources/updated"
        await self.send(encode({"jsonrpc": "2.0", "method": method, "params": params}))

    async def send_error(self, request_id: RequestId | None, code: int, message: str) -> None:
        """Answer a request with a JSON-RPC error."""
        if request_id is not None:
            self.settle(request_id)
        await self._refuse(request_id, code, message)

    async def refuse(self, frame: Frame, code: int, message: str) -> None:
        """Answer a frame that is no message; the id is null when it has none to trust."""
        await self.send_error(_trusted_id(frame), code, message)

    async def _refuse(self, request_id: RequestId | None, code: int, message: str) -> None:
        error = {"code": code, "message": message}
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self.send(encode({"jsonrpc": "2.0", "id": request_id, "error": error}))

    def settle(self, request_id: RequestId) -> None:
        """Note that a request has had its answer, or will never have one."""
        self._open.discard(request_id)
        self._wake()

    def stop(self) -> None:
        """Take no further frame; what is being answered still is."""
        self._is_stopping = True

    async def until_quiet(self) -> None:
        """Return when no request waits for its answer."""
        while self._open and not self._is_muted:
            await self._settled.wait()

    def mute(self) -> None:
        """Send nothing more: a request without an answer is sent again, one with an error is not."""
        self._is_muted = True
        self._wake()

    def hang_up(self) -> None:
        """End the connection from outside; reader and writer wake up and see its end.

        Closing beats cancelling: asyncio prints an error when a cancelled reader gets data.
        """
        self._is_stopping = True
        self.mute()
        with suppress(OSError, anyio.TypedAttributeLookupError):
            self._socket().shutdown(socket.SHUT_RDWR)

    def hang_up_if_stuck(self) -> bool:
        """End the connection when a line or a write takes longer than it may."""
        now = self._monotonic()
        for since, limit in (
            (self._line_since, HALF_LINE_SECONDS),
            (self._write_since, STALLED_WRITE_SECONDS),
        ):
            if since is not None and now - since > limit:
                self.hang_up()
                return True
        return False

    @property
    def is_ending(self) -> bool:
        """No further frame is taken."""
        return self._is_stopping

    def end(self) -> None:
        """Nobody serves this connection any more; whoever accepted the stream closes it."""
        self.mute()
        self.done.set()

    def _wake(self) -> None:
        self._settled.set()
        self._settled = anyio.Event()

    def _socket(self) -> socket.socket:
        return self._stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - anyio's, not Django's

    async def _read(self) -> bool:
        """Read once; False at the end of the stream."""
        try:
            chunk = await self._stream.receive(_READ_BYTES)
            self._lines.extend(self._buffer.feed(chunk))
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return False
        except FrameTooLargeError:
            await self.send_error(None, INVALID_REQUEST, "the frame is too large")
            return False
        if chunk.endswith(b"\n"):
            self._line_since = None
        elif self._line_since is None or b"\n" in chunk:
            self._line_since = self._monotonic()
        return True

    async def _sort(self, line: bytes) -> Frame | None:
        """Decode one line; answer it here when it is invalid or meant for us."""
        try:
            frame = decode(line)
        except FrameError as error:
            code = PARSE_ERROR if error.kind == "parse" else INVALID_REQUEST
            await self._refuse(None, code, str(error))
            return None
        if not _is_message(frame):
            await self._refuse(_trusted_id(frame), INVALID_REQUEST, "no JSON-RPC 2.0 message")
            return None
        if "method" not in frame:
            return frame
        if "id" in frame:
            return await self._sort_request(frame)
        params = frame.get("params", {})
        if frame["method"] == HELLO:
            await self._on_hello(params)
            return None
        if frame["method"] == "notifications/cancelled":
            # the SDK never answers a request that its client has taken back
            self._settle_cancelled(params.get("requestId"))
        return frame

    def _settle_cancelled(self, request_id: object) -> None:
        if isinstance(request_id, int | str):
            self.settle(request_id)

    async def _sort_request(self, frame: Frame) -> Frame | None:
        request_id: RequestId = frame["id"]
        if frame["method"] == _DISCOVER and not is_discovery(frame):
            await self._refuse(request_id, METHOD_NOT_FOUND, "Method not found")
            return None
        if request_id in self._open:
            message = "a request with this id is still being answered"
            await self._refuse(request_id, INVALID_REQUEST, message)
            return None
        self._open.add(request_id)
        return frame

    async def _drain(self) -> None:
        """Wait for the answers that somebody may still read, then fall silent for good."""
        self._is_stopping = True
        with anyio.move_on_after(HALF_CLOSED_SECONDS):
            while self._open and not self._is_muted and not self._is_peer_gone():
                await self._settled.wait()
        self._is_muted = True

    def _is_peer_gone(self) -> bool:
        """Tell a client that closed both directions from one that only finished writing."""
        try:
            poller = select.poll()
            poller.register(self._socket(), 0)
            return any(event & select.POLLHUP for _, event in poller.poll(0))
        except (OSError, ValueError, anyio.TypedAttributeLookupError):
            return True


def is_discovery(frame: Frame) -> bool:
    """Whether a client asks, in the words of the revision without a handshake, what is spoken here."""
    meta: Any = frame.get("params", {}).get("_meta") if frame.get("method") == _DISCOVER else None
    return isinstance(meta, dict) and _ENVELOPE in meta


def _is_message(frame: Frame) -> bool:
    """Whether a decoded frame is a JSON-RPC 2.0 request, notification or response."""
    if frame.get("jsonrpc") != "2.0":
        return False
    if "method" not in frame:
        return "id" in frame and ("result" in frame or "error" in frame)
    if not isinstance(frame["method"], str) or not isinstance(frame.get("params", {}), dict):
        return False
    return "id" not in frame or _trusted_id(frame) is not None


def _trusted_id(frame: Frame) -> RequestId | None:
    """The id when it is one that can be echoed."""
    value = frame.get("id")
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return value
