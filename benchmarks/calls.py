"""Calls per second of the server at 1, 16, 200 and 1000 connections, beside the SDK and the floor.

Run: python benchmarks/calls.py [SECONDS_PER_FIGURE]; about a minute at the default of 2. Each server
is a process of its own; the one load generator takes its share of the same cores, so the server's
processor time per call says more than the rate.
"""
# ruff: noqa: PLC0415, ANN401, ARG001, C901 - each server imports its own, and handlers have the SDK's shape

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import psutil
from anyio.abc import SocketStream

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

COUNTS = (1, 16, 200, 1000)
IDLE = 1000
#: What a coordinator asks again and again; answered from memory.
TOOL, CALLER = "list_agent_actions", {"coordinator_id": "crd_load"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "load", "version": "1"},
    },
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def line(frame: object) -> bytes:
    return json.dumps(frame).encode() + b"\n"


# --- the servers -------------------------------------------------------------------------------


async def serve_ours(path: Path) -> None:
    from support.board import serving
    from support.web import LOCAL

    path.parent.mkdir(exist_ok=True)
    async with serving(path.parent, http=LOCAL) as board:
        print(json.dumps([str(board.path), board.coordinator_key, board.port]), flush=True)
        await anyio.sleep_forever()


async def serve_sdk(path: Path) -> None:
    """The SDK with the streams of its stdio server: two pumps and two memory streams a connection."""
    from mcp.server.lowlevel import Server
    from mcp.server.runner import serve_dual_era_loop
    from mcp.shared.message import SessionMessage
    from mcp_types import (
        CallToolResult,
        JSONRPCNotification,
        TextContent,
        jsonrpc_message_adapter,
    )

    async def call(ctx: Any, params: Any) -> CallToolResult:
        answer = {"status": "ok"}
        text = TextContent(type="text", text=json.dumps(answer))
        return CallToolResult(content=[text], structured_content=answer)

    server = Server("beside", on_call_tool=call)

    async def handle(stream: SocketStream) -> None:
        to_server, from_reader = anyio.create_memory_object_stream[Any](0)
        to_writer, from_server = anyio.create_memory_object_stream[Any](0)

        async def read() -> None:
            buffer = b""
            is_first = True
            async with to_server:
                try:
                    while True:
                        buffer += await stream.receive()
                        *lines, buffer = buffer.split(b"\n")
                        for one in lines:
                            message = jsonrpc_message_adapter.validate_json(one, by_name=False)
                            if is_first and getattr(message, "method", "") != "initialize":
                                method = "notifications/initialized"
                                opened = JSONRPCNotification(jsonrpc="2.0", method=method)
                                await to_server.send(SessionMessage(opened))
                            is_first = False
                            await to_server.send(SessionMessage(message))
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return

        async def write() -> None:
            async for item in from_server:
                data = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                try:
                    await stream.send(data.encode() + b"\n")
                except anyio.BrokenResourceError:
                    return

        async with stream, anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            tasks.start_soon(write)
            await serve_dual_era_loop(server, from_reader, to_writer, lifespan_state={})
            tasks.cancel_scope.cancel()

    listener = await anyio.create_unix_listener(path, backlog=2048)
    print(json.dumps([str(path), "", 0]), flush=True)
    await listener.serve(handle)


async def serve_floor(path: Path) -> None:
    """Lines in, lines out: what anyio and json cost."""

    async def handle(stream: SocketStream) -> None:
        buffer = b""
        async with stream:
            try:
                while True:
                    buffer += await stream.receive()
                    *lines, buffer = buffer.split(b"\n")
                    for one in lines:
                        frame = json.loads(one)
                        if "id" in frame:
                            result = {"content": [{"type": "text", "text": '{"status":"ok"}'}]}
                            answer = {"jsonrpc": "2.0", "id": frame["id"], "result": result}
                            await stream.send(line(answer))
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return

    listener = await anyio.create_unix_listener(path, backlog=2048)
    print(json.dumps([str(path), "", 0]), flush=True)
    await listener.serve(handle)


SERVERS = {"ours": serve_ours, "sdk": serve_sdk, "floor": serve_floor}


# --- the load ----------------------------------------------------------------------------------


class Client:
    """One connection; a call at a time."""

    def __init__(self, stream: SocketStream, key: str) -> None:
        self.stream = stream
        arguments = {"coordinator_token": key, **CALLER} if key else {}
        params = {"name": TOOL, "arguments": arguments}
        self.frame = line({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})

    async def answer(self) -> bytes:
        data = b""
        while not data.endswith(b"\n"):
            data += await self.stream.receive()
        return data

    async def shake_hands(self) -> None:
        await self.stream.send(line(INITIALIZE))
        await self.answer()
        await self.stream.send(line(INITIALIZED))

    async def call(self) -> None:
        await self.stream.send(self.frame)
        answer = await self.answer()
        assert b'"result"' in answer, answer


async def load(
    count: int, seconds: float, connect: Callable[[], Awaitable[Any]]
) -> tuple[float, list[float]]:
    """Let many clients call until the time is over; calls per second, and how long each took."""
    took: list[float] = []
    clients = [await connect() for _ in range(count)]
    started = time.perf_counter()
    end = started + seconds

    async def work(client: Any) -> None:
        while (begun := time.perf_counter()) < end:
            await client.call()
            took.append(time.perf_counter() - begun)

    async with anyio.create_task_group() as tasks:
        for client in clients:
            tasks.start_soon(work, client)
    # the last answers may come late: they count with their time
    rate = len(took) / (time.perf_counter() - started)
    for client in clients:
        await client.stream.aclose()
    return rate, sorted(took)


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


class Http:
    """One keep-alive connection that never shakes hands."""

    def __init__(self, stream: SocketStream, key: str, port: int) -> None:
        self.stream = stream
        params = {"name": TOOL, "arguments": CALLER}
        body = line({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        self.request = (
            f"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
            "accept: application/json\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode() + body

    async def call(self) -> None:
        await self.stream.send(self.request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += await self.stream.receive()
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += await self.stream.receive()
        assert b"200 OK" in head, head


async def figures(name: str, told: list[Any], process: psutil.Process, seconds: float) -> None:
    path, key, port = told

    async def connect() -> Client:
        client = Client(await anyio.connect_unix(path), key)
        await client.shake_hands()
        return client

    async def connect_http() -> Http:
        stream = await anyio.connect_tcp("127.0.0.1", port)
        stream.extra(anyio.abc.SocketAttribute.raw_socket).setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )
        return Http(stream, key, port)

    async def one_call() -> None:
        async with await anyio.connect_unix(path) as stream:
            await Client(stream, key).call()

    # first of all: later the memory of the load would be reused
    await load(4, 0.3, connect)
    size = process.memory_info().rss
    clients = [await connect() for _ in range(IDLE)]
    await anyio.sleep(0.5)
    each = (process.memory_info().rss - size) / IDLE / 1024
    print(f"{name:12} {IDLE} idle connections {each:8.1f} KiB each", flush=True)
    for client in clients:
        await client.stream.aclose()

    kinds: list[tuple[str, int, Callable[[], Awaitable[Any]]]] = [
        (name, count, connect) for count in COUNTS
    ]
    if port:
        kinds += [("ours, HTTP", count, connect_http) for count in (1, 16, 200)]
    for label, count, way in kinds:
        await load(min(count, 16), 0.3, way)
        before = cpu(process)
        rate, took = await load(count, seconds, way)
        used = (cpu(process) - before) / max(len(took), 1) * 1e6
        p50, p99 = took[len(took) // 2] * 1e3, took[int(len(took) * 0.99)] * 1e3
        print(
            f"{label:12} {count:5} connections {rate:8.0f} calls/s  p50 {p50:7.2f} ms"
            f"  p99 {p99:8.2f} ms  server {used:5.0f} us/call",
            flush=True,
        )
    before, begun, calls = cpu(process), time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        await one_call()
        calls += 1
    used = (cpu(process) - before) / calls * 1e6
    rate = calls / (time.perf_counter() - begun)
    print(f"{name:12} one connection per call {rate:8.0f} calls/s  server {used:5.0f} us/call")


def main() -> None:
    if len(sys.argv) > 2:
        anyio.run(SERVERS[sys.argv[1]], Path(sys.argv[2]))
        return
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for name in SERVERS:
        with tempfile.TemporaryDirectory(prefix="aac-") as folder:
            command = [sys.executable, __file__, name, str(Path(folder) / "s")]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
                try:
                    assert server.stdout is not None
                    told = json.loads(server.stdout.readline())
                    anyio.run(figures, name, told, psutil.Process(server.pid), seconds)
                finally:
                    server.kill()
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
