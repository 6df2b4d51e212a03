"""The loop's own client: one connection, many calls in flight, a deadline on every call.

It does not import `mcp`, whose import alone costs half a second. It does not reconnect: when the
connection ends every pending call fails at once and the loop dials again.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from os import PathLike, fspath

import anyio
from anyio.abc import SocketStream

from aiagent_coordinator import errors
from aiagent_coordinator.wire import answers
from aiagent_coordinator.wire.framing import FrameError, Json, LineBuffer, decode, encode
from aiagent_coordinator.wire.protocol import MAX_FRAME_BYTES

#: For connecting and the handshake; a starting server takes connections before it answers.
CONNECT_SECONDS = 5.0
#: For one call, unless the caller knows better.
DEADLINE_SECONDS = 30.0
#: A thousand short answers come in three reads.
_CHUNK_BYTES = 256 * 1024

#: Answers of one batch that are kept for comparison: long ones are hardly ever equal.
_SEEN_BYTES, _SEEN_ANSWERS = 4096, 64
#: An answer as all servers write it: the id near the front, and the rest.
_ANSWER = re.compile(rb'\{(?:"jsonrpc": ?"2\.0", ?)?"id": ?(\d{1,15}),(.*)', re.DOTALL)

_PARSE_ERROR = -32700

OnUpdate = Callable[[str], None]


class _Batch:
    """Requests sent together, under successive ids, and what has come back; one waiter for all."""

    __slots__ = ("done", "failure", "first_id", "messages", "missing", "seen")

    def __init__(self, first_id: int, size: int) -> None:
        self.first_id = first_id
        self.messages: list[Json | None] = [None] * size
        self.missing = size
        self.failure: tuple[type[errors.ServerError], str] | None = None
        self.done = anyio.Event()
        #: Answers by their bytes behind the id: most answers of one poll are the same.
        self.seen: dict[bytes, Json] = {}

    def put(self, request_id: int, message: Json) -> None:
        """Take one answer; the last one wakes the waiter."""
        self.messages[request_id - self.first_id] = message
        self.missing -= 1
        if not self.missing:
            self.done.set()


class Client:
    """A connection to a server; made by `connect`. All methods may be called by many tasks at once."""

    def __init__(
        self,
        stream: SocketStream,
        path: str,
        on_update: OnUpdate | None,
        *,
        forgives: bool = False,
    ) -> None:
        self._stream = stream
        self._path = path
        self._forgives = forgives
        self._on_update = on_update
        self._lines = LineBuffer()
        self._next_id = 1
        self._pending: dict[int, _Batch] = {}
        self._outgoing: list[bytes] = []
        self._has_outgoing = anyio.Event()
        self._closed: tuple[type[errors.ServerError], str] | None = None
        self._ended = anyio.Event()
        self._info = answers.ServerInfo(ours=False, name="", version="")

    @property
    def server(self) -> answers.ServerInfo:
        """Who answered `initialize`."""
        return self._info

    @property
    def ours(self) -> bool:
        """Whether the server recognised us as its own kind."""
        return self._info.ours

    @property
    def server_version(self) -> str:
        """The server's own version."""
        return self._info.version

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, object],
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> Json:
        """Call a tool and give what it answers.

        Raises:
            errors.CoordinatorError: what the server says went wrong, by its code.
            errors.UnavailableError: the connection ended, or the deadline passed; whether the call
                took effect is unknown.
            errors.ProtocolError: what came back is no answer.
        """
        frame = encode(answers.tool_call(self._next_id, tool, arguments))
        (message,) = await self._exchange(frame, 1, deadline_seconds)
        return answers.read_tool_answer(message)

    async def call_many(
        self,
        tool: str,
        calls: Sequence[Mapping[str, object]],
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> list[Json | errors.CoordinatorError]:
        """Call one tool once per set of arguments, all in flight together, under one deadline.

        Gives the answers in the order of `calls`; a call that the server refuses has its error in
        place of its answer. Equal answers may be one object: do not change them.

        Raises:
            errors.UnavailableError: the connection ended, or the deadline passed before all had an
                answer; which of the calls took effect is unknown.
        """
        if not calls:
            return []
        frames = answers.tool_calls(self._next_id, tool, calls)
        messages = await self._exchange(frames, len(calls), deadline_seconds)
        distinct = {id(message): message for message in messages}
        read = {key: _answer_or_error(message) for key, message in distinct.items()}
        return [read[id(message)] for message in messages]

    async def subscribe(self, uri: str, *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        """Ask to be told, through the connection's `on_update`, whenever a resource changed.

        Raises:
            errors.CoordinatorError: as for `call`.
        """
        params = {"uri": uri}
        request = {"jsonrpc": "2.0", "id": self._next_id, "method": "resources/subscribe"}
        frame = encode({**request, "params": params})
        (message,) = await self._exchange(frame, 1, deadline_seconds)
        answers.read_result(message)

    async def wait_closed(self) -> None:
        """Return when the connection has ended, whoever ended it."""
        await self._ended.wait()

    async def _exchange(self, frames: bytes, count: int, deadline_seconds: float) -> list[Json]:
        """Send requests whose ids continue from `_next_id` and wait for all answers."""
        if self._closed is not None:
            raise _error(self._closed)
        if len(frames) > MAX_FRAME_BYTES:
            largest = max(map(len, frames.splitlines(keepends=True)))
            if largest > MAX_FRAME_BYTES:
                raise errors.ValidationError(f"a call of {largest} bytes is too large")
        batch = _Batch(self._next_id, count)
        ids = range(self._next_id, self._next_id + count)
        self._next_id = ids.stop
        self._pending.update(dict.fromkeys(ids, batch))
        self._send(frames)
        try:
            with anyio.move_on_after(deadline_seconds):
                await batch.done.wait()
        finally:
            if batch.missing:
                self._forget(ids)
        if batch.failure is not None:
            raise _error(batch.failure)
        complete = [message for message in batch.messages if message is not None]
        if batch.missing:
            message = f"the server at {self._path} does not answer within {deadline_seconds:g} s"
            raise errors.UnavailableError(message)
        return complete

    def _forget(self, ids: range) -> None:
        """Give up on calls: the server may stop working on them, late answers are ignored."""
        cancelled: list[bytes] = []
        for request_id in ids:
            if self._pending.pop(request_id, None) is not None and self._closed is None:
                params = {"requestId": request_id, "reason": "nobody waits for it any more"}
                method = "notifications/cancelled"
                cancelled.append(encode({"jsonrpc": "2.0", "method": method, "params": params}))
        self._send(b"".join(cancelled))

    def _send(self, frames: bytes) -> None:
        if frames:
            self._outgoing.append(frames)
            self._has_outgoing.set()

    async def open(self, hello: Mapping[str, object] | None) -> None:
        """Say who calls and shake hands; nothing else is sent before the server's version is known."""
        if hello is not None:
            self._send(encode(hello))
        # `connect` holds the deadline.
        frame = encode(answers.initialize(self._next_id))
        (message,) = await self._exchange(frame, 1, math.inf)
        self._info = answers.read_server_info(message)
        self._send(encode(answers.INITIALIZED))

    async def write(self) -> None:
        """Send what was queued since the last time, as one piece, for as long as there is a connection."""
        while self._closed is None:
            await self._has_outgoing.wait()
            self._has_outgoing = anyio.Event()
            data, self._outgoing = b"".join(self._outgoing), []
            try:
                await self._stream.send(data)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return  # the reader sees the end, after what was said before it

    async def read(self) -> None:
        """Hand answers to those who wait, until the connection ends."""
        try:
            while True:
                self._take(await self._stream.receive(_CHUNK_BYTES))
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._fail(errors.UnavailableError, f"the server at {self._path} went away")
        except FrameError as error:
            self._fail(errors.ProtocolError, f"the server at {self._path} sent no message: {error}")
        finally:
            self._fail(errors.UnavailableError, f"the connection to {self._path} is closed")

    def _take(self, data: bytes) -> None:
        pending, match_answer = self._pending, _ANSWER.match
        for line in self._lines.feed(data):
            match = match_answer(line)
            if match is None:
                self._read_line(line)
                continue
            number, rest = match.groups()
            request_id = int(number)
            batch = pending.get(request_id)
            if batch is None or rest not in batch.seen:
                self._read_line(line, rest, request_id)
                continue
            # As `_Batch.put` does: a call per line is a tenth of what a poll costs.
            del pending[request_id]
            batch.messages[request_id - batch.first_id] = batch.seen[rest]
            batch.missing -= 1
            if not batch.missing:
                batch.done.set()

    def _read_line(self, line: bytes, rest: bytes = b"", request_id: int | None = None) -> None:
        """Decode one line. From a server that is forgiven, a bad one fails its own call at most.

        Raises:
            FrameError: it is no message, and the server is one of ours.
        """
        try:
            message = decode(line)
        except FrameError as error:
            if not self._forgives:
                raise
            if request_id is None:
                return
            told = {"code": _PARSE_ERROR, "message": f"the answer cannot be read: {error}"}
            message, rest = {"id": request_id, "error": told}, b""
        self._on_message(message, rest)

    def _on_message(self, message: Json, rest: bytes = b"") -> None:
        """Sort one message; a request of the server's own gets an answer in any case."""
        if "method" not in message:
            self._on_answer(message, rest)
        elif "id" in message:
            answer: Json = {"jsonrpc": "2.0", "id": message["id"]}
            if message["method"] == "ping":
                answer["result"] = {}
            else:
                answer["error"] = {"code": -32601, "message": "Method not found"}
            self._send(encode(answer))
        elif message["method"] == "notifications/resources/updated" and self._on_update is not None:
            try:
                uri: object = message["params"]["uri"]
            except (LookupError, TypeError):
                return
            if isinstance(uri, str):
                self._on_update(uri)

    def _on_answer(self, message: Json, rest: bytes) -> None:
        request_id = message.get("id")
        batch = self._pending.pop(request_id, None) if type(request_id) is int else None
        if batch is None or request_id is None:
            return  # nobody waits for it any more
        batch.put(request_id, message)
        if rest and len(rest) <= _SEEN_BYTES and len(batch.seen) < _SEEN_ANSWERS:
            batch.seen[rest] = message

    def _fail(self, kind: type[errors.ServerError], text: str) -> None:
        """End the connection's use: whoever waits, now or later, hears why. The first reason counts."""
        if self._closed is not None:
            return
        self._closed = kind, text
        pending, self._pending = self._pending, {}
        for batch in pending.values():
            batch.failure = self._closed
            batch.done.set()
        self._has_outgoing.set()
        self._ended.set()


@asynccontextmanager
async def connect(
    path: str | PathLike[str],
    *,
    hello: Mapping[str, object] | None = None,
    connect_timeout: float = CONNECT_SECONDS,
    on_update: OnUpdate | None = None,
    forgives: bool = False,
) -> AsyncGenerator[Client]:
    """Connect to the server on a Unix socket and shake hands.

    Args:
        path: The socket.
        hello: Who calls (see `wire.protocol`); None says nothing, as to a foreign server.
        connect_timeout: Seconds for connecting and the handshake together.
        on_update: Called with the URI of a subscribed resource that changed; must not block.
        forgives: A line that is no message fails the call it answers, not the connection.

    Raises:
        errors.UnavailableError: nobody listens, or nobody answers in time.
        errors.ForbiddenError: the socket belongs to another user.
        errors.ProtocolError: the other side speaks something else.
    """
    path = fspath(path)
    deadline = anyio.current_time() + connect_timeout
    failure: Exception | None = None
    with _in_time(path, deadline, connect_timeout):
        stream = await _dial(path)
    client = Client(stream, path, on_update, forgives=forgives)
    async with stream, anyio.create_task_group() as tasks:
        tasks.start_soon(client.read)
        tasks.start_soon(client.write)
        try:
            with _in_time(path, deadline, connect_timeout):
                await client.open(hello)
            yield client
        except Exception as error:  # noqa: BLE001 - raised again below; the group would wrap it
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


@contextmanager
def _in_time(path: str, deadline: float, connect_timeout: float) -> Generator[None]:
    with anyio.CancelScope(deadline=deadline) as scope:
        yield
    if scope.cancelled_caught:
        message = f"the server at {path} does not answer within {connect_timeout:g} s"
        raise errors.UnavailableError(message)


async def _dial(path: str) -> SocketStream:
    try:
        return await anyio.connect_unix(path)
    except PermissionError:
        raise errors.ForbiddenError(f"the server at {path} belongs to another user") from None
    except (OSError, ValueError) as error:
        message = f"no server at {path}: {getattr(error, 'strerror', None) or error}"
        raise errors.UnavailableError(message, hint=answers.START_HINT) from None


def _error(closed: tuple[type[errors.ServerError], str]) -> errors.ServerError:
    kind, text = closed
    return kind(text)


def _answer_or_error(message: Json) -> Json | errors.CoordinatorError:
    try:
        return answers.read_tool_answer(message)
    except errors.CoordinatorError as error:
        return error
