"""Drives Claude Code with its stream of JSON in both directions.

Run as `python -I -m aiagent_coordinator.drivers.claude --prompt FILE -- PROGRAM ARGUMENT…`. What the CLI
prints is passed on as it is. A message that comes while it works reaches its model with the next request
of the same turn; the CLI repeats it when it takes it up, and only then it counts as heard. After the last
turn its standard input is closed, and it ends by itself.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

from aiagent_coordinator.drivers.endings import NOT_STARTED, end_like, say_not_started
from aiagent_coordinator.drivers.words import (
    MAX_WORD_BYTES,
    Json,
    Lines,
    Word,
    read_object,
    read_word,
    say_heard,
    write_all,
)

#: A longer line of the CLI is a tool's output: none that we look for.
MAX_LINE_BYTES = 16 * 1024 * 1024
CHUNK_BYTES = 256 * 1024
#: Where there is no pidfd, the end of the CLI is looked for this often.
LOOK_SECONDS = 0.5
#: So long after a turn a word that was not taken up keeps its input open.
PATIENCE_SECONDS = 30.0


class Driver:
    """One CLI from its start to its end."""

    def __init__(self, child: subprocess.Popen[bytes], prompt: str) -> None:
        assert child.stdin is not None  # noqa: S101 - pipes were asked for
        assert child.stdout is not None  # noqa: S101
        self._child = child
        self._into, self._out = child.stdin.fileno(), child.stdout.fileno()
        for descriptor in (self._into, self._out):
            os.set_blocking(descriptor, False)
        self._selector = selectors.DefaultSelector()
        self._unsent = b""
        self._is_shut = False
        #: What was sent and not taken up: our id of the message → the word's.
        self._awaited: dict[str, str] = {}
        #: When its last turn ended; None while it works.
        self._idle_since: float | None = None
        self._words = Lines(MAX_WORD_BYTES)
        self._lines = Lines(MAX_LINE_BYTES)
        self._send(_user_message(prompt, str(uuid.uuid4())))

    def run(self) -> int:
        """Until the CLI is gone; gives how it ended, as Popen does."""
        self._selector.register(0, selectors.EVENT_READ)
        self._selector.register(self._out, selectors.EVENT_READ)
        handle = _handle_of(self._child.pid)
        if handle is not None:
            self._selector.register(handle, selectors.EVENT_READ)
        while self._child.poll() is None:
            for key, _ in self._selector.select(self._pause(handle)):
                self._attend(key.fd)
            self._shut_if_done()
        # what it still said; a process that it left behind may hold the pipe open for long
        while self._take_output():
            pass
        return self._child.returncode

    def _pause(self, handle: int | None) -> float | None:
        if self._idle_since is not None and not self._is_shut:
            return LOOK_SECONDS
        return LOOK_SECONDS if handle is None else None

    def _attend(self, descriptor: int) -> None:
        if descriptor == 0:
            self._hear()
        elif descriptor == self._out:
            if not self._take_output():
                self._selector.unregister(self._out)
        elif descriptor == self._into:
            self._feed()

    def _hear(self) -> None:
        """Take words of people."""
        data = os.read(0, CHUNK_BYTES)
        if not data:
            self._selector.unregister(0)
        for line in self._words.feed(data):
            word = read_word(line)
            if word is not None and not self._is_shut:
                self._tell(word)

    def _tell(self, word: Word) -> None:
        if word.interrupts:
            request = {"subtype": "interrupt"}
            self._send({"type": "control_request", "request_id": word.id, "request": request})
        ident = str(uuid.uuid4())
        self._awaited[ident] = word.id
        self._idle_since = None
        self._send(_user_message(word.text, ident))

    def _take_output(self) -> bool:
        """Pass on what the CLI printed; False when there is no more now."""
        try:
            data = os.read(self._out, CHUNK_BYTES)
        except BlockingIOError:
            return self._child.poll() is None
        if not data:
            return False
        write_all(1, data)
        for line in self._lines.feed(data):
            if b'"isReplay"' in line or b'"result"' in line:
                self._notice(read_object(line) or {})
        return True

    def _notice(self, event: Json) -> None:
        match event.get("type"):
            case "user" if event.get("isReplay"):
                word = self._awaited.pop(str(event.get("uuid")), None)
                self._idle_since = None
                if word is not None:
                    say_heard(word)
            case "result":
                self._idle_since = time.monotonic()
            case _:
                pass

    def _shut_if_done(self) -> None:
        """After its last turn the CLI is told by the end of its input that nothing follows."""
        if self._idle_since is None or self._is_shut or self._unsent:
            return
        if not self._awaited or time.monotonic() - self._idle_since > PATIENCE_SECONDS:
            self._is_shut = True
            os.close(self._into)

    def _send(self, message: Json) -> None:
        self._unsent += json.dumps(message, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        self._feed()

    def _feed(self) -> None:
        """Write what the CLI's standard input takes now."""
        was_known = self._into in self._selector.get_map()
        try:
            self._unsent = self._unsent[os.write(self._into, self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent = b""  # it reads no more: it is about to end
        if self._unsent and not was_known:
            self._selector.register(self._into, selectors.EVENT_WRITE)
        elif was_known and not self._unsent:
            self._selector.unregister(self._into)


def _user_message(text: str, ident: str) -> Json:
    content = [{"type": "text", "text": text}]
    message = {"role": "user", "content": content}
    return {"type": "user", "message": message, "parent_tool_use_id": None, "uuid": ident}


def _handle_of(pid: int) -> int | None:
    """Something to wait for the end of a process with, where the system has it."""
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return None


def main() -> None:
    """Start the CLI and drive it."""
    _, _, prompt, _, *command = sys.argv  # --prompt FILE --
    text = Path(prompt).read_text("utf-8")
    try:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except OSError as error:
        say_not_started(command[0], error)
        sys.exit(NOT_STARTED)

    def pass_on(_number: int, _frame: object) -> None:
        child.terminate()

    # a TERM is for the CLI: how that ends is how we end
    signal.signal(signal.SIGTERM, pass_on)
    end_like(Driver(child, text).run())


if __name__ == "__main__":
    main()
