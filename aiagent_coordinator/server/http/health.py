"""Whether we live and whether we can work, for programs that watch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse

from aiagent_coordinator.errors import StoreError

if TYPE_CHECKING:
    from aiagent_coordinator.store.engine import Store

#: A store that takes longer for nothing at all is locked or broken.
READY_SECONDS = 2.0
#: Whoever asks more often gets what was found last.
FRESH_SECONDS = 0.5


class Health:
    """Answers the three pages."""

    def __init__(self, store: Store, version: str, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._version = version
        self._monotonic = monotonic
        self._asking = anyio.Lock()
        self._found: tuple[float, str | None] | None = None

    async def health(self, request: Request) -> JSONResponse:
        """Say who we are."""
        del request
        return JSONResponse({"status": "ok", "version": self._version})

    async def live(self, request: Request) -> JSONResponse:
        """Say that this process answers."""
        del request
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> JSONResponse:
        """Say whether the store takes anything: 503 while it does not."""
        del request
        async with self._asking:
            if self._found is None or self._monotonic() - self._found[0] > FRESH_SECONDS:
                reason = await self._why_not()
                self._found = (self._monotonic(), reason)
            reason = self._found[1]
        if reason is None:
            return JSONResponse({"status": "ok"})
        headers = {"retry-after": "5"}
        return JSONResponse({"status": "unready", "reason": reason}, 503, headers)

    async def _why_not(self) -> str | None:
        with anyio.move_on_after(READY_SECONDS):
            try:
                await self._store.write(lambda _: None)
            except StoreError as error:
                return str(error.details.get("reason", "the store refused"))
            return None
        return "the store is locked"
