"""A server of another make over HTTP: one JSON object in each POST, and a deadline on every call.

It has the same face as the connection over a socket. Calls go out side by side. Loaded only where the
settings name a URL.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import anyio
import httpx2

from aiagent_coordinator import errors
from aiagent_coordinator.coordinator.client import CONNECT_SECONDS
from aiagent_coordinator.wire import answers
from aiagent_coordinator.wire.framing import FrameError, decode, encode
from aiagent_coordinator.wire.protocol import MAX_FRAME_BYTES

#: Connections at a time; more calls wait for one.
MAX_CONNECTIONS = 32
KEPT_CONNECTIONS = 8

Json = dict[str, Any]


class UnreachableError(errors.UnavailableError):
    """No connection could be made, so nothing was sent."""


class WebClient:
    """Calls one URL; made by `connect`. All methods may be called by many tasks at once."""

    def __init__(self, http: httpx2.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url
        self._last_id = 0

    async def call(
        self, tool: str, arguments: Mapping[str, object], *, deadline_seconds: float
    ) -> Json:
        """Call a tool and give what it answers.

        Raises:
            errors.CoordinatorError: what the server says went wrong, by its code.
            errors.UnavailableError: it went away, or the deadline passed; whether the call took
                effect is unknown.
            errors.ProtocolError: what came back is no answer.
        """
        self._last_id += 1
        request_id = self._last_id
        frame = encode(answers.tool_call(request_id, tool, arguments))
        message = await self.exchange(frame, deadline_seconds=deadline_seconds)
        if message.get("id") != request_id:
            what = "another request than was sent" if message else "nothing"
            raise errors.ProtocolError(f"{self._url} answered {what}")
        return answers.read_tool_answer(message)

    async def exchange(self, frame: bytes, *, deadline_seconds: float) -> Json:
        """Send one message and give the one that answers it; empty when nothing does.

        Raises:
            errors.CoordinatorError: as for `call`.
        """
        if len(frame) > MAX_FRAME_BYTES:
            raise errors.ValidationError(f"a call of {len(frame)} bytes is too large")
        with anyio.move_on_after(deadline_seconds):
            return self._message(*await self._post(frame))
        text = f"the server at {self._url} does not answer within {deadline_seconds:g} s"
        raise errors.UnavailableError(text)

    async def wait_closed(self) -> None:
        """Never return: between calls there is nothing that could end."""
        await anyio.sleep_forever()

    async def _post(self, frame: bytes) -> tuple[int, bytes]:
        try:
            async with self._http.stream("POST", self._url, content=frame) as answer:
                return answer.status_code, await self._read(answer)
        except httpx2.ConnectError as error:
            raise UnreachableError(
                f"no server at {self._url}: {str(error)[:200] or 'it cannot be reached'}",
                hint="start it, or correct the URL",
            ) from None
        except (
            httpx2.HTTPError,
            httpx2.StreamError,
            RuntimeError,
            anyio.ClosedResourceError,
        ) as error:
            what = type(error).__name__
            raise errors.UnavailableError(f"the server at {self._url} went away ({what})") from None

    async def _read(self, answer: httpx2.Response) -> bytes:
        """The body, as it came: what is packed could be a bomb, and was not asked for."""
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            raise errors.ProtocolError(f"{self._url} packs its answers")
        body = bytearray()
        async for part in answer.aiter_raw():
            body += part
            if len(body) > MAX_FRAME_BYTES:
                raise errors.ProtocolError(
                    f"an answer of {self._url} is larger than {MAX_FRAME_BYTES} bytes"
                )
        return bytes(body)

    def _message(self, status: int, body: bytes) -> Json:
        if status in {HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT}:
            return {}
        if status == HTTPStatus.OK or (status == HTTPStatus.BAD_REQUEST and body.startswith(b"{")):
            try:
                return decode(body)
            except FrameError as error:
                raise errors.ProtocolError(f"the answer cannot be read: {error}") from None
        raise self._refusal(status)

    def _refusal(self, status: int) -> errors.CoordinatorError:
        """What a status says; what stands in the body could be anything, and is not shown."""
        said = f"{self._url} answers HTTP {status}"
        if status == HTTPStatus.UNAUTHORIZED:
            return errors.UnauthorizedError(f"{said}: it does not take our token")
        if status == HTTPStatus.FORBIDDEN:
            return errors.ForbiddenError(said)
        if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return errors.UnavailableError(said)
        return errors.ProtocolError(said, hint="the URL of an MCP endpoint often ends in /mcp")


@asynccontextmanager
async def connect(
    url: str, token: str, *, connect_seconds: float = CONNECT_SECONDS
) -> AsyncGenerator[WebClient]:
    """Call a URL, once a server answers there.

    Args:
        url: Of its MCP endpoint.
        token: What is shown as bearer.
        connect_seconds: For the first answer.

    Raises:
        errors.UnavailableError: nobody answers there in time.
        errors.UnauthorizedError: somebody does, and does not take the token.
        errors.ProtocolError: it speaks something else.
    """
    async with opened(url, token) as client:
        probe = encode({"jsonrpc": "2.0", "id": 0, "method": "ping"})
        # a refusal of the method is an answer too
        message = await client.exchange(probe, deadline_seconds=connect_seconds)
        if not {"result", "error"} & message.keys():
            raise errors.ProtocolError(f"{url} speaks something else than MCP")
        yield client


@asynccontextmanager
async def opened(url: str, token: str) -> AsyncGenerator[WebClient]:
    """Call a URL, whether anybody answers there or not; see `connect`."""
    # URLs alone would be told, but each call is one line
    for name in ("httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    headers = {
        "authorization": f"Bearer {token}",
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
    }
    async with httpx2.AsyncClient(
        headers=headers,
        # each call has its own deadline
        timeout=None,
        limits=httpx2.Limits(
            max_connections=MAX_CONNECTIONS, max_keepalive_connections=KEPT_CONNECTIONS
        ),
        trust_env=not is_loopback(url),
    ) as http:
        yield WebClient(http, url)


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine: no proxy of the environment is asked for it."""
    host = httpx2.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
