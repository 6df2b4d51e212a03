"""What is said to a shim: words through its FIFO, answers as files beside it."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def make_fifo(path: Path) -> None:
    """Make the FIFO of a run; what is there already must be one."""
    try:
        os.mkfifo(path, 0o600)
    except FileExistsError:
        if not stat.S_ISFIFO(path.lstat().st_mode):
            raise


def open_gate(directory: Path) -> int:
    """Say go before the shim may be listening; -1 when there is no FIFO.

    The word stays in the FIFO while somebody has it open: the caller closes it once the shim took it.
    """
    try:
        fifo = os.open(directory / "ctl", os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return -1
    if not stat.S_ISFIFO(os.fstat(fifo).st_mode):
        os.close(fifo)
        return -1
    try:
        os.write(fifo, b"G")
    except BlockingIOError:
        pass  # full of words already; the shim will read them all
    return fifo


def say(directory: Path, word: bytes) -> bool:
    """Write a word to the shim; False when nobody has the FIFO open.

    A shim that listens keeps the FIFO open itself, so a word once written is not lost by our closing.
    """
    try:
        fifo = os.open(directory / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        if not stat.S_ISFIFO(os.fstat(fifo).st_mode):
            return False
        os.write(fifo, word)
    except BlockingIOError:
        return True  # full of words that nobody has read yet; one more says nothing new
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(fifo)


def keep_answer(folder: Path, name: str, text: str) -> None:
    """Write an answer whole under its name, unless it is there: the shim reads each name once."""
    path = folder / name
    if path.exists():
        return
    draft = folder / f".{name}.tmp"
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor, not a path
        file.write(f"{text}\n")
    draft.rename(path)
