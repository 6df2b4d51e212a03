"""Small files of the state directory that are made once, by whichever process comes first."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def read(path: Path, make: Callable[[], str]) -> str:
    """Read a one-line file that the first of several processes makes; all read the same line.

    It appears whole or not at all. An empty one is what a machine left that lost its power.
    """
    with suppress(FileNotFoundError):
        if text := path.read_text(encoding="ascii").strip():
            return text
    descriptor, draft = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor
            file.write(make() + "\n")
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(draft, path)
        except OSError:
            # Somebody was first; or it is empty, or the file system knows no links.
            if not path.exists() or not path.stat().st_size:
                Path(draft).replace(path)
    finally:
        Path(draft).unlink(missing_ok=True)
    return path.read_text(encoding="ascii").strip()
