"""A socket of ours for agents whose server is reached over HTTP: their lines go there as posts.

That server asks everybody for the coordinator's token. With the relay no agent has it: no program,
no file of a run, no bridge. Who calls is said inside the messages, by the agent's own session.
"""

from __future__ import annotations

import logging
import socket
from functools import partial
from typing import Any

import anyio
from anyio.abc import SocketListener, SocketStream, TaskGroup

from aiagent_coordinator.coordinator.web import UnreachableError, WebClient, opened
from aiagent_coordinator.errors import CoordinatorError, UnavailableError
from aiagent_coordinator.telemetry import log_event
from aiagent_coordinator.wire.framing import FrameError, LineBuffer, decode, encode

logger = logging.getLogger(__name__)

#: An agent's call may wait at the server for something to do.
CALL_SECONDS = 600.0
#: What could not be sent is tried again for so long: a server that is being started anew.
REACH_SECONDS = 40.0
REACH_PAUSE_SECONDS = 0.5
#: Calls of one agent that are under way at a time; more of its lines wait.
MAX_CALLS = 16
_CHUNK_BYTES = 256 * 1024
#: What our own programs say of themselves; no other server is told.
_OURS = "notifications/dev.aiagent-coordinator/"
_AWAY = "the server cannot be reached, call again"
_LOST = "the server went away during this call; look whether it took effect before calling again"

Json = dict[str, Any]


async def relay(sock: socket.socket, url: str, token: str) -> None:
    """Pass on what agents say on a listening socket, until cancelled.

    Args:
        sock: The socket; closed at the end.
        url: Where their server is.
        token: What it wants to be shown.
    """
    listener = await SocketListener.from_socket(sock)
    async with listener, opened(url, token) as client:
        await listener.serve(partial(_converse, client=client))


async def _converse(stream: SocketStream, client: WebClient) -> None:
    """Serve one connection to its end; its failures end nothing else."""
    try:
        async with stream:
            await _Conversation(stream, client).run()
    except Exception:  # noqa: BLE001 - the border of a connection: the others go on
        log_event(logger, logging.ERROR, "loop.failed", "an agent's connection failed unexpectedly")


class _Conversation:
    """One agent's connection, and its calls that are under way."""

    def __init__(self, stream: SocketStream, client: WebClient) -> None:
        self._stream = stream
        self._client = client
        self._places = anyio.Semaphore(MAX_CALLS)
        self._write = anyio.Lock()

    async def run(self) -> None:
        lines = LineBuffer()
        async with anyio.create_task_group() as tasks:
            try:
                while True:
                    for line in lines.feed(await self._stream.receive(_CHUNK_BYTES)):
                        await self._take(tasks, line)
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass  # nobody waits for what is under way
            except FrameError as error:
                await self._say(_failure(None, -32600, str(error)))
            tasks.cancel_scope.cancel()

    async def _take(self, tasks: TaskGroup, line: bytes) -> None:
        try:
            message = decode(line)
        except FrameError as error:
            code = -32700 if error.kind == "parse" else -32600
            await self._say(_failure(None, code, str(error)))
            return
        if str(message.get("method", "")).startswith(_OURS):
            return
        await self._places.acquire()
        tasks.start_soon(self._pass_on, message, line)

    async def _pass_on(self, message: Json, line: bytes) -> None:
        try:
            answer = await self._answer(message, line)
            if "id" in message and "method" in message:
                await self._say(answer)
        finally:
            self._places.release()

    async def _answer(self, message: Json, line: bytes) -> Json:
        """What the server says, or we in its place."""
        request_id = message.get("id")
        try:
            answer = await self._reach(line)
            if answer.get("id") == request_id and {"result", "error"} & answer.keys():
                return answer
            text = "the server answered something else"
        except UnreachableError:
            text = _AWAY
        except UnavailableError:
            text = _LOST
        except CoordinatorError as error:
            text = error.message
        if message.get("method") != "tools/call":
            return _failure(request_id, -32000, text)
        # something that the model can read
        result = {"content": [{"type": "text", "text": text}], "isError": True}
        return {"jsonrpc": "2.0", "id": request_id, "result": result}

    async def _reach(self, line: bytes) -> Json:
        """Send one line; as long as nobody could be reached, nothing was sent, and it is tried again."""
        until = anyio.current_time() + REACH_SECONDS
        while True:
            try:
                return await self._client.exchange(line, deadline_seconds=CALL_SECONDS)
            except UnreachableError:
                if anyio.current_time() >= until:
                    raise
            await anyio.sleep(REACH_PAUSE_SECONDS)

    async def _say(self, message: Json) -> None:
        async with self._write:
            try:
                await self._stream.send(encode(message))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return  # it is gone; reading finds that too


def _failure(request_id: object, code: int, text: str) -> Json:
    return {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": text}}
