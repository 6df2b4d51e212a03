"""Who makes an HTTP request: by its bearer token, capped by the process it comes from.

An agent of the same user can read our key files. Over a Unix socket the kernel says which process
connected; over TCP we look whether a process inside a live run's tree holds the other end.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import psutil
from anyio import to_thread

from aiagent_coordinator.errors import ForbiddenError, UnauthorizedError
from aiagent_coordinator.runs import ShimIdentity
from aiagent_coordinator.server.auth import Authenticator, Caller, LiveRuns, Role, run_above
from aiagent_coordinator.server.http.link import Link
from aiagent_coordinator.server.http.settings import HttpSettings
from aiagent_coordinator.telemetry import log_event

if TYPE_CHECKING:
    from aiagent_coordinator.server.http.tokens import Provider

logger = logging.getLogger(__name__)

#: A signed token has three parts; none of ours has a dot.
_DOTS = 2


class Bearers:
    """Decides who makes a request."""

    def __init__(
        self,
        auth: Authenticator,
        live: LiveRuns,
        settings: HttpSettings,
        provider: Provider | None = None,
    ) -> None:
        self._provider = provider
        self._auth = auth
        self._live = live
        given = {
            Role.PERSON: settings.person_token,
            Role.COORDINATOR: settings.coordinator_token,
        }
        self._tokens: Mapping[Role, str] = {role: token for role, token in given.items() if token}

    async def caller(self, link: Link, token: str | None, *, is_remote: bool) -> Caller:
        """Say who shows this token on this connection.

        Args:
            link: The TCP connection.
            token: What stands behind `Bearer`; None: a stranger.
            is_remote: Whether the request may come from another machine, where the keys that
                lie in the state directory count for nothing.

        Raises:
            UnauthorizedError: the token is wrong or over.
            ForbiddenError: it is shown from inside a run that may not show it.
        """
        caller = Caller.stranger()
        caller.cap = await self._cap(link)
        if token is None:
            return caller
        try:
            if self._provider is not None and token.count(".") == _DOTS:
                self._auth.believe(caller, *await self._provider.identity(token))
            else:
                await self._auth.bear(caller, token, self._tokens, is_remote=is_remote)
        except (UnauthorizedError, ForbiddenError) as error:
            log_event(
                logger,
                logging.WARNING,
                "server.connection_refused",
                "a bearer token was refused",
                code=error.code,
                reason=error.message,
            )
            raise
        return caller

    async def _cap(self, link: Link) -> str | None:
        """The live run whose tree holds the other end; asked once, while any run lives."""
        if link.is_placed:
            return link.cap
        runs = await self._live.all()
        shims = {run.shim.pid: (run.shim, run.id) for run in runs.values() if run.shim is not None}
        if shims:
            link.cap = await to_thread.run_sync(_holder, link, shims)
        link.is_placed = True
        return link.cap


def _holder(link: Link, shims: Mapping[int, tuple[ShimIdentity, str]]) -> str | None:
    """Which run's processes hold the other end of a connection. Blocks for milliseconds."""
    for pid in psutil.pids():
        try:
            run_id = run_above(pid, shims)
            if run_id is not None and _holds(pid, link):
                return run_id
        except (psutil.Error, ProcessLookupError):
            continue
    return None


def _holds(pid: int, link: Link) -> bool:
    return any(
        found.laddr and found.raddr and (found.laddr.port, found.raddr.port) == _ports(link)
        for found in psutil.Process(pid).net_connections(kind="tcp")
    )


def _ports(link: Link) -> tuple[int, int]:
    # the ports alone: one address has several ways to be written
    return link.peer[1], link.local[1]
