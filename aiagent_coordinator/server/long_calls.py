"""Calls that take long, for clients of the tasks extension: an id at once, the answer when it is there.

Clients that do not say they know the extension never see any of this: to them the same call is
answered when it is done. A task is a handle on work that is kept elsewhere: who keeps it says so in
a `Keeper`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from mcp.shared.exceptions import MCPError
from mcp_types import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CallToolRequestParams,
    RequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server as SdkServer
    from starlette.requests import Request

    Context = ServerRequestContext[Any, Any]

EXTENSION = "io.modelcontextprotocol/tasks"
Json = dict[str, Any]
Status = Literal["working", "input_required", "completed", "failed", "cancelled"]


@dataclass(frozen=True)
class LongCall:
    """How a long call stands."""

    id: str
    status: Status
    #: ISO-8601.
    created_at: str
    updated_at: str
    #: How long it is kept after it was made; None: as long as what it stands for.
    ttl_ms: int | None = None
    poll_ms: int = 1000
    message: str | None = None
    #: The call's result, once completed; the JSON-RPC error, once failed; questions to the client.
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    input_requests: Mapping[str, Any] | None = None

    def made(self) -> Json:
        """As the answer of the call that began it."""
        return {"resultType": "task", **self._base()}

    def shown(self) -> Json:
        """As the answer to who asks for it."""
        more = {
            "result": self.result,
            "error": self.error,
            "inputRequests": self.input_requests,
        }
        kept = {key: value for key, value in more.items() if value is not None}
        return {"resultType": "complete", **self._base(), **kept}

    def _base(self) -> Json:
        message = {} if self.message is None else {"statusMessage": self.message}
        return {
            "taskId": self.id,
            "status": self.status,
            **message,
            "createdAt": self.created_at,
            "lastUpdatedAt": self.updated_at,
            "ttlMs": self.ttl_ms,
            "pollIntervalMs": self.poll_ms,
        }


class Keeper(Protocol):
    """Who keeps long calls."""

    async def begin(self, ctx: Context, params: CallToolRequestParams) -> LongCall | None:
        """Begin a call whose client can wait by id; None: this one is answered when it is done."""
        ...

    async def find(self, ctx: Context, call_id: str) -> LongCall | None:
        """How a long call of this client stands; None when it has none of this id."""
        ...

    async def answer(self, ctx: Context, call_id: str, responses: Mapping[str, Any]) -> None:
        """Take the client's answers to questions of the call."""
        ...

    async def cancel(self, ctx: Context, call_id: str) -> None:
        """Let go of the call; of one that is over, nothing."""
        ...


class _OfOne(RequestParams):
    task_id: str


class _Answers(_OfOne):
    input_responses: dict[str, Any]


class LongCalls:
    """Serves the extension's methods on an SDK server."""

    def __init__(self, sdk: SdkServer[Any], keeper: Keeper) -> None:
        self._keeper = keeper
        sdk.extensions[EXTENSION] = {}
        sdk.add_request_handler("tasks/get", _OfOne, self._get)
        sdk.add_request_handler("tasks/update", _Answers, self._update)
        sdk.add_request_handler("tasks/cancel", _OfOne, self._cancel)

    async def begin(self, ctx: Context, params: CallToolRequestParams) -> Json | None:
        """Begin a call as a long one; None when it is to be answered as any other."""
        if not knows_long_calls(ctx):
            return None
        made = await self._keeper.begin(ctx, params)
        return None if made is None else made.made()

    async def _get(self, ctx: Context, params: _OfOne) -> Json:
        return (await self._one(ctx, params.task_id)).shown()

    async def _update(self, ctx: Context, params: _Answers) -> Json:
        await self._one(ctx, params.task_id)
        await self._keeper.answer(ctx, params.task_id, params.input_responses)
        return {"resultType": "complete"}

    async def _cancel(self, ctx: Context, params: _OfOne) -> Json:
        await self._one(ctx, params.task_id)
        await self._keeper.cancel(ctx, params.task_id)
        return {"resultType": "complete"}

    async def _one(self, ctx: Context, call_id: str) -> LongCall:
        if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            raise MCPError(METHOD_NOT_FOUND, "Method not found", ctx.method)
        if not knows_long_calls(ctx):
            raise missing_extension()
        _check_header(ctx, call_id)
        found = await self._keeper.find(ctx, call_id)
        if found is None:
            raise MCPError(INVALID_PARAMS, "there is no such task")
        return found


def knows_long_calls(ctx: Context) -> bool:
    """Whether the client said, with this request or before, that it knows the extension."""
    can = ctx.session.client_capabilities
    is_modern = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
    return is_modern and can is not None and EXTENSION in (can.extensions or {})


def missing_extension() -> MCPError:
    """The refusal of what cannot be served without the extension."""
    wanted: Json = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
    code = MISSING_REQUIRED_CLIENT_CAPABILITY
    return MCPError(code, f"the client did not declare {EXTENSION}", wanted)


def _check_header(ctx: Context, call_id: str) -> None:
    """Over HTTP the id stands in a header too; the SDK compares that only for its own methods."""
    request: Request | None = ctx.request
    if request is not None and request.headers.getlist("mcp-name") != [call_id]:
        raise MCPError(HEADER_MISMATCH, "the header Mcp-Name does not name the task of the body")
