"""Drives any program that speaks the Agent Client Protocol.

Run as `python -I -m aiagent_coordinator.drivers.acp --prompt FILE --approval MODE --mcp FILE [--resume ID]
[--model NAME] -- PROGRAM ARGUMENT…`. It prints events, one a line. What the agent asks for is settled by its approval, or
asked of our server. An interrupt cancels the turn, and the agent goes on with what was said; other words
become a turn of their own after it. TERM cancels the turn and ends the agent.

Exit status: 0 its last turn ended well; 1 it did not, or the agent broke off; 127 it could not be started.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio

from aiagent_coordinator.drivers import consent, driving
from aiagent_coordinator.drivers.acp_events import Translator
from aiagent_coordinator.drivers.driving import (
    ANSWER_SECONDS,
    CANCEL_SECONDS,
    CLOSE_SECONDS,
    MAX_MESSAGE_BYTES,
    Given,
)
from aiagent_coordinator.drivers.endings import NOT_STARTED
from aiagent_coordinator.drivers.leave import Leave, Wish, changes_of
from aiagent_coordinator.drivers.words import Json, Word, say
from aiagent_coordinator.permissions import about

try:
    import acp
    from acp import schema
    from acp.exceptions import RequestError
except ImportError:  # pragma: no cover - an installation without the extra
    sys.stderr.write(
        "aiagent-coordinator: the package agent-client-protocol is missing: "
        "pip install 'aiagent-coordinator[acp]'\n"
    )
    sys.exit(NOT_STARTED)

if TYPE_CHECKING:
    from acp.client.connection import ClientSideConnection
    from acp.connection import Connection, StreamEvent

    _Choices = Sequence[schema.SessionConfigOptionSelect | schema.SessionConfigOptionBoolean]


class Client:
    """What the agent may ask of us: whether it may do something. Files and terminals are its own affair."""

    def __init__(self, given: Given) -> None:
        self._leave = Leave(given.approval, asks=given.asks)
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
        answer = await self._leave.give(tool_call.tool_call_id, _wishes(tool_call))
        offered = [{"kind": one.kind, "optionId": one.option_id} for one in options]
        chosen = consent.choose(offered, is_allowed=answer.is_allowed)
        if chosen is None or self.is_cancelled:
            return schema.RequestPermissionResponse(
                outcome=schema.DeniedOutcome(outcome="cancelled")
            )
        return schema.RequestPermissionResponse(
            outcome=schema.AllowedOutcome(outcome="selected", option_id=chosen)
        )

    async def session_update(self, session_id: str, update: object, **_more: object) -> None:
        """Nothing: the messages themselves are read, also those that the library does not know."""
        del session_id, update

    def on_connect(self, conn: object) -> None:
        """Nothing: we hold the connection ourselves."""
        del conn


#: Under one of these names an agent's request says which file it is about.
_PATHS = ("file_path", "filePath", "filepath", "path", "absolute_path")


def _wishes(tool_call: schema.ToolCallUpdate) -> list[Wish]:
    """What an agent asks leave for, and each further file that it says it would change by it."""
    kind = str(tool_call.kind or "other")
    title, tool = tool_call.title or str(tool_call.kind or "tool"), kind.capitalize()
    raw: object = tool_call.raw_input
    told = cast("Json", raw) if isinstance(raw, dict) else {"request": str(raw or title)}
    if kind not in consent.EDITS:
        return [Wish(tool, kind, title, told)]
    named = [told[name] for name in _PATHS if isinstance(told.get(name), str)]
    located = [one.path for one in tool_call.locations or ()]
    files = changes_of([*named, *located], tool, kind)
    known = Path(about(told)).absolute()
    more = [one for one in files if Path(one.title).absolute() != known]
    # outside the workspace no approval of edits holds for the whole of it
    kinds = {one.kind for one in files} - {kind}
    return [Wish(tool, next(iter(kinds), kind), title, told), *more]


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
        servers = _servers(self._given.mcp) if self._given.mcp else []
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
            is_well = await self._turn(driving.join_heard(said))
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
        with anyio.fail_after(ANSWER_SECONDS):
            await session.open()
        yield session
        await session.close()


async def _drive(given: Given) -> int:
    """Everything; gives the exit status, or minus the signal that ended it."""
    is_well = False
    async with (
        driving.ending() as ending,
        _agent(given) as session,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(ending.heed, session.end, tasks)
        tasks.start_soon(driving.listen, session.hear)
        try:
            is_well = await session.work()
        except ConnectionError:
            if not ending.is_wanted:
                driving.say_broken("the agent broke off the conversation")
        tasks.cancel_scope.cancel()
    return ending.status(is_well=is_well)


async def drive(given: Given) -> int:
    """The same, and why there was no session at all."""
    try:
        return await _drive(given)
    except TimeoutError:
        return driving.say_broken(f"the agent did not begin a session within {ANSWER_SECONDS:g} s")
    except ConnectionError:
        return driving.say_broken("the agent ended before it had a session")
    except RequestError as error:
        return driving.say_broken(_said(error))


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # the library logs each message that it does not know
    driving.run(drive, driving.read_given())
