"""Our connections as the SDK's streams: frames in, messages out, straight from and to the socket."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import (
    INTERNAL_ERROR,
    PROTOCOL_VERSION_META_KEY,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError

from aiagent_coordinator.server.connection import INVALID_REQUEST, Connection, Frame
from aiagent_coordinator.wire.protocol import MAX_FRAME_BYTES

#: Where the word beside a result is until the SDK has looked through it.
WORD_KEY = "dev.aiagent-coordinator/notification"
_INITIALIZED = JSONRPCNotification(jsonrpc="2.0", method="notifications/initialized")


class Reader:
    """Our frames as the SDK's messages, straight from the socket.

    A client that never shakes hands is let in by one made-up `notifications/initialized`, which the
    SDK takes for the end of a handshake.
    """

    def __init__(self, connection: Connection, first: Frame) -> None:
        self._connection = connection
        self._first: Frame | None = first
        self._held: SessionMessage | None = None
        self._is_open = False

    async def receive(self) -> SessionMessage | Exception:
        """Return the next message.

        Raises:
            anyio.EndOfStream: there is none any more.
        """
        if self._held is not None:
            message, self._held = self._held, None
            return message
        while True:
            found, self._first = self._first, None
            if found is None:
                found = await self._connection.next_frame()
            if found is None:
                raise anyio.EndOfStream
            try:
                message = jsonrpc_message_adapter.validate_python(found, by_name=False)
            except ValidationError:
                await self._connection.refuse(found, INVALID_REQUEST, "no JSON-RPC 2.0 message")
                continue
            return self._introduced(message)

    def _introduced(self, message: JSONRPCMessage) -> SessionMessage:
        if not self._is_open and isinstance(message, JSONRPCRequest) and message.method != "ping":
            self._is_open = True
            if message.method != "initialize" and not _is_modern(message):
                self._held = SessionMessage(message)
                return SessionMessage(_INITIALIZED)
        return SessionMessage(message)

    async def aclose(self) -> None:
        """Nothing: the connection is closed by whoever accepted it."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        return None


class Writer:
    """The SDK's messages as lines, straight to the socket."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def send(self, item: SessionMessage, /) -> None:
        """Write one message; an answer that is too large becomes an error."""
        message = item.message
        if isinstance(message, JSONRPCResponse):
            _lift_word(message.result)
        data = _line(message)
        answers = message.id if isinstance(message, JSONRPCResponse | JSONRPCError) else None
        if len(data) > MAX_FRAME_BYTES and answers is not None:
            await self._connection.send_error(answers, INTERNAL_ERROR, "the answer is too large")
            return
        await self._connection.send(data, answers=answers)

    async def aclose(self) -> None:
        """Nothing: the connection is closed by whoever accepted it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        return None


class Question(Reader):
    """One frame of a connection; the SDK sees no more of it, and takes it for ended once it answered."""

    def __init__(self, connection: Connection, frame: Frame, answered: anyio.Event) -> None:
        super().__init__(connection, frame)
        self._answered = answered

    async def receive(self) -> SessionMessage | Exception:
        """Return the frame, then nothing.

        Raises:
            anyio.EndOfStream: it is answered.
        """
        found, self._first = self._first, None
        if found is not None:
            try:
                return SessionMessage(jsonrpc_message_adapter.validate_python(found, by_name=False))
            except ValidationError:
                await self._connection.refuse(found, INVALID_REQUEST, "no JSON-RPC 2.0 message")
                self._answered.set()
        await self._answered.wait()
        raise anyio.EndOfStream


class Answer(Writer):
    """Writes the answer to a `Question`."""

    def __init__(self, connection: Connection, answered: anyio.Event) -> None:
        super().__init__(connection)
        self._answered = answered

    async def send(self, item: SessionMessage, /) -> None:
        """Write it."""
        try:
            await super().send(item)
        finally:
            self._answered.set()


def _lift_word(result: dict[str, Any]) -> None:
    """Put beside the content what clients of AI Agent PM look for there; the SDK drops what it does not know."""
    meta: dict[str, Any] = result.get("_meta") or {}
    word = meta.pop(WORD_KEY, None)
    if word is not None:
        result["notification"] = word
        if not meta:
            del result["_meta"]


def _line(message: JSONRPCMessage) -> bytes:
    return message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"


def _is_modern(request: JSONRPCRequest) -> bool:
    """Whether a request belongs to the revision without a handshake: it names its own version."""
    meta = (request.params or {}).get("_meta")
    return isinstance(meta, Mapping) and PROTOCOL_VERSION_META_KEY in meta
