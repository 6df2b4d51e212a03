"""The coordinator's line to its server: one connection, kept up, with a deadline on every call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from aiagent_coordinator.coordinator.client import Client, connect
from aiagent_coordinator.coordinator.line import Line
from aiagent_coordinator.errors import CoordinatorError, ProtocolError
from aiagent_coordinator.wire import protocol

#: One tool call; the server answers from memory or one transaction, so more means it is stuck.
CALL_SECONDS = 30.0


class Link(Protocol):
    """What the loop, the drivers and the outbox know of a server."""

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        ...

    @property
    def is_up(self) -> bool:
        """Whether a connection stands now."""
        ...

    async def wait_up(self) -> None:
        """Return as soon as a connection stands."""
        ...

    async def call(
        self, tool: str, arguments: Mapping[str, Any], *, deadline_seconds: float | None = None
    ) -> dict[str, Any]:
        """Call one of our tools; see `ServerLink.call`."""
        ...


class ServerLink(Line[Client]):
    """Keeps a connection to the server, subscribed to what concerns this coordinator."""

    def __init__(
        self,
        socket_path: Path,
        token: str,
        coordinator_id: str,
        on_update: Callable[[str], None],
        *,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        super().__init__()
        self._socket_path = socket_path
        self._call_seconds = call_seconds
        self._hello = protocol.hello_coordinator(token)
        self._uris = (protocol.ACTIONS_URI, protocol.runs_uri(coordinator_id))
        self._on_update = on_update

    def _is_final(self, error: CoordinatorError) -> bool:
        """Whether the other side is no server of ours."""
        return isinstance(error, ProtocolError)

    async def _hold(self) -> None:
        async with connect(
            self._socket_path, hello=self._hello, on_update=self._on_update
        ) as client:
            if not client.ours:
                raise ProtocolError(
                    f"{self._socket_path} is served by another program",
                    hint="to drive AI Agent PM, start with a file of its coordinator",
                )
            for uri in self._uris:
                await client.subscribe(uri, deadline_seconds=self._call_seconds)
            self._begin(client)
            # What happened while we were away made no push: look at everything once.
            for uri in self._uris:
                self._on_update(uri)
            await client.wait_closed()

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        deadline_seconds: float | None = None,
    ) -> dict[str, Any]:
        """Call a tool of the server.

        Args:
            tool: Its name.
            arguments: As the tool's schema says.
            deadline_seconds: For this call; None: what every call may take.

        Raises:
            UnavailableError: no connection, no answer in time, or the connection ended; whether
                the call had its effect is not known.
            CoordinatorError: the server refused, with its code.
        """
        client = self._standing()
        seconds = self._call_seconds if deadline_seconds is None else deadline_seconds
        return await client.call(tool, dict(arguments), deadline_seconds=seconds)
