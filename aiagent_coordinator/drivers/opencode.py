"""Drives OpenCode by its server: requests over HTTP on this machine, and a stream of what happens.

Run as `python -I -m aiagent_coordinator.drivers.opencode --prompt FILE --approval MODE [--resume ID]
[--model VENDOR/NAME] [--permissions TOOL] [--title TEXT] [--agent NAME] [--auto] [--variant NAME]
-- PROGRAM serve ARGUMENT…`. It prints events, one a line. A message that comes while it works reaches its
model with the next request of the same turn; the answer that is begun for it says so, and only then it
counts as heard. An interrupt aborts what it does, and what was said begins the next turn. TERM aborts it
and ends the server.

Exit status: 0 its last turn ended well; 1 it did not, or the program broke off; 127 it could not be started.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Final

import anyio
import anyio.abc

from aiagent_coordinator.drivers import driving
from aiagent_coordinator.drivers.driving import ANSWER_SECONDS, CANCEL_SECONDS, Given
from aiagent_coordinator.drivers.endings import NOT_STARTED, say_not_started
from aiagent_coordinator.drivers.leave import Leave
from aiagent_coordinator.drivers.opencode_events import Translator, list_of, object_of
from aiagent_coordinator.drivers.opencode_server import GoneError, RefusedError, Server, serving
from aiagent_coordinator.drivers.opencode_wishes import wishes_of
from aiagent_coordinator.drivers.words import Json, Word, say, say_heard

#: Under this name a message carries our id, which the server repeats.
_OUR_ID: Final = "aiagent_word"
_SILENT: Final = f"no answer within {ANSWER_SECONDS:g} s"
#: For the servers of its tools to be up: without them it works as well.
SERVERS_SECONDS: Final = 30.0


class Session:
    """One session of OpenCode, and whether it works."""

    def __init__(self, given: Given, server: Server) -> None:
        self._given = given
        self._server = server
        self._leave = Leave(given.approval, asks=given.asks)
        self._translator = Translator("")
        self._id = ""
        self._is_busy = False
        #: Given and not taken up, by id; and the program's name for the message of each.
        self._untaken: dict[str, Word] = {}
        self._messages: dict[str, str] = {}
        #: Words that are about to be given.
        self._hearing = 0
        self._news = anyio.Event()
        self.is_ending = False
        self._is_gone = False

    async def open(self) -> None:
        """Begin a session or go on with one."""
        self._id = await self._resumed() or await self._begun()
        self._translator = Translator(self._id, await self._window())
        started: Json = {"event": "started", "session_id": self._id, "tools": None}
        say({**started, "model": self._given.model or None, "servers": await self._servers()})

    async def _begun(self) -> str:
        title = self._given.more.get("title")
        begun = object_of(await self._server.post("/session", {"title": title} if title else {}))
        return str(begun.get("id") or "")

    async def _resumed(self) -> str:
        if not self._given.resume:
            return ""
        try:
            known = object_of(await self._server.get(f"/session/{self._given.resume}"))
        except RefusedError as error:
            sys.stderr.write(f"session {self._given.resume} cannot be gone on with: {error}\n")
            return ""
        return str(known.get("id") or "")

    async def _servers(self) -> dict[str, str] | None:
        """How the servers of its tools stand."""
        with anyio.move_on_after(SERVERS_SECONDS), contextlib.suppress(RefusedError, TimeoutError):
            known = object_of(await self._server.get("/mcp"))
            return {name: str(object_of(one).get("status")) for name, one in known.items()}
        return None

    async def _window(self) -> int | None:
        """How much its model takes in, as far as the program knows."""
        vendor, _, name = self._given.model.partition("/")
        with contextlib.suppress(RefusedError, TimeoutError):
            known = object_of(await self._server.get("/config/providers"))
            for one in map(object_of, list_of(known.get("providers"))):
                if one.get("id") == vendor:
                    model = object_of(object_of(one.get("models")).get(name))
                    limit = object_of(model.get("limit")).get("context")
                    return limit if isinstance(limit, int) and limit > 0 else None
        return None

    async def work(self) -> bool:
        """Until nothing is left to do; whether the last turn ended well."""
        await self._give(Word("", self._given.prompt))
        while not self.is_ending and not self._is_gone:
            if self._is_busy or self._hearing:
                await self._news.wait()
            elif not self._untaken or self._translator.is_broken:
                break
            else:
                # it is about to begin; unless the turn before ended in that very moment
                with anyio.move_on_after(ANSWER_SECONDS) as scope:
                    await self._news.wait()
                if scope.cancelled_caught and not self._is_busy:
                    driving.say_broken("the program takes up nothing that is said to it")
                    return False
        return not self._translator.is_broken and not self._is_gone

    async def _give(self, word: Word) -> None:
        self._untaken[word.id] = word
        part = {"type": "text", "text": word.text, "metadata": {_OUR_ID: word.id}}
        message: Json = {"parts": [part]}
        vendor, slash, name = self._given.model.partition("/")
        if slash:
            message["model"] = {"providerID": vendor, "modelID": name}
        if "variant" in self._given.more:
            message["variant"] = self._given.more["variant"]
        if "agent" in self._given.more and not self._given.asks:
            message["agent"] = self._given.more["agent"]
        await self._server.post(f"/session/{self._id}/prompt_async", message)

    async def hear(self, word: Word) -> None:
        """Give it a word; an interrupt breaks off what it does first."""
        self._hearing += 1
        try:
            if word.interrupts:
                await self.cancel()
            await self._give(word)
        except (RefusedError, TimeoutError) as error:
            self._untaken.pop(word.id, None)
            sys.stderr.write(f"a message was not taken: {error}\n")
        finally:
            self._hearing -= 1
            self._tell()

    async def cancel(self) -> None:
        """Break off what it does."""
        if self._is_busy:
            with contextlib.suppress(RefusedError, TimeoutError):
                await self._server.post(f"/session/{self._id}/abort")

    async def end(self) -> None:
        """Somebody wants it to stop: break off, and give the turn a moment to say how it ended."""
        self.is_ending = True
        with contextlib.suppress(GoneError), anyio.move_on_after(CANCEL_SECONDS):
            await self.cancel()
            while self._is_busy and not self._is_gone:
                await self._news.wait()
        self._tell()

    def gone(self) -> None:
        """The program says nothing any more."""
        if not self._is_gone and not self.is_ending:
            driving.say_broken("the program broke off the conversation")
        self._is_gone = True
        self._tell()

    def notice(self, event: Json) -> None:
        """Take an event, in their order."""
        kind, told = str(event.get("type")), object_of(event.get("properties"))
        is_ours = told.get("sessionID") == self._id
        if is_ours:
            self._follow(kind, told)
        for one in self._translator.notice(event):
            say(one)
        if is_ours and kind == "session.status" and not self._is_busy:
            for one in self._translator.turn_over():
                say(one)
        self._tell()

    def _follow(self, kind: str, told: Json) -> None:
        """Whether it works, and what of ours it has taken up."""
        if kind == "session.status":
            self._is_busy = object_of(told.get("status")).get("type") != "idle"
            if self._is_busy:
                self._translator.begin()
        elif kind == "message.part.updated":
            part = object_of(told.get("part"))
            ident = object_of(part.get("metadata")).get(_OUR_ID)
            if isinstance(ident, str) and ident in self._untaken:
                self._messages[str(part.get("messageID"))] = ident
        elif kind == "message.updated":
            info = object_of(told.get("info"))
            if info.get("role") == "assistant":
                self._take_up(str(info.get("parentID")))

    def _take_up(self, newest: str) -> None:
        """An answer is begun, for all messages up to this; their ids rise."""
        for message in [one for one in self._messages if one <= newest]:
            word = self._untaken.pop(self._messages.pop(message), None)
            if word is not None and word.id:
                say_heard(word.id)

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def reply(self, event: Json) -> None:
        """Answer what it asks; an answer that comes too late is nobody's."""
        told = object_of(event.get("properties"))
        ident = str(told.get("id") or "")
        with contextlib.suppress(RefusedError, GoneError, TimeoutError):
            if event.get("type") == "question.asked":
                await self._server.post(f"/question/{ident}/reject")
                return
            call = str(object_of(told.get("tool")).get("callID") or ident)
            given = self._translator.inputs.get(call, {})
            answer = await self._leave.give(call, wishes_of(told, given))
            body = {"reply": "once"}
            if not answer.is_allowed:
                # without a word the turn would be over
                body = {"reply": "reject", "message": answer.words}
            await self._server.post(f"/permission/{ident}/reply", body)


async def _follow(
    server: Server, session: Session, tasks: anyio.abc.TaskGroup, is_open: anyio.Event
) -> None:
    """Take what the program tells until it is gone."""
    async for event in server.events():
        is_open.set()
        if event.get("type") in {"permission.asked", "question.asked"}:
            # a person may think for long: what follows is read meanwhile
            tasks.start_soon(session.reply, event)
        session.notice(event)
    session.gone()
    is_open.set()


async def _converse(server: Server, session: Session) -> bool:
    """From the first word to the last; whether it ended well."""
    is_well = False
    async with anyio.create_task_group() as tasks:
        is_open = anyio.Event()
        tasks.start_soon(server.pass_on)
        tasks.start_soon(_follow, server, session, tasks, is_open)
        try:
            with anyio.fail_after(ANSWER_SECONDS):
                await is_open.wait()
            await session.open()
            tasks.start_soon(driving.listen, session.hear)
            is_well = await session.work()
        except GoneError:
            session.gone()
        except RefusedError as error:
            driving.say_broken(str(error))
        except TimeoutError:
            driving.say_broken(_SILENT)
        tasks.cancel_scope.cancel()
    return is_well


async def drive(given: Given) -> int:
    """Everything; gives the exit status, or minus the signal that ended it."""
    sessions: list[Session] = []
    is_well = False

    async def end() -> None:
        for session in sessions:
            await session.end()

    async with driving.ending() as ending, anyio.create_task_group() as tasks:
        tasks.start_soon(ending.heed, end, tasks)
        try:
            async with serving(given, _env(given)) as server:
                sessions.append(Session(given, server))
                is_well = await _converse(server, sessions[0])
        except TimeoutError:
            driving.say_broken(_SILENT)
        except GoneError as error:
            driving.say_broken(str(error) or "the program ended before it served")
        except OSError as error:
            say_not_started(given.command[0], error)
            return NOT_STARTED
        finally:
            tasks.cancel_scope.cancel()
    return ending.status(is_well=is_well)


def _env(given: Given) -> Json:
    """Where a person or a rule decides of changes, it is to ask for them."""
    if given.approval != "ask" or not given.asks:
        return {}
    settings = json.loads(os.environ.get("OPENCODE_CONFIG_CONTENT") or "{}")
    told = object_of(object_of(settings).get("permission"))
    return {} if "edit" in told else {"OPENCODE_PERMISSION": json.dumps({"edit": "ask"})}


if __name__ == "__main__":
    driving.run(drive, driving.read_given("title", "agent", "variant", flags=["auto"]))
