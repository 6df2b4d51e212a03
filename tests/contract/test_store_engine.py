"""The engine: what a commit promises, to callers and to listeners, when all goes well and when not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import StatementError

from aiagent_coordinator.clock import ManualClock, SystemClock
from aiagent_coordinator.errors import ConfigError, ConflictError, NotFoundError, StoreError
from aiagent_coordinator.events import Event
from aiagent_coordinator.store import coordinators, events, tables
from aiagent_coordinator.store.engine import Store, open_store
from aiagent_coordinator.store.migrate import migrate
from aiagent_coordinator.store.sqlite_file import sqlite_url
from aiagent_coordinator.store.unit import Unit


def saying(
    name: str, *, fail: Exception | None = None, refusal: bool = False
) -> Callable[[Unit], str]:
    def work(unit: Unit) -> str:
        coordinators.seen(unit, name, None, 1)
        unit.emit("run.refused", actor="server", refusal=refusal, name=name)
        if fail:
            raise fail
        return name

    return work


def waiting_for(event: threading.Event) -> Callable[[Unit], bool]:
    return lambda _: event.wait(5)


def modes_in(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}


def known(unit: Unit) -> list[str]:
    return list(unit.conn.scalars(select(tables.coordinator.c.id).order_by("id")))


async def test_a_unit_that_fails_spoils_nobody_else_s(store_url: str, clock: ManualClock) -> None:
    """They share one transaction on SQLite: the failing one is rolled back alone."""
    results: dict[str, str] = {}
    failed: list[str] = []
    async with open_store(store_url, clock=clock) as store:

        async def one(number: int) -> None:
            name = f"crd_{number:02}"
            fail = NotFoundError(name) if number % 3 == 0 else None
            try:
                results[name] = await store.write(saying(name, fail=fail))
            except NotFoundError as error:
                failed.append(error.message)

        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(one, number)
        assert len(results) == 20
        assert all(name == result for name, result in results.items())
        assert len(failed) == 10
        assert await store.read(known) == sorted(results)
        told = await store.read(lambda unit: events.list_events(unit, limit=1000))
        assert {event.data.get("name") for event in told} - {None} == set(results)


async def test_a_refusal_stands_although_its_unit_is_rolled_back(
    store_url: str, clock: ManualClock
) -> None:
    heard: list[Event] = []
    async with open_store(store_url, clock=clock) as store:
        store.on_commit(heard.extend)
        with pytest.raises(NotFoundError):
            await store.write(saying("crd_a", fail=NotFoundError(), refusal=True))
        assert await store.read(known) == []
        assert [event.action for event in heard] == ["run.refused"]
        await store.write(saying("crd_b", refusal=True))
        assert [event.action for event in heard] == ["run.refused", "coordinator.seen"]
        assert await store.read(events.list_events) == heard


async def test_listeners_hear_every_event_once_in_order_and_before_the_writer_goes_on(
    store_url: str, clock: ManualClock
) -> None:
    heard: list[int] = []

    def listen(happened: Sequence[Event]) -> None:
        heard.extend(event.seq for event in happened)

    async with open_store(store_url, clock=clock) as store:
        store.on_commit(listen)

        async def one(number: int) -> None:
            fail = ConflictError() if number % 4 == 0 else None
            try:
                await store.write(saying(f"crd_{number}", fail=fail))
            except ConflictError:
                return
            mine = await store.read(lambda unit: events.list_events(unit, limit=1000))
            seqs = {event.seq for event in mine if event.data.get("name") == f"crd_{number}"}
            assert seqs <= set(heard)

        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(one, number)
        assert heard == list(range(1, 61))
        assert await store.read(events.last_seq) == 60


@pytest.mark.needs("postgres")
async def test_events_of_many_servers_have_no_gap_and_no_double(
    empty_postgres: str, clock: ManualClock
) -> None:
    await anyio.to_thread.run_sync(migrate, empty_postgres)
    heard: list[list[int]] = [[] for _ in range(6)]
    complete = [anyio.Event() for _ in range(6)]
    async with AsyncExitStack() as stack:
        stores = [
            await stack.enter_async_context(open_store(empty_postgres, clock=clock))
            for _ in range(6)
        ]
        for number, store in enumerate(stores):

            def hear(happened: Sequence[Event], number: int = number) -> None:
                heard[number] += [event.seq for event in happened]
                if len(heard[number]) >= 360:
                    complete[number].set()

            store.on_commit(hear)
        async with anyio.create_task_group() as group:
            for number in range(180):
                group.start_soon(stores[number % 6].write, saying(f"crd_{number}"))
        with anyio.fail_after(60):
            for each in complete:
                await each.wait()
    # every server hears of every event once, whoever wrote it
    assert [sorted(mine) for mine in heard] == [list(range(1, 361))] * 6


async def test_a_listener_that_fails_stops_neither_the_writer_nor_other_listeners(
    store_url: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Event] = []

    def bad(happened: Sequence[Event]) -> None:
        raise RuntimeError(happened[0].action)

    async with open_store(store_url, clock=clock) as store:
        store.on_commit(bad)
        store.on_commit(heard.extend)
        assert await store.write(saying("crd_a")) == "crd_a"
    assert len(heard) == 2
    assert "a listener of the store failed" in caplog.text


async def test_what_was_written_is_there_after_opening_again(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock) as store:
        await store.write(saying("crd_a"))
    async with open_store(store_url, clock=clock) as store:
        assert await store.read(known) == ["crd_a"]


async def test_a_reading_unit_cannot_write(store_url: str, clock: ManualClock) -> None:
    async with open_store(store_url, clock=clock) as store:
        with pytest.raises(StoreError):
            await store.read(lambda unit: coordinators.seen(unit, "crd_a", None, 1))
        with pytest.raises(RuntimeError):
            await store.read(lambda unit: unit.emit("run.refused", actor="server"))
        assert await store.read(known) == []


async def test_an_event_nobody_declared_is_refused(store_url: str, clock: ManualClock) -> None:
    async with open_store(store_url, clock=clock) as store:
        with pytest.raises(ValueError, match=r"party\.started"):
            await store.write(lambda unit: unit.emit("party.started", actor="server"))


async def test_a_closed_store_refuses_and_what_waited_was_finished(
    store_url: str, clock: ManualClock
) -> None:
    done: list[str] = []
    async with open_store(store_url, clock=clock) as store:

        async def one(name: str) -> None:
            done.append(await store.write(saying(name)))

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(one, f"crd_{number}")
            await anyio.wait_all_tasks_blocked()
            await store.aclose()
        assert len(done) == 10
        with pytest.raises(StoreError) as caught:
            await store.write(saying("crd_late"))
        assert caught.value.details["reason"] == "closed"
        with pytest.raises(StoreError):
            await store.read(known)


async def test_an_error_in_the_body_comes_out_as_it_is_and_the_store_closes(
    store_url: str, clock: ManualClock
) -> None:
    opened: list[Store] = []

    async def use() -> None:
        async with open_store(store_url, clock=clock) as store:
            opened.append(store)
            raise KeyError

    with pytest.raises(KeyError):
        await use()
    with pytest.raises(StoreError):
        await opened[0].write(saying("crd_a"))


async def test_a_caller_that_gave_up_before_its_turn_writes_nothing(
    store_url: str, clock: ManualClock
) -> None:
    busy = threading.Event()
    async with open_store(store_url, clock=clock) as store, anyio.create_task_group() as group:
        group.start_soon(store.write, waiting_for(busy))
        await anyio.wait_all_tasks_blocked()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.write(saying("crd_gone"))
        busy.set()
        await store.write(saying("crd_here"))
        assert await store.read(known) == ["crd_here"]


async def test_instants_keep_their_microseconds_and_their_zone(
    store_url: str, clock: ManualClock
) -> None:
    clock.advance(0.123456)
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(saying("crd_a"))
        seen = await store.read(
            lambda unit: unit.conn.scalars(select(tables.coordinator.c.last_seen)).one()
        )
        assert seen == clock.now()
        assert seen.tzinfo is not None
        with pytest.raises(StatementError, match="zone"):
            await store.write(
                lambda unit: unit.conn.execute(
                    tables.coordinator.update().values(last_seen=clock.now().replace(tzinfo=None))
                )
            )


async def test_a_commit_that_fails_fails_everybody_and_tells_nobody(
    tmp_path: Path, clock: ManualClock
) -> None:
    """A foreign key that is only checked at the commit stands for any failure there."""
    heard: list[Event] = []
    failed: list[str] = []

    def poison(unit: Unit) -> None:
        unit.conn.execute(text("PRAGMA defer_foreign_keys = ON"))
        unit.conn.execute(insert(tables.assignment).values(agent_id="no", project_id="no"))

    async with open_store(sqlite_url(tmp_path / "store.db"), clock=clock) as store:
        store.on_commit(heard.extend)

        async def one(work: Callable[[Unit], object]) -> None:
            try:
                await store.write(work)
            except StoreError as error:
                failed.append(error.code)

        await store.write(saying("crd_first"))
        busy = threading.Event()
        async with anyio.create_task_group() as group:
            # It occupies the writer, so that the others become one group.
            group.start_soon(store.write, waiting_for(busy))
            await anyio.wait_all_tasks_blocked()
            group.start_soon(one, saying("crd_a"))
            group.start_soon(one, poison)
            group.start_soon(one, saying("crd_b"))
            await anyio.wait_all_tasks_blocked()
            busy.set()
        assert failed == ["STORE"] * 3
        assert await store.read(known) == ["crd_first"]
        assert len(heard) == 2
        await store.write(saying("crd_after"))
        assert await store.read(known) == ["crd_after", "crd_first"]


async def test_a_full_disk_is_named_loses_nothing_and_passes(
    tmp_path: Path, clock: ManualClock
) -> None:
    def limit(pages: int) -> Callable[[Unit], None]:
        def work(unit: Unit) -> None:
            unit.conn.execute(text(f"PRAGMA max_page_count = {pages}"))

        return work

    def fill(unit: Unit) -> None:
        unit.emit("run.refused", actor="server", text="x" * 1_000_000)

    async with open_store(sqlite_url(tmp_path / "store.db"), clock=clock) as store:
        await store.write(saying("crd_a"))
        await store.write(limit(60))
        with pytest.raises(StoreError) as caught:
            await store.write(fill)
        assert caught.value.details["reason"] == "disk"
        assert await store.read(known) == ["crd_a"]
        await store.write(limit(1_000_000))
        await store.write(fill)
        count = await store.read(
            lambda unit: unit.conn.scalar(select(func.count(tables.event.c.seq)))
        )
        assert count == 3
        assert (
            await store.read(lambda unit: unit.conn.scalar(text("PRAGMA integrity_check"))) == "ok"
        )


async def test_sqlite_is_opened_for_durability(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "store.db"

    def settings(unit: Unit) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [unit.conn.scalar(text(f"PRAGMA {name}")) for name in names]

    async with open_store(sqlite_url(path), clock=clock) as store:
        assert await store.write(settings) == ["wal", 2, 1]
        # The write-ahead log too: it holds the same words.
        modes = modes_in(tmp_path)
        assert set(modes) > {"store.db", "store.db-wal"}
        assert set(modes.values()) == {0o600}


async def test_an_address_nobody_speaks_is_a_configuration_error(clock: ManualClock) -> None:
    for url in ("mysql://here/db", "sqlite://"):
        with pytest.raises(ConfigError):
            async with open_store(url, clock=clock):
                pass


@pytest.mark.needs("postgres")
async def test_a_broken_connection_is_named_and_the_next_unit_works(
    empty_postgres: str, clock: ManualClock
) -> None:
    await anyio.to_thread.run_sync(migrate, empty_postgres)

    def cut(unit: Unit) -> None:
        unit.conn.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    async with open_store(empty_postgres, clock=clock) as store:
        with pytest.raises(StoreError) as caught:
            await store.write(cut)
        assert caught.value.details["reason"] == "connection"
        await store.write(saying("crd_a"))

        def others(unit: Unit) -> None:
            unit.conn.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )

        # Connections that died while nobody used them are replaced without a word.
        async with open_store(empty_postgres, clock=clock) as neighbour:
            await neighbour.write(others)
        await store.write(saying("crd_b"))
        assert await store.read(known) == ["crd_a", "crd_b"]


@pytest.mark.needs("postgres")
async def test_a_connection_that_breaks_in_the_commit_is_not_tried_again(
    empty_postgres: str, clock: ManualClock
) -> None:
    """Whether it was kept is not known, so doing it again could do it twice."""
    await anyio.to_thread.run_sync(migrate, empty_postgres)
    tries: list[int] = []

    def plant(unit: Unit) -> None:
        unit.conn.execute(
            text(
                "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"
            )
        )
        unit.conn.execute(
            text(
                "CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON coordinator "
                "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION cut()"
            )
        )

    def once(unit: Unit) -> None:
        tries.append(1)
        coordinators.seen(unit, "crd_a", None, 1)

    async with open_store(empty_postgres, clock=clock) as store:
        await store.write(plant)
        with pytest.raises(StoreError) as caught:
            await store.write(once)
        assert caught.value.details["reason"] == "connection"
        assert len(tries) == 1


@pytest.mark.needs("postgres")
async def test_units_that_lock_each_other_out_are_tried_again(
    empty_postgres: str, clock: ManualClock
) -> None:
    await anyio.to_thread.run_sync(migrate, empty_postgres)
    tries: list[str] = []

    def crossing(name: str, *order: str) -> Callable[[Unit], None]:
        def work(unit: Unit) -> None:
            tries.append(name)
            unit.conn.execute(text("SET LOCAL deadlock_timeout = '50ms'"))
            for ident in order:
                row = tables.coordinator.c.id == ident
                unit.conn.execute(tables.coordinator.update().where(row).values(host_id=name))
                unit.conn.execute(text("SELECT pg_sleep(0.2)"))

        return work

    async with (
        open_store(empty_postgres, clock=clock) as one,
        open_store(empty_postgres, clock=clock) as two,
    ):
        await one.write(saying("crd_a"))
        await one.write(saying("crd_b"))
        async with anyio.create_task_group() as group:
            group.start_soon(one.write, crossing("one", "crd_a", "crd_b"))
            group.start_soon(two.write, crossing("two", "crd_b", "crd_a"))
    assert len(tries) == 3


@pytest.mark.needs("postgres")
async def test_postgresql_s_own_clock_decides_unless_told_otherwise(
    empty_postgres: str, clock: ManualClock
) -> None:
    await anyio.to_thread.run_sync(migrate, empty_postgres)
    async with open_store(empty_postgres, clock=clock) as store:
        drift = await store.read(lambda unit: unit.now) - SystemClock().now()
        assert abs(drift.total_seconds()) < 60
    async with open_store(empty_postgres, clock=clock, use_database_clock=False) as store:
        assert await store.read(lambda unit: unit.now) == clock.now()
