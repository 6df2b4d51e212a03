"""The coordinator's journal: what it has returned is on the disk, and one bad write spoils no other."""

from __future__ import annotations

import json
import sqlite3
from functools import partial
from pathlib import Path

import anyio
import pytest

from aiagent_coordinator.coordinator import entries
from aiagent_coordinator.coordinator.journal import open_journal
from aiagent_coordinator.errors import StoreError
from aiagent_coordinator.pipeline.run import RunRecord, Stage

NOW = "2026-01-01T00:00:00.000000Z"


def record(name: str, slot: int = 0) -> RunRecord:
    return RunRecord(name, "a", "p", "task", slot, "rehearsal")


def save(run: RunRecord) -> partial[None]:
    return partial(entries.save_record, record=run, now=NOW)


async def test_records_come_back_until_they_are_done(tmp_path: Path):
    path = tmp_path / "journal.db"
    async with open_journal(path) as journal:
        await journal.write(save(record("run_1")))
        await journal.write(save(record("run_2", slot=1)))
        await journal.write(save(record("run_1").at(Stage.DONE)))
    async with open_journal(path) as journal:
        left = await journal.read(entries.live_records)
        assert [run.run_id for run in left] == ["run_2"]
    assert path.stat().st_mode & 0o077 == 0


async def test_two_runs_cannot_hold_one_slot_and_the_neighbour_is_kept(tmp_path: Path):
    """Writes that share a commit fail alone."""
    async with open_journal(tmp_path / "journal.db") as journal:
        results: dict[str, BaseException | None] = {}

        async def write(run: RunRecord) -> None:
            try:
                await journal.write(save(run))
                results[run.run_id] = None
            except sqlite3.IntegrityError as error:
                results[run.run_id] = error

        async with anyio.create_task_group() as tasks:
            for run in (record("run_1"), record("run_2"), record("run_3", slot=1)):
                tasks.start_soon(write, run)
        assert sorted(name for name, error in results.items() if error is None) == [
            "run_1",
            "run_3",
        ]
        left = await journal.read(entries.live_records)
        assert [run.run_id for run in left] == ["run_1", "run_3"]


async def test_each_life_has_a_higher_number(tmp_path: Path):
    for expected in (1, 2, 3):
        async with open_journal(tmp_path / "journal.db") as journal:
            assert await journal.write(entries.next_epoch) == expected


async def test_a_report_stays_as_it_was_first_written(tmp_path: Path):
    """What an earlier life may have sent already must not change when it is sent again."""
    async with open_journal(tmp_path / "journal.db") as journal:
        put = partial(entries.enqueue_report, run_id="run_1", seq=1, tool="t")
        assert await journal.write(partial(put, arguments='{"a":1}')) == ('{"a":1}', None)
        await journal.write(
            partial(entries.ack_report, run_id="run_1", seq=1, answer="{}", now=NOW)
        )
        assert await journal.write(partial(put, arguments='{"a":2}')) == ('{"a":1}', "{}")


async def test_what_is_done_and_old_is_dropped_and_nothing_else(tmp_path: Path):
    async with open_journal(tmp_path / "journal.db") as journal:
        await journal.write(save(record("run_1").at(Stage.DONE)))
        await journal.write(save(record("run_2", slot=1)))
        for name in ("run_1", "run_2"):
            put = partial(entries.enqueue_report, run_id=name, seq=1, tool="t", arguments="{}")
            await journal.write(put)
        assert await journal.write(partial(entries.prune, before="2027")) == 0
        await journal.write(
            partial(entries.ack_report, run_id="run_1", seq=1, answer="{}", now=NOW)
        )
        assert await journal.write(partial(entries.prune, before="2027")) == 1
        rows = await journal.read(lambda conn: conn.execute("SELECT run_id FROM run").fetchall())
        assert rows == [("run_2",)]


async def test_a_journal_of_another_version_is_refused(tmp_path: Path):
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(StoreError, match="99"):
        async with open_journal(path):
            pass


def _plant(path: Path, damage: str) -> bytes:
    """A journal with many rows, with its log folded in, and something wrong with it."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    content = bytearray(path.read_bytes())
    match damage:
        case "garbage":
            content = bytearray(b"garbage" * 1000)
        case "header":
            content[16:100] = b"\1" * 84
        case "cut off":
            content = content[: len(content) // 2]
        case _:  # pages in the middle, with everything at the beginning as it should be
            middle = len(content) // 2 // 4096 * 4096
            content[middle : middle + 8192] = b"\xff" * 8192
    path.write_bytes(content)
    return bytes(content)


@pytest.mark.parametrize("damage", ["garbage", "header", "cut off", "in the middle"])
async def test_a_damaged_journal_is_set_aside_as_it_was_and_a_new_one_begins(
    tmp_path: Path, damage: str
):
    path, quarantine = tmp_path / "journal.db", tmp_path / "q"
    async with open_journal(path) as journal:
        for number in range(300):
            put = partial(entries.enqueue_report, run_id=f"run_{number:03}", seq=1, tool="t")
            await journal.write(partial(put, arguments=json.dumps({"text": "x" * 300})))
    content = _plant(path, damage)
    async with open_journal(path, quarantine) as journal:
        await journal.write(save(record("run_new")))
        assert await journal.read(entries.known_runs) == {"run_new"}
    (kept,) = quarantine.iterdir()
    # but for the header, in which SQLite notes how it opens the file
    assert (kept / "journal.db").read_bytes()[100:] == content[100:]
    assert kept.stat().st_mode & 0o077 == 0
