"""A raw file of a run, read forward in blocks of lines. Memory does not grow with the output."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aiagent_coordinator.logs.record import Record, Source, Tick

#: What is shown of one line; the raw files hold all of it.
MAX_LINE_BYTES = 1024 * 1024
# Kept behind that, so that a secret across the cut is still known as one.
_CUT_OVERLAP_BYTES = 4096
_CHUNK_BYTES = 256 * 1024
# Beyond the end of any file.
EVERYTHING = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of one stream that came together; `full_bytes` is set on a single cut or unended one."""

    source: Source
    tick: Tick
    first_line: int
    data: bytes
    full_bytes: int | None = None

    def records(self, seq: int) -> Iterator[Record]:
        """Its lines as records, numbered on from `seq`."""
        tick = self.tick
        for place, data in enumerate(self.data.split(b"\n")):
            full_bytes = len(data) if self.full_bytes is None else self.full_bytes
            yield Record(
                self.source,
                self.first_line + place,
                seq + place + 1,
                tick.wall_ns,
                tick.precision_ms,
                data,
                full_bytes,
            )

    @property
    def lines(self) -> int:
        """How many lines it is."""
        return self.data.count(b"\n") + 1

    @property
    def size_bytes(self) -> int:
        """What they take in the raw file, line ends included."""
        return (len(self.data) if self.full_bytes is None else self.full_bytes) + 1


def open_raw(path: Path) -> BinaryIO | None:
    """Open a raw file of a run; None where there is no plain file. Never through a link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "rb")


def tick_of(run_dir: Path) -> Tick:
    """What stands for the last tick of a run that has none: when its output was last written."""
    times = [
        (run_dir / name).stat().st_mtime_ns for name in ("out", "err") if (run_dir / name).exists()
    ]
    return Tick(max(times, default=0), 1, 0, 0)


class Stream:
    """One raw file read forward, line by line, up to given offsets."""

    def __init__(self, path: Path, source: Source) -> None:
        self._file = open_raw(path)
        self._source = source
        self._position = 0
        self._next_line = 1
        # the line whose end was not read yet: its beginning, and how long it is by now
        self._begun: list[bytes] = []
        self._kept = 0
        self._length = 0

    def close(self) -> None:
        """Let the file go."""
        if self._file:
            self._file.close()

    @property
    def is_open(self) -> bool:
        """Whether there was a file to read."""
        return self._file is not None

    def is_of(self, inode: int, size_bytes: int) -> bool:
        """Whether what lies there now is what is being read, with nothing of it taken away."""
        if self._file is None:
            return inode == 0
        return os.fstat(self._file.fileno()).st_ino == inode and size_bytes >= self._position

    def take(self, offset: int, tick: Tick) -> Iterator[Block]:
        """Yield the lines that end before the offset."""
        while self._file and self._position < offset:
            chunk = self._file.read(min(_CHUNK_BYTES, offset - self._position))
            if not chunk:
                return
            self._position += len(chunk)
            ended, newline, begun = chunk.rpartition(b"\n")
            if newline and self._length:
                first, newline, ended = ended.partition(b"\n")
                self._begin(first)
                yield self._end(tick)
            if newline:
                yield self._block(tick, ended)
            self._begin(begun)

    def take_unended(self, tick: Tick) -> Iterator[Block]:
        """Yield the last line when it has no end."""
        if self._length:
            yield self._end(tick)

    def _begin(self, piece: bytes) -> None:
        room = MAX_LINE_BYTES + _CUT_OVERLAP_BYTES - self._kept
        if piece and room > 0:
            self._begun.append(piece[:room])
            self._kept += min(room, len(piece))
        self._length += len(piece)

    def _end(self, tick: Tick) -> Block:
        block = self._block(tick, b"".join(self._begun), self._length)
        self._begun = []
        self._kept = self._length = 0
        return block

    def _block(self, tick: Tick, data: bytes, full_bytes: int | None = None) -> Block:
        block = Block(self._source, tick, self._next_line, data, full_bytes)
        self._next_line += block.lines
        return block
