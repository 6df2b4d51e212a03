"""A run's lines as they come: read once, in order, with a bounded memory.

What has passed is not read again. A raw file that is replaced, cut or removed under us is told as a
`Reset` and read on from the beginning of what lies there now. Blocking: call it in a worker thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiagent_coordinator.logs.blocks import EVERYTHING, Block, Stream, tick_of
from aiagent_coordinator.logs.record import TICK_ROW, Record, Source, Tick, TickReader

_NAMES = {Source.OUT: "out", Source.ERR: "err"}


@dataclass(frozen=True)
class Reset:
    """A raw file is not the one that was being read: its lines count from 1 again."""

    source: Source
    #: What lies there now; 0 when nothing does.
    inode: int
    offset: int = 0


class Follower:
    """Reads a run's lines in order, as far as they are there; may be asked again and again."""

    def __init__(self, run_dir: Path) -> None:
        self._dir = run_dir
        self._streams = {source: Stream(run_dir / name, source) for source, name in _NAMES.items()}
        self._ticks = TickReader()
        self._tick_offset = 0
        self._tick: Tick | None = None
        #: Streams whose ticks speak of another file than the one that is read.
        self._untimed: set[Source] = set()
        self._seq = 0

    def read(self, *, is_ended: bool) -> Iterator[Record | Reset]:
        """Yield what came since the last call.

        Args:
            is_ended: Whether nothing can be written any more; then also what is behind the last
                tick, and lines without an end. Asked before the call, not during it.
        """
        yield from self._resets()
        for tick in self._new_ticks():
            self._tick = tick
            yield from self._take(Source.OUT, tick.out_bytes, tick)
            yield from self._take(Source.ERR, tick.err_bytes, tick)
        last = self._tick or tick_of(self._dir)
        for source in self._streams:
            if is_ended or source in self._untimed:
                yield from self._take(source, EVERYTHING, last)
        if is_ended:
            for stream in self._streams.values():
                yield from self._records(stream.take_unended(last))

    def close(self) -> None:
        """Let the files go."""
        for stream in self._streams.values():
            stream.close()

    def _take(self, source: Source, offset: int, tick: Tick) -> Iterator[Record]:
        stream = self._streams[source]
        yield from self._records(stream.take(offset, tick))

    def _records(self, blocks: Iterator[Block]) -> Iterator[Record]:
        for block in blocks:
            for record in block.records(self._seq):
                self._seq = record.seq
                yield record

    def _resets(self) -> Iterator[Reset]:
        for source, name in _NAMES.items():
            stream = self._streams[source]
            path = self._dir / name
            try:
                info = os.stat(path, follow_symlinks=False)  # noqa: PTH116 - one call per look
            except OSError:
                inode, size = 0, 0
            else:
                inode, size = info.st_ino, info.st_size
            if stream.is_of(inode, size):
                continue
            was_read = stream.is_open
            stream.close()
            self._streams[source] = Stream(path, source)
            if was_read:
                self._untimed.add(source)
                yield Reset(source, inode)

    def _new_ticks(self) -> Iterator[Tick]:
        try:
            with (self._dir / "ticks").open("rb") as file:
                file.seek(self._tick_offset)
                while chunk := file.read(TICK_ROW.size * 2048):
                    whole = len(chunk) // TICK_ROW.size * TICK_ROW.size
                    if not whole:
                        return
                    self._tick_offset += whole
                    file.seek(self._tick_offset)
                    yield from self._ticks.read(chunk[:whole])
        except OSError:
            return
