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

from aiagent_coordinator.logs.blocks import EVERYTHING, MAX_LINE_BYTES, Block, Stream, tick_of
from aiagent_coordinator.logs.record import Record, Source, Tick, read_ticks
from aiagent_coordinator.redaction import Masker, printable

#: Raw bytes that go into the readable log before a run's result is told; the rest may follow.
MAX_LOG_BYTES = 64 * 1024 * 1024
# Lines are handled together: asking once for many is what makes it fast.
_BATCH_BYTES = 256 * 1024
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
        for record in block.records(seq):
            seq = record.seq
            yield record


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


def _blocks(run_dir: Path, *, is_ended: bool) -> Iterator[Block]:
    """Yield everything in order; each line is in one block."""
    out, err = streams = (
        Stream(run_dir / "out", Source.OUT),
        Stream(run_dir / "err", Source.ERR),
    )
    try:
        tick: Tick | None = None
        for tick in read_ticks(run_dir / "ticks"):
            yield from out.take(tick.out_bytes, tick)
            yield from err.take(tick.err_bytes, tick)
        if is_ended:
            # behind the last tick, and lines without an end: last, so that no rank ever changes
            last = tick or tick_of(run_dir)
            yield from out.take(EVERYTHING, last)
            yield from err.take(EVERYTHING, last)
            yield from out.take_unended(last)
            yield from err.take_unended(last)
    finally:
        for stream in streams:
            stream.close()


def _batches(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    batch: list[Block] = []
    size = 0
    for block in blocks:
        batch.append(block)
        size += len(block.data) + 1
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _formatted(batch: list[Block], masker: Masker) -> bytes:
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


def _shown(line: bytes, block: Block, masker: Masker) -> str:
    text = printable(masker.mask_bytes(line)[:MAX_LINE_BYTES].decode("utf-8", "replace"))
    if block.full_bytes is not None and block.full_bytes > MAX_LINE_BYTES:
        return f"{text} … ({block.full_bytes} bytes, cut)"
    return text


def _stamp(ts_ns: int) -> str:
    instant = datetime.fromtimestamp(ts_ns // 1_000_000 / 1000, UTC)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
