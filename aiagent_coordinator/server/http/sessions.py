"""Sessions of clients that shake hands: their ids, and how one goes on after a restart of the server.

A session's id holds what the handshake settled, under a seal that only this server's keys make.
So an id that a later life of the server never gave out, but an earlier one did, is taken up again:
the client notices nothing but its subscriptions, which it makes anew.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import anyio
from anyio import TASK_STATUS_IGNORED
from mcp.server.connection import Connection
from mcp.server.runner import serve_connection
from mcp.server.streamable_http import StreamableHTTPServerTransport
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp.shared.transport_context import TransportContext
from mcp_types import ClientCapabilities, Implementation, InitializeRequestParams
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION
from pydantic import ValidationError

from aiagent_coordinator.server.http.guard import refuse
from aiagent_coordinator.server.http.replays import Replays

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import TaskGroup, TaskStatus
    from mcp.server.lowlevel import Server as SdkServer
    from mcp.server.models import InitializationOptions
    from starlette.types import Message, Receive, Scope, Send

#: What a client says it can, when it says so at length, is not carried in its session's id.
_MANY = 1024
#: A session's id is taken up again for so long after it was given out.
MAX_AGE_SECONDS = 30 * 24 * 3600.0
#: Ended sessions that are remembered, so that nobody takes them up again in this life.
MAX_ENDED = 10_000
MAX_ID_CHARS = 4096
#: How soon a client that lost a stream should come again.
RETRY_MILLISECONDS = 1000


@dataclass(frozen=True)
class Facts:
    """What a session's id says."""

    revision: str
    capabilities: Mapping[str, Any]
    #: Whose it is, as `owner_of` says it.
    owner: str
    #: Unix time.
    made_at: int


class Seal:
    """Makes and reads session ids."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def owner_of(self, token: str | None) -> str:
        """Tell credentials apart without giving them away."""
        return self._mac(f"owner {token}".encode())[:16] if token else ""

    def write(self, facts: Facts) -> str:
        """Make a new id."""
        held = [
            facts.revision,
            facts.capabilities,
            facts.owner,
            facts.made_at,
            secrets.token_hex(8),
        ]
        text = json.dumps(held, separators=(",", ":"))
        body = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        return f"{body}.{self._mac(body.encode())}"

    def read(self, session_id: str) -> Facts | None:
        """What an id of ours says; None when it is none, or too old."""
        body, _, mac = session_id.partition(".")
        if len(session_id) > MAX_ID_CHARS or not session_id.isascii():
            return None
        if not hmac.compare_digest(mac, self._mac(body.encode())):
            return None
        # from here on it is our own writing
        held: Any = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        facts = Facts(*held[:4])
        is_current = time.time() - facts.made_at <= MAX_AGE_SECONDS
        return facts if is_current and facts.revision in HANDSHAKE_PROTOCOL_VERSIONS else None

    def _mac(self, data: bytes) -> str:
        return hmac.new(self._key, data, hashlib.sha256).hexdigest()[:43]


@dataclass
class _Session:
    transport: StreamableHTTPServerTransport
    facts: Facts


class Sessions:
    """The open sessions of one listener."""

    def __init__(
        self,
        sdk: SdkServer[Any],
        options: InitializationOptions,
        seal: Seal,
        *,
        max_sessions: int,
        idle_seconds: float,
        on_end: Callable[[str], None],
    ) -> None:
        """Serve sessions of an SDK server.

        Args:
            sdk: Whose handlers answer.
            options: What it says of itself in the handshake.
            seal: Makes the ids.
            max_sessions: Open at a time.
            idle_seconds: A session without a request is put away after this time; its id stays good.
            on_end: Told the id of a session that was put away.
        """
        self._sdk = sdk
        self._options = options
        self._seal = seal
        self._max_sessions = max_sessions
        self._idle_seconds = idle_seconds
        self._on_end = on_end
        self._open: dict[str, _Session] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._tasks: TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Let sessions live as long as this context."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                yield
            finally:
                self._tasks = None
                tasks.cancel_scope.cancel()

    async def end_all(self) -> None:
        """Close every stream; ids stay good for the next life."""
        for session in list(self._open.values()):
            await session.transport.terminate()

    def facts_of(self, session_id: str) -> Facts | None:
        """What is known of a session that can be used; None when there is none of this id."""
        if session_id in self._ended:
            return None
        found = self._open.get(session_id)
        return found.facts if found is not None else self._seal.read(session_id)

    def is_open(self, session_id: str) -> bool:
        """Whether a session runs in this life."""
        return session_id in self._open

    def new_id(self, params: object, owner: str) -> str:
        """The id of a session that begins with a handshake of these params."""
        asked = cast("dict[str, Any]", params) if isinstance(params, dict) else {}
        revision = asked.get("protocolVersion")
        if revision not in HANDSHAKE_PROTOCOL_VERSIONS:
            revision = LATEST_HANDSHAKE_VERSION
        capabilities = asked.get("capabilities")
        if not isinstance(capabilities, dict) or len(json.dumps(capabilities)) > _MANY:
            capabilities = {}
        can = cast("dict[str, Any]", capabilities)
        return self._seal.write(Facts(str(revision), can, owner, int(time.time())))

    async def open(self, session_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a handshake; a session that it does not establish is forgotten at once."""
        facts = self._seal.read(session_id)
        session = await self._begin(session_id, facts, send) if facts is not None else None
        if session is None:
            return
        statuses: list[int] = []

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            await send(message)

        try:
            await session.transport.handle_request(scope, receive, watched)
        finally:
            if not statuses or statuses[0] >= 400:
                await self._put_away(session_id)

    async def serve(self, session_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of a session that `facts_of` knows."""
        session = self._open.get(session_id)
        if session is None or session.transport.is_terminated:
            facts = self.facts_of(session_id)
            session = facts and await self._begin(session_id, facts, send, is_known=True)
            if not session:
                return
        settled = _in_revision(scope, session.facts.revision)
        await session.transport.handle_request(settled, receive, send)
        if scope["method"] == "DELETE" and session.transport.is_terminated:
            self._ended[session_id] = None
            if len(self._ended) > MAX_ENDED:
                self._ended.popitem(last=False)
            await self._put_away(session_id)

    async def _begin(
        self, session_id: str, facts: Facts, send: Send, *, is_known: bool = False
    ) -> _Session | None:
        """Start a session's task; None after an answer."""
        if self._tasks is None:
            await refuse(send, 503, "the server is stopping", {"retry-after": "1"})
            return None
        if len(self._open) >= self._max_sessions:
            await refuse(send, 503, "too many open sessions", {"retry-after": "30"})
            return None
        transport = StreamableHTTPServerTransport(
            session_id,
            event_store=Replays(),
            retry_interval=RETRY_MILLISECONDS,
            idle_timeout=self._idle_seconds,
        )
        session = self._open[session_id] = _Session(transport, facts)
        await self._tasks.start(self._live, session_id, session, is_known)
        return session

    async def _live(
        self,
        session_id: str,
        session: _Session,
        is_known: bool,
        *,
        task_status: TaskStatus[None] = TASK_STATUS_IGNORED,
    ) -> None:
        transport = session.transport
        try:
            async with transport.connect() as (reader, writer):
                dispatcher: JSONRPCDispatcher[TransportContext] = JSONRPCDispatcher(
                    reader, writer, inline_methods=frozenset({"initialize"})
                )
                connection = Connection.for_loop(dispatcher, session_id=session_id)
                if is_known:
                    _remember(connection, session.facts)
                task_status.started()
                with transport.idle_scope or anyio.CancelScope():
                    await serve_connection(
                        self._sdk,
                        dispatcher,
                        connection=connection,
                        lifespan_state={},
                        init_options=self._options,
                    )
        finally:
            with anyio.CancelScope(shield=True):
                if self._open.get(session_id) is session:
                    await self._put_away(session_id)

    async def _put_away(self, session_id: str) -> None:
        session = self._open.pop(session_id, None)
        if session is None:
            return
        self._on_end(session_id)
        if not session.transport.is_terminated:
            await session.transport.terminate()


def _in_revision(scope: Scope, revision: str) -> Scope:
    """Let a request say the revision that its session's handshake settled, whatever it says."""
    name = b"mcp-protocol-version"
    headers = [(key, value) for key, value in scope["headers"] if key != name]
    return {**scope, "headers": [*headers, (name, revision.encode("ascii"))]}


def _remember(connection: Connection, facts: Facts) -> None:
    """Give a connection what an earlier life's handshake settled."""
    connection.protocol_version = facts.revision
    try:
        capabilities = ClientCapabilities.model_validate(facts.capabilities, by_name=False)
    except ValidationError:
        capabilities = ClientCapabilities()
    connection.client_params = InitializeRequestParams(
        protocol_version=facts.revision,
        capabilities=capabilities,
        client_info=Implementation(name="", version=""),
    )
    connection.initialized.set()
