"""Looking at a SQLite file before it is opened, backing it up, and bringing it up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL

from aiagent_coordinator.clock import Clock
from aiagent_coordinator.errors import MigrationError, StoreError
from aiagent_coordinator.store.migrate import upgrade_in_child
from aiagent_coordinator.store.revision import READ_REVISION, REVISIONS

#: Backups kept beside the file.
KEEP_BACKUPS = 3
#: Source: https://sqlite.org/fileformat.html, the database header.
_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100


@dataclass(frozen=True)
class Upgrade:
    """What this program knows about schemas, and how it moves a file to the newest."""

    revisions: Sequence[str]
    run: Callable[[str], None]


OURS = Upgrade(REVISIONS, upgrade_in_child)


def sqlite_url(path: Path) -> str:
    """The address of a file, whatever its name is made of."""
    return URL.create("sqlite", database=str(path)).render_as_string()


def prepare_file(path: Path, clock: Clock, upgrade: Upgrade = OURS) -> bool:
    """Check a file, and migrate it after a backup when it is older than the program.

    Returns:
        True when there is nothing yet: the tables are still to be made.

    Raises:
        StoreError: it is damaged; it was not touched.
        MigrationError: its schema is unknown; it was not touched.
    """
    found = read_revision(path)
    head = upgrade.revisions[-1]
    if found is None:
        return True
    if found not in upgrade.revisions:
        raise MigrationError(
            f"{path} has schema {found or 'of another program'}, this program knows up to {head}",
            hint="use the newer program that wrote it",
            found=found,
            needed=head,
        )
    if found != head:
        back_up(path, found, clock)
        upgrade.run(sqlite_url(path))
    return False


def read_revision(path: Path) -> str | None:
    """The schema of a file, read without changing it.

    Returns:
        None for no file or an empty one, "" for a database that is not ours.

    Raises:
        StoreError: the file is no database, or cut off.
    """
    if not path.exists() or path.stat().st_size == 0:
        return None
    log = path.with_name(path.name + "-wal")
    has_log = log.exists() and log.stat().st_size > 0
    _check_header(path, has_log=has_log)
    # Without a write-ahead log to read, `immutable` keeps SQLite from making files beside this one.
    mode = "mode=ro" if has_log else "mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True)) as conn:
            names = {row[0] for row in conn.execute("SELECT name FROM sqlite_master")}
            if not names:
                return None
            if "alembic_version" not in names:
                return ""
            row = conn.execute(READ_REVISION).fetchone()
            return str(row[0]) if row else ""
    except sqlite3.DatabaseError as error:
        raise _damaged(path, str(error)) from error


def _check_header(path: Path, *, has_log: bool) -> None:
    # SQLite itself takes a file that is shorter than this for an empty one, and would write into it.
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if not header.startswith(_MAGIC):
        raise _damaged(path, "it is not an SQLite database")
    page_bytes = int.from_bytes(header[16:18], "big")
    page_bytes = 65536 if page_bytes == 1 else page_bytes
    pages = int.from_bytes(header[28:32], "big")
    # A kill in the middle of a checkpoint leaves a short file whose rest is still in the log.
    if not has_log and path.stat().st_size < page_bytes * pages:
        raise _damaged(path, "it is cut off")


def _damaged(path: Path, why: str) -> StoreError:
    return StoreError(
        f"{path} is damaged: {why}; it was not touched",
        hint="put a backup in its place, or move it away to start anew",
        reason="damaged",
    )


def back_up(path: Path, revision: str, clock: Clock) -> Path:
    """Copy the database as it is now, complete with its log, and keep the last few copies.

    Raises:
        StoreError: the copy could not be made.
    """
    stamp = clock.now().strftime("%Y%m%dT%H%M%S%fZ")
    target = path.with_name(f"{path.name}.backup-{stamp}-{revision}")
    unfinished = target.with_suffix(".tmp")
    try:
        unfinished.touch(mode=0o600)
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(unfinished)) as copy:
            source.backup(copy)
        unfinished.rename(target)
    except (sqlite3.Error, OSError) as error:
        unfinished.unlink(missing_ok=True)
        raise StoreError(f"{path} could not be backed up: {error}", reason="disk") from error
    for old in sorted(path.parent.glob(f"{path.name}.backup-*Z-*"))[:-KEEP_BACKUPS]:
        old.unlink()
    return target
