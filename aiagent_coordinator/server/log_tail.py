"""The end of what a run printed, for who may see it: masked, and harmless to a terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aiagent_coordinator.errors import NotFoundError
from aiagent_coordinator.logs.tail import read_tail
from aiagent_coordinator.redaction import printable

#: What is shown of a log.
TAIL_BYTES = 32 * 1024


def tail_of(folder: Path | None, log_path: str | None, mask: Callable[[str], str]) -> str:
    """The last lines of a run. Blocks for milliseconds.

    Args:
        folder: The run's directory, where its raw output is as long as it is kept.
        log_path: The readable log, which is complete when the run is over.
        mask: Takes secrets out.

    Raises:
        NotFoundError: nothing is left, or nothing was begun.
    """
    for file in (folder and folder / "out", log_path and Path(log_path)):
        if file and file.is_file():
            data = read_tail(file, TAIL_BYTES)
            lines = data.decode("utf-8", "replace").split("\n")
            # half a line could hold half a secret, which is not recognised
            whole = lines[1:] if len(data) == TAIL_BYTES else lines
            return "\n".join(printable(mask(line)) for line in whole)
    raise NotFoundError("no output of this run is here")


def size_of(folder: Path) -> int:
    """How much a run has printed so far, in bytes; 0 before it begins."""
    try:
        return (folder / "out").stat().st_size
    except OSError:
        return 0
