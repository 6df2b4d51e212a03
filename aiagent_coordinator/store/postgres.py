"""PostgreSQL: shared by several servers, one transaction for each unit, never migrated at a start."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.exc import DBAPIError

from aiagent_coordinator.clock import Clock, SystemClock
from aiagent_coordinator.errors import MigrationError, StoreError
from aiagent_coordinator.events import Event
from aiagent_coordinator.store import talk_tables
from aiagent_coordinator.store.database import Pending, translate
from aiagent_coordinator.store.postgres_ear import PostgresEar
from aiagent_coordinator.store.revision import HEAD, READ_REVISION
from aiagent_coordinator.store.unit import Moment, Unit, write_events

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

T = TypeVar("T")

CONNECT_SECONDS = 5
POOL_SIZE = 5
#: Tries of one unit: serialization failure, deadlock, unique violation, or a connection that was gone before it began.
TRIES = 4
#: Between two tries; other servers finish in about a millisecond.
RETRY_SECONDS = 0.005
#: A second try sees what the other one wrote. Source: PostgreSQL's appendix on error codes.
_RETRYABLE = frozenset({"40001", "40P01", "23505"})
#: Per session: a stuck neighbour must not hold this server for ever.
_SESSION = (
    "SET TIME ZONE 'UTC'",
    "SET lock_timeout = '10s'",
    "SET statement_timeout = '30s'",
    "SET idle_in_transaction_session_timeout = '60s'",
)


class PostgresDatabase:
    """The shared store."""

    def __init__(self, engine: Engine, clock: Clock | None, ear: PostgresEar) -> None:
        self._engine = engine
        #: Hears what other servers on it commit.
        self.ear = ear
        #: The server itself restarts when its disk fails.
        self.broken: StoreError | None = None
        with engine.connect() as conn:
            now = _database_now if clock is None else _clock_now(clock)
            self._moment = Moment(now, (clock or SystemClock()).monotonic, now(conn))

    def commit(self, batch: Sequence[Pending[Any]]) -> list[Event]:
        """Run each unit in a transaction of its own, one after another."""
        events: list[Event] = []
        for pending in batch:
            events += self._run(pending)
        return events

    def _run(self, pending: Pending[Any]) -> list[Event]:
        for left in reversed(range(TRIES)):
            if left < TRIES - 1:
                time.sleep(RETRY_SECONDS)
            unit: Unit | None = None
            committing = False
            try:
                with self._engine.connect() as conn, conn.begin() as transaction:
                    unit = Unit(conn, self._moment)
                    pending.run(unit)
                    events = write_events(conn, unit.take_events(refused=False))
                    committing = True
                    transaction.commit()
                    return events
            except Exception as error:  # noqa: BLE001 - a unit's failure is its caller's, whatever it is
                if left and _again(error, committing=committing):
                    continue
                pending.fail(translate(error))
                return self._write_refusals(unit)
        return []

    def _write_refusals(self, unit: Unit | None) -> list[Event]:
        events = unit.take_events(refused=True) if unit else []
        if not events:
            return []
        try:
            with self._engine.begin() as conn:
                return write_events(conn, events)
        except DBAPIError:
            # The refusal itself reaches the caller; only its trace in the history is missing.
            return []

    def read(self, work: Callable[[Unit], T]) -> T:
        """Run a unit in a transaction that cannot write."""
        for left in reversed(range(TRIES)):
            try:
                with self._engine.connect() as conn:
                    conn.execution_options(postgresql_readonly=True)
                    with conn.begin():
                        return work(Unit(conn, self._moment, read_only=True))
            except DBAPIError as error:
                if left and _again(error, committing=False):
                    continue
                raise translate(error) from error
        raise StoreError(reason="connection")

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def _again(error: Exception, *, committing: bool) -> bool:
    """Whether the unit may run once more: surely nothing of it was kept, and it may go better."""
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return not committing
    return getattr(error.orig, "sqlstate", None) in _RETRYABLE


def _database_now(conn: Connection) -> datetime:
    return conn.scalars(select(func.now())).one().astimezone(UTC)


def _clock_now(clock: Clock) -> Callable[[Connection], datetime]:
    def now(_: Connection) -> datetime:
        return clock.now()

    return now


def open_postgres(url: str, clock: Clock | None) -> PostgresDatabase:
    """Connect and check the schema; nothing is ever written here.

    Args:
        url: The address.
        clock: Decides instead of the database's own clock when given.

    Raises:
        StoreError: it cannot be reached.
        MigrationError: its schema is not this program's.
    """
    # tells our commits from those of others
    name = f"aiagent-coordinator {secrets.token_hex(8)}"
    engine = postgres_engine(url, name)
    try:
        check_revision(engine)
        ear = PostgresEar(lambda: postgres_engine(url, name), name)
        return PostgresDatabase(engine, clock, ear)
    except DBAPIError as error:
        engine.dispose()
        raise StoreError(
            f"the database cannot be used: {error.orig}", reason="connection"
        ) from error
    except MigrationError:
        engine.dispose()
        raise


def postgres_engine(url: str, name: str = "aiagent-coordinator") -> Engine:
    """Make the engine, through psycopg 3; `name` is how the database's own lists call us."""
    talk_tables.speak_postgresql()
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        connect_args={"connect_timeout": CONNECT_SECONDS, "application_name": name},
        pool_size=POOL_SIZE,
        max_overflow=0,
    )

    def set_up(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for statement in _SESSION:
            cursor.execute(statement)
        cursor.close()
        connection.commit()

    event.listen(engine, "connect", set_up)
    return engine


def check_revision(engine: Engine) -> None:
    """Refuse a schema that is not exactly this program's.

    Raises:
        MigrationError: it is older, newer, or not there.
    """
    with engine.connect() as conn:
        there = conn.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar()
        found = conn.exec_driver_sql(READ_REVISION).scalar() if there else None
    if found != HEAD:
        raise MigrationError(
            f"the database has schema {found or 'none'}, this program needs {HEAD}",
            hint="give its address on standard input to `python -m aiagent_coordinator.store.migrate`"
            " of the newest program of all that share it",
            found=found,
            needed=HEAD,
        )
