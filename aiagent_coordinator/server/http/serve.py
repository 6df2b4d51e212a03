"""uvicorn in our task group: without its signals, its logs and its clock, and stopped in our order."""

from __future__ import annotations

import logging
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import uvicorn
from anyio import TASK_STATUS_IGNORED

from aiagent_coordinator.server.http.link import bounded

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from aiagent_coordinator.server.http.endpoint import Endpoint
    from aiagent_coordinator.server.http.guard import Guard
    from aiagent_coordinator.server.http.settings import HttpSettings

#: What is left of a stop after calls had their time: closing what is open.
GRACE_SECONDS = 1


class _Uvicorn(uvicorn.Server):
    """Lives until it is told to stop, and wakes for nothing else."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ending = anyio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Signals are the daemon's."""
        yield

    async def main_loop(self) -> None:
        """Wait; uvicorn would look ten times a second."""
        await self.on_tick(0)
        await self.ending.wait()


class HttpServer:
    """Serves one app on one socket."""

    def __init__(self, app: Guard, endpoint: Endpoint, settings: HttpSettings) -> None:
        self._endpoint = endpoint
        limits = settings.limits
        # what uvicorn has to say is said by the app; its warnings are strangers' mistakes
        for name in ("uvicorn.error", "uvicorn.access"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                http=bounded(limits),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=limits.keep_alive_seconds,
                timeout_graceful_shutdown=GRACE_SECONDS,
                ssl_certfile=settings.certificate,
                ssl_keyfile=settings.certificate_key,
            )
        )

    async def run(
        self, sock: socket.socket, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED
    ) -> None:
        """Serve until `stop`; the socket is closed then.

        Args:
            sock: A listening TCP socket.
            task_status: Told when requests are accepted; earlier ones wait in the socket.
        """
        async with self._endpoint.running():
            task_status.started()
            await self._server.serve(sockets=[sock])

    @property
    def is_answering(self) -> bool:
        """Whether any request waits for its answer."""
        return self._endpoint.answering.is_busy

    def refuse_more(self) -> None:
        """Take no further connection; those there are go on."""
        for server in getattr(self._server, "servers", ()):
            server.close()

    async def until_quiet(self) -> None:
        """Return when nothing but streams is being answered."""
        await self._endpoint.answering.until_quiet()

    async def stop(self) -> None:
        """Close everything and return when it is closed."""
        await self._endpoint.stop()
        self._server.ending.set()
