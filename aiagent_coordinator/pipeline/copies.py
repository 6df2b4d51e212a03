"""A run's record beside its files: what a journal that was lost is made again from.

The journal is the truth and is written first. The copy is as old as the last `write_copy`, which is
safe: stages may be entered twice. A run that is over has its last copy under another name, so that
a look at many folders reads none of them. Blocking: call it in a worker thread.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from aiagent_coordinator.pipeline.run import RunRecord, Stage

#: The copy of a run that goes on, and of one whose every report was taken.
LIVE = "record"
OVER = "record.done"
#: A record holds one task and its facts; more is damage.
MAX_BYTES = 16 * 1024 * 1024


def write_copy(folder: Path, record: RunRecord) -> None:
    """Put the record beside the run's files. A disk that refuses costs nothing but the copy."""
    draft = folder / f"{LIVE}.tmp"
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
            file.write(record.to_json())
        if record.stage is Stage.DONE:
            draft.replace(folder / OVER)
            (folder / LIVE).unlink(missing_ok=True)
        else:
            draft.replace(folder / LIVE)
    except OSError:
        return


def read_copy(folder: Path) -> RunRecord | None:
    """The record of a run that goes on, as its folder has it; None where there is none to be read."""
    try:
        descriptor = os.open(folder / LIVE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
            record = RunRecord.from_json(file.read(MAX_BYTES).decode("utf-8"))
    except (OSError, ValueError, TypeError, KeyError, RecursionError, json.JSONDecodeError):
        return None
    return record if record.run_id == folder.name else None


def is_over(folder: Path) -> bool:
    """Whether everything about the run was told and taken."""
    return os.path.lexists(folder / OVER)
