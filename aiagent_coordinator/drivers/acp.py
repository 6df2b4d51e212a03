"""Drives any program that speaks the Agent Client Protocol.

Run as `python -I -m aiagent_coordinator.drivers.acp --prompt FILE --approval MODE --mcp FILE [--resume ID]
[--model NAME] -- PROGRAM ARGUMENT…`. It prints events, one a line. What the agent asks for is settled by its approval, or
asked of our server. An interrupt cancels the turn, and the agent goes on with what was said; other words
become a turn of their own after it. TERM cancels the turn and ends the agent.

Exit status: 0 its last turn ended well; 1 it did not, or the agent broke off; 127 it could not be started.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread

from aiagent_coordinator.drivers import consent
from aiagent_coordinator.drivers.acp_events import Translator
from aiagent_coordinator.drivers.words import (
    MAX_WORD_BYTES,
    Json,
    Lines,
    Word,
    read_word,
    say,
    say_heard,
)

try:
    import acp
    from acp import schema
    from acp.exceptions import RequestError
except ImportError:  # pragma: no cover - an installation without the extra
    sys.stderr.write(
        "aiagent-coordinator: the package agent-client-protocol is missing: "
        "pip install 'aiagent-coordinator[acp]'\n"
    )
    sys.exit(127)

if TYPE_CHECKING:
    from acp.client.connection import ClientSideConnection
    from acp.connection import Connection, StreamEvent

    _Choices = Sequence[schema.SessionConfigOptionSelect | schema.SessionConfigOptionBoolean]

#: An agent's start on a busy machine, and each of its first answers.
START_SECONDS = 120.0
#: For an agent to end a turn that was cancelled, and then itself; within the grace of the shim.
CANCEL_SECONDS = 2.0
CLOSE_SECONDS = 2.0
#: One message of an agent.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
NOT_STARTED = 127


@dataclass(frozen=True)
class Given:
    """What the run says."""

    prompt: str
    approval: str
    mcp: Path
    resume: str
    model: str
    asks: bool
    command: tuple[str, ...]


class Client:
    """What the agent may ask of us: whether it may do something. Files and terminals are its own affair."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._desk = consent.Desk.of(os.environ)
        #: What it does is to be broken off: nothing is allowed any more.
        self.is_cancelled = False

    async def request_permission(
        self,
        session_id: str,
        tool_call: schema.ToolCallUpdate,
        options: list[schema.PermissionOption],
        **_more: Any,  # noqa: ANN401 - the protocol's own
    ) -> schema.RequestPermissionResponse:
        """Answer by policy, or ask a person through our server."""
        del session_id
        title, ident = tool_call.title or str(tool_call.kind or "tool"), tool_call.tool_call_id
        decision = consent.settle(self._given.approval, str(tool_call.kind or "other"), title)
        event: Json = {"event": "permission", "id": ident, "title": title[:500]}
        if decision == "asked":
            raw: object = tool_call.raw_input
            about = cast("Json", raw) if isinstance(raw, dict) else {"request": str(raw or title)}
            decision = await self._ask(tool_call, about, event)
        say({**event, "decision": decision})
        offered = [{"kind": one.kind, "optionId": one.option_id} for one in options]
        chosen = consent.choose(offered, is_allowed=decision == "allowed")
        if chosen is None or self.is_cancelled:
            return schema.RequestPermissionResponse(
                outcome=schema.DeniedOutcome(outcome="cancelled")
            )
        return schema.RequestPermissionResponse(
            outcome=schema.AllowedOutcome(outcome="selected", option_id=chosen)
        )

    async def _ask(
        self, tool_call: schema.ToolCallUpdate, about: Json, event: Json
    ) -> consent.Decision:
        if not self._given.asks or self._desk is None:
            return "denied"
        say({**event, "decision": "asked"})
        tool = str(tool_call.kind or "other").capitalize()
        work = partial(self._desk.ask, tool, about, tool_call.tool_call_id)
        is_allowed, _ = await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
        return "allowed" if is_allowed else "denied"

    async def session_update(self, session_id: str, update: object, **_more: object) -> None:
        """Nothing: the messages themselves are read, also those that the library does not know."""
        del session_id, update

    def on_connect(self, conn: object) -> None:
        """Nothing: we hold the connection ourselves."""
        del conn


class Session:
    """One agent and its session."""

    def __init__(self, given: Given, client: Client, conn: ClientSideConnection) -> None:
        self._given = given
        self._client = client
        self._conn = conn
        #: Beneath it: what the library has no words for.
        self._raw: Connection = conn._conn  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        self._raw.add_observer(self.observe)
        self._id = ""
        self._can_close = False
        self._words: list[Word] = []
        #: No turn goes on.
        self._idle = anyio.Event()
        self._idle.set()
        self._is_replaying = False
        #: It lets its models be chosen in the older way, by a call of its own.
        self._has_models = False
        self._translator = Translator()
        self.is_ending = False

    def observe(self, event: StreamEvent) -> None:
        """Take every message of the agent, in their order."""
        message = event.message
        result: object = message.get("result")
        if isinstance(result, dict) and "models" in result:
            self._has_models = True
        if event.direction.value != "incoming" or message.get("method") != "session/update":
            return
        params = cast("Json", message.get("params") or {})
        update: object = params.get("update")
        if isinstance(update, dict) and not self._is_replaying:
            _say_all(self._translator.update(cast("Json", update)))

    async def open(self) -> None:
        """Shake hands, and begin a session or go on with one."""
        none = schema.FileSystemCapabilities(read_text_file=False, write_text_file=False)
        able = schema.ClientCapabilities(fs=none, terminal=False)
        ours = schema.Implementation(name="aiagent-coordinator", version="1")
        hello = await self._conn.initialize(acp.PROTOCOL_VERSION, able, ours)
        if hello.agent_info is not None:
            self._translator.agent = hello.agent_info.name
        can = hello.agent_capabilities
        within = can.session_capabilities if can else None
        self._can_close = bool(within and within.close is not None)
        servers = _servers(self._given.mcp)
        modes, choices = None, None
        if self._given.resume:
            modes, choices = await self._go_on(
                can_resume=bool(within and within.resume is not None),
                can_load=bool(can and can.load_session),
                servers=servers,
            )
        if not self._id:
            begun = await self._conn.new_session(str(Path.cwd()), mcp_servers=[*servers])
            self._id, modes, choices = begun.session_id, begun.modes, begun.config_options
        say(
            {
                "event": "started",
                "session_id": self._id,
                "model": None,
                "tools": None,
                "servers": None,
            }
        )
        await self._set_mode(modes)
        await self._set_model(choices or [])

    async def _go_on(
        self, *, can_resume: bool, can_load: bool, servers: list[schema.McpServerStdio]
    ) -> tuple[schema.SessionModeState | None, _Choices | None]:
        """Go on with the session of a run before; a new one begins where that cannot be had."""
        ident, here = self._given.resume, str(Path.cwd())
        try:
            if can_resume:
                resumed = await self._conn.resume_session(ident, here, mcp_servers=[*servers])
                self._id = ident
                return resumed.modes, resumed.config_options
            if can_load:
                # it tells the whole story again, which was told when it happened
                self._is_replaying = True
                loaded = await self._conn.load_session(here, ident, mcp_servers=[*servers])
                self._id = ident
                return loaded.modes, loaded.config_options
        except RequestError as error:
            sys.stderr.write(f"session {ident} cannot be gone on with: {error}\n")
        finally:
            self._is_replaying = False
        return None, None

    async def _set_mode(self, modes: schema.SessionModeState | None) -> None:
        """Have the agent ask us, where it would judge by a mode of its own."""
        if modes is None or self._given.approval == "bypass" or modes.current_mode_id == "default":
            return
        if any(mode.id == "default" for mode in modes.available_modes):
            with contextlib.suppress(RequestError):
                await self._conn.set_session_mode(self._id, "default")

    async def _set_model(self, choices: _Choices) -> None:
        """Choose the model that the run names.

        Raises:
            RequestError: the agent has no such model, or lets none be chosen.
        """
        model = self._given.model
        if not model:
            return
        option = next((one for one in choices if "model" in (one.category, one.id)), None)
        if option is not None:
            await self._conn.set_config_option(option.id, self._id, model)
        elif self._has_models:
            wanted = {"sessionId": self._id, "modelId": model}
            await self._raw.send_request("session/set_model", wanted)
        else:
            raise RequestError(-32602, f"the agent lets no model be chosen: {model}")

    async def work(self) -> bool:
        """Turn after turn, until nothing is left to say; whether the last one ended well."""
        is_well = await self._turn(self._given.prompt)
        while self._words and not self.is_ending:
            said, self._words = self._words, []
            for word in said:
                say_heard(word.id)
            is_well = await self._turn("\n\n".join(word.text for word in said))
        return is_well

    async def _turn(self, text: str) -> bool:
        self._idle = anyio.Event()
        self._client.is_cancelled = False
        try:
            answer = await self._conn.prompt(self._id, [acp.text_block(text)])
        except RequestError as error:
            say(
                {
                    "event": "fault",
                    "text": _said(error),
                    "status": _status(error),
                    "retry_after_seconds": None,
                }
            )
            _say_all(self._translator.turn_over({"stopReason": "error"}))
            return False
        finally:
            self._idle.set()
        told = answer.model_dump(mode="json", by_alias=True, exclude_none=True)
        _say_all(self._translator.turn_over(told))
        return answer.stop_reason == "end_turn"

    async def hear(self, word: Word) -> None:
        """Keep a word for the next turn; an interrupt begins it at once."""
        self._words.append(word)
        if word.interrupts:
            await self.cancel()

    async def cancel(self) -> None:
        """Break off what the agent does."""
        if not self._idle.is_set():
            self._client.is_cancelled = True
            await self._conn.cancel(self._id)

    async def close(self) -> None:
        """Let the agent put its session away, where it can."""
        if self._can_close and self._id:
            with (
                contextlib.suppress(RequestError, ConnectionError),
                anyio.move_on_after(CLOSE_SECONDS),
            ):
                await self._conn.close_session(self._id)

    async def end(self) -> None:
        """Somebody wants it to stop: break off, and give the turn a moment to say how it ended."""
        self.is_ending = True
        with contextlib.suppress(ConnectionError), anyio.move_on_after(CANCEL_SECONDS):
            await self.cancel()
            await self._idle.wait()


def _servers(file: Path) -> list[schema.McpServerStdio]:
    """The MCP servers of a run, as the protocol wants them."""
    entries: dict[str, Json] = json.loads(file.read_text("utf-8"))["mcpServers"]
    return [
        schema.McpServerStdio(
            name=name,
            command=entry["command"],
            args=list(entry.get("args") or ()),
            env=[
                schema.EnvVariable(name=key, value=str(value))
                for key, value in cast("Json", entry.get("env") or {}).items()
            ],
        )
        for name, entry in entries.items()
        if "command" in entry
    ]


def _say_all(events: Iterable[Json]) -> None:
    for event in events:
        say(event)


def _said(error: RequestError) -> str:
    """An error with what stands beside it: many agents put their reason there."""
    data: object = error.data
    if isinstance(data, dict):
        known = cast("Json", data)
        more = known.get("details") or known.get("message") or json.dumps(known)
        return f"{error}: {more}"
    return str(error) if data is None else f"{error}: {data}"


def _status(error: RequestError) -> int | None:
    return error.code if 100 <= error.code < 600 else None


@asynccontextmanager
async def _agent(given: Given) -> AsyncGenerator[Session]:
    """The agent as our child, with a session."""
    client = Client(given)
    pipes = {"stderr": None, "limit": MAX_MESSAGE_BYTES, "shutdown_timeout": CLOSE_SECONDS}
    program, *words = given.command
    async with acp.spawn_agent_process(
        cast("Any", client), program, *words, env=os.environ, transport_kwargs=pipes
    ) as (conn, _process):
        session = Session(given, client, conn)
        with anyio.fail_after(START_SECONDS):
            await session.open()
        yield session
        await session.close()


async def _listen(session: Session) -> None:
    """Take words of people until there are none any more."""
    lines = Lines(MAX_WORD_BYTES)
    while True:
        await anyio.wait_readable(0)
        data = os.read(0, 64 * 1024)
        if not data:
            return
        for line in lines.feed(data):
            word = read_word(line)
            if word is not None:
                await session.hear(word)


async def drive(given: Given) -> int:
    """Everything; gives the exit status, or minus the signal that ended it."""
    ended_by: list[int] = []
    is_well = False
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with _agent(given) as session, anyio.create_task_group() as tasks:

            async def heed() -> None:
                async for number in signals:
                    ended_by.append(number)
                    await session.end()
                    tasks.cancel_scope.cancel()

            tasks.start_soon(heed)
            tasks.start_soon(_listen, session)
            try:
                is_well = await session.work()
            except ConnectionError:
                if not ended_by:
                    _broken("the agent broke off the conversation")
            tasks.cancel_scope.cancel()
    return -ended_by[0] if ended_by else int(not is_well)


def _given() -> Given:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompt", type=Path, required=True)
    parser.add_argument("--approval", default="edits")
    parser.add_argument("--mcp", type=Path, required=True)
    parser.add_argument("--resume", default="")
    parser.add_argument("--model", default="")
    parser.add_argument("--permissions", default="")
    parser.add_argument("command", nargs="+")
    said = parser.parse_args()
    return Given(
        said.prompt.read_text("utf-8"),
        said.approval,
        said.mcp,
        said.resume,
        said.model,
        bool(said.permissions),
        tuple(said.command),
    )


def main() -> None:
    """Drive it, and end as it ended."""
    logging.disable(logging.CRITICAL)  # the library logs each message that it does not know
    given = _given()
    try:
        status = anyio.run(drive, given)
    except TimeoutError:
        status = _broken(f"the agent did not begin a session within {START_SECONDS:g} s")
    except ConnectionError:
        status = _broken("the agent ended before it had a session")
    except RequestError as error:
        status = _broken(_said(error))
    except OSError as error:
        sys.stderr.write(f"cannot start {given.command[0]}: {error.strerror}\n")
        status = NOT_STARTED
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


def _broken(text: str) -> int:
    say({"event": "fault", "text": text, "status": None, "retry_after_seconds": None})
    sys.stderr.write(f"{text}\n")
    return 1


if __name__ == "__main__":
    main()
