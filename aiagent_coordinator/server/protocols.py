"""Who serves a connection: ourselves, when one of our own programs calls, else the SDK."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from aiagent_coordinator.events import Event
from aiagent_coordinator.server.auth import Caller
from aiagent_coordinator.server.calls import Session, Shelf
from aiagent_coordinator.server.connection import Connection, is_discovery
from aiagent_coordinator.server.direct import Direct, is_ours
from aiagent_coordinator.server.live import Live

if TYPE_CHECKING:
    from aiagent_coordinator.server.adapter import Adapter


class Protocols:
    """Serves connections over MCP. The SDK is imported when it is first wanted."""

    def __init__(self, board: Shelf, live: Live, version: str) -> None:
        self.board = board
        self._live = live
        self._version = version
        self._direct = Direct(board, version)
        self._adapter: Adapter | None = None
        self._import = anyio.Lock()
        self._first_claim = anyio.Event()

    async def serve(self, connection: Connection, caller: Caller) -> None:
        """Serve one connection to its end."""
        session = Session(connection, caller)
        first = await connection.next_frame()
        while first is not None and is_discovery(first):
            # asking decides nothing: some who ask shake hands afterwards
            await (await self.sdk()).discover(connection, session, first)
            first = await connection.next_frame()
        if first is None:
            return
        # a run's bridge passes on what another program says, whatever that claims to be
        if caller.nonce is None and is_ours(first):
            await self._direct.serve(connection, session, first)
        else:
            await (await self.sdk()).serve(connection, session, first)

    def notice(self, events: Sequence[Event]) -> None:
        """See that a run was claimed: its agent is about to connect."""
        if any(event.action == "run.claimed" for event in events):
            self._first_claim.set()

    def close_streams(self) -> None:
        """End the streams that never end by themselves."""
        if self._adapter is not None:
            self._adapter.close_streams()

    async def prefetch(self) -> None:
        """Import the SDK while the first run is made ready."""
        await self._first_claim.wait()
        await self.sdk()

    async def sdk(self) -> Adapter:
        """The one adapter; imports the SDK at the first call."""
        async with self._import:
            if self._adapter is None:
                adapter_type = await to_thread.run_sync(_load_adapter)
                self._adapter = adapter_type(self.board, self._live, self._version)
        return self._adapter


def _load_adapter() -> type[Adapter]:
    """Import the SDK: most of a second, in a thread, while other connections are served."""
    from aiagent_coordinator.server.adapter import Adapter  # noqa: PLC0415 - see above

    return Adapter
