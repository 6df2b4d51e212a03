"""One database as the engine uses it, and what its failures mean to a caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar, cast

import anyio
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from aiagent_coordinator.errors import ConflictError, CoordinatorError, StoreError, ValidationError
from aiagent_coordinator.events import Event
from aiagent_coordinator.store.firing import follow
from aiagent_coordinator.store.neighbours import Ear
from aiagent_coordinator.store.unit import Unit

T = TypeVar("T")


class Pending(Generic[T]):
    """A unit that waits for its commit, and then its result or its error."""

    def __init__(self, work: Callable[[Unit], T]) -> None:
        self.work = work
        self.done = anyio.Event()
        #: Its caller is gone; when nobody has begun it yet, nobody will.
        self.abandoned = False
        self._result: T | None = None
        self._error: Exception | None = None

    def run(self, unit: Unit) -> None:
        """Do the work and keep what it returns; what audits say to it is done with it."""
        self._result = self.work(unit)
        follow(unit)

    def fail(self, error: Exception) -> None:
        """Make it raise for its caller; a later failure (of the commit) replaces an earlier one."""
        self._error = error

    @property
    def failed(self) -> bool:
        """Whether it will raise for its caller."""
        return self._error is not None

    def outcome(self) -> T:
        """What the caller gets."""
        if self._error is not None:
            raise self._error
        return cast("T", self._result)  # only ever what `work` returned


class Database(Protocol):
    """SQLite or PostgreSQL; every method blocks and is called in a thread."""

    #: Set when nothing may be written any more: the store ends with it.
    broken: StoreError | None

    @property
    def ear(self) -> Ear | None:
        """Hears what other servers on it commit; None where nobody else writes."""
        ...

    def commit(self, batch: Sequence[Pending[Any]]) -> list[Event]:
        """Run units and make them durable; each gets its result or its error.

        Returns:
            The events that are now true, in order.
        """
        ...

    def read(self, work: Callable[[Unit], T]) -> T:
        """Run a unit that only reads."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


def translate(error: Exception) -> Exception:
    """Say in the product's words what a driver's error means; other errors stay as they are."""
    if not isinstance(error, DBAPIError):
        return error
    translated = _translate(error)
    translated.__cause__ = error
    return translated


def _translate(error: DBAPIError) -> CoordinatorError:
    original = error.orig
    if isinstance(original, sqlite3.Error):
        named = _sqlite_failure(original)
        if named is not None:
            return named
    if error.connection_invalidated:
        return StoreError(
            "the connection to the database broke; whether the last change was kept is not known",
            reason="connection",
        )
    if _takes_only_reads(original):
        return StoreError(
            "the database takes only reads now; nothing was written",
            hint="is it a standby? give the address of the server that takes writes",
            reason="read_only",
        )
    if isinstance(error, IntegrityError):
        return ConflictError(f"the database refused a second one of these: {original}")
    if isinstance(error, DataError):
        return ValidationError(f"the database cannot keep this value: {original}")
    return StoreError(f"the database failed: {original}", reason="database")


def _takes_only_reads(error: BaseException | None) -> bool:
    """Whether PostgreSQL is a standby, or was told to take no writes.

    Source: its appendix on error codes. A standby refuses a transaction that may write as a feature
    it does not have.
    """
    state = getattr(error, "sqlstate", None)
    return state == "25006" or (state == "0A000" and "recovery" in str(error))


def _sqlite_failure(error: sqlite3.Error) -> StoreError | None:
    # The low byte is the primary code. Source: https://sqlite.org/rescode.html
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return StoreError(
                "the disk is full; nothing was written",
                hint="free some space and try again",
                reason="disk",
            )
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN:
            return StoreError(f"the disk refused: {error}", reason="disk")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreError("another program holds the database", reason="busy")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StoreError(f"the database is damaged: {error}", reason="damaged")
        case _:
            return None
