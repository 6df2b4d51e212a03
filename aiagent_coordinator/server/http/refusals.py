"""Requests to plain pages that are refused: how that is said, and who is known to ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from aiagent_coordinator.errors import ForbiddenError, UnauthorizedError
from aiagent_coordinator.server.http.endpoint import bearer_of, challenge
from aiagent_coordinator.server.http.guard import too_many

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from aiagent_coordinator.server.auth import Caller, Identity
    from aiagent_coordinator.server.http.guard import Guard
    from aiagent_coordinator.server.http.rest import Surroundings


class RefusalError(Exception):
    """A request that is answered with a status and a reason."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})

    def answer(self) -> Response:
        """As it is told."""
        return JSONResponse({"success": False, "error": self.reason}, self.status, self.headers)


async def known_caller(around: Surroundings, request: Request) -> tuple[Caller, Identity]:
    """Who asks, with a token that counts.

    Raises:
        RefusalError: nobody known asks.
    """
    guard: Guard = request.scope["state"]["guard"]
    headers: dict[str, str] = request.scope["state"]["headers"]
    demand = {"www-authenticate": challenge(around.settings)}
    try:
        caller = await around.caller(request)
    except ForbiddenError as error:
        raise RefusalError(403, error.message) from None
    except UnauthorizedError as error:
        wait = guard.wrong_token(request.scope) if bearer_of(headers) else 0.0
        if wait:
            raise RefusalError(*too_many(wait)) from None
        raise RefusalError(401, error.message, demand) from None
    if caller.identity is None:
        raise RefusalError(401, "show a bearer token", demand)
    return caller, caller.identity
