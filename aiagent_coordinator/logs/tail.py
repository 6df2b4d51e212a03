"""The end of a raw file, for whoever wants the last words only. Not masked."""

from __future__ import annotations

import os
from pathlib import Path


def read_tail(path: Path, size_bytes: int) -> bytes:
    """Return the last bytes of a file; nothing when it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size_bytes))
            return file.read(size_bytes)
    except OSError:
        return b""
