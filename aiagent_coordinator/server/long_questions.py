"""Questions to persons as long calls: the question's id is the call's, so it outlives every restart."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiagent_coordinator.errors import CoordinatorError
from aiagent_coordinator.server.calls import Call, LongState, Session, Shelf
from aiagent_coordinator.server.long_calls import LongCall

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp_types import CallToolRequestParams

    Context = ServerRequestContext[Any, Any]


class LongQuestions:
    """Keeps them where questions are kept: on the board."""

    def __init__(self, board: Shelf, session: Callable[[], Session]) -> None:
        self._board = board
        self._session = session

    async def begin(self, ctx: Context, params: CallToolRequestParams) -> LongCall | None:
        """Ask; what is refused is answered the common way."""
        session = self._session()
        call = Call(session, params.name, params.arguments or {}, ctx.request_id)
        try:
            call_id = await self._board.begin_long(call)
        except CoordinatorError:
            return None
        return None if call_id is None else await self.find(ctx, call_id)

    async def find(self, ctx: Context, call_id: str) -> LongCall | None:
        """How a question of this caller stands."""
        del ctx
        try:
            state = await self._board.long_call(self._session(), call_id)
        except CoordinatorError:
            return None
        return None if state is None else _shown(call_id, state)

    async def answer(self, ctx: Context, call_id: str, responses: Mapping[str, Any]) -> None:
        """Nothing: persons answer where they are asked, not at the asking client."""

    async def cancel(self, ctx: Context, call_id: str) -> None:
        """Nothing: a question that was asked stands; its task waits for the answer."""


def _shown(call_id: str, state: LongState) -> LongCall:
    result: dict[str, Any] | None = None
    if state.answer is not None:
        text = json.dumps(state.answer, ensure_ascii=False, separators=(",", ":"))
        content = [{"type": "text", "text": text}]
        result = {"content": content, "structuredContent": state.answer, "isError": False}
    return LongCall(
        id=call_id,
        status="working" if result is None else "completed",
        created_at=state.begun_at,
        updated_at=state.changed_at,
        poll_ms=int(state.poll_seconds * 1000),
        message="waiting for a person to answer" if result is None else None,
        result=result,
    )
