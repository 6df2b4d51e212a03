"""The one place that knows the MCP SDK: our lines in, its messages out, its handlers to the board.

Importing it takes most of a second, so it is imported late, in a thread, while the bound socket
already holds connections. Pinned below the next major version: the drivers used here are public, but
only their docstrings describe them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server as SdkServer
from mcp.server.runner import serve_dual_era_loop
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    PROTOCOL_VERSION_META_KEY,
    CallToolRequestParams,
    CallToolResult,
    EmptyResult,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    ListToolsResult,
    PaginatedRequestParams,
    SubscribeRequestParams,
    TextContent,
    Tool,
    UnsubscribeRequestParams,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError

from aiagent_coordinator.errors import CoordinatorError, StoreError
from aiagent_coordinator.server.auth import LoudRefusalError
from aiagent_coordinator.server.calls import Board, Call, Session, UnknownToolError
from aiagent_coordinator.server.connection import INVALID_REQUEST, Connection
from aiagent_coordinator.telemetry import log_event
from aiagent_coordinator.wire.protocol import CAPABILITY, MAX_FRAME_BYTES, PROTOCOL_VERSION

logger = logging.getLogger(__name__)

#: JSON-RPC's range for a server's own errors.
REFUSED = -32001
FEATURES = ("actions", "runs")
INSTRUCTIONS = (
    "Tools of the coordinator that started you. Call authenticate, then get_next_action, and do "
    "what its instruction says, until it says exit."
)
_Context = ServerRequestContext[dict[str, Any], Any]
_INITIALIZED = JSONRPCNotification(jsonrpc="2.0", method="notifications/initialized")


class Adapter:
    """Serves the board over MCP; one for all connections."""

    def __init__(self, board: Board, version: str) -> None:
        self._board = board
        # handlers run in tasks that the SDK starts below `serve`: they inherit what is set there
        self._session: ContextVar[Session] = ContextVar("session")
        self._sdk = SdkServer(
            "aiagent-coordinator",
            version=version,
            instructions=INSTRUCTIONS,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_subscribe_resource=self._subscribe,
            on_unsubscribe_resource=self._unsubscribe,
        )
        # the tracing middleware takes a tenth of the server's time and nobody reads its spans
        self._sdk.middleware.clear()
        ours: dict[str, Any] = {
            "protocol": PROTOCOL_VERSION,
            "features": list(FEATURES),
            "version": version,
        }
        self._options = self._sdk.create_initialization_options(
            experimental_capabilities={CAPABILITY: ours}
        )

    async def serve(self, session: Session) -> None:
        """Serve one connection to its end."""
        self._session.set(session)
        await serve_dual_era_loop(
            self._sdk,
            _Reader(session.connection),
            _Writer(session.connection),
            lifespan_state={},
            init_options=self._options,
        )

    async def _list_tools(
        self, ctx: _Context, params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        del ctx, params
        tools = self._board.tools(self._session.get().caller)
        return ListToolsResult(
            tools=[
                Tool(name=tool.name, description=tool.description, input_schema=tool.input_schema)
                for tool in tools
            ]
        )

    async def _call_tool(self, ctx: _Context, params: CallToolRequestParams) -> CallToolResult:
        call = Call(self._session.get(), params.name, params.arguments or {}, ctx.request_id)
        try:
            return _result(await self._board.call(call))
        except UnknownToolError as error:
            raise MCPError(INVALID_PARAMS, f"unknown tool {params.name!r}") from error
        except LoudRefusalError as error:
            raise _loud(error) from error
        except StoreError:
            # its words are the database's own
            return _unexpected(params.name)
        except CoordinatorError as error:
            return _failure(error.code, error.message, error.hint)
        except Exception:  # noqa: BLE001 - the border of a request: the server goes on
            return _unexpected(params.name)

    async def _subscribe(self, ctx: _Context, params: SubscribeRequestParams) -> EmptyResult:
        del ctx
        try:
            await self._board.subscribe(self._session.get(), str(params.uri))
        except CoordinatorError as error:
            raise _loud(error) from error
        return EmptyResult()

    async def _unsubscribe(self, ctx: _Context, params: UnsubscribeRequestParams) -> EmptyResult:
        del ctx
        self._board.unsubscribe(self._session.get(), str(params.uri))
        return EmptyResult()


def _result(answer: Mapping[str, Any]) -> CallToolResult:
    """An answer twice: as data, and as text for clients that only read that."""
    text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=answer)


def _failure(code: str, message: str, hint: str) -> CallToolResult:
    text = f"{code}: {message}" + (f" ({hint})" if hint else "")
    return CallToolResult(
        content=[TextContent(type="text", text=text)],
        structured_content={"error": {"code": code, "message": message, "hint": hint}},
        is_error=True,
    )


def _unexpected(tool: str) -> CallToolResult:
    """Log the exception that is being handled, and answer without its words."""
    log_event(
        logger, logging.ERROR, "server.request_failed", "a request failed unexpectedly", tool=tool
    )
    return _failure("INTERNAL", "the server failed at this call", "its log has the details")


def _loud(error: CoordinatorError) -> MCPError:
    return MCPError(REFUSED, error.message, {"code": error.code, "hint": error.hint})


class _Reader:
    """Our frames as the SDK's messages, straight from the socket.

    A client that never shakes hands is let in by one made-up `notifications/initialized`, which the
    SDK takes for the end of a handshake.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
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


class _Writer:
    """The SDK's messages as lines, straight to the socket."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def send(self, item: SessionMessage, /) -> None:
        """Write one message; an answer that is too large becomes an error."""
        message = item.message
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


def _line(message: JSONRPCMessage) -> bytes:
    return message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"


def _is_modern(request: JSONRPCRequest) -> bool:
    """Whether a request belongs to the revision without a handshake: it names its own version."""
    meta = (request.params or {}).get("_meta")
    return isinstance(meta, Mapping) and PROTOCOL_VERSION_META_KEY in meta
