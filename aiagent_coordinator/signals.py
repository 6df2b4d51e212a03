"""Signals of a process as things that come one after the other, from the first line to the last.

Not a signal receiver of the event loop's: that gives a signal its default back before the process is
gone, and the default is to die of it in the midst of the last words.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from types import FrameType

import anyio

#: What whoever runs us tells us; see `daemon`.
HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
#: Bytes read at once; each is one signal.
CHUNK = 64


def _heard(_number: int, _frame: FrameType | None) -> None:
    """The byte in the socket says it; this only keeps the default away."""


@contextmanager
def listening() -> Generator[AsyncGenerator[signal.Signals]]:
    """Hear signals while the block runs, in order; after it they change nothing any more.

    Main thread of a process that is about to end after the block.
    """
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in HEARD:
            signal.signal(number, _heard)
        try:
            yield _arriving(reader)
        finally:
            deafen()
            signal.set_wakeup_fd(before)


async def _arriving(reader: socket.socket) -> AsyncGenerator[signal.Signals]:
    while True:
        await anyio.wait_readable(reader)
        for number in reader.recv(CHUNK):
            if number in HEARD:
                yield signal.Signals(number)


def deafen() -> None:
    """From here on a signal changes nothing; it must not cut the way out short either."""
    for number in HEARD:
        signal.signal(number, signal.SIG_IGN)
