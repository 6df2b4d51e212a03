"""The SDK's handlers for what is read rather than called: resources, prompts, and hearing of changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ResourceUpdated, ServerEvent
from mcp_types import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    EmptyResult,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    Prompt,
    PromptArgument,
    PromptMessage,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)

from aiagent_coordinator.errors import CoordinatorError, NotFoundError, ValidationError
from aiagent_coordinator.server.calls import Session, Shelf
from aiagent_coordinator.server.http.channel import HttpChannel
from aiagent_coordinator.server.library import JSON_TYPE
from aiagent_coordinator.server.replies import RpcError, loud

if TYPE_CHECKING:
    from aiagent_coordinator.server.live import Live

_Context = ServerRequestContext[dict[str, Any], Any]
#: How long a client may keep the list of kinds: it changes with our version alone.
KINDS_TTL_MS = 60_000


class LiveBus:
    """Our pushes as the SDK's events, for clients that listen on a stream."""

    def __init__(self, live: Live) -> None:
        self._listeners: dict[object, Callable[[ServerEvent], None]] = {}
        live.on_publish(self._tell)

    async def publish(self, event: ServerEvent) -> None:
        """Tell every listener of an event."""
        for listener in list(self._listeners.values()):
            listener(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Tell a listener from now on, until what is returned is called."""
        token = object()
        self._listeners[token] = listener

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe

    def _tell(self, uris: set[str]) -> None:
        for uri in sorted(uris):
            for listener in list(self._listeners.values()):
                listener(ResourceUpdated(uri=uri))


class ShelfHandlers:
    """Answers for whoever's session it is told."""

    def __init__(self, shelf: Shelf, live: Live, session: Callable[[], Session]) -> None:
        self._shelf = shelf
        self._live = live
        self._session = session
        self._streams = ListenHandler(LiveBus(live))

    def close_streams(self) -> None:
        """End every stream of changes; their clients are told that it was on purpose."""
        self._streams.close()

    async def list_resources(
        self, ctx: _Context, params: PaginatedRequestParams | None
    ) -> ListResourcesResult:
        """What this caller may read now."""
        del ctx, params
        with _told():
            found = await self._shelf.resources(self._session())
        return ListResourcesResult(
            resources=[
                Resource(
                    uri=one.uri,
                    name=one.name,
                    title=one.title,
                    description=one.description,
                    mime_type=one.mime_type,
                )
                for one in found
            ]
        )

    async def list_templates(
        self, ctx: _Context, params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        """The kinds of addresses."""
        del ctx, params
        with _told():
            kinds = await self._shelf.templates(self._session())
        templates = [
            ResourceTemplate(
                uri_template=kind.template,
                name=kind.name,
                title=kind.title,
                description=kind.description,
                mime_type=None if kind.template.endswith("/log") else JSON_TYPE,
            )
            for kind in kinds
        ]
        return ListResourceTemplatesResult(resource_templates=templates, ttl_ms=KINDS_TTL_MS)

    async def read(self, ctx: _Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        """One resource."""
        del ctx
        uri = str(params.uri)
        with _told(uri):
            found = await self._shelf.read(self._session(), uri)
        content = TextResourceContents(uri=uri, mime_type=found.mime_type, text=found.text)
        return ReadResourceResult(contents=[content])

    async def list_prompts(
        self, ctx: _Context, params: PaginatedRequestParams | None
    ) -> ListPromptsResult:
        """The prompts."""
        del ctx, params
        with _told():
            found = await self._shelf.prompts(self._session())
        return ListPromptsResult(
            prompts=[
                Prompt(
                    name=one.name,
                    title=one.title,
                    description=one.description,
                    arguments=[PromptArgument(name=one.argument, required=True)],
                )
                for one in found
            ]
        )

    async def prompt(self, ctx: _Context, params: GetPromptRequestParams) -> GetPromptResult:
        """One prompt, filled."""
        del ctx
        with _told():
            text = await self._shelf.prompt(self._session(), params.name, params.arguments or {})
        content = TextContent(type="text", text=text)
        return GetPromptResult(messages=[PromptMessage(role="user", content=content)])

    async def subscribe(self, ctx: _Context, params: SubscribeRequestParams) -> EmptyResult:
        """Tell this connection of changes, in the era that does so beside answers."""
        session = self._session()
        if isinstance(session.channel, HttpChannel):
            if not session.channel.is_lasting:
                raise MCPError(INVALID_REQUEST, "without a session nothing can be pushed")
            session.channel.push = ctx.session.send_resource_updated
        try:
            await self._shelf.subscribe(session, str(params.uri))
        except CoordinatorError as error:
            raise sdk_error(loud(error)) from error
        return EmptyResult()

    async def unsubscribe(self, ctx: _Context, params: UnsubscribeRequestParams) -> EmptyResult:
        """Tell it no more."""
        del ctx
        self._shelf.unsubscribe(self._session(), str(params.uri))
        return EmptyResult()

    async def listen(
        self, ctx: _Context, params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Tell of changes on the stream of this request, in the era that does so."""
        uris = [str(uri) for uri in params.notifications.resource_subscriptions or ()]
        with _told():
            await self._shelf.listen(self._session(), uris)
        with self._live.wanting(uris):
            return await self._streams(ctx, params)


def sdk_error(error: RpcError) -> MCPError:
    """Our refusal as the SDK's."""
    return MCPError(error.code, error.message, error.data)


class _told:  # noqa: N801 - reads as a word where it is used
    """Lets the client hear of a refusal: what is not there is a wrong parameter."""

    def __init__(self, uri: str | None = None) -> None:
        self._uri = uri

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NotFoundError | ValidationError):
            data = {"code": error.code} | ({} if self._uri is None else {"uri": self._uri})
            raise MCPError(INVALID_PARAMS, error.message, data) from error
        if isinstance(error, CoordinatorError):
            raise sdk_error(loud(error)) from error
