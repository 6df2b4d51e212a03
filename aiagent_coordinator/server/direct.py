"""MCP with our own programs, without the SDK: they send what we wrote, in one revision.

A coordinator or a command that has just been started is answered as soon as the store is open; the
SDK takes most of a second to import and is only needed for clients that somebody else wrote.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

import anyio
from anyio.abc import TaskGroup

from aiagent_coordinator.errors import CoordinatorError
from aiagent_coordinator.server.calls import Board, Call, Session
from aiagent_coordinator.server.connection import (
    METHOD_NOT_FOUND,
    Connection,
    Frame,
    RequestId,
)
from aiagent_coordinator.server.replies import (
    ABOUT,
    ICON,
    INSTRUCTIONS,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    NAME,
    TITLE,
    RpcError,
    capability,
    loud,
    reply_to,
    title_of,
)
from aiagent_coordinator.telemetry import log_event
from aiagent_coordinator.wire.framing import encode
from aiagent_coordinator.wire.protocol import CAPABILITY, MAX_FRAME_BYTES, MCP_REVISION

logger = logging.getLogger(__name__)

Json = dict[str, Any]


def is_ours(frame: Frame) -> bool:
    """Whether a connection's first frame is the handshake of one of our own programs."""
    if frame.get("method") != "initialize":
        return False
    params: Any = frame.get("params", {})
    if params.get("protocolVersion") != MCP_REVISION:
        return False
    try:
        return CAPABILITY in params["capabilities"]["experimental"]
    except (LookupError, TypeError):
        return False


class Direct:
    """Serves the board to our own programs; one for all connections."""

    def __init__(self, board: Board, version: str) -> None:
        self._board = board
        self._about: Json = {
            "protocolVersion": MCP_REVISION,
            "capabilities": {
                "experimental": capability(version),
                "resources": {"subscribe": True, "listChanged": False},
                "tools": {"listChanged": False},
            },
            "serverInfo": {
                "name": NAME,
                "title": TITLE,
                "description": ABOUT,
                "version": version,
                "icons": [{"src": ICON, "mimeType": "image/svg+xml", "sizes": ["any"]}],
            },
            "instructions": INSTRUCTIONS,
        }

    async def serve(self, connection: Connection, session: Session, first: Frame) -> None:
        """Serve one connection to its end, from its first frame on."""
        await _Conversation(self._board, self._about, connection, session).run(first)


class _Conversation:
    """One connection: what is being answered on it."""

    def __init__(self, board: Board, about: Json, connection: Connection, session: Session) -> None:
        self._board = board
        self._about = about
        self._connection = connection
        self._session = session
        self._scopes: dict[RequestId, anyio.CancelScope] = {}

    async def run(self, first: Frame) -> None:
        frame: Frame | None = first
        async with anyio.create_task_group() as tasks:
            while frame is not None:
                self._take(tasks, frame)
                frame = await self._connection.next_frame()
            tasks.cancel_scope.cancel()

    def _take(self, tasks: TaskGroup, frame: Frame) -> None:
        if "method" not in frame:
            return  # nothing is asked of our programs, so nothing is answered
        if "id" in frame:
            scope = self._scopes[frame["id"]] = anyio.CancelScope()
            tasks.start_soon(self._answer, frame, scope)
        elif frame["method"] == "notifications/cancelled":
            self._cancel(frame.get("params", {}).get("requestId"))

    def _cancel(self, request_id: object) -> None:
        """Stop answering: the connection has settled the request, and its id may come again."""
        if isinstance(request_id, int | str) and request_id in self._scopes:
            self._scopes.pop(request_id).cancel()

    async def _answer(self, frame: Frame, scope: anyio.CancelScope) -> None:
        request_id: RequestId = frame["id"]
        with scope:
            body = await self._body(frame)
            await self._send(request_id, {"jsonrpc": "2.0", "id": request_id, **body})
        if self._scopes.get(request_id) is scope:
            del self._scopes[request_id]

    async def _body(self, frame: Frame) -> Json:
        """The result of a request, or its error."""
        try:
            return {"result": await self._result(frame)}
        except RpcError as error:
            told: Json = {"code": error.code, "message": error.message}
            return {"error": told if error.data is None else {**told, "data": error.data}}
        except Exception:  # noqa: BLE001 - the border of a request: the server goes on
            log_event(
                logger,
                logging.ERROR,
                "server.request_failed",
                "a request failed unexpectedly",
                method=frame["method"],
            )
            return {"error": {"code": INTERNAL_ERROR, "message": "internal error"}}

    async def _send(self, request_id: RequestId, body: Json) -> None:
        connection = self._connection
        data = encode(body)
        if len(data) > MAX_FRAME_BYTES:
            await connection.send_error(request_id, INTERNAL_ERROR, "the answer is too large")
            return
        try:
            await connection.send(data, answers=request_id)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # a call without an answer is sent again

    async def _result(self, frame: Frame) -> Json:
        method, params = frame["method"], frame.get("params", {})
        match method:
            case "tools/call":
                return await self._call(frame["id"], params)
            case "initialize":
                return self._about
            case "tools/list":
                return {"tools": self._tools()}
            case "ping":
                return {}
            case "resources/subscribe" | "resources/unsubscribe":
                return await self._subscribe(method, params)
            case _:
                raise RpcError(METHOD_NOT_FOUND, "Method not found")

    async def _call(self, request_id: RequestId, params: Mapping[str, Any]) -> Json:
        name: Any = params.get("name")
        arguments: Any = params.get("arguments") or {}
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise RpcError(INVALID_PARAMS, "a call has a name and an object of arguments")
        # JSON objects have text keys
        given = cast("Json", arguments)
        reply = await reply_to(
            self._board, Call(self._session, name, given, request_id, revision=MCP_REVISION)
        )
        return {
            "content": [{"type": "text", "text": reply.text}],
            "structuredContent": reply.data,
            "isError": reply.is_error,
        }

    def _tools(self) -> list[Json]:
        return [
            {
                "name": tool.name,
                "title": title_of(tool.name),
                "description": tool.description,
                "inputSchema": tool.input_schema,
            }
            for tool in self._board.tools(self._session.caller)
        ]

    async def _subscribe(self, method: str, params: Mapping[str, Any]) -> Json:
        uri = params.get("uri")
        if not isinstance(uri, str):
            raise RpcError(INVALID_PARAMS, "a resource is named by its uri")
        try:
            if method == "resources/subscribe":
                await self._board.subscribe(self._session, uri)
            else:
                self._board.unsubscribe(self._session, uri)
        except CoordinatorError as error:
            raise loud(error) from error
        return {}
