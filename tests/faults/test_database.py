"""A database server that restarts, hangs up in a commit, or takes only reads: one row for each fact, and it goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import select, text

from aiagent_coordinator.clock import SystemClock
from aiagent_coordinator.errors import StoreError
from aiagent_coordinator.store import coordinators, tables
from aiagent_coordinator.store.engine import open_store
from aiagent_coordinator.store.migrate import migrate
from aiagent_coordinator.store.unit import Unit
from fakes.postgres import START_SECONDS, find_programs, ordinary_user, wait_until_ready


class Cluster:
    """A throw-away server that can be restarted, its data on the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._programs = find_programs()
        self._user = ordinary_user()
        self._server: subprocess.Popen[Any] | None = None
        data = ["-D", str(folder / "data")]
        make = [str(self._programs / "initdb"), *data, "-A", "trust", "-U", "postgres", "--no-sync"]
        subprocess.run(
            [*make, "-E", "UTF8", "--locale=C"],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            timeout=START_SECONDS,
            **self._user,
        )
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def start(self) -> None:
        run = [str(self._programs / "postgres"), "-D", str(self.folder / "data")]
        run += ["-k", str(self.folder), "-c", "listen_addresses=", "-c", "fsync=off"]
        with (self.folder / "log").open("ab") as log:
            server = subprocess.Popen(
                run, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._user
            )
        self._server = server
        wait_until_ready(self._programs, self.folder, server)

    def stop(self, how: int = signal.SIGQUIT) -> None:
        assert self._server is not None
        self._server.send_signal(how)
        self._server.wait(START_SECONDS)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="aac-pg-"))
    user = ordinary_user()
    if user:
        os.chown(folder, user["user"], user["group"])
    made = Cluster(folder)
    try:
        migrate(made.url)
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def saying(name: str) -> Callable[[Unit], None]:
    return lambda unit: coordinators.seen(unit, name, None, 1)


def known(unit: Unit) -> list[str]:
    return list(unit.conn.scalars(select(tables.coordinator.c.id).order_by("id")))


@pytest.mark.needs("postgres")
async def test_a_restart_of_the_database_is_named_and_what_was_acknowledged_is_there_once(
    cluster: Cluster,
):
    """A caller that tries again, as every report does, has its fact in one row and goes on."""
    async with open_store(cluster.url, clock=SystemClock()) as store:
        await store.write(saying("crd_1"))
        await anyio.to_thread.run_sync(cluster.stop, signal.SIGINT)
        with pytest.raises(StoreError) as caught:
            await store.write(saying("crd_2"))
        assert caught.value.details["reason"] in {"connection", "database"}
        await anyio.to_thread.run_sync(cluster.start)
        await store.write(saying("crd_2"))
        # the hard way: the server is killed at once, without a word to its clients
        await anyio.to_thread.run_sync(cluster.stop, signal.SIGQUIT)
        await anyio.to_thread.run_sync(cluster.start)
        await store.write(saying("crd_2"))
        await store.write(saying("crd_3"))
        found = await store.read(known)
        assert [found.count(name) for name in ("crd_1", "crd_2", "crd_3")] == [1, 1, 1]


CUT = """
CREATE OR REPLACE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON coordinator
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION cut()
"""


@pytest.mark.needs("postgres")
async def test_a_connection_cut_in_the_commit_leaves_one_row_after_the_next_try(cluster: Cluster):
    """Whether the first was kept nobody knows; the fact's own key makes the second the same one."""

    def plant(unit: Unit) -> None:
        unit.conn.execute(text(CUT))

    def heal(unit: Unit) -> None:
        unit.conn.execute(text("DROP FUNCTION cut CASCADE"))

    async with open_store(cluster.url, clock=SystemClock()) as store:
        await store.write(plant)
        with pytest.raises(StoreError):
            await store.write(saying("crd_cut"))
        await store.write(heal)
        for _ in range(2):
            await store.write(saying("crd_cut"))
        assert (await store.read(known)).count("crd_cut") == 1


@pytest.mark.needs("postgres")
async def test_a_database_that_takes_only_reads_refuses_writes_by_name_and_serves_again_after(
    cluster: Cluster,
):
    """As after a failover to a standby: reads go on, a write is an error and no loss."""
    async with open_store(cluster.url, clock=SystemClock()) as store:
        await store.write(saying("crd_before"))
        await anyio.to_thread.run_sync(cluster.stop, signal.SIGINT)
        standby = cluster.folder / "data" / "standby.signal"
        standby.touch()
        await anyio.to_thread.run_sync(cluster.start)
        assert "crd_before" in await store.read(known)
        with pytest.raises(StoreError) as caught:
            await store.write(saying("crd_between"))
        assert caught.value.details["reason"] == "read_only"
        await anyio.to_thread.run_sync(cluster.stop, signal.SIGINT)
        standby.unlink()
        await anyio.to_thread.run_sync(cluster.start)
        await store.write(saying("crd_after"))
        found = await store.read(known)
        assert "crd_between" not in found
        assert {"crd_before", "crd_after"} <= set(found)
