"""The server: accepts connections, hands each to the protocol, and ends them all in order."""

from __future__ import annotations

import logging
import os
import resource
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
from anyio import TASK_STATUS_IGNORED
from anyio.abc import SocketAttribute, SocketListener

from aiagent_coordinator import __version__
from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.runs import RetryPolicy
from aiagent_coordinator.server import legacy
from aiagent_coordinator.server.auth import Authenticator, Caller, LiveRuns
from aiagent_coordinator.server.boards import Boards, Terms
from aiagent_coordinator.server.connection import Connection
from aiagent_coordinator.server.herald import Herald
from aiagent_coordinator.server.http.settings import HttpSettings
from aiagent_coordinator.server.live import Live
from aiagent_coordinator.server.log_watch import LogWatch
from aiagent_coordinator.server.protocols import Protocols
from aiagent_coordinator.server.snapshot import Snapshot
from aiagent_coordinator.server.sockets import Peer, peer_of
from aiagent_coordinator.server.upkeep import keep_up
from aiagent_coordinator.server.web import Parts, Web
from aiagent_coordinator.store.leases import LeaseTerms
from aiagent_coordinator.tasks import AskPolicy, SubtaskPolicy
from aiagent_coordinator.telemetry import log_event

if TYPE_CHECKING:
    from anyio.abc import SocketStream, TaskGroup, TaskStatus

    from aiagent_coordinator.clock import Clock
    from aiagent_coordinator.store.engine import Store

logger = logging.getLogger(__name__)

#: Never more connections than this, and never the last files that the rest of the process needs.
MAX_CONNECTIONS = 4096
SPARE_FILES = 124
#: How long calls that are being answered may take when the server stops.
STOP_SECONDS = 3.0
#: How long connections may take to end after that; also when a bridge replaces its own older one.
CLOSE_SECONDS = 1.0
#: How often half lines and stalled writes are looked for.
SWEEP_SECONDS = 1.0
#: After the system refused to accept: no file descriptors are left.
ACCEPT_REST_SECONDS = 0.1


@dataclass(frozen=True)
class ServerSettings:
    """What the server is told. The keys are secrets and never shown."""

    operator_key: str = field(repr=False)
    coordinator_key: str = field(repr=False)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    version: str = __version__
    lease_seconds: float = 90.0
    takeover_grace_seconds: float = LeaseTerms.takeover_grace_seconds
    #: The folder whose disk the store needs; `status` says when it is full.
    state: StateDir | None = None
    ask: AskPolicy = field(default_factory=AskPolicy)
    subtasks: SubtaskPolicy = field(default_factory=SubtaskPolicy)
    #: Runs at a time over everything, where the coordinator's settings are known; for explanations.
    max_concurrent: int | None = None
    #: Whether agents that run anything as us may be made.
    unsandboxed: bool = False
    #: Whether what runs in a project is stopped when it is paused.
    pause_stops_runs: bool = False
    #: None: what the limit of open files allows.
    max_connections: int | None = None
    #: Takes secrets out of what runs printed, where that is shown.
    mask: Callable[[str], str] = str
    #: Where and to whom the same is served over HTTP; None: nowhere.
    http: HttpSettings | None = None


class Server:
    """Serves one store on one socket, once."""

    def __init__(self, store: Store, settings: ServerSettings, clock: Clock) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        live_runs = LiveRuns(store)
        leases = LeaseTerms(settings.lease_seconds, settings.takeover_grace_seconds)
        snapshot = Snapshot(store, clock.monotonic, leases)
        self._live = Live()
        self._auth = Authenticator(
            store,
            live_runs,
            operator_key=settings.operator_key,
            coordinator_key=settings.coordinator_key,
        )
        terms = Terms(
            settings.version,
            settings.retry,
            leases,
            settings.ask,
            max_concurrent=settings.max_concurrent,
            subtasks=settings.subtasks,
            unsandboxed=settings.unsandboxed,
            state=settings.state,
            mask=settings.mask,
            pause_stops_runs=settings.pause_stops_runs,
        )
        self._boards = Boards(store, self._auth, snapshot, self._live, clock, terms)
        self._protocols = Protocols(self._boards, self._live, settings.version)
        self._herald = Herald(store, live_runs, snapshot, self._live, clock)
        self._web = Web(
            Parts(store, self._auth, live_runs, self._live, self._protocols, clock, settings.state),
            settings.http,
            secret=settings.operator_key,
            version=settings.version,
        )
        self._connections: dict[Connection, Caller] = {}
        self._bridges: dict[tuple[str, str], Connection] = {}
        self._max_connections = settings.max_connections or _room_for_connections()
        self._scope = anyio.CancelScope(shield=True)
        store.on_commit(self._herald.notice)
        store.on_commit(self._boards.bells.notice)
        store.on_commit(self._boards.notices.notice)
        store.on_commit(self._protocols.notice)

    async def run(
        self,
        sock: socket.socket,
        http_sock: socket.socket | None = None,
        *,
        task_status: TaskStatus[None] = TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled.

        Connections that came before wait in the socket. Cancelling stops accepting, lets calls
        finish for `STOP_SECONDS`, then closes every connection without another word: a call
        without an answer is sent again to the next server, one with an error is not.

        Args:
            sock: A listening, non-blocking Unix socket; closed at the end.
            http_sock: A listening TCP socket for HTTP, as the settings say; closed at the end.
            task_status: Told when connections are accepted.
        """
        listener = await SocketListener.from_socket(sock)
        async with listener, anyio.create_task_group() as outer:
            try:
                await outer.start(self._serve, listener, http_sock)
                task_status.started()
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await self._stop(listener)
                self._scope.cancel()

    @property
    def is_answering_http(self) -> bool:
        """Whether any HTTP request waits for its answer."""
        return self._web.is_answering

    @property
    def frames_built(self) -> int:
        """How many frames were made of what runs do: none while nobody follows one."""
        return self._boards.library.frames.built

    async def _serve(
        self,
        listener: SocketListener,
        http_sock: socket.socket | None,
        *,
        task_status: TaskStatus[None] = TASK_STATUS_IGNORED,
    ) -> None:
        # Shielded: connections end in the order of `_stop`, not all at once with their calls.
        with self._scope:
            async with anyio.create_task_group() as tasks:
                self._live.begin(tasks)
                self._herald.begin(tasks)
                tasks.start_soon(self._sweep)
                tasks.start_soon(keep_up, self._store)
                tasks.start_soon(legacy.sweep, self._boards)
                tasks.start_soon(self._protocols.prefetch)
                if self._settings.state is not None:
                    frames = self._boards.library.frames
                    watch = LogWatch(self._live, self._settings.state, frames)
                    tasks.start_soon(watch.run)
                if http_sock is not None:
                    tasks.start_soon(self._web.run, http_sock)
                task_status.started()
                await self._accept(listener, tasks)

    async def _accept(self, listener: SocketListener, tasks: TaskGroup) -> None:
        while True:
            try:
                stream = await listener.accept()
            except anyio.ClosedResourceError:
                return
            except (anyio.BrokenResourceError, OSError):
                log_event(logger, logging.WARNING, "server.connection_refused", "cannot accept now")
                await anyio.sleep(ACCEPT_REST_SECONDS)
                continue
            tasks.start_soon(self._handle, stream)

    async def _handle(self, stream: SocketStream) -> None:
        """Serve one connection to its end; its failures end nothing else."""
        try:
            async with stream:
                peer = await self._admit(stream)
                if peer is not None:
                    await self._converse(stream, peer)
        except Exception:  # noqa: BLE001 - the border of a connection: the server goes on
            log_event(
                logger, logging.ERROR, "server.request_failed", "a connection failed unexpectedly"
            )

    async def _admit(self, stream: SocketStream) -> Peer | None:
        """See who connected; None, after a word, when it may not stay."""
        try:
            peer = peer_of(stream.extra(SocketAttribute.raw_socket))  # noqa: S610 - not Django's
        except OSError:
            return None
        if peer.uid != os.geteuid():
            log_event(
                logger,
                logging.WARNING,
                "server.connection_refused",
                "a connection from another user was closed",
                uid=peer.uid,
                pid=peer.pid,
            )
            return None
        if not self._make_room():
            log_event(
                logger,
                logging.WARNING,
                "server.connection_refused",
                "too many connections",
                pid=peer.pid,
            )
            return None
        return peer

    def _make_room(self) -> bool:
        """Whether one more connection fits; the oldest that nobody stands behind makes way."""
        if len(self._connections) < self._max_connections:
            return True
        for connection, caller in self._connections.items():
            if caller.identity is None and not connection.is_ending:
                connection.hang_up()
                return True
        return False

    async def _converse(self, stream: SocketStream, peer: Peer) -> None:
        caller = Caller(peer)

        async def greet(params: Mapping[str, Any]) -> None:
            await self._greet(connection, caller, params)

        connection = Connection(stream, greet, self._clock.monotonic)
        self._connections[connection] = caller
        try:
            await self._auth.place(caller)
            await self._protocols.serve(connection, caller)
        finally:
            del self._connections[connection]
            self._live.forget(connection)
            self._bridges = {
                key: bridge for key, bridge in self._bridges.items() if bridge is not connection
            }
            connection.end()

    async def _greet(
        self, connection: Connection, caller: Caller, params: Mapping[str, Any]
    ) -> None:
        """Take a hello. A bridge that comes back ends its older connection first.

        What is still being done there must be done before its requests are looked up again.
        """
        await self._auth.greet(caller, params)
        if caller.nonce is None or caller.identity is None or caller.identity.run_id is None:
            return
        key = (caller.identity.run_id, caller.nonce)
        older = self._bridges.get(key)
        self._bridges[key] = connection
        if older is not None and older is not connection:
            older.hang_up()
            with anyio.move_on_after(CLOSE_SECONDS):
                await older.done.wait()

    async def _sweep(self) -> None:
        while True:
            await anyio.sleep(SWEEP_SECONDS)
            for connection in list(self._connections):
                if connection.hang_up_if_stuck():
                    log_event(
                        logger,
                        logging.WARNING,
                        "server.connection_refused",
                        "a connection was closed in the middle of a line",
                    )

    async def _stop(self, listener: SocketListener) -> None:
        await listener.aclose()
        self._web.refuse_more()
        self._herald.end()
        for connection in self._connections:
            connection.stop()
        self._boards.bells.close()
        self._protocols.close_streams()
        with anyio.move_on_after(STOP_SECONDS):
            for connection in list(self._connections):
                await connection.until_quiet()
            await self._web.until_quiet()
        ending = list(self._connections)
        for connection in ending:
            connection.hang_up()
        with anyio.move_on_after(CLOSE_SECONDS):
            for connection in ending:
                await connection.done.wait()
        await self._web.stop()


def _room_for_connections() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(16, min(MAX_CONNECTIONS, files - SPARE_FILES))
