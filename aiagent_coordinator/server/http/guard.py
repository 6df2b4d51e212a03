"""What every request passes before anybody looks at it: where it came from, how much, how often."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio

from aiagent_coordinator.server.http.link import link_of
from aiagent_coordinator.server.http.settings import HttpSettings, is_loopback, with_port
from aiagent_coordinator.telemetry import log_event

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

#: The one page that reads its body itself, after it has seen who sends it: logs are long.
UPLOAD_PATH: Final = "/api/v1/execution-logs/upload"
#: More callers than this at a time are not told apart: the one seen longest ago begins anew.
MAX_CALLERS: Final = 4096
#: How long and how much of the rest of a body that is too large is read for nothing.
DRAIN_SECONDS: Final = 2.0
DRAIN_BYTES: Final = 1024 * 1024
#: Wrong tokens per second from one address.
WRONG_TOKENS_PER_SECOND: Final = 5.0
WRONG_TOKENS_BURST: Final = 20


@dataclass
class _Bucket:
    tokens: float
    at: float


class Rates:
    """How often each caller may come: a bucket per caller, filled evenly."""

    def __init__(self, per_second: float, burst: int, monotonic: Callable[[], float]) -> None:
        self._per_second = per_second
        self._burst = burst
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, caller: str) -> float:
        """Count one request; returns 0, or the seconds after which it may come again."""
        now = self._monotonic()
        bucket = self._buckets.pop(caller, None) or _Bucket(self._burst, now)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._per_second)
        bucket.at = now
        self._buckets[caller] = bucket
        if len(self._buckets) > MAX_CALLERS:
            self._buckets.popitem(last=False)
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return 0.0
        return (1 - bucket.tokens) / self._per_second


class Guard:
    """Lets requests in, or answers why not. Wraps the whole HTTP app."""

    def __init__(
        self,
        app: ASGIApp,
        settings: HttpSettings,
        port: int,
        monotonic: Callable[[], float],
    ) -> None:
        """Wrap an app.

        Args:
            app: What answers the requests that are let in.
            settings: Who may come and how much.
            port: Where we really listen.
            monotonic: The seconds that rates are counted in.
        """
        self._app = app
        self._settings = settings
        self._hosts = _hosts(settings, port)
        scheme = "https" if settings.certificate else "http"
        own = {f"{scheme}://{host}" for host in self._hosts if settings.is_local}
        self._origins = own | {origin.lower() for origin in settings.origins}
        limits = settings.limits
        self._rates = Rates(limits.requests_per_second, limits.burst, monotonic)
        self._wrong = Rates(WRONG_TOKENS_PER_SECOND, WRONG_TOKENS_BURST, monotonic)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        headers = _headers(scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refuse(send, *refusal)
            return
        scope["state"]["headers"] = headers
        scope["state"]["guard"] = self
        if scope["path"] != UPLOAD_PATH:
            body = await self._body(headers, receive, send)
            if body is None:
                return
            scope["state"]["body"] = body
            receive = _replay(body, receive)
        try:
            await self._app(scope, receive, send)
        except Exception:  # noqa: BLE001 - the border of a request: the server goes on
            log_event(
                logger, logging.ERROR, "server.request_failed", "a request failed unexpectedly"
            )

    def address(self, scope: Scope, headers: Mapping[str, str]) -> str:
        """Where a request comes from: what a trusted proxy says, else the other end."""
        peer = link_of(scope).peer[0]
        if peer in self._settings.trusted_proxies:
            return headers.get("x-forwarded-for", peer).rsplit(",", 1)[-1].strip()[:64]
        return peer

    def is_remote(self, scope: Scope) -> bool:
        """Whether a request may come from another machine."""
        peer = link_of(scope).peer[0]
        is_proxied = peer in self._settings.trusted_proxies
        return is_proxied or not (self._settings.is_local and is_loopback(peer))

    def wrong_token(self, scope: Scope) -> float:
        """Count a wrong token; returns the seconds to wait when there were too many."""
        return self._wrong.take(self.address(scope, _headers(scope)))

    def _refusal(
        self, scope: Scope, headers: Mapping[str, str]
    ) -> tuple[int, str, dict[str, str]] | None:
        proxies = self._settings.trusted_proxies
        is_plain = self._settings.certificate is None and not self._settings.is_local
        if is_plain and link_of(scope).peer[0] not in proxies:
            return 403, "requests come through the proxy", {}
        if headers.get("host", "").lower() not in self._hosts:
            return 421, "this host is not served here", {}
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in self._origins:
            return 403, "this origin is not welcome", {}
        token = headers.get("authorization")
        who = _digest(token) if token else self.address(scope, headers)
        wait = self._rates.take(who)
        return too_many(wait) if wait else None

    async def _body(self, headers: Mapping[str, str], receive: Receive, send: Send) -> bytes | None:
        """The whole body; None after an answer."""
        limits = self._settings.limits
        declared = headers.get("content-length", "0")
        is_too_large = declared.isdecimal() and int(declared[:19]) > limits.body_bytes
        parts: list[bytes] = []
        size = 0
        with anyio.move_on_after(DRAIN_SECONDS if is_too_large else limits.body_seconds):
            # what is too large is read a little further: who is cut off in the middle of sending
            # never sees the answer
            while size <= limits.body_bytes + DRAIN_BYTES:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                size += len(message.get("body", b""))
                is_too_large = is_too_large or size > limits.body_bytes
                if is_too_large:
                    parts.clear()
                else:
                    parts.append(message.get("body", b""))
                if not message.get("more_body", False):
                    break
            else:
                is_too_large = True
            if not is_too_large:
                return b"".join(parts)
        status, text = (413, "is too large") if is_too_large else (408, "did not arrive")
        await refuse(send, status, f"the body {text}", {"connection": "close"})
        return None


def too_many(wait: float) -> tuple[int, str, dict[str, str]]:
    """The answer to who comes too often."""
    return 429, "too many requests", {"retry-after": str(math.ceil(wait))}


async def refuse(
    send: Send, status: int, message: str, headers: Mapping[str, str], *, code: int = -32000
) -> None:
    """Answer with a JSON-RPC error without an id, which clients of MCP can read too."""
    error = {"code": code, "message": message}
    body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
    more = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                *more,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


def _headers(scope: Scope) -> dict[str, str]:
    """The headers by name; of one that stands twice, nothing may depend on which counts."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        found[key] = (
            f"{found[key]}, {value.decode('latin-1')}" if key in found else value.decode("latin-1")
        )
    return found


def _hosts(settings: HttpSettings, port: int) -> frozenset[str]:
    """What may stand in `Host`."""
    names = {"127.0.0.1", "localhost", "::1"} if settings.is_local else {settings.host}
    return frozenset(
        {with_port(name, port) for name in names} | {host.lower() for host in settings.hosts}
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once more, then what really comes: the end of the connection."""
    pending: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed
