"""The open store: one writer that commits in groups, readers beside it, listeners after the commit."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
from anyio import to_thread
from sqlalchemy import make_url

from aiagent_coordinator.clock import Clock
from aiagent_coordinator.errors import ConfigError, StoreError
from aiagent_coordinator.events import Event
from aiagent_coordinator.store import neighbours
from aiagent_coordinator.store.database import Database, Pending
from aiagent_coordinator.store.events import last_seq
from aiagent_coordinator.store.neighbours import Ear
from aiagent_coordinator.store.unit import Unit

logger = logging.getLogger(__name__)

T = TypeVar("T")
Listener = Callable[[Sequence[Event]], None]

#: Units of one transaction; more would only make the first of them wait.
MAX_BATCH = 256
#: Threads that read at the same time.
READERS = 4


class Store:
    """What is remembered. Made by `open_store`; belongs to one event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: deque[Pending[Any]] = deque()
        self._wake = anyio.Event()
        self._closing = False
        self._closed = anyio.Event()
        self._listeners: list[Listener] = []
        self._news = neighbours.News()
        self._writer_thread = anyio.CapacityLimiter(1)
        self._reader_threads = anyio.CapacityLimiter(READERS)

    async def write(self, work: Callable[[Unit], T]) -> T:
        """Run a unit in a transaction and return its result once that is durable.

        Units run one after another, in the order of the calls. A unit that raises leaves nothing
        but its refusal events. A caller that is cancelled while it waits does not know whether
        its unit was kept.

        Raises:
            StoreError: the database refused or the store is closed; `details["reason"]` says why.
        """
        if self._closing:
            raise _closed()
        pending = Pending(work)
        self._queue.append(pending)
        self._wake.set()
        try:
            await pending.done.wait()
        finally:
            pending.abandoned = not pending.done.is_set()
        return pending.outcome()

    async def read(self, work: Callable[[Unit], T]) -> T:
        """Run a unit that only reads, beside the writer.

        Raises:
            StoreError: the database refused or the store is closed.
        """
        if self._closed.is_set():
            raise _closed()
        return await to_thread.run_sync(self._database.read, work, limiter=self._reader_threads)

    def on_commit(self, listener: Listener) -> None:
        """Call `listener` on the event loop after each commit, with the events it made true.

        They come in the order of their numbers, before the writers get their results. Events of other
        servers on the same database come too, a moment later, and each event once.
        """
        self._listeners.append(listener)

    async def aclose(self) -> None:
        """Take no more units, finish those that wait, then return. Leaving `open_store` does it too."""
        self._closing = True
        self._wake.set()
        await self._closed.wait()

    async def run_writer(self) -> None:
        """Commit what is queued until the store closes. `open_store` runs it.

        Raises:
            StoreError: the disk lost what it was given; whoever asked was told before.
        """
        try:
            while self._queue or not self._closing:
                if self._database.broken is not None:
                    raise self._database.broken
                if self._queue:
                    await self._commit(self._next_batch())
                else:
                    self._wake = anyio.Event()
                    await self._wake.wait()
        finally:
            self._closing = True
            for pending in self._queue:
                pending.fail(_closed())
                pending.done.set()
            self._queue.clear()
            self._closed.set()

    def _next_batch(self) -> list[Pending[Any]]:
        taken = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
        return [pending for pending in taken if not pending.abandoned]

    async def _commit(self, batch: list[Pending[Any]]) -> None:
        if not batch:
            return
        # Not abandoned on cancellation: what the thread has begun is waited for.
        self._news.is_committing = True
        events = await to_thread.run_sync(self._database.commit, batch, limiter=self._writer_thread)
        self._news.is_committing = False
        fresh = self._news.ours(events)
        if fresh:
            self._tell_all(fresh)
        for pending in batch:
            pending.done.set()

    def _tell_all(self, events: Sequence[Event]) -> None:
        for listener in self._listeners:
            _tell(listener, events)

    async def follow(self, ear: Ear, seq: int) -> None:
        """Tell the listeners also what other servers commit after this number. `open_store` runs it."""
        self._news.begin(seq)
        await neighbours.follow(self.read, ear, self._news, self._tell_all)


def _tell(listener: Listener, events: Sequence[Event]) -> None:
    try:
        listener(events)
    except Exception:  # the commit stands, and its writers and the other listeners must hear of it
        logger.exception("a listener of the store failed", extra={"event": "server.request_failed"})


def _closed() -> StoreError:
    return StoreError("the store is closed", reason="closed")


@asynccontextmanager
async def open_store(
    url: str, *, clock: Clock, use_database_clock: bool = True
) -> AsyncGenerator[Store]:
    """Open the store for as long as the context lasts.

    SQLite files are made or migrated here, after a backup; PostgreSQL is only checked.

    Args:
        url: `sqlite:///<absolute path>` or `postgresql://…`.
        clock: The time of SQLite's leases, and of PostgreSQL's when told so.
        use_database_clock: Whether PostgreSQL's own clock decides there; tests move a clock of theirs.

    Raises:
        StoreError: the database cannot be used.
        MigrationError: it has another schema; nothing was written.
    """
    database = await to_thread.run_sync(_open, url, clock, use_database_clock)
    failure: BaseException | None = None
    try:
        store = Store(database)
        seen = 0 if database.ear is None else await store.read(last_seq)
        async with anyio.create_task_group() as group:
            group.start_soon(store.run_writer)
            if database.ear is not None:
                group.start_soon(store.follow, database.ear, seen)
            try:
                yield store
            except (anyio.get_cancelled_exc_class(), GeneratorExit):
                raise
            except BaseException as error:  # noqa: BLE001 - raised below, not wrapped in this group
                failure = error
            await store.aclose()
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(database.close)
    if failure is not None:
        raise failure


def _open(url: str, clock: Clock, use_database_clock: bool) -> Database:
    kind = make_url(url).get_backend_name()
    match kind:
        case "sqlite":
            from aiagent_coordinator.store.sqlite import open_sqlite  # noqa: PLC0415 - one driver

            return open_sqlite(url, clock)
        case "postgresql":
            from aiagent_coordinator.store.postgres import open_postgres  # noqa: PLC0415 - an extra

            return open_postgres(url, None if use_database_clock else clock)
        case _:
            raise ConfigError(
                f"no store speaks {kind}", hint="use an sqlite:/// or a postgresql:// address"
            )
