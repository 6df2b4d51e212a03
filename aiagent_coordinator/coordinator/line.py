"""A line to a server, kept up: dialled again whenever it ends, with somebody told when it was down."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar

import anyio

from aiagent_coordinator.errors import CoordinatorError, UnauthorizedError, UnavailableError
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: Waits between attempts to connect: quick for a restart, slow for a server that is gone.
REDIAL_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Speaker(Protocol):
    """One connection to a server, whatever it goes over."""

    async def call(
        self, tool: str, arguments: Mapping[str, object], *, deadline_seconds: float
    ) -> dict[str, Any]:
        """Call a tool and give what it answers.

        Raises:
            UnavailableError: no answer in time, or the connection ended.
            CoordinatorError: the server refused.
        """
        ...

    async def wait_closed(self) -> None:
        """Return when the connection has ended."""
        ...


S = TypeVar("S", bound=Speaker)


class Line(Generic[S]):
    """Keeps one connection. A subclass says how it is made, and held until it ends."""

    def __init__(self) -> None:
        self._client: S | None = None
        self._up = anyio.Event()
        self._was_down = False

    async def _hold(self) -> None:
        """Connect, call `_begin`, and return when the connection has ended.

        Raises:
            CoordinatorError: it could not be made.
        """
        raise NotImplementedError

    def _is_final(self, error: CoordinatorError) -> bool:
        """Whether trying again would not help."""
        del error
        return False

    async def run(self) -> None:
        """Connect, and connect again whenever the connection ends; returns when cancelled.

        Raises:
            CoordinatorError: trying again would not help.
        """
        failures = 0
        while True:
            try:
                await self._hold()
                failures = 0
            except CoordinatorError as error:
                if self._is_final(error):
                    raise
                if failures == 0:
                    self._was_down = True
                    _tell_down(error)
                failures += 1
            finally:
                if self._client is not None:
                    # whoever waits already waits on the event that stands
                    self._client, self._up = None, anyio.Event()
            await anyio.sleep(REDIAL_SECONDS[min(failures, len(REDIAL_SECONDS) - 1)])

    def _begin(self, client: S) -> None:
        """From here on the line stands."""
        self._client = client
        self._up.set()
        if self._was_down:
            self._was_down = False
            log_event(logger, logging.INFO, "loop.server_up", "the server answers again")

    @property
    def is_up(self) -> bool:
        """Whether a connection stands now."""
        return self._client is not None

    async def wait_up(self) -> None:
        """Return as soon as a connection stands."""
        await self._up.wait()

    def _standing(self) -> S:
        """The connection.

        Raises:
            UnavailableError: there is none now.
        """
        if self._client is None:
            raise UnavailableError("the server is not connected")
        return self._client


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
