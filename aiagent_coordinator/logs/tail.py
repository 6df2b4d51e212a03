"""The end of a raw file, for whoever wants the last words only. Not masked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_LINE_BYTES = 2 * 1024 * 1024


def read_tail(path: Path, size_bytes: int) -> bytes:
    """Return the last bytes of a file; nothing when it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size_bytes))
            return file.read(size_bytes)
    except OSError:
        return b""


def last_lines(path: Path, size_bytes: int) -> Iterator[bytes]:
    """The lines of the last bytes of a file, one after the other; none when it cannot be read.

    The first may be the end of one that was cut. None is longer than 2 MiB: a longer one comes in parts.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size_bytes))
            while line := file.readline(_LINE_BYTES):
                yield line
    except OSError:
        return
