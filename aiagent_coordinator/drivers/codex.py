"""Drives Codex by its app-server: lines of JSON in both directions.

Run as `python -I -m aiagent_coordinator.drivers.codex --prompt FILE --approval MODE [--resume ID]
[--model NAME] [--permissions TOOL] -- PROGRAM app-server ARGUMENT…`. It prints events, one a line. A message
that comes while it works reaches its model with the next request of the same turn; Codex repeats it when
it takes it up, and only then it counts as heard. An interrupt breaks the turn off, and what was said begins
the next. TERM breaks it off and ends the program.

Exit status: 0 its last turn ended well; 1 it did not, or the program broke off; 127 it could not be started.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import anyio
import anyio.abc

from aiagent_coordinator.drivers import driving
from aiagent_coordinator.drivers.codex_events import Translator, fault_of, paths_of
from aiagent_coordinator.drivers.codex_wishes import wishes_of
from aiagent_coordinator.drivers.driving import (
    ANSWER_SECONDS,
    CANCEL_SECONDS,
    MAX_MESSAGE_BYTES,
    Given,
    child,
)
from aiagent_coordinator.drivers.leave import Leave
from aiagent_coordinator.drivers.words import Json, Lines, Word, read_object, say, say_heard


class RefusedError(Exception):
    """The program answers a request with an error."""


class GoneError(ConnectionError):
    """The program broke off."""


class Line:
    """The program's side of the conversation: requests with their answers."""

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdin is not None  # noqa: S101 - pipes were asked for
        self._into = process.stdin
        self._number = 0
        self._answers: dict[int, Json] = {}
        self._waiting: dict[int, anyio.Event] = {}
        self._sending = anyio.Lock()
        self._is_gone = False

    async def request(self, method: str, params: Json) -> Json:
        """Ask, and wait for the answer.

        Raises:
            RefusedError: it says no.
            GoneError: it is gone.
            TimeoutError: it says nothing.
        """
        self._number += 1
        number, event = self._number, anyio.Event()
        self._waiting[number] = event
        await self.send({"id": number, "method": method, "params": params})
        with anyio.fail_after(ANSWER_SECONDS):
            await event.wait()
        answer = self._answers.pop(number, None)
        if answer is None:
            raise GoneError
        error = _object(answer.get("error"))
        if error:
            raise RefusedError(str(error.get("message") or error))
        return _object(answer.get("result"))

    async def send(self, message: Json) -> None:
        """Write one message.

        Raises:
            GoneError: it reads no more.
        """
        data = json.dumps(message, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        if self._is_gone:
            raise GoneError
        try:
            async with self._sending:
                await self._into.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise GoneError from error

    def take(self, answer: Json) -> None:
        """An answer came."""
        number = answer.get("id")
        event = self._waiting.pop(number, None) if isinstance(number, int) else None
        if event is not None and isinstance(number, int):
            self._answers[number] = answer
            event.set()

    def end(self) -> None:
        """No answer comes any more."""
        self._is_gone = True
        for event in self._waiting.values():
            event.set()


class Session:
    """One thread of Codex, and the turn that it is in."""

    def __init__(self, given: Given, line: Line) -> None:
        self._given = given
        self._line = line
        self._leave = Leave(given.approval, asks=given.asks)
        self._translator = Translator()
        self._thread = ""
        #: The turn that goes on; empty: none.
        self._turn = ""
        self._turn_over = anyio.Event()
        self._ended_well = False
        #: Said and not taken up: by the name that the program repeats.
        self._said: dict[str, Word] = {}
        self._words: list[Word] = []
        #: Changes of files that it may ask leave for: all that they were said to be about.
        self._changes: dict[str, list[str]] = {}
        self.is_ending = False
        self._is_gone = False

    async def open(self) -> None:
        """Shake hands, and begin a thread or go on with one."""
        ours: Json = {
            "name": "aiagent-coordinator",
            "title": "AI agent coordinator",
            "version": "1",
        }
        await self._line.request("initialize", {"clientInfo": ours})
        await self._line.send({"method": "initialized"})
        asks = self._given.asks and self._given.approval != "bypass"
        how: Json = {
            "cwd": str(Path.cwd()),
            "approvalPolicy": "untrusted" if asks else "never",
        }
        if self._given.model:
            how["model"] = self._given.model
        begun = await self._go_on(how) or await self._line.request("thread/start", how)
        self._thread = str(_object(begun.get("thread")).get("id") or "")
        started: Json = {"event": "started", "session_id": self._thread}
        say({**started, "model": begun.get("model"), "tools": None, "servers": None})

    async def _go_on(self, how: Json) -> Json | None:
        """Go on with the thread of a run before; None where that cannot be had."""
        if not self._given.resume:
            return None
        try:
            wanted = {**how, "threadId": self._given.resume, "excludeTurns": True}
            return await self._line.request("thread/resume", wanted)
        except RefusedError as error:
            sys.stderr.write(f"session {self._given.resume} cannot be gone on with: {error}\n")
            return None

    async def work(self) -> bool:
        """Turn after turn, until nothing is left to say; whether the last one ended well."""
        await self._take_turn(self._given.prompt)
        while self._words and not self.is_ending and not self._is_gone:
            said, self._words = self._words, []
            await self._take_turn(driving.join_heard(said))
        return self._ended_well and not self._is_gone

    async def _take_turn(self, text: str) -> None:
        self._turn_over, self._ended_well = anyio.Event(), False
        wanted: Json = {"threadId": self._thread, "input": [_text(text)]}
        answer = await self._line.request("turn/start", wanted)
        if not self._turn_over.is_set():
            self._turn = str(_object(answer.get("turn")).get("id") or "")
        # what was said while the turn was about to begin is for it
        early, self._words = self._words, []
        for word in early:
            await self.hear(word)
        await self._turn_over.wait()
        self._turn = ""
        # what it did not take up in this turn begins the next
        self._words = [*self._said.values(), *self._words]
        self._said.clear()

    async def hear(self, word: Word) -> None:
        """Take a word into the turn that goes on; an interrupt breaks that off."""
        if word.interrupts or not self._turn:
            self._words.append(word)
            if word.interrupts:
                await self.cancel()
            return
        self._said[word.id] = word
        wanted: Json = {
            "threadId": self._thread,
            "expectedTurnId": self._turn,
            "clientUserMessageId": word.id,
            "input": [_text(word.text)],
        }
        try:
            await self._line.request("turn/steer", wanted)
        except (RefusedError, TimeoutError):
            # the turn was just over, or takes nothing in
            if self._said.pop(word.id, None) is not None:
                self._words.append(word)

    async def cancel(self) -> None:
        """Break off what it does."""
        if self._turn:
            with contextlib.suppress(RefusedError, TimeoutError):
                wanted = {"threadId": self._thread, "turnId": self._turn}
                await self._line.request("turn/interrupt", wanted)

    async def end(self) -> None:
        """Somebody wants it to stop: break off, and give the turn a moment to say how it ended."""
        self.is_ending = True
        with contextlib.suppress(GoneError), anyio.move_on_after(CANCEL_SECONDS):
            await self.cancel()
            if self._turn:
                await self._turn_over.wait()

    def gone(self) -> None:
        """The program says nothing any more."""
        if not self._turn_over.is_set() and not self.is_ending:
            driving.say_broken("the program broke off the conversation")
        self._is_gone = True
        self._line.end()
        self._turn_over.set()

    def notice(self, method: str, params: Json) -> None:
        """Take a notification of the program, in their order."""
        item = _object(params.get("item"))
        if item.get("type") == "userMessage":
            word = self._said.pop(str(item.get("clientId")), None)
            if word is not None:
                say_heard(word.id)
        if item.get("type") == "fileChange" or method == "item/fileChange/patchUpdated":
            known = self._changes.setdefault(str(item.get("id") or params.get("itemId")), [])
            known += paths_of(item or params)
        for event in self._translator.notice(method, params):
            say(event)
        if method == "turn/completed":
            self._ended_well = _object(params.get("turn")).get("status") == "completed"
            self._turn_over.set()

    async def answer(self, method: str, params: Json) -> Json | None:
        """What is said to something that the program asks; None: it is not known."""
        match method:
            case "item/commandExecution/requestApproval" | "item/fileChange/requestApproval":
                ident = str(params.get("itemId") or "")
                wishes = wishes_of(method, params, self._changes.get(ident, []))
                answer = await self._leave.give(ident, wishes)
                return {"decision": "accept" if answer.is_allowed else "decline"}
            case "item/permissions/requestApproval":
                return {"permissions": {}}
            case "mcpServer/elicitation/request":
                return {"action": "decline"}
            case "item/tool/requestUserInput":
                return {"answers": {}}
            case _:
                return None


def _text(words: str) -> Json:
    return {"type": "text", "text": words, "text_elements": []}


def _object(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


async def _read(
    process: anyio.abc.Process, line: Line, session: Session, tasks: anyio.abc.TaskGroup
) -> None:
    """Take what the program says until it is gone."""
    assert process.stdout is not None  # noqa: S101 - pipes were asked for
    lines = Lines(MAX_MESSAGE_BYTES)
    async for data in process.stdout:
        for text in lines.feed(data):
            message = read_object(text) or {}
            method, params = message.get("method"), _object(message.get("params"))
            if not isinstance(method, str):
                line.take(message)
            elif "id" in message:
                # a person may think for long: what follows is read meanwhile
                tasks.start_soon(_reply, line, session, message, params)
            else:
                session.notice(method, params)
    session.gone()


async def _reply(line: Line, session: Session, message: Mapping[str, object], params: Json) -> None:
    answer = await session.answer(str(message["method"]), params)
    told: Json = {"id": message["id"]}
    if answer is None:
        told["error"] = {"code": -32601, "message": "not known here"}
    else:
        told["result"] = answer
    with contextlib.suppress(GoneError):
        await line.send(told)


async def drive(given: Given) -> int:
    """Everything; gives the exit status, or minus the signal that ended it."""
    is_well = False
    async with (
        driving.ending() as ending,
        child(given.command) as process,
        anyio.create_task_group() as tasks,
    ):
        line = Line(process)
        session = Session(given, line)
        tasks.start_soon(ending.heed, session.end, tasks)
        tasks.start_soon(_read, process, line, session, tasks)
        try:
            await session.open()
            tasks.start_soon(driving.listen, session.hear)
            is_well = await session.work()
        except GoneError:
            pass  # it was told when it happened
        except (RefusedError, TimeoutError) as error:
            words = str(error) or f"no answer within {ANSWER_SECONDS:g} s"
            say(fault_of({"message": words}))
            sys.stderr.write(f"{words}\n")
        tasks.cancel_scope.cancel()
    return ending.status(is_well=is_well)


if __name__ == "__main__":
    driving.run(drive, driving.read_given())
