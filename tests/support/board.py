"""A real server on a real socket over a real store, and clients that send exactly what they are told."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import anyio
from anyio.abc import SocketStream

from aiagent_coordinator import ids
from aiagent_coordinator.clock import SystemClock
from aiagent_coordinator.events import Event
from aiagent_coordinator.runs import Purpose, Run, ShimIdentity
from aiagent_coordinator.server.app import Server, ServerSettings
from aiagent_coordinator.server.http.listen import bind_http
from aiagent_coordinator.server.http.settings import HttpSettings
from aiagent_coordinator.server.sockets import bind_socket
from aiagent_coordinator.store import chat, claims, events, projects, reports, requests
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.engine import Store, open_store
from aiagent_coordinator.store.sqlite_file import sqlite_url
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Duty, Project, Task
from aiagent_coordinator.wire import protocol

T = TypeVar("T")
#: How long anything may take here before the test fails.
PATIENCE_SECONDS = 60.0


@dataclass
class Claimed:
    """A run, and the token that only its agent has."""

    run: Run
    token: str
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))

    def hello(self, *resend: int | str) -> dict[str, object]:
        return protocol.hello_run(self.run.id, self.token, self.nonce, list(resend))


class Board:
    """The store and where the server listens."""

    def __init__(self, store: Store, path: Path) -> None:
        self.store = store
        self.path = path
        self.operator_key = secrets.token_hex(16)
        self.coordinator_key = secrets.token_hex(16)
        self.coordinator_id = ids.new_id("crd")
        #: Where it serves HTTP, in its present life.
        self.port = 0

    @property
    def person(self) -> dict[str, object]:
        return protocol.hello_person(self.operator_key)

    @property
    def coordinator(self) -> dict[str, object]:
        return protocol.hello_coordinator(self.coordinator_key)

    async def add_task(self, title: str = "Mend the fence", **more: Any) -> Task:
        new = task_store.NewTask(project_id="garden", agent_id="ann", title=title, **more)
        return await self.store.write(lambda unit: task_store.create_task(unit, new, "person"))

    async def promote(self) -> None:
        """Make ann a manager, for whom bob and cid work."""

        def work(unit: Unit) -> None:
            for who, more in (
                ("ann", {"hierarchy": Duty.MANAGER}),
                ("bob", {"parent_id": "ann"}),
                ("cid", {"parent_id": "ann", "enabled": False}),
                ("dan", {}),
            ):
                agent = Agent(who, who.title(), "rehearsal", max_concurrent=100)
                projects.declare_agent(unit, replace(agent, **more))
                projects.assign(unit, who, "garden")

        await self.store.write(work)

    async def claim(self, title: str = "Mend the fence", **more: Any) -> Claimed:
        """Put a task on the board and start its run, with everything but a process."""
        await self.add_task(title, **more)
        token = secrets.token_hex(32)
        request = requests.ClaimRequest(
            run_id=ids.new_run_id(),
            coordinator_id=self.coordinator_id,
            epoch=1,
            agent_id="ann",
            project_id="garden",
            purpose=Purpose.TASK,
            slot=secrets.randbelow(2**30),
            token_sha256=hashlib.sha256(token.encode()).hexdigest(),
        )
        answer = await self.store.write(lambda unit: claims.claim_run(unit, request, 90))
        assert answer.claimed, answer
        return Claimed(await self.run(request.run_id), token)

    async def claim_chat(self, said: str = "Hello?") -> Claimed:
        """Write to the agent and start a session for its chat, with everything but a process."""
        await self.store.write(lambda unit: chat.write(unit, "ann", "garden", said, actor="person"))
        return await self.claim_wanted_chat("ann")

    async def claim_wanted_chat(self, agent_id: str) -> Claimed:
        """Start a session for the chat of an agent that something wants already."""
        token = secrets.token_hex(32)
        request = requests.ClaimRequest(
            run_id=ids.new_run_id(),
            coordinator_id=self.coordinator_id,
            epoch=1,
            agent_id=agent_id,
            project_id="garden",
            purpose=Purpose.CHAT,
            slot=0,
            token_sha256=hashlib.sha256(token.encode()).hexdigest(),
        )
        answer = await self.store.write(lambda unit: claims.claim_run(unit, request, 90))
        assert answer.claimed, answer
        return Claimed(await self.run(request.run_id), token)

    async def started(self, run: Run, shim: ShimIdentity) -> None:
        """Say which process is the shim of a run."""
        report = requests.StartedReport(
            run_id=run.id,
            fence=run.fence,
            seq=0,
            host_id="here",
            shim=shim,
            workspace="/nowhere",
            log_path="/nowhere/log",
            argv_masked=("true",),
        )
        await self.store.write(lambda unit: reports.record_started(unit, report))

    async def exited(self, run: Run) -> None:
        """Say that the processes of a run are gone."""
        report = requests.ExitReport(
            run_id=run.id, fence=run.fence, seq=1, ended_at=SystemClock().now(), exit_code=0
        )
        await self.store.write(lambda unit: reports.record_exit(unit, report))

    async def run(self, run_id: str) -> Run:
        return await self.store.read(lambda unit: run_store.get_run(unit, run_id))

    async def events(self) -> list[Event]:
        def work(unit: Unit) -> list[Event]:
            return events.list_events(unit, limit=10_000)

        return await self.store.read(work)

    async def count(self, action: str) -> int:
        return sum(event.action == action for event in await self.events())


@asynccontextmanager
async def serving(folder: Path, **settings: Any) -> AsyncGenerator[Board]:
    """Serve a board with one project and one agent."""
    async with open_store(sqlite_url(folder / "store.db"), clock=SystemClock()) as store:
        board = Board(store, folder / "s")
        await store.write(lambda unit: declare(unit, folder))
        async with hosting(board, **settings):
            yield board


@asynccontextmanager
async def hosting(
    board: Board, http: HttpSettings | None = None, **settings: Any
) -> AsyncGenerator[Server]:
    """One life of the server; the store goes on without it."""
    server = Server(
        board.store,
        ServerSettings(board.operator_key, board.coordinator_key, http=http, **settings),
        SystemClock(),
    )
    http_sock = bind_http(http) if http is not None else None
    if http_sock is not None:
        board.port = http_sock.getsockname()[1]
    async with anyio.create_task_group() as tasks:
        await tasks.start(server.run, bind_socket(board.path), http_sock)
        yield server
        tasks.cancel_scope.cancel()


def declare(unit: Unit, folder: Path) -> None:
    projects.declare_project(unit, Project(id="garden", name="Garden", path=str(folder)))
    agent = Agent(id="ann", name="Ann", provider="rehearsal", max_concurrent=100)
    projects.declare_agent(unit, agent)
    projects.assign(unit, "ann", "garden")


def tool_call(request_id: int | str, tool_name: str, /, **arguments: Any) -> dict[str, Any]:
    """The frame that calls a tool."""
    params: dict[str, Any] = {"name": tool_name, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}


def content_of(result: dict[str, Any]) -> dict[str, Any]:
    """What a tool answered: as data, or from its text for those who never shook hands."""
    if "structuredContent" in result:
        return result["structuredContent"]
    text = result["content"][0]["text"]
    if not result.get("isError"):
        return json.loads(text)
    code, _, message = text.partition(": ")
    return {"error": {"code": code, "message": message}}


class Raw:
    """A client that skips every courtesy: lines out, lines in."""

    def __init__(self, stream: SocketStream) -> None:
        self.stream = stream
        self._buffer = b""
        self._last_id = 0
        self.seen: list[dict[str, Any]] = []
        self._is_fresh = True

    async def greet(self, hello: object) -> None:
        """Say who calls, and nothing else yet."""
        await self.send(hello)
        self._is_fresh = True

    async def _shake_hands(self) -> None:
        """Begin as every client of this age does, so that answers have their data."""
        about = {"name": "test", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": about}
        asked = {"jsonrpc": "2.0", "id": "hands", "method": "initialize", "params": params}
        await self.send(asked)
        await self.until(lambda frame: frame.get("id") == "hands")
        await self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def send(self, *frames: object) -> None:
        self._is_fresh = False
        await self.stream.send(b"".join(json.dumps(frame).encode() + b"\n" for frame in frames))

    async def line(self) -> dict[str, Any] | None:
        """The next line; None at the end."""
        with anyio.fail_after(PATIENCE_SECONDS):
            while b"\n" not in self._buffer:
                try:
                    self._buffer += await self.stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        frame: dict[str, Any] = json.loads(line)
        self.seen.append(frame)
        return frame

    async def until(self, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while True:
            frame = await self.line()
            assert frame is not None, "the connection ended"
            if is_it(frame):
                return frame

    async def request(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask, and give the whole answer."""
        self._last_id += 1
        asked: dict[str, Any] = {"jsonrpc": "2.0", "id": self._last_id, "method": method}
        if params is not None:
            asked["params"] = params
        await self.send(asked)
        return await self.until(lambda frame: frame.get("id") == asked["id"])

    async def tool(self, tool_name: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool and give its result or its error object."""
        if self._is_fresh:
            await self._shake_hands()
        answer = await self.request("tools/call", {"name": tool_name, "arguments": arguments})
        if "error" in answer:
            return {"loud": answer["error"]}
        return content_of(answer["result"])

    async def code(self, tool_name: str, /, **arguments: Any) -> str | None:
        """The code of the error of a call; None when it worked."""
        answer = await self.tool(tool_name, **arguments)
        if "loud" in answer:
            return str(answer["loud"].get("data", {}).get("code", answer["loud"]["code"]))
        return answer["error"]["code"] if "error" in answer else None


@asynccontextmanager
async def connected(board: Board, hello: dict[str, object] | None = None) -> AsyncGenerator[Raw]:
    """Connect, and say who calls."""
    async with await anyio.connect_unix(board.path) as stream:
        client = Raw(stream)
        if hello is not None:
            await client.greet(hello)
        yield client


async def eventually(check: Callable[[], Any]) -> Any:
    """Wait until an async check gives something true."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while True:
            found = await check()
            if found:
                return found
            await anyio.sleep(0.01)
