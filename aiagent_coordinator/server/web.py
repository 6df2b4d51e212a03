"""The HTTP side of a server: loaded when there is a socket for it, started, and ended in order."""

from __future__ import annotations

import hashlib
import hmac
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from anyio import to_thread

from aiagent_coordinator.errors import UnauthorizedError
from aiagent_coordinator.server.auth import Authenticator, LiveRuns
from aiagent_coordinator.server.live import Live
from aiagent_coordinator.server.protocols import Protocols

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from aiagent_coordinator.clock import Clock
    from aiagent_coordinator.paths import StateDir
    from aiagent_coordinator.server.adapter import Adapter
    from aiagent_coordinator.server.auth import Caller
    from aiagent_coordinator.server.http.identity import Bearers
    from aiagent_coordinator.server.http.serve import HttpServer
    from aiagent_coordinator.server.http.settings import HttpSettings
    from aiagent_coordinator.server.http.tokens import Provider
    from aiagent_coordinator.store.engine import Store


@dataclass(frozen=True)
class Parts:
    """What of the server HTTP shares with the socket."""

    store: Store
    auth: Authenticator
    live_runs: LiveRuns
    live: Live
    protocols: Protocols
    clock: Clock
    state: StateDir | None = None


class Web:
    """Serves HTTP, or nothing."""

    def __init__(
        self, parts: Parts, settings: HttpSettings | None, *, secret: str, version: str
    ) -> None:
        """Make the HTTP side.

        Args:
            parts: What it shares.
            settings: Where and to whom; None: it is never run.
            secret: What no client knows and the next life of the server does.
            version: Ours.
        """
        self._parts = parts
        self._settings = settings
        # the secret itself seals nothing
        self._seal_key = hmac.new(secret.encode(), b"http sessions", hashlib.sha256).digest()
        self._version = version
        self._server: HttpServer | None = None

    async def run(self, sock: socket.socket) -> None:
        """Serve until `stop`. Connections wait in the socket while the rest is imported."""
        adapter = await self._parts.protocols.sdk()
        self._server = await to_thread.run_sync(self._make, adapter, sock)
        await self._server.run(sock)

    def _make(self, adapter: Adapter, sock: socket.socket) -> HttpServer:
        """Put the parts together: importing them takes a fifth of a second, in a thread."""
        # fmt: off
        from aiagent_coordinator.server.http.app import make_app  # noqa: PLC0415 - see above
        from aiagent_coordinator.server.http.endpoint import Endpoint  # noqa: PLC0415
        from aiagent_coordinator.server.http.identity import Bearers  # noqa: PLC0415
        from aiagent_coordinator.server.http.serve import HttpServer  # noqa: PLC0415
        from aiagent_coordinator.server.http.sessions import Seal  # noqa: PLC0415
        # fmt: on
        settings, parts = cast("HttpSettings", self._settings), self._parts
        bearers = Bearers(parts.auth, parts.live_runs, settings, self._provider(settings))
        endpoint = Endpoint(adapter, bearers, settings, Seal(self._seal_key), parts.live.forget)
        port = int(sock.getsockname()[1])
        more = self._pages(bearers, settings)
        app = make_app(endpoint, settings, port, parts.clock.monotonic, more)
        return HttpServer(app, endpoint, settings)

    def _provider(self, settings: HttpSettings) -> Provider | None:
        """Who checks tokens of the user's own provider, where there is one."""
        if settings.jwt is None:
            return None
        from aiagent_coordinator.server.http.tokens import Provider  # noqa: PLC0415 - rarely wanted

        return Provider(settings.jwt, self._parts.clock.monotonic)

    def _pages(self, bearers: Bearers, settings: HttpSettings) -> list[BaseRoute]:
        from starlette.routing import Route  # noqa: PLC0415 - only where HTTP is served

        from aiagent_coordinator.server.http import rest  # noqa: PLC0415 - the same
        from aiagent_coordinator.server.http.endpoint import bearer_of  # noqa: PLC0415 - the same
        from aiagent_coordinator.server.http.health import Health  # noqa: PLC0415 - the same
        from aiagent_coordinator.server.http.link import link_of  # noqa: PLC0415 - the same

        async def caller(request: Request) -> Caller:
            scope = request.scope
            token = bearer_of(scope["state"]["headers"])
            is_remote = scope["state"]["guard"].is_remote(scope)
            if token is None and is_remote:
                raise UnauthorizedError("show a bearer token")
            return await bearers.caller(link_of(scope), token, is_remote=is_remote)

        health = Health(self._parts.store, self._version, self._parts.clock.monotonic)
        board = self._parts.protocols.board
        around = rest.Surroundings(self._parts.store, settings, caller, board, self._parts.state)
        return [
            Route("/health", health.health, methods=["GET"]),
            Route("/healthz", health.live, methods=["GET"]),
            Route("/readyz", health.ready, methods=["GET"]),
            *(route for pages in rest.PAGES for route in pages(around)),
        ]

    @property
    def is_answering(self) -> bool:
        """Whether any request waits for its answer."""
        return self._server is not None and self._server.is_answering

    def refuse_more(self) -> None:
        """Take no further connection."""
        if self._server is not None:
            self._server.refuse_more()

    async def until_quiet(self) -> None:
        """Return when no call waits for its answer."""
        if self._server is not None:
            await self._server.until_quiet()

    async def stop(self) -> None:
        """Close everything that is open."""
        if self._server is not None:
            await self._server.stop()
