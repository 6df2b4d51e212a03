"""Whatever is written to the socket: bytes, lines, JSON, calls. It is answered or closed, and goes on."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import given, settings
from hypothesis import strategies as st

from aiagent_coordinator.server.boards import TOOLS
from aiagent_coordinator.tasks import AskPolicy
from support.board import PATIENCE_SECONDS, Claimed, serving

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.sampled_from(["tools/call", "2.0", "garden", "ann", "\0", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=20,
)
METHODS = st.sampled_from(
    [
        "initialize", "ping", "tools/list", "tools/call", "resources/list", "resources/read",
        "resources/subscribe", "resources/unsubscribe", "prompts/list", "prompts/get",
        "server/discover", "subscriptions/listen", "logging/setLevel", "completion/complete",
        "tasks/get", "tasks/update", "tasks/cancel", "notifications/cancelled",
        "notifications/initialized", "notifications/dev.aiagent-coordinator/hello", "",
    ]
) | st.text(max_size=20)  # fmt: skip
FRAMES = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0") | JSON, "method": METHODS},
    optional={"id": st.integers(0, 50) | JSON, "params": JSON},
)


@dataclass
class Served:
    """A server in a thread of its own, and who may call it."""

    path: Path
    operator_key: str
    coordinator_key: str
    claimed: Claimed

    def hello(self, role: str) -> dict[str, Any]:
        params: dict[str, Any] = {
            "person": {"operator_key": self.operator_key},
            "coordinator": {"coordinator_token": self.coordinator_key},
            "agent": {"run": self.claimed.run.id, "token": self.claimed.token},
            "stranger": {},
        }[role]
        method = "notifications/dev.aiagent-coordinator/hello"
        return {"jsonrpc": "2.0", "method": method, "params": {"v": 1, **params}}


@pytest.fixture(scope="module")
def served() -> Generator[Served]:
    @asynccontextmanager
    async def serve() -> AsyncGenerator[Served]:
        async with serving(folder, ask=AskPolicy(hold_seconds=0.01)) as board:
            claimed = await board.claim()
            yield Served(board.path, board.operator_key, board.coordinator_key, claimed)

    with tempfile.TemporaryDirectory(prefix="aac-") as name:
        folder = Path(name)
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(serve()) as found,
        ):
            yield found


def say(served: Served, data: bytes) -> list[dict[str, Any]]:
    """Write, finish writing, and read to the end: every line is a JSON-RPC message."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(str(served.path))
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it hung up on us, which is an answer
        got = b""
        try:
            while chunk := client.recv(65536):
                got += chunk
        except ConnectionResetError:
            pass
    frames = [json.loads(line) for line in got.splitlines()]
    assert all(frame["jsonrpc"] == "2.0" for frame in frames)
    return frames


def check_alive(served: Served) -> None:
    assert say(served, line({"jsonrpc": "2.0", "id": 1, "method": "ping"}))[0]["result"] == {}


def line(frame: object) -> bytes:
    return json.dumps(frame).encode() + b"\n"


@settings(max_examples=150)
@given(data=st.binary(max_size=2000))
def test_any_bytes(served: Served, data: bytes) -> None:
    say(served, data)
    check_alive(served)


@settings(max_examples=150)
@given(lines=st.lists(st.text(max_size=200).map(str.encode) | JSON.map(line), max_size=8))
def test_any_lines(served: Served, lines: list[bytes]) -> None:
    say(served, b"\n".join(lines))
    check_alive(served)


@settings(max_examples=250)
@given(
    role=st.sampled_from(["person", "coordinator", "agent", "stranger"]),
    frames=st.lists(FRAMES, max_size=6),
)
def test_any_frames(served: Served, role: str, frames: list[dict[str, Any]]) -> None:
    """Nothing of it is our failure."""
    data = b"".join(line(frame) for frame in [served.hello(role), *frames])
    for answer in say(served, data):
        assert answer.get("error", {}).get("code") != -32603, (frames, answer)
    check_alive(served)


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A tool and arguments that nearly fit it, or not."""
    # what ends the agent's run would leave nothing to fuzz
    name = draw(st.sampled_from(sorted(set(TOOLS) - {"report_completed", "logout"})))
    known = TOOLS[name].info.input_schema.get("properties", {})
    values = st.sampled_from(["garden", "ann", "x", "", "task"]) | JSON
    shape = dict.fromkeys(known, values)
    return name, draw(
        st.fixed_dictionaries({}, optional=shape) | st.dictionaries(st.text(), JSON, max_size=3)
    )


@settings(max_examples=400)
@given(role=st.sampled_from(["person", "coordinator", "agent", "stranger"]), call=calls())
def test_any_calls(served: Served, role: str, call: tuple[str, dict[str, Any]]) -> None:
    """Each gets exactly one answer, and never that the server failed at it."""
    name, arguments = call
    frame = {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {"name": name, "arguments": arguments},
    }
    answers = [one for one in say(served, line(served.hello(role)) + line(frame)) if "id" in one]
    assert len(answers) == 1
    text = json.dumps(answers[0])
    assert "INTERNAL" not in text, (name, arguments, text)
    assert answers[0].get("error", {}).get("code") != -32603
