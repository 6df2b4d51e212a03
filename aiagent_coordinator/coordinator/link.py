"""The coordinator's line to its server: one connection, kept up, with a deadline on every call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import anyio

from aiagent_coordinator.coordinator.client import Client, connect
from aiagent_coordinator.errors import (
    CoordinatorError,
    ProtocolError,
    UnauthorizedError,
    UnavailableError,
)
from aiagent_coordinator.telemetry import log_event
from aiagent_coordinator.wire import protocol

logger = logging.getLogger(__name__)

#: One tool call; the server answers from memory or one transaction, so more means it is stuck.
CALL_SECONDS = 30.0
#: Waits between attempts to connect: quick for a restart, slow for a server that is gone.
REDIAL_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def _tell_down(error: CoordinatorError) -> None:
    """Say why there is no server for us; one that does not know us is mended by a person only."""
    is_stranger = isinstance(error, UnauthorizedError)
    log_event(
        logger,
        logging.WARNING,
        "loop.server_down",
        "the server refuses this coordinator: coordinator_token must be the same on both sides"
        if is_stranger
        else "the server does not answer",
        error=error.message,
    )


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


class ServerLink:
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
        self._socket_path = socket_path
        self._call_seconds = call_seconds
        self._hello = protocol.hello_coordinator(token)
        self._uris = (protocol.ACTIONS_URI, protocol.runs_uri(coordinator_id))
        self._on_update = on_update
        self._client: Client | None = None
        self._up = anyio.Event()
        self._was_down = False

    async def run(self) -> None:
        """Connect, and connect again whenever the connection ends; returns when cancelled.

        Raises:
            ProtocolError: the other side is no server of ours; trying again would not help.
        """
        failures = 0
        while True:
            try:
                await self._hold_connection()
                failures = 0
            except ProtocolError:
                raise
            except CoordinatorError as error:
                if failures == 0:
                    self._was_down = True
                    _tell_down(error)
                failures += 1
            finally:
                self._drop()
            await anyio.sleep(REDIAL_SECONDS[min(failures, len(REDIAL_SECONDS) - 1)])

    async def _hold_connection(self) -> None:
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
            self._client = client
            self._up.set()
            if self._was_down:
                self._was_down = False
                log_event(logger, logging.INFO, "loop.server_up", "the server answers again")
            # What happened while we were away made no push: look at everything once.
            for uri in self._uris:
                self._on_update(uri)
            await client.wait_closed()

    def _drop(self) -> None:
        if self._client is not None:
            self._client = None
            self._up = anyio.Event()

    @property
    def is_up(self) -> bool:
        """Whether a connection stands now."""
        return self._client is not None

    async def wait_up(self) -> None:
        """Return as soon as a connection stands."""
        await self._up.wait()

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
        client = self._client
        if client is None:
            raise UnavailableError("the server is not connected")
        seconds = self._call_seconds if deadline_seconds is None else deadline_seconds
        return await client.call(tool, dict(arguments), deadline_seconds=seconds)
