"""OpenCode's server as our child: its start, requests to it, and what it tells. It listens on this machine alone."""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, cast

import anyio
import anyio.abc
import httpx2

from aiagent_coordinator.drivers.driving import ANSWER_SECONDS, MAX_MESSAGE_BYTES, Given, child
from aiagent_coordinator.drivers.words import Json, Lines, read_object

#: The address that it prints.
_ADDRESS: Final = re.compile(rb"listening on (http\S{1,200})")
_LOCAL: Final = re.compile(r"http://127\.0\.0\.1:\d{1,5}")
#: For its tools and shells to end before it does; within the grace of the shim.
DISPOSE_SECONDS: Final = 1.0
#: The name that it wants with its password, unless told otherwise.
_USER: Final = "opencode"


class RefusedError(Exception):
    """The server answers a request with an error."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class GoneError(ConnectionError):
    """The server is gone."""


class Server:
    """A server that is up."""

    def __init__(self, http: httpx2.AsyncClient, process: anyio.abc.Process, lines: Lines) -> None:
        self._http = http
        self._process = process
        self._lines = lines

    async def pass_on(self) -> None:
        """What else it prints is for people."""
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        async for data in self._process.stdout:
            for line in self._lines.feed(data):
                _say_aside(line)

    async def post(self, path: str, body: Json | None = None) -> object:
        """Have something done; gives the answer.

        Raises:
            RefusedError: it says no.
            GoneError: it is gone.
            TimeoutError: it says nothing.
        """
        return await self._ask("POST", path, body)

    async def get(self, path: str) -> object:
        """Look something up; raises as `post` does."""
        return await self._ask("GET", path, None)

    async def _ask(self, method: str, path: str, body: Json | None) -> object:
        try:
            answer = await self._http.request(method, path, json=body)
        except httpx2.TimeoutException as error:
            raise TimeoutError from error
        except httpx2.HTTPError as error:
            raise GoneError from error
        if answer.is_error:
            told = read_object(answer.content) or {}
            data = told.get("data")
            words = cast("Json", data).get("message") if isinstance(data, dict) else None
            raise RefusedError(answer.status_code, str(words or answer.text)[:2000])
        try:
            return json.loads(answer.content) if answer.content else None
        except ValueError:
            return None

    async def events(self) -> AsyncIterator[Json]:
        """What it tells, until it is gone."""
        try:
            async with self._http.stream("GET", "/event", timeout=None) as answer:
                lines = Lines(MAX_MESSAGE_BYTES)
                async for data in answer.aiter_bytes():
                    for line in lines.feed(data):
                        event = read_object(line[5:]) if line.startswith(b"data:") else None
                        if event is not None:
                            yield event
        except httpx2.HTTPError:
            return


@asynccontextmanager
async def serving(given: Given, more_env: Json) -> AsyncGenerator[Server]:
    """The program as our child, from when it answers on; it is gone when this is over.

    Raises:
        GoneError: it ended before.
        TimeoutError: it does not serve.
    """
    # of this run alone; others on the machine reach the port, but not what is behind it
    password = secrets.token_urlsafe(32)
    env = {**os.environ, **more_env, "OPENCODE_SERVER_PASSWORD": password}
    env["OPENCODE_SERVER_USERNAME"] = _USER
    async with child(given.command, env, reads=False) as process:
        lines = Lines(MAX_MESSAGE_BYTES)
        with anyio.fail_after(ANSWER_SECONDS):
            address = await _address(process, lines)
        async with httpx2.AsyncClient(
            base_url=address, auth=(_USER, password), timeout=ANSWER_SECONDS, trust_env=False
        ) as http:
            server = Server(http, process, lines)
            try:
                yield server
            finally:
                with (
                    anyio.CancelScope(shield=True),
                    anyio.move_on_after(DISPOSE_SECONDS),
                    suppress(RefusedError, GoneError, TimeoutError),
                ):
                    await server.post("/global/dispose")


async def _address(process: anyio.abc.Process, lines: Lines) -> str:
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    async for data in process.stdout:
        for line in lines.feed(data):
            address = _ADDRESS.search(line)
            if address is None:
                _say_aside(line)
            elif _LOCAL.fullmatch(found := address[1].decode("ascii", "replace")):
                return found
            else:
                raise GoneError(f"the program listens to others than this machine: {found}")
    raise GoneError


def _say_aside(line: bytes) -> None:
    sys.stderr.write(line.decode("utf-8", "replace") + "\n")
    sys.stderr.flush()
