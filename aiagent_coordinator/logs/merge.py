"""One story out of two streams: the lines of `out` and `err` in their order, and the log people read.

Order is (tick, stream, line number). The raw files and their ticks are the truth; the readable log is
made from them at any time, masked. Everything streams: memory does not grow with the output. Blocking:
call it in a worker thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from aiagent_coordinator.logs.record import Record, Source, Tick, read_ticks
from aiagent_coordinator.redaction import Masker, printable

#: What is shown of one line; the raw files hold all of it.
MAX_LINE_BYTES = 1024 * 1024
# Kept behind that, so that a secret across the cut is still known as one.
_CUT_OVERLAP_BYTES = 4096
#: Raw bytes that go into the readable log before a run's result is told; the rest may follow.
MAX_LOG_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 256 * 1024
# Lines are handled together: asking once for many is what makes it fast.
_BATCH_BYTES = 256 * 1024
# Beyond the end of any file.
_EVERYTHING = 2**63 - 1
_SHOWN = {Source.OUT: "out", Source.ERR: "err"}
_CONTROL_BYTES = bytes(set(range(0x20)) - {0x09, 0x0A}) + b"\x7f"


@dataclass(frozen=True)
class Written:
    """What a readable log holds: lines, and whether that is everything."""

    lines: int
    is_complete: bool


def records(run_dir: Path, *, is_ended: bool = True) -> Iterator[Record]:
    """Yield a run's lines in order.

    Args:
        run_dir: The run's folder, with `out`, `err` and `ticks`.
        is_ended: Whether nothing can be written any more. Else only lines within ticks come,
            and a later pass yields the same ones first.
    """
    seq = 0
    for block in _blocks(run_dir, is_ended=is_ended):
        for number, data in enumerate(block.data.split(b"\n"), block.first_line):
            seq += 1
            full_bytes = len(data) if block.full_bytes is None else block.full_bytes
            tick = block.tick
            yield Record(
                block.source, number, seq, tick.wall_ns, tick.precision_ms, data, full_bytes
            )


def write_merged_log(
    run_dir: Path,
    path: Path,
    *,
    header: str,
    masker: Masker | None = None,
    limit_bytes: int | None = MAX_LOG_BYTES,
) -> Written:
    """Write a finished run's readable log, in place of what was there.

    Args:
        run_dir: The run's folder.
        path: The log; its folder exists. Appears whole or not at all.
        header: The first line, which says whose log it is.
        masker: Hides the run's secrets.
        limit_bytes: Stop after this many raw bytes, with a line that says so; None for no limit.

    Raises:
        OSError: it cannot be written.
    """
    masker = masker or Masker()
    draft = path.with_name(f".{path.name}.tmp")
    lines = size = 0
    is_complete = True
    with _create(draft) as file:
        file.write(_header_line(header, masker))
        for batch in _batches(_blocks(run_dir, is_ended=True)):
            file.write(_formatted(batch, masker))
            lines += sum(block.lines for block in batch)
            size += sum(block.size_bytes for block in batch)
            if limit_bytes is not None and size >= limit_bytes:
                rest = max(0, _raw_bytes(run_dir) - size)
                is_complete = rest == 0
                break
        if not is_complete:
            note = (
                f"# cut here after {size} bytes; the rest is in {run_dir}/out and {run_dir}/err\n"
            )
            file.write(note.encode())
    draft.replace(path)
    return Written(lines, is_complete)


def create_log(path: Path, header: str, *, masker: Masker | None = None) -> None:
    """Make a run's readable log with its first line, unless it is there; with its folders (0700)."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "wb") as file:
        file.write(_header_line(header, masker or Masker()))


def _create(path: Path) -> BinaryIO:
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def _header_line(header: str, masker: Masker) -> bytes:
    return f"# {printable(masker.mask_text(header)).replace(chr(10), ' ')}\n".encode()


def _raw_bytes(run_dir: Path) -> int:
    sizes = (
        (run_dir / name).stat().st_size for name in ("out", "err") if (run_dir / name).exists()
    )
    return sum(sizes)


def _tick_of(run_dir: Path) -> Tick:
    """What stands for the last tick of a run that has none: when its output was last written."""
    times = [
        (run_dir / name).stat().st_mtime_ns for name in ("out", "err") if (run_dir / name).exists()
    ]
    return Tick(max(times, default=0), 1, 0, 0)


@dataclass(frozen=True, slots=True)
class _Block:
    """Lines of one stream that came together; `full_bytes` is set on a single cut or unended one."""

    source: Source
    tick: Tick
    first_line: int
    data: bytes
    full_bytes: int | None = None

    @property
    def lines(self) -> int:
        return self.data.count(b"\n") + 1

    @property
    def size_bytes(self) -> int:
        return (len(self.data) if self.full_bytes is None else self.full_bytes) + 1


def _blocks(run_dir: Path, *, is_ended: bool) -> Iterator[_Block]:
    """Yield everything in order; each line is in one block."""
    out, err = streams = (
        _Stream(run_dir / "out", Source.OUT),
        _Stream(run_dir / "err", Source.ERR),
    )
    try:
        tick: Tick | None = None
        for tick in read_ticks(run_dir / "ticks"):
            yield from out.take(tick.out_bytes, tick)
            yield from err.take(tick.err_bytes, tick)
        if is_ended:
            # behind the last tick, and lines without an end: last, so that no rank ever changes
            last = tick or _tick_of(run_dir)
            yield from out.take(_EVERYTHING, last)
            yield from err.take(_EVERYTHING, last)
            yield from out.take_unended(last)
            yield from err.take_unended(last)
    finally:
        for stream in streams:
            stream.close()


class _Stream:
    """One raw file read forward, line by line, up to given offsets."""

    def __init__(self, path: Path, source: Source) -> None:
        self._file = path.open("rb") if path.exists() else None
        self._source = source
        self._position = 0
        self._next_line = 1
        # the line whose end was not read yet: its beginning, and how long it is by now
        self._begun: list[bytes] = []
        self._kept = 0
        self._length = 0

    def close(self) -> None:
        if self._file:
            self._file.close()

    def take(self, offset: int, tick: Tick) -> Iterator[_Block]:
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

    def take_unended(self, tick: Tick) -> Iterator[_Block]:
        """Yield the last line when it has no end."""
        if self._length:
            yield self._end(tick)

    def _begin(self, piece: bytes) -> None:
        room = MAX_LINE_BYTES + _CUT_OVERLAP_BYTES - self._kept
        if piece and room > 0:
            self._begun.append(piece[:room])
            self._kept += min(room, len(piece))
        self._length += len(piece)

    def _end(self, tick: Tick) -> _Block:
        block = self._block(tick, b"".join(self._begun), self._length)
        self._begun = []
        self._kept = self._length = 0
        return block

    def _block(self, tick: Tick, data: bytes, full_bytes: int | None = None) -> _Block:
        block = _Block(self._source, tick, self._next_line, data, full_bytes)
        self._next_line += block.lines
        return block


def _batches(blocks: Iterable[_Block]) -> Iterator[list[_Block]]:
    batch: list[_Block] = []
    size = 0
    for block in blocks:
        batch.append(block)
        size += len(block.data) + 1
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _formatted(batch: list[_Block], masker: Masker) -> bytes:
    joined = b"\n".join([block.data for block in batch])
    # bytes C2 xx hold the second block of control characters in UTF-8
    is_plain = b"\xc2" not in joined and len(joined.translate(None, _CONTROL_BYTES)) == len(joined)
    is_as_it_is = is_plain and masker.is_clean(joined)
    pieces: list[str] = []
    for block in batch:
        prefix = f"{_stamp(block.tick.wall_ns)} {_SHOWN[block.source]} "
        if is_as_it_is and len(block.data) <= MAX_LINE_BYTES:
            text = block.data.decode("utf-8", "replace")
        else:
            text = "\n".join(_shown(data, block, masker) for data in block.data.split(b"\n"))
        pieces += (prefix, text.replace("\n", f"\n{prefix}"), "\n")
    return "".join(pieces).encode()


def _shown(line: bytes, block: _Block, masker: Masker) -> str:
    text = printable(masker.mask_bytes(line)[:MAX_LINE_BYTES].decode("utf-8", "replace"))
    if block.full_bytes is not None and block.full_bytes > MAX_LINE_BYTES:
        return f"{text} … ({block.full_bytes} bytes, cut)"
    return text


def _stamp(ts_ns: int) -> str:
    instant = datetime.fromtimestamp(ts_ns // 1_000_000 / 1000, UTC)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
