"""The blocking client of quick commands: one connection, one call at a time. Standard library only.

Not for the loop, which has many calls in flight (`coordinator.client`).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from aiagent_coordinator import errors
from aiagent_coordinator.wire import answers
from aiagent_coordinator.wire.framing import FrameError, Json, LineBuffer, decode, encode
from aiagent_coordinator.wire.protocol import MAX_FRAME_BYTES

_CHUNK_BYTES = 256 * 1024


class BlockingClient:
    """A connection to the server on a Unix socket.

    Entering connects, says `hello` (see `wire.protocol`; None says nothing) and shakes hands.
    After `UnavailableError` and `ProtocolError` the connection is of no further use.

    Args:
        socket_path: Where the server listens.
        hello: Who calls.
        timeout_seconds: How long entering, and then each call, may take.
    """

    def __init__(
        self, socket_path: str, hello: Mapping[str, object] | None, timeout_seconds: float = 30.0
    ) -> None:
        self._path = socket_path
        self._hello = hello
        self._timeout_seconds = timeout_seconds
        self._sock: socket.socket | None = None
        self._lines = LineBuffer()
        self._arrived: list[bytes] = []
        self._next_id = 1
        self.server = answers.ServerInfo(ours=False, name="", version="")

    def __enter__(self) -> Self:
        """Connect and shake hands.

        Raises:
            errors.UnavailableError: nobody listens, or nobody answers in time.
            errors.ForbiddenError: the socket belongs to another user.
            errors.ProtocolError: the other side speaks something else.
        """
        deadline = time.monotonic() + self._timeout_seconds
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._sock.settimeout(self._timeout_seconds)
            self._connect(self._sock)
            frames = [answers.initialize(self._new_id()), answers.INITIALIZED]
            hello = [] if self._hello is None else [self._hello]
            self._send(b"".join(map(encode, [*hello, *frames])), deadline)
            # Waiting costs one round trip; a call sent along would take effect on a server of a newer protocol.
            self.server = answers.read_server_info(self._answer_to(self._next_id - 1, deadline))
        except BaseException:
            self._sock.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if self._sock is not None:
            self._sock.close()

    def call(self, tool: str, arguments: Mapping[str, object]) -> Json:
        """Call a tool and wait for what it answers.

        Raises:
            errors.CoordinatorError: what the server says went wrong, by its code.
            errors.UnavailableError: the server went away, or did not answer in time.
            errors.ProtocolError: what came back is no answer.
        """
        deadline = time.monotonic() + self._timeout_seconds
        request_id = self._new_id()
        frame = encode(answers.tool_call(request_id, tool, arguments))
        if len(frame) > MAX_FRAME_BYTES:
            raise errors.ValidationError(f"a call of {len(frame)} bytes is too large")
        self._send(frame, deadline)
        return answers.read_tool_answer(self._answer_to(request_id, deadline))

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _connect(self, sock: socket.socket) -> None:
        try:
            sock.connect(self._path)
        except TimeoutError:
            raise self._silent() from None
        except PermissionError:
            message = f"the server at {self._path} belongs to another user"
            raise errors.ForbiddenError(message) from None
        except (OSError, ValueError) as error:
            message = f"no server at {self._path}: {getattr(error, 'strerror', None) or error}"
            raise errors.UnavailableError(message, hint=answers.START_HINT) from None

    def _send(self, data: bytes, deadline: float) -> None:
        sock = self._ready(deadline)
        try:
            sock.sendall(data)
        except TimeoutError:
            raise self._silent() from None
        except OSError:
            return  # it went away; what it said before that is still to be read

    def _answer_to(self, request_id: int, deadline: float) -> Json:
        while True:
            while self._arrived:
                message = self._decode(self._arrived.pop(0))
                if message.get("id") == request_id and "method" not in message:
                    return message
            self._receive(deadline)

    def _decode(self, line: bytes) -> Json:
        try:
            return decode(line)
        except FrameError as error:
            raise self._garbage(error) from None

    def _receive(self, deadline: float) -> None:
        try:
            data = self._ready(deadline).recv(_CHUNK_BYTES)
        except TimeoutError:
            raise self._silent() from None
        except OSError:
            data = b""
        if not data:
            raise errors.UnavailableError(f"the server at {self._path} went away during the call")
        try:
            self._arrived += self._lines.feed(data)
        except FrameError as error:
            raise self._garbage(error) from None

    def _ready(self, deadline: float) -> socket.socket:
        """The connection, set to give up at the deadline."""
        if self._sock is None:
            raise errors.UnavailableError("the client is not connected")
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._silent()
        self._sock.settimeout(left)
        return self._sock

    def _silent(self) -> errors.UnavailableError:
        message = f"the server at {self._path} does not answer within {self._timeout_seconds:g} s"
        return errors.UnavailableError(message)

    def _garbage(self, error: FrameError) -> errors.ProtocolError:
        return errors.ProtocolError(f"the server at {self._path} sent no message: {error}")
