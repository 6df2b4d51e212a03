"""The one place that knows the MCP SDK: our lines in, its messages out, its handlers to the board.

Importing it takes most of a second, so it is imported in a thread when the first client comes that is
none of our own programs, or when the first run is about to be started. Pinned below the next major version: the drivers used here are public, but
only their docstrings describe them.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server as SdkServer
from mcp.server.models import InitializationOptions
from mcp.server.runner import serve_dual_era_loop
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    Icon,
    InputRequiredResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from aiagent_coordinator.server.calls import Call, Session, Shelf
from aiagent_coordinator.server.connection import Connection, Frame
from aiagent_coordinator.server.live import Live
from aiagent_coordinator.server.long_calls import LongCalls
from aiagent_coordinator.server.long_questions import LongQuestions
from aiagent_coordinator.server.persons import completed
from aiagent_coordinator.server.replies import (
    ABOUT,
    ICON,
    INSTRUCTIONS,
    NAME,
    TITLE,
    RpcError,
    ToolReply,
    capability,
    is_structured,
    reply_to,
    title_of,
)
from aiagent_coordinator.server.shelf import ShelfHandlers, sdk_error
from aiagent_coordinator.server.streams import WORD_KEY, Answer, Question, Reader, Writer

_Context = ServerRequestContext[dict[str, Any], Any]


class Adapter:
    """Serves the board over MCP; one for all connections."""

    def __init__(self, board: Shelf, live: Live, version: str) -> None:
        self._board = board
        # handlers run in tasks that the SDK starts below `serve`: they inherit what is set there
        self._session: ContextVar[Session] = ContextVar("session")
        shelf = self._shelf = ShelfHandlers(board, live, self._session.get)
        self._sdk = SdkServer(
            NAME,
            title=TITLE,
            description=ABOUT,
            version=version,
            icons=[Icon(src=ICON, mime_type="image/svg+xml", sizes=["any"])],
            instructions=INSTRUCTIONS,
            on_list_tools=self._list_tools,
            on_list_resources=shelf.list_resources,
            on_list_resource_templates=shelf.list_templates,
            on_read_resource=shelf.read,
            on_subscribe_resource=shelf.subscribe,
            on_unsubscribe_resource=shelf.unsubscribe,
            on_subscriptions_listen=shelf.listen,
            on_list_prompts=shelf.list_prompts,
            on_get_prompt=shelf.prompt,
        )
        # a long call is answered by what the SDK has no type for
        self._sdk.add_request_handler("tools/call", CallToolRequestParams, self._call_tool)
        self._long = LongCalls(self._sdk, LongQuestions(board, self._session.get))
        # the tracing middleware takes a tenth of the server's time and nobody reads its spans
        self._sdk.middleware.clear()
        self._options = self._sdk.create_initialization_options(
            experimental_capabilities=capability(version)
        )

    @property
    def sdk(self) -> SdkServer[Any]:
        """What answers; for other ways to it than a socket."""
        return self._sdk

    @property
    def options(self) -> InitializationOptions:
        """What it says of itself in a handshake."""
        return self._options

    def close_streams(self) -> None:
        """End the streams that never end by themselves."""
        self._shelf.close_streams()

    def enter(self, session: Session) -> None:
        """From here on, in this task and what it starts, requests are this session's."""
        self._session.set(session)

    async def serve(self, connection: Connection, session: Session, first: Frame) -> None:
        """Serve one connection to its end, from its first frame on."""
        self._session.set(session)
        await serve_dual_era_loop(
            self._sdk,
            Reader(connection, first),
            Writer(connection),
            lifespan_state={},
            init_options=self._options,
        )

    async def discover(self, connection: Connection, session: Session, frame: Frame) -> None:
        """Answer what a client asks before it decides how to speak; the connection stays undecided."""
        self._session.set(session)
        answered = anyio.Event()
        await serve_dual_era_loop(
            self._sdk,
            Question(connection, frame, answered),
            Answer(connection, answered),
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
                Tool(
                    name=tool.name,
                    title=title_of(tool.name),
                    description=tool.description,
                    input_schema=tool.input_schema,
                )
                for tool in tools
            ]
        )

    async def _call_tool(
        self, ctx: _Context, params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult | dict[str, Any]:
        session = self._session.get()
        began = await self._long.begin(ctx, params)
        if began is not None:
            return began
        arguments = await completed(self._board, session, ctx, params)
        if isinstance(arguments, InputRequiredResult):
            return arguments
        # for a client that did not ask to be told it does nothing
        progress = ctx.session.report_progress
        revision = _revision(ctx)
        call = Call(session, params.name, arguments, ctx.request_id, progress, revision)
        try:
            reply = await reply_to(self._board, call)
        except RpcError as error:
            raise sdk_error(error) from error
        return _result_of(reply, call)


def _result_of(reply: ToolReply, call: Call) -> CallToolResult:
    """A reply as the client reads it."""
    meta = dict(reply.meta or {})
    if reply.notification is not None:
        meta[WORD_KEY] = reply.notification
    return CallToolResult(
        content=[TextContent(type="text", text=text) for text in (reply.text, *reply.more)],
        # who never heard of it may stumble over it
        structured_content=reply.data if is_structured(call) else None,
        is_error=reply.is_error,
        _meta=meta or None,
    )


def _revision(ctx: _Context) -> str | None:
    """What the caller shook hands on, or named with its request; None: it did neither."""
    is_modern = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
    return ctx.protocol_version if is_modern or ctx.session.client_params is not None else None
