"""A board served over HTTP, and clients that send exactly what they are told."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import httpx2

from aiagent_coordinator.server.http.settings import HttpLimits, HttpSettings
from support.board import PATIENCE_SECONDS, Board

#: On this machine, at any free port, and never too often.
LOCAL = HttpSettings("127.0.0.1", 0, limits=HttpLimits(requests_per_second=1e6, burst=10**6))
BOTH_KINDS = "application/json, text/event-stream"
#: The envelope of the revision without a handshake.
MODERN = "2026-07-28"


def local(**limits: Any) -> HttpSettings:
    """Settings of a listener on this machine with other limits."""
    return replace(LOCAL, limits=replace(LOCAL.limits, **limits))


class Web:
    """One HTTP client."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http
        self.session: str | None = None
        self._last_id = 0

    async def post(
        self, method: str, params: Mapping[str, Any] | None = None, **headers: str
    ) -> httpx2.Response:
        """Send a request of the handshake era, in the session if there is one."""
        self._last_id += 1
        frame: dict[str, Any] = {"jsonrpc": "2.0", "id": self._last_id, "method": method}
        if params is not None:
            frame["params"] = params
        return await self.http.post("/mcp", json=frame, headers=self._headers(headers))

    async def notify(self, method: str) -> httpx2.Response:
        """Send a notification."""
        frame = {"jsonrpc": "2.0", "method": method}
        return await self.http.post("/mcp", json=frame, headers=self._headers({}))

    async def shake_hands(self, **capabilities: Any) -> dict[str, Any]:
        """Open a session."""
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": capabilities,
            "clientInfo": {"name": "test", "version": "1"},
        }
        answer = await self.post("initialize", params)
        assert answer.status_code == 200, answer.text
        self.session = answer.headers["mcp-session-id"]
        assert (await self.notify("notifications/initialized")).status_code == 202
        return body_of(answer)["result"]

    async def modern(self, method: str, params: Mapping[str, Any] | None = None) -> httpx2.Response:
        """Send a request of the revision without a handshake."""
        return await self.http.post("/mcp", **self.modern_frame(method, params))

    def modern_frame(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Body and headers of such a request."""
        self._last_id += 1
        params = dict(params or {})
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            **params.get("_meta", {}),
        }
        headers = {"accept": BOTH_KINDS, "mcp-protocol-version": MODERN, "mcp-method": method}
        named = next((params[key] for key in ("name", "uri", "taskId") if key in params), None)
        if named is not None:
            headers["mcp-name"] = str(named)
        frame = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params}
        return {"json": frame, "headers": headers}

    async def tool(self, tool_name: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool and give its result or its error object."""
        answer = await self.post("tools/call", {"name": tool_name, "arguments": arguments})
        assert answer.status_code == 200, answer.text
        body = body_of(answer)
        if "result" not in body:
            return {"loud": body["error"]}
        result = body["result"]
        if "structuredContent" in result:
            return result["structuredContent"]
        text = result["content"][0]["text"]
        return {"refused": text} if result.get("isError") else json.loads(text)

    def _headers(self, more: Mapping[str, str]) -> dict[str, str]:
        session = {"mcp-session-id": self.session} if self.session else {}
        named = {name.replace("_", "-"): value for name, value in more.items()}
        return {"accept": BOTH_KINDS, **session, **named}


@asynccontextmanager
async def browsing(board: Board, token: str | None = None) -> AsyncGenerator[Web]:
    """Connect to a board's HTTP side, with a bearer token or as a stranger."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    with anyio.fail_after(PATIENCE_SECONDS * 3):
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{board.port}",
            headers=headers,
            timeout=PATIENCE_SECONDS,
            trust_env=False,
        ) as http:
            yield Web(http)


def frames_of(answer: httpx2.Response) -> list[dict[str, Any]]:
    """Every message of an answer, whether it came as a stream or in one piece."""
    if answer.headers["content-type"].startswith("application/json"):
        return [answer.json()]
    lines = answer.text.splitlines()
    return [json.loads(line[5:]) for line in lines if line.startswith("data:") and line[5:].strip()]


def body_of(answer: httpx2.Response) -> dict[str, Any]:
    """The last message: the answer itself."""
    return frames_of(answer)[-1]
