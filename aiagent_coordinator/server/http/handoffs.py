"""Plain pages for hand-offs, in the shapes of AI Agent PM's web server.

Each page is one call of a tool: the permission table lets in or refuses, as everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aiagent_coordinator.errors import CoordinatorError, StoreError
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Call, Session
from aiagent_coordinator.server.http.channel import Answering, HttpChannel
from aiagent_coordinator.server.http.refusals import RefusalError, known_caller

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from aiagent_coordinator.server.calls import Json
    from aiagent_coordinator.server.http.rest import Surroundings

HANDOFFS_PATH: Final = "/api/handoffs"
#: Their names of what `hand_over` takes.
_FIELDS: Final = {
    "taskId": "task_id",
    "toAgentId": "to_agent_id",
    "summary": "summary",
    "context": "context",
    "recommendations": "recommendations",
}
_STATUSES: Final = {
    "VALIDATION": 400,
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "CONFLICT": 409,
    "TRANSITION": 409,
    "LIMIT": 409,
}
_MOST: Final = 100


def pages(around: Surroundings) -> Sequence[BaseRoute]:
    """The pages for hand-offs."""
    made = _Pages(around)
    return [
        Route(HANDOFFS_PATH, made.pending, methods=["GET"]),
        Route(HANDOFFS_PATH, made.make, methods=["POST"]),
        Route(HANDOFFS_PATH + "/{handoff_id}/accept", made.accept, methods=["POST"]),
        Route("/api/tasks/{task_id}/handoffs", made.of_task, methods=["GET"]),
    ]


class _Pages:
    """The four pages."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._answering = Answering()

    async def pending(self, request: Request) -> Response:
        """List what waits: for the agent that asks, or for everybody."""
        return await self._listed(request, {"pending": True, "limit": _MOST, "newest": True}, {})

    async def of_task(self, request: Request) -> Response:
        """List the hand-offs of a task; an agent sees those that wait for it."""
        task_id = request.path_params["task_id"]
        whole = {"task_id": task_id, "limit": _MOST, "newest": True}
        return await self._listed(request, whole, {"task_id": task_id})

    async def make(self, request: Request) -> Response:
        """Leave something for who goes on with a task."""
        try:
            said = await _body(request)
            arguments = {
                _FIELDS[key]: value
                for key, value in said.items()
                if key in _FIELDS and value is not None
            }
            answer = await self._call(request, "hand_over", arguments)
        except RefusalError as refusal:
            return refusal.answer()
        return JSONResponse(_shown(answer["handoff"]), 201)

    async def accept(self, request: Request) -> Response:
        """Take what another agent left."""
        try:
            arguments = {"handoff_id": request.path_params["handoff_id"]}
            answer = await self._call(request, "take_handoff", arguments)
        except RefusalError as refusal:
            return refusal.answer()
        return JSONResponse(_shown(answer["handoff"]))

    async def _listed(self, request: Request, whole: Json, agents: Json) -> Response:
        try:
            answer = await self._call(request, "list_handoffs", whole, agents)
        except RefusalError as refusal:
            return refusal.answer()
        return JSONResponse([_shown(one) for one in answer["handoffs"]])

    async def _call(
        self, request: Request, tool: str, arguments: Json, agents: Json | None = None
    ) -> Json:
        """Call a tool as who asks.

        Args:
            request: Who asks.
            tool: Which one.
            arguments: What goes with it.
            agents: The same where an agent asks.

        Raises:
            RefusalError: it is refused.
        """
        caller, identity = await known_caller(self._around, request)
        if agents is not None and identity.role is Role.AGENT:
            arguments = agents
        session = Session(HttpChannel(self._answering), caller)
        try:
            return await self._around.board.call(Call(session, tool, arguments, None))
        except StoreError:
            # its words are the database's own
            raise RefusalError(503, "the store does not answer") from None
        except CoordinatorError as error:
            status = _STATUSES.get(error.code, 400)
            raise RefusalError(status, error.message) from None


async def _body(request: Request) -> dict[str, Any]:
    """The object that was sent.

    Raises:
        RefusalError: it is none.
    """
    try:
        said: object = json.loads(await request.body())
    except (ValueError, RecursionError, ClientDisconnect):
        raise RefusalError(400, "the body is no JSON") from None
    if not isinstance(said, dict):
        raise RefusalError(400, "the body is no object")
    return said  # pyright: ignore[reportUnknownVariableType] - JSON


def _shown(one: Json) -> Json:
    """A hand-off in their words; what is absent is left out."""
    shown = {
        "id": one.get("handoff_id") or one.get("id"),
        "taskId": one["task_id"],
        "fromAgentId": one["from_agent_id"],
        "toAgentId": one["to_agent_id"],
        "summary": one["summary"],
        "context": one["context"],
        "recommendations": one["recommendations"],
        "createdAt": one["created_at"],
        "acceptedAt": one["accepted_at"],
        "isPending": one["accepted_at"] is None,
        "isTargeted": one["to_agent_id"] is not None,
    }
    return {key: value for key, value in shown.items() if value is not None}
