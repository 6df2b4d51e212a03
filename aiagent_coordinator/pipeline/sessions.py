"""Sessions of CLIs that keep them below a run's own folder: put away at its end, given to the next run.

A CLI with a home of its own for each run would begin anew each time. What it leaves is the agent's
writing: links are not followed, and there is a limit to what is carried on.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from aiagent_coordinator.pipeline.context import Context
from aiagent_coordinator.pipeline.run import RunRecord
from aiagent_coordinator.runs import RunOutcome
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: Where they lie in the folder of a run that is over.
FOLDER = "session"
#: More is no conversation; the next run then begins anew.
MAX_BYTES = 256 * 1024 * 1024
MAX_FILES = 1000


def put_away(record: RunRecord, context: Context) -> None:
    """Keep the session of a run whose task may go on. Blocks; again changes nothing."""
    folder = context.state.run(record.run_id)
    if record.outcome == RunOutcome.SUCCEEDED or record.provider not in context.catalog:
        return
    try:
        for file in _files(folder / "files", _patterns(record, context)):
            kept = folder / FOLDER / file.relative_to(folder / "files")
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.rename(kept)
    except OSError as error:
        _warn(record, error)


def bring(record: RunRecord, run_id: object, context: Context) -> bool:
    """Give a run the session files of the run before.

    Args:
        record: The run, whose `files/` exist.
        run_id: Whose session it goes on with, as the server says; None: it does not say.
        context: What the coordinator has.

    Returns:
        Whether the session can be gone on with: its files are there, or lie elsewhere.
    """
    patterns = _patterns(record, context)
    if not patterns:
        return True
    if not isinstance(run_id, str) or Path(run_id).name != run_id or run_id in {"", ".", ".."}:
        return False
    kept, files = context.state.run(run_id) / FOLDER, context.state.run(record.run_id) / "files"
    found = False
    try:
        for file in _files(kept, patterns):
            target = files / file.relative_to(kept)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(file, target, follow_symlinks=False)
            found = True
    except OSError as error:
        _warn(record, error)
        return False
    return found


def _patterns(record: RunRecord, context: Context) -> tuple[str, ...]:
    return context.catalog.get(record.provider).launch.session_files


def _files(root: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    """Plain files below a folder, by no link, as many as may be carried on."""
    budget, count = MAX_BYTES, 0
    for pattern in patterns:
        for file in sorted(root.glob(pattern)):
            if not file.is_file() or file.is_symlink() or not _is_inside(file, root):
                continue
            budget, count = budget - file.stat().st_size, count + 1
            if budget < 0 or count > MAX_FILES:
                return
            yield file


def _is_inside(file: Path, root: Path) -> bool:
    return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(root))


def _warn(record: RunRecord, error: OSError) -> None:
    log_event(
        logger,
        logging.WARNING,
        "run.failed",
        "the session of its program could not be kept: the next run begins anew",
        run_id=record.run_id,
        error=str(error),
    )
