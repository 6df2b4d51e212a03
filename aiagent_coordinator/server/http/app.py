"""The HTTP app: its pages, and the guard around them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from aiagent_coordinator.server.http.endpoint import metadata_url
from aiagent_coordinator.server.http.guard import Guard

if TYPE_CHECKING:
    from aiagent_coordinator.server.http.endpoint import Endpoint
    from aiagent_coordinator.server.http.settings import HttpSettings

MCP_PATH = "/mcp"


def make_app(
    endpoint: Endpoint,
    settings: HttpSettings,
    port: int,
    monotonic: Callable[[], float],
    more: Sequence[BaseRoute] = (),
) -> Guard:
    """Put the app together.

    Args:
        endpoint: Answers `/mcp`.
        settings: Who may come.
        port: Where we really listen.
        monotonic: The seconds that rates are counted in.
        more: Further pages.
    """
    routes: list[BaseRoute] = [
        Route(MCP_PATH, endpoint, methods=["GET", "POST", "DELETE"]),
        Route("/openapi.json", _openapi, methods=["GET"]),
        *_metadata(settings),
        *more,
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return Guard(app, settings, port, monotonic)


def openapi() -> dict[str, Any]:
    """The description of everything that is served."""
    file = resources.files("aiagent_coordinator.server.http") / "openapi.json"
    return json.loads(file.read_text("utf-8"))


async def _openapi(request: Request) -> Response:
    del request
    return JSONResponse(openapi())


def _metadata(settings: HttpSettings) -> list[BaseRoute]:
    """Where clients read which provider gives out tokens (RFC 9728)."""
    where = metadata_url(settings)
    if where is None:
        return []
    document = {
        "resource": settings.resource,
        "authorization_servers": list(settings.authorization_servers),
        "bearer_methods_supported": ["header"],
        "resource_name": "aiagent-coordinator",
    }

    async def metadata(request: Request) -> Response:
        del request
        return JSONResponse(document)

    path = "/" + where.partition("://")[2].partition("/")[2]
    base = "/.well-known/oauth-protected-resource"
    return [Route(one, metadata, methods=["GET"]) for one in dict.fromkeys((path, base))]
