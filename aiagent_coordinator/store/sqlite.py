"""SQLite: one file, one writing connection that commits in groups, a few that read."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool, StaticPool

from aiagent_coordinator.clock import Clock
from aiagent_coordinator.errors import ConfigError, StoreError
from aiagent_coordinator.events import Event
from aiagent_coordinator.store import quota_tables
from aiagent_coordinator.store.database import Pending, translate
from aiagent_coordinator.store.revision import CREATE_VERSION_TABLE, STAMP
from aiagent_coordinator.store.sqlite_file import prepare_file, sqlite_url
from aiagent_coordinator.store.unit import Moment, Unit, write_events

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

T = TypeVar("T")

#: Only a backup or a person's own tool ever holds the file beside us.
BUSY_SECONDS = 5.0
READ_CONNECTIONS = 4
_FSYNC_FAILED = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})


class SqliteDatabase:
    """The embedded store. Exactly one process opens it at a time."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._moment = Moment(lambda _: clock.now(), clock.monotonic, clock.now())
        self._write_engine = _engine(path, "BEGIN IMMEDIATE", read_only=False)
        self._read_engine = _engine(path, "BEGIN", read_only=True)
        self._writer = self._write_engine.connect()
        #: Nobody else writes here.
        self.ear = None
        #: Why nothing may be written any more, if so.
        self.broken: StoreError | None = None

    def commit(self, batch: Sequence[Pending[Any]]) -> list[Event]:
        """Run all units in one transaction, each under its own savepoint, and commit once."""
        events: list[Event] = []
        try:
            with self._writer.begin():
                for pending in batch:
                    events += self._run(pending)
        except (SQLAlchemyError, _LostTransactionError) as error:
            _roll_back(self._writer)
            cause = error.__cause__ if isinstance(error, _LostTransactionError) else error
            self.broken = _lost_by_the_disk(cause)
            for pending in batch:
                pending.fail(_failure(cause))
            return []
        return events

    def _run(self, pending: Pending[Any]) -> list[Event]:
        unit = Unit(self._writer, self._moment)
        # By hand: SQLAlchemy compiles its own savepoints anew each time.
        self._writer.exec_driver_sql("SAVEPOINT unit")
        try:
            pending.run(unit)
            events = write_events(self._writer, unit.take_events(refused=False))
            self._writer.exec_driver_sql("RELEASE unit")
        except Exception as error:
            # SQLite ends the whole transaction by itself on a full disk and its like.
            if not _in_transaction(self._writer):
                raise _LostTransactionError from error
            self._writer.exec_driver_sql("ROLLBACK TO unit")
            pending.fail(translate(error))
            events = write_events(self._writer, unit.take_events(refused=True))
            self._writer.exec_driver_sql("RELEASE unit")
        return events

    def read(self, work: Callable[[Unit], T]) -> T:
        """Run a unit on a connection that cannot write, on one snapshot."""
        try:
            with self._read_engine.begin() as conn:
                return work(Unit(conn, self._moment, read_only=True))
        except DBAPIError as error:
            raise translate(error) from error

    def close(self) -> None:
        """Close every connection; the last one folds the write-ahead log into the file."""
        self._read_engine.dispose()
        self._writer.close()
        self._write_engine.dispose()


class _LostTransactionError(Exception):
    """The transaction of the whole group is gone; its cause says why."""


def _lost_by_the_disk(error: BaseException | None) -> StoreError | None:
    """After a failed fsync the system may have dropped what it was given: success later proves nothing."""
    original = error.orig if isinstance(error, DBAPIError) else error
    if getattr(original, "sqlite_errorcode", 0) not in _FSYNC_FAILED:
        return None
    return StoreError(
        f"the store's disk lost what was written: {original}",
        hint="mend the disk and start again: what was acknowledged is there",
        reason="disk",
    )


def _failure(error: BaseException | None) -> Exception:
    if isinstance(error, Exception):
        translated = translate(error)
        if isinstance(translated, StoreError):
            return translated
    return StoreError(f"the change could not be committed: {error}", reason="database")


def _in_transaction(conn: Connection) -> bool:
    return bool(getattr(conn.connection.dbapi_connection, "in_transaction", False))


def _roll_back(conn: Connection) -> None:
    # After a COMMIT that failed SQLAlchemy thinks it is over, and SQLite still holds it open.
    raw = conn.connection.dbapi_connection
    if raw is not None and _in_transaction(conn):
        raw.rollback()


def _engine(path: Path, begin: str, *, read_only: bool) -> Engine:
    pool: dict[str, Any] = (
        {"poolclass": QueuePool, "pool_size": READ_CONNECTIONS, "max_overflow": 0}
        if read_only
        else {"poolclass": StaticPool}
    )
    engine = create_engine(
        sqlite_url(path),
        connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS},
        **pool,
    )

    def set_up(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # The driver's own idea of when a transaction begins would keep savepoints from working.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        if cursor.fetchone() != ("wal",):
            # A disk that refuses leaves another mode in force, without an error.
            raise StoreError(f"{path} cannot be written ahead", reason="disk")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        if read_only:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    def start(conn: Connection) -> None:
        conn.exec_driver_sql(begin)

    event.listen(engine, "connect", set_up)
    event.listen(engine, "begin", start)
    return engine


def open_sqlite(url: str, clock: Clock) -> SqliteDatabase:
    """Open the file, making or migrating it first.

    Raises:
        StoreError: it cannot be opened or is damaged; it was not touched.
        MigrationError: it has a schema this program does not know; nothing was written.
    """
    name = make_url(url).database
    if not name or name == ":memory:":
        raise ConfigError("the store needs a file", hint="use sqlite:///<absolute path>")
    path = Path(name)
    try:
        if prepare_file(path, clock):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            _create(path)
        return SqliteDatabase(path, clock)
    except OSError as error:
        raise StoreError(f"{path} cannot be opened: {error.strerror}", reason="disk") from error
    except DBAPIError as error:
        raise translate(error) from error


def _create(path: Path) -> None:
    engine = _engine(path, "BEGIN IMMEDIATE", read_only=False)
    try:
        with engine.begin() as conn:
            quota_tables.metadata.create_all(conn)
            conn.exec_driver_sql(CREATE_VERSION_TABLE)
            conn.exec_driver_sql(STAMP)
    finally:
        engine.dispose()
