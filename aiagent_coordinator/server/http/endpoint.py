"""`/mcp`: which of MCP's three ways of asking a request uses, and who asks.

- Revisions without a handshake name themselves in a header, and are answered one by one.
- A handshake opens a session.
- What comes with neither is a client that skips the handshake: it is answered as if it had made
  one, in plain JSON. Who may call what is decided per call, so that weakens nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from aiagent_coordinator.errors import CoordinatorError, ForbiddenError
from aiagent_coordinator.server.auth import Caller
from aiagent_coordinator.server.calls import Session
from aiagent_coordinator.server.http.channel import Answering, HttpChannel
from aiagent_coordinator.server.http.guard import refuse, too_many
from aiagent_coordinator.server.http.link import link_of
from aiagent_coordinator.server.http.sessions import Seal, Sessions
from aiagent_coordinator.server.http.settings import HttpSettings
from aiagent_coordinator.wire.framing import FrameError, decode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp.server.lowlevel import Server as SdkServer
    from mcp.server.models import InitializationOptions
    from starlette.types import Receive, Scope, Send

    from aiagent_coordinator.server.http.guard import Guard
    from aiagent_coordinator.server.http.identity import Bearers

#: The guard before us has looked at hosts and origins already.
_NO_CHECKS = TransportSecuritySettings(enable_dns_rebinding_protection=False)


class Handlers(Protocol):
    """The SDK's server, and how it learns whose request it answers."""

    @property
    def sdk(self) -> SdkServer[Any]:
        """Answers."""
        ...

    @property
    def options(self) -> InitializationOptions:
        """What it says of itself."""
        ...

    def enter(self, session: Session) -> None:
        """From here on, in this task and what it starts, requests are this session's."""
        ...


@dataclass
class _Known:
    """Who is behind an open session."""

    caller: Caller
    channel: HttpChannel


class Endpoint:
    """Answers what comes to `/mcp`."""

    def __init__(
        self,
        handlers: Handlers,
        bearers: Bearers | None,
        settings: HttpSettings,
        seal: Seal,
        forget: Callable[[HttpChannel], None],
    ) -> None:
        """Serve MCP.

        Args:
            handlers: What answers.
            bearers: Says who calls; None: everybody is a stranger.
            settings: Who may come.
            seal: Makes session ids.
            forget: Told the channel of a session that is over.
        """
        self._handlers = handlers
        self._bearers = bearers
        self._settings = settings
        self._seal = seal
        self._forget = forget
        self._known: dict[str, _Known] = {}
        self.answering = Answering()
        self._sessions = Sessions(
            handlers.sdk,
            handlers.options,
            seal,
            max_sessions=settings.limits.sessions,
            idle_seconds=settings.limits.session_idle_seconds,
            on_end=self._session_ended,
        )
        size = settings.limits.body_bytes
        self._modern = StreamableHTTPSessionManager(
            handlers.sdk,
            stateless=True,
            security_settings=_NO_CHECKS,
            max_request_body_size=size,
        )
        self._plain = StreamableHTTPSessionManager(
            handlers.sdk,
            stateless=True,
            json_response=True,
            security_settings=_NO_CHECKS,
            max_request_body_size=size,
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Serve as long as this context."""
        async with self._modern.run(), self._plain.run(), self._sessions.running():
            yield

    async def stop(self) -> None:
        """Close what never ends by itself: the streams of sessions."""
        await self._sessions.end_all()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers: dict[str, str] = scope["state"]["headers"]
        caller = await self._caller(scope, headers, send)
        if caller is None:
            return
        frame: dict[str, Any] = {}
        if scope["method"] == "POST":
            try:
                frame = decode(scope["state"]["body"])
            except FrameError as error:
                code = -32700 if error.kind == "parse" else -32600
                await refuse(send, 400, str(error), {}, code=code)
                return
        session = await self._session(caller, headers, send)
        if session is None:
            return
        self._handlers.enter(session)
        with self.answering.one(session.channel, frame):
            await self._route(caller, frame, scope, receive, send)

    async def _session(self, caller: Caller, headers: dict[str, str], send: Send) -> Session | None:
        """The session of a request, for the time of the request at least; None after an answer."""
        if _is_modern(headers) or "mcp-session-id" not in headers:
            return Session(HttpChannel(self.answering), caller)
        session_id = headers["mcp-session-id"]
        facts = self._sessions.facts_of(session_id)
        # somebody else's session is none: not even that it exists is told
        if facts is None or facts.owner != self._owner(caller, headers):
            await refuse(send, 404, "there is no such session; shake hands again", {})
            return None
        return self._enter(session_id, caller)

    def _owner(self, caller: Caller, headers: dict[str, str]) -> str:
        """Whose a session is: a provider gives the same person another token each hour."""
        who = None if caller.subject is None else f"subject {caller.subject}"
        return self._seal.owner_of(who or bearer_of(headers))

    async def _route(
        self, caller: Caller, frame: dict[str, Any], scope: Scope, receive: Receive, send: Send
    ) -> None:
        headers: dict[str, str] = scope["state"]["headers"]
        if _is_modern(headers):
            await self._modern.handle_request(scope, receive, send)
        elif "mcp-session-id" in headers:
            session_id = headers["mcp-session-id"]
            try:
                await self._sessions.serve(session_id, scope, receive, send)
            finally:
                self._forget_unless_open(session_id)
        elif scope["method"] != "POST":
            await refuse(send, 405, "streams belong to sessions", {"allow": "POST"})
        elif frame.get("method") == "initialize":
            await self._open_session(caller, frame, scope, receive, send)
        elif "method" in frame and "id" not in frame:
            # clients that skip the handshake read JSON whatever they sent
            await _acknowledge(send)
        else:
            await self._plain.handle_request(_accepting(scope), receive, send)

    async def _caller(self, scope: Scope, headers: dict[str, str], send: Send) -> Caller | None:
        """Who asks; None after an answer."""
        token = bearer_of(headers)
        guard: Guard = scope["state"]["guard"]
        is_remote = guard.is_remote(scope)
        if self._bearers is None:
            return Caller.stranger()
        if token is None and is_remote:
            await refuse(send, 401, "show a bearer token", {"www-authenticate": self._challenge()})
            return None
        try:
            return await self._bearers.caller(link_of(scope), token, is_remote=is_remote)
        except ForbiddenError as error:
            await refuse(send, 403, error.message, {})
        except CoordinatorError as error:
            wait = guard.wrong_token(scope)
            if wait:
                await refuse(send, *too_many(wait))
                return None
            challenge = self._challenge() + ', error="invalid_token"'
            await refuse(send, 401, error.message, {"www-authenticate": challenge})
        return None

    def _challenge(self) -> str:
        return challenge(self._settings)

    async def _open_session(
        self, caller: Caller, frame: dict[str, Any], scope: Scope, receive: Receive, send: Send
    ) -> None:
        owner = self._owner(caller, scope["state"]["headers"])
        session_id = self._sessions.new_id(frame.get("params"), owner)
        await self._sessions.open(session_id, scope, receive, send)

    def _enter(self, session_id: str, caller: Caller) -> Session:
        """What a session's caller found out about itself stays, as long as the session is open."""
        channel = HttpChannel(self.answering, is_lasting=True)
        known = self._known.setdefault(session_id, _Known(caller, channel))
        known.caller.cap = caller.cap
        if caller.subject is not None:
            known.caller.identity = caller.identity  # the provider's last word
        return Session(known.channel, known.caller)

    def _forget_unless_open(self, session_id: str) -> None:
        if not self._sessions.is_open(session_id):
            self._session_ended(session_id)

    def _session_ended(self, session_id: str) -> None:
        known = self._known.pop(session_id, None)
        if known is not None:
            self._forget(known.channel)


def _accepting(scope: Scope) -> Scope:
    """Who does not say what it accepts, accepts everything; the SDK wants it to be said."""
    if "accept" in scope["state"]["headers"]:
        return scope
    return {**scope, "headers": [*scope["headers"], (b"accept", b"*/*")]}


async def _acknowledge(send: Send) -> None:
    body = json.dumps({"jsonrpc": "2.0", "result": {"acknowledged": True}}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _is_modern(headers: dict[str, str]) -> bool:
    """Whether a request names a revision without a handshake, or one nobody knows."""
    revision = headers.get("mcp-protocol-version")
    return revision is not None and revision not in HANDSHAKE_PROTOCOL_VERSIONS


def challenge(settings: HttpSettings) -> str:
    """What who shows no good token is told to show (RFC 6750)."""
    where = metadata_url(settings)
    return 'Bearer realm="aiagent-coordinator"' + (
        f', resource_metadata="{where}"' if where else ""
    )


def metadata_url(settings: HttpSettings) -> str | None:
    """Where clients read which provider gives out tokens; None without one."""
    if settings.resource is None or not settings.authorization_servers:
        return None
    scheme, _, rest = settings.resource.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host}/.well-known/oauth-protected-resource{slash}{path}".rstrip("/")


def bearer_of(headers: dict[str, str]) -> str | None:
    """What stands behind `Bearer`; None for nothing."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
