"""The client of a server over HTTP: every odd answer is one call's failure, with a name."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio
import pytest

from aiagent_coordinator import errors
from aiagent_coordinator.coordinator.web import UnreachableError, connect, is_loopback, opened
from support.board import PATIENCE_SECONDS

TOKEN = "token-of-the-coordinator"
Answer = Callable[["Face"], object]


class Face(BaseHTTPRequestHandler):
    """Answers each POST as the test says."""

    protocol_version = "HTTP/1.1"
    asked: dict[str, Any]

    def do_POST(self) -> None:
        self.asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server: Any = self.server
        server.seen.append((self.path, self.headers["Authorization"], self.asked["method"]))
        server.says(self)

    def tell(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def result(self, text: str = '{"status": "ok"}', **more: Any) -> bytes:
        content = [{"type": "text", "text": text}]
        told = {"jsonrpc": "2.0", "id": self.asked["id"], "result": {"content": content}}
        return json.dumps(told | more).encode()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - theirs
        pass


def well(face: Face) -> None:
    face.tell(face.result())


class Place:
    def __init__(self, server: Any) -> None:
        self._server = server
        self.seen: list[tuple[str, str, str]] = server.seen
        self.url = f"http://127.0.0.1:{server.server_address[1]}/mcp"

    def says(self, answer: Answer) -> None:
        self._server.says = answer


@pytest.fixture
def place() -> Generator[Place]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Face)
    server.daemon_threads, server.seen = True, []
    server.says = well
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield Place(server)
    server.shutdown()
    server.server_close()


async def failing(place: Place, answer: Answer, seconds: float = PATIENCE_SECONDS) -> Exception:
    place.says(answer)
    async with opened(place.url, TOKEN) as client:
        with pytest.raises(errors.CoordinatorError) as caught:
            await client.call("health_check", {}, deadline_seconds=seconds)
    assert TOKEN not in str(caught.value)
    return caught.value


async def test_calls_go_out_side_by_side(place: Place) -> None:
    together = threading.Barrier(8)

    def says(face: Face) -> None:
        if face.asked["method"] == "tools/call":
            together.wait(PATIENCE_SECONDS)  # broken unless all eight are there
        face.tell(face.result())

    place.says(says)
    found: list[Any] = []
    async with connect(place.url, TOKEN) as client:

        async def one() -> None:
            found.append(await client.call("x", {}, deadline_seconds=PATIENCE_SECONDS))

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(one)
    assert found == [{"status": "ok"}] * 8
    assert {token for _, token, _ in place.seen} == {f"Bearer {TOKEN}"}


ODD: list[tuple[Answer, type[Exception], str]] = [
    (lambda f: f.tell(b"{}", 401), errors.UnauthorizedError, "token"),
    (lambda f: f.tell(b"{}", 403), errors.ForbiddenError, "403"),
    (lambda f: f.tell(b"{}", 404), errors.ProtocolError, "404"),
    (lambda f: f.tell(b"", 429, retry_after="3"), errors.UnavailableError, "429"),
    (lambda f: f.tell(b"<html>", 502), errors.UnavailableError, "502"),
    (lambda f: f.tell(b"<html>"), errors.ProtocolError, "cannot be read"),
    (lambda f: f.tell(b"[" * 100_000), errors.ProtocolError, "nested deeper"),
    (lambda f: f.tell(f.result(id=77)), errors.ProtocolError, "another request"),
    (lambda f: f.tell(f.result(result=None)), errors.ProtocolError, "neither"),
    (lambda f: f.tell(b"", 202), errors.ProtocolError, "nothing"),
    (
        lambda f: f.tell(gzip.compress(f.result()), content_encoding="gzip"),
        errors.ProtocolError,
        "packs",
    ),
    (
        lambda f: f.tell(f.result(text="x" * 17 * 1024 * 1024)),
        errors.ProtocolError,
        "is larger",
    ),
    # the four ways in which that server says no
    (
        lambda f: f.tell(
            b'{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no such pair"}}'
        ),
        errors.ValidationError,
        "no such pair",
    ),
    (
        lambda f: f.tell(
            b'{"jsonrpc":"2.0","id":1,"result":{"isError":true,"content":[{"type":"text",'
            b'"text":"Authorization Error: Tool requires Coordinator privilege"}]}}'
        ),
        errors.ForbiddenError,
        "privilege",
    ),
    (
        lambda f: f.tell(
            b'{"jsonrpc":"2.0","id":1,"result":{"isError":true,"content":[{"type":"text",'
            b'"text":"Error: Agent not found: x"}]}}'
        ),
        errors.NotFoundError,
        "x",
    ),
    (
        lambda f: f.tell(f.result('{"success": false, "error": "not today"}')),
        errors.ServerError,
        "not today",
    ),
]


@pytest.mark.parametrize(("answer", "kind", "words"), ODD)
async def test_an_odd_answer_is_its_own_calls_failure(
    place: Place, answer: Answer, kind: type[Exception], words: str
) -> None:
    error = await failing(place, answer)
    assert isinstance(error, kind)
    assert words in str(error)


async def test_the_token_goes_nowhere_else(place: Place) -> None:
    moved = place.url.replace("127.0.0.1", "localhost") + "/elsewhere"
    error = await failing(place, lambda face: face.tell(b"", 307, location=moved))
    assert isinstance(error, errors.ProtocolError)
    assert len(place.seen) == 1


async def test_an_answer_that_does_not_come_has_its_time(place: Place) -> None:
    forever = threading.Event()
    try:
        error = await failing(place, lambda _: bool(forever.wait(PATIENCE_SECONDS)), 0.2)
        assert isinstance(error, errors.UnavailableError)
        assert "within 0.2 s" in str(error)

        def half(face: Face) -> None:
            face.send_response(200)
            face.send_header("Content-Length", "100")
            face.end_headers()
            face.wfile.write(b'{"jso')
            face.wfile.flush()
            forever.wait(PATIENCE_SECONDS)

        assert isinstance(await failing(place, half, 0.2), errors.UnavailableError)
    finally:
        forever.set()


async def test_whether_anything_was_sent_is_told_apart(place: Place) -> None:
    def ends(face: Face) -> None:
        face.close_connection = True

    lost = await failing(place, ends)
    assert isinstance(lost, errors.UnavailableError)
    assert not isinstance(lost, UnreachableError)
    async with opened("http://127.0.0.1:9/mcp", TOKEN) as client:
        with pytest.raises(UnreachableError):
            await client.call("x", {}, deadline_seconds=PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://127.0.0.1:1/mcp", True),
        ("http://127.9.9.9/mcp", True),
        ("http://[::1]:1/mcp", True),
        ("http://localhost/mcp", True),
        ("http://board.example/mcp", False),
        ("http://localhost.example/mcp", False),
        ("http://10.0.0.1/mcp", False),
    ],
)
def test_what_is_this_machine_is_asked_without_a_proxy(url: str, *, own: bool) -> None:
    assert is_loopback(url) is own
