"""One line of a run's output, and the ticks that say when it appeared."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

#: A row of `ticks`: wall clock ns, monotonic ns, size of `out`, size of `err`.
TICK_ROW = struct.Struct("<qqqq")
#: A poller of the shim looks at least this often; a longer quiet time before a line says nothing about it.
MAX_PRECISION_MS = 2000
_ROWS_PER_READ = 2048


class Source(StrEnum):
    """Which stream a line is from."""

    OUT = "stdout"
    ERR = "stderr"


@dataclass(frozen=True, slots=True)
class Record:
    """One line.

    Attributes:
        source: Its stream; with `line_no` its stable name within the run.
        line_no: From 1, per stream.
        seq: Its rank in the run's order, from 1; the same in every pass over the same bytes.
        ts_ns: When it was there, UTC, ns since 1970: the time of the tick that first held its end.
        ts_precision_ms: How long before that it may have appeared.
        data: Its bytes without the line end; the beginning only, when `full_bytes` is more.
        full_bytes: How long it is.
    """

    source: Source
    line_no: int
    seq: int
    ts_ns: int
    ts_precision_ms: int
    data: bytes
    full_bytes: int

    @property
    def ts(self) -> datetime:
        """Its time as an instant."""
        return datetime.fromtimestamp(self.ts_ns / 1e9, UTC)

    @property
    def is_truncated(self) -> bool:
        """Whether `data` is only the beginning."""
        return len(self.data) < self.full_bytes

    @property
    def message(self) -> str:
        """Its text; bytes that are no UTF-8 become the replacement character. Not masked."""
        return self.data.decode("utf-8", "replace")


class Tick(NamedTuple):
    """How much of each stream was there at a moment."""

    wall_ns: int
    precision_ms: int
    out_bytes: int
    err_bytes: int


def read_ticks(path: Path) -> Iterator[Tick]:
    """Yield the ticks of a run in order; a row cut short by a kill is left out.

    Sizes never shrink: one that does is read as the largest before it.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    reader = TickReader()
    with file:
        while chunk := file.read(TICK_ROW.size * _ROWS_PER_READ):
            yield from reader.read(chunk[: len(chunk) // TICK_ROW.size * TICK_ROW.size])


class TickReader:
    """Turns rows into ticks, in as many pieces as they come."""

    def __init__(self) -> None:
        self._before_ns: int | None = None
        self._out = self._err = 0

    def read(self, rows: bytes) -> Iterator[Tick]:
        """Yield the ticks of whole rows."""
        for wall_ns, mono_ns, out_bytes, err_bytes in TICK_ROW.iter_unpack(rows):
            self._out, self._err = max(self._out, out_bytes), max(self._err, err_bytes)
            before = self._before_ns
            gap_ms = MAX_PRECISION_MS if before is None else (mono_ns - before) // 1_000_000
            self._before_ns = mono_ns
            precision_ms = max(1, min(gap_ms, MAX_PRECISION_MS))
            yield Tick(wall_ns, precision_ms, self._out, self._err)
