"""What drivers of conversations have in common: what they are given, whom they listen to, how they end.

A conversation is a CLI with turns that we begin, and words of people in between. Its driver is told what to
do by `Given`, and ends by `run`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE
from typing import Final, NoReturn

import anyio
import anyio.abc

from aiagent_coordinator.drivers.endings import NOT_STARTED, end_like, say_not_started
from aiagent_coordinator.drivers.words import MAX_WORD_BYTES, Lines, Word, read_word, say, say_heard

#: A CLI's start on a busy machine, and each of its answers.
ANSWER_SECONDS: Final = 120.0
#: For a CLI to end a turn that was broken off, and then itself; within the grace of the shim.
CANCEL_SECONDS: Final = 2.0
CLOSE_SECONDS: Final = 2.0
#: One message of a CLI.
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
_CHUNK_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class Given:
    """What the run says.

    Attributes:
        approval: `ask`, `edits` or `bypass`.
        resume: The session to go on with; empty: a new one.
        asks: What the approval does not allow is asked of our server.
        mcp: The servers of the run; None where the CLI has them otherwise.
        command: The CLI, with its arguments.
        more: What this driver alone is told.
    """

    prompt: str
    approval: str
    resume: str
    model: str
    asks: bool
    mcp: Path | None
    command: tuple[str, ...]
    more: Mapping[str, str] = field(default_factory=dict[str, str])


def read_given(*more: str, flags: Sequence[str] = ()) -> Given:
    """What the arguments of this process say; wrong ones end it.

    Args:
        more: Names of options that only this driver has, each with a word.
        flags: Names of options without one, that say nothing it does not know otherwise.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompt", type=Path, required=True)
    parser.add_argument("--approval", choices=("ask", "edits", "bypass"), default="edits")
    parser.add_argument("--mcp", type=Path)
    parser.add_argument("--resume", default="")
    parser.add_argument("--model", default="")
    parser.add_argument("--permissions", default="")
    for name in more:
        parser.add_argument(f"--{name}", default="")
    for name in flags:
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("command", nargs="+")
    said = parser.parse_args()
    return Given(
        said.prompt.read_text("utf-8"),
        said.approval,
        said.resume,
        said.model,
        bool(said.permissions),
        said.mcp,
        tuple(said.command),
        {name: getattr(said, name) for name in more if getattr(said, name)},
    )


class Ending:
    """Whether somebody wants this process to end, and how it ends then."""

    def __init__(self, signals: AsyncIterator[int]) -> None:
        self._signals = signals
        self._number = 0

    @property
    def is_wanted(self) -> bool:
        """Somebody sent TERM."""
        return self._number != 0

    async def heed(self, end: Callable[[], Awaitable[None]], tasks: anyio.abc.TaskGroup) -> None:
        """Wait for that; have the turn broken off by `end` then, and nothing go on."""
        async for number in self._signals:
            self._number = number
            await end()
            tasks.cancel_scope.cancel()

    def status(self, *, is_well: bool) -> int:
        """The exit status; minus the signal that ended it."""
        return -self._number if self._number else int(not is_well)


@asynccontextmanager
async def ending() -> AsyncGenerator[Ending]:
    """Take TERM from here on."""
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        yield Ending(signals)


async def listen(hear: Callable[[Word], Awaitable[None]]) -> None:
    """Take words of people until there are none any more; a CLI that is gone hears nothing."""
    lines = Lines(MAX_WORD_BYTES)
    while True:
        await anyio.wait_readable(0)
        data = os.read(0, _CHUNK_BYTES)
        if not data:
            return
        for line in lines.feed(data):
            word = read_word(line)
            if word is not None:
                with contextlib.suppress(ConnectionError):
                    await hear(word)


@asynccontextmanager
async def child(
    command: Sequence[str], env: Mapping[str, str] | None = None, *, reads: bool = True
) -> AsyncGenerator[anyio.abc.Process]:
    """A program as our child; it ends by the end of its input if it `reads` that, else by TERM and KILL."""
    process = await anyio.open_process(command, stdin=PIPE, stdout=PIPE, stderr=None, env=env)
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            await _shut(process)
            for end in (None, process.terminate, process.kill)[not reads :]:
                if end is not None:
                    with contextlib.suppress(ProcessLookupError):
                        end()
                with anyio.move_on_after(CLOSE_SECONDS):
                    await process.wait()
                    break
            await process.aclose()


async def _shut(process: anyio.abc.Process) -> None:
    """Say that nothing follows; a program that reads no more is not waited for."""
    if process.stdin is not None:
        with contextlib.suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            await process.stdin.aclose()


def join_heard(words: list[Word]) -> str:
    """Say of each that it was heard, and give the text of a turn for them all."""
    for word in words:
        say_heard(word.id)
    return "\n\n".join(word.text for word in words)


def say_broken(text: str) -> int:
    """Tell what broke the conversation off; gives the exit status for it."""
    say({"event": "fault", "text": text, "status": None, "retry_after_seconds": None})
    sys.stderr.write(f"{text}\n")
    return 1


def run(drive: Callable[[Given], Awaitable[int]], given: Given) -> NoReturn:
    """Drive, and end as that ended; a program that cannot be started has a status of its own."""
    try:
        status = anyio.run(drive, given)
    except OSError as error:
        say_not_started(given.command[0], error)
        status = NOT_STARTED
    end_like(status)
