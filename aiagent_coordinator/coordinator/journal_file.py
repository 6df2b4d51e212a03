"""The journal as a file: opened, made, checked, and set aside when it is damaged."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

from aiagent_coordinator.clock import Clock
from aiagent_coordinator.errors import StoreError
from aiagent_coordinator.paths import make_private
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: Raised with every change of the tables below; another one is refused, not guessed at.
SCHEMA_VERSION = 1
#: What SQLite keeps beside a database; the three belong together.
SUFFIXES = ("", "-wal", "-shm")

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE run (
  run_id TEXT PRIMARY KEY,
  agent_id TEXT NOT NULL,
  project_id TEXT NOT NULL,
  purpose TEXT NOT NULL,
  slot INTEGER NOT NULL,
  stage TEXT NOT NULL,
  record TEXT NOT NULL
) STRICT;
-- One live run per line of work: the second guard beside the server's own.
CREATE UNIQUE INDEX run_live ON run (agent_id, project_id, purpose, slot) WHERE stage <> 'done';
CREATE TABLE stage (
  run_id TEXT NOT NULL,
  stage TEXT NOT NULL,
  began_at TEXT NOT NULL,
  ended_at TEXT,
  PRIMARY KEY (run_id, stage)
) STRICT;
CREATE TABLE outbox (
  run_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  tool TEXT NOT NULL,
  arguments TEXT NOT NULL,
  answer TEXT,
  acked_at TEXT,
  PRIMARY KEY (run_id, seq)
) STRICT;
"""

#: The file itself is not to be trusted; everything else (full disk, busy, no permission) passes.
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class DamagedError(StoreError):
    """The journal cannot be read; it is set aside and made again from the run directories."""


def open_or_set_aside(path: Path, quarantine: Path, clock: Clock) -> sqlite3.Connection:
    """Open or make the journal; one that is damaged is moved to `quarantine` and made anew.

    What it held is found again in the run directories: see `recover`.

    Raises:
        StoreError: it cannot be opened for another reason, or is of another version; it is left
            as it is.
    """
    try:
        return open_file(path)
    except DamagedError as error:
        kept = set_aside(path, quarantine, clock)
        log_event(
            logger,
            logging.ERROR,
            "journal.set_aside",
            "the journal was damaged: it is set aside, and made again from the run directories",
            error=error.message,
            path=str(path),
            kept=str(kept),
        )
        return open_file(path)


def open_file(path: Path) -> sqlite3.Connection:
    """Open or make the journal.

    Raises:
        DamagedError: it is no journal, or parts of it cannot be read; it is left as it is.
        StoreError: it cannot be opened, or is of another version; it is left as it is.
    """
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        connection.execute("PRAGMA busy_timeout=5000")
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":  # a disk that refuses leaves another mode in force, without an error
            raise StoreError(f"the journal {path} cannot be written ahead", reason="disk")
        connection.execute("PRAGMA synchronous=FULL")
        _check(connection, path)
    except (sqlite3.Error, OSError) as error:
        if connection is not None:
            connection.close()
        message = f"the journal {path} cannot be used: {error}"
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            raise DamagedError(message, reason="damaged") from error
        raise StoreError(message, hint="is the disk full, or the file not ours?") from error
    except StoreError:
        if connection is not None:
            connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version not in {0, SCHEMA_VERSION}:
        raise StoreError(
            f"the journal {path} has version {version}, this program knows {SCHEMA_VERSION}",
            hint="use the program that wrote it",
        )
    # A file that was cut off opens well: only looking at every page tells.
    said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if said != "ok":
        raise DamagedError(f"the journal {path} cannot be used: {said}", reason="damaged")
    if version == 0:
        connection.executescript(
            f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
        )


def set_aside(path: Path, quarantine: Path, clock: Clock) -> Path:
    """Move a database with what belongs to it into a folder of its own; return the folder.

    Raises:
        OSError: it cannot be moved.
    """
    make_private(quarantine)
    folder = quarantine / f"{path.name}-{clock.now().strftime('%Y%m%dT%H%M%S%fZ')}"
    make_private(folder)
    for suffix in SUFFIXES:
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(folder / part.name)
    return folder
