"""Disks that are full, fail, or are pulled out under a write: nothing acknowledged is lost, nothing is pretended.

`AIAGENT_LONG=1` kills five hundred writers where the short form kills eight.
"""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from aiagent_coordinator.coordinator import entries
from aiagent_coordinator.coordinator.journal import open_journal
from aiagent_coordinator.coordinator.supervisor import STAGE_ATTEMPTS
from aiagent_coordinator.errors import OvertakenError
from aiagent_coordinator.executors.inspection import is_held
from aiagent_coordinator.pipeline.run import RunRecord
from support.disk import fill, small_disk
from support.fleet import fleet, notes, output_of
from support.house import House, until
from support.repo import git
from support.storm import storm

LONG = bool(os.environ.get("AIAGENT_LONG"))
KILLS = 500 if LONG else 8
FAKES = Path(__file__).parents[1] / "fakes"
#: So often any other failure is tried within a minute and a half.
TRIES = STAGE_ATTEMPTS + 1
WRITER = FAKES / "journal_writer.py"
NOW = "2026-01-01T00:00:00.000000Z"


def kept(file: Path) -> set[str]:
    """What a journal holds when it is opened again; it must be whole."""
    with sqlite3.connect(file) as journal:
        assert journal.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert journal.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        found = {row[0] for row in journal.execute("SELECT run_id FROM outbox")}
    journal.close()
    return found


@pytest.mark.timeout(60 + KILLS * 5)
def test_a_journal_keeps_what_it_acknowledged_whenever_its_writer_is_killed(tmp_path: Path):
    file = tmp_path / "journal.db"
    chance = random.Random(KILLS)
    acknowledged: set[str] = set()
    for life in range(KILLS):
        with subprocess.Popen(
            [sys.executable, str(WRITER), str(file), str(life)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            told = [writer.stdout.readline() for _ in range(chance.randrange(1, 40))]
            writer.kill()
            told += writer.stdout.readlines()
        acknowledged |= {line.strip() for line in told if line.endswith("\n")}
        assert acknowledged <= kept(file)
    assert len(acknowledged) >= KILLS


async def test_a_journal_that_another_program_holds_waits_and_loses_nothing(tmp_path: Path):
    file = tmp_path / "journal.db"
    async with open_journal(file) as journal:
        other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(0.5, lambda: other.execute("ROLLBACK")).start()
        record = RunRecord("run_1", "a", "p", "task", 0, "rehearsal")
        await journal.write(partial(entries.save_record, record=record, now=NOW))
        assert await journal.read(entries.known_runs) == {"run_1"}
        other.close()


async def test_of_two_lives_with_one_journal_the_earlier_is_refused_at_every_write(tmp_path: Path):
    """By the journal, and when the later one made a new journal by the number beside it."""
    epoch = tmp_path / "epoch"
    for later_file in ("journal.db", "another.db"):
        file = tmp_path / "journal.db"
        with pytest.RaisesGroup(pytest.RaisesExc(OvertakenError), flatten_subgroups=True):
            async with open_journal(file) as first:
                assert await first.begin_life(epoch) > 0
                async with open_journal(tmp_path / later_file) as later:
                    assert await later.begin_life(epoch) > 1
                    put = partial(
                        entries.enqueue_report, run_id="run_1", seq=1, tool="t", arguments="{}"
                    )
                    try:
                        await first.write(put)
                    finally:
                        assert await later.read(_reports) == 0
        assert kept(file) == set()


def _reports(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM outbox").fetchone()[0])


async def test_a_journal_that_is_gone_repeats_no_number_of_a_life(tmp_path: Path):
    file, epoch = tmp_path / "journal.db", tmp_path / "epoch"
    seen: list[int] = []
    for remove in ((), ("journal.db",), ("epoch",), ()):
        for name in remove:
            (tmp_path / name).unlink()
        async with open_journal(file) as journal:
            seen.append(await journal.begin_life(epoch))
    assert seen == sorted(set(seen))


WRITERS: dict[str, Callable[[Path], list[str]]] = {
    "journal": lambda folder: [str(WRITER), str(folder / "journal.db"), "0", "6"],
    "store": lambda folder: [
        str(FAKES / "store_writer.py"),
        f"sqlite:///{folder / 'store.db'}",
        "0",
        "6",
    ],
}


@pytest.mark.needs("strace")
@pytest.mark.parametrize("kind", WRITERS)
def test_after_a_failed_fsync_nothing_more_is_said_to_be_written(tmp_path: Path, kind: str):
    """At each fsync there is, in turn: what was acknowledged is there, and the writer ends by itself."""
    refused = 0
    for nth in range(1, 60) if LONG else (1, 3, 10, 12, 60):
        folder = tmp_path / str(nth)
        folder.mkdir()
        trace = folder / "trace"
        # SQLite's own; strace counts each call by itself
        fault = f"--inject=fdatasync:error=EIO:when={nth}"
        done = subprocess.run(
            ["strace", "-f", "-o", str(trace), fault, sys.executable, *WRITERS[kind](folder)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        told = done.stdout.splitlines()
        names = {line for line in told if not line.startswith("refused")}
        for file in folder.glob("*.db") if names else ():
            assert names <= (kept(file) if kind == "journal" else coordinators(file))
        if not names:  # it could not even begin; the next life can
            again = [sys.executable, *WRITERS[kind](folder)]
            assert subprocess.run(again, stdout=subprocess.DEVNULL, check=False).returncode == 0
        if "INJECTED" not in trace.read_text(encoding="ascii", errors="replace"):
            assert done.returncode == 0
            assert len(names) == 24, "every write is acknowledged when no fsync fails"
            break
        if "refused" in done.stdout:
            refused += 1
            assert done.returncode != 0, "it ends by itself"
            first = next(i for i, line in enumerate(told) if line.startswith("refused"))
            assert all(line.startswith("refused") for line in told[first:]), done.stdout
    assert refused, "no fault hit a commit: the test proved nothing"


def coordinators(file: Path) -> set[str]:
    with sqlite3.connect(file) as store:
        assert store.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert store.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        found = {row[0] for row in store.execute("SELECT id FROM coordinator")}
    store.close()
    return found


@pytest.mark.needs("mount")
def test_on_a_full_disk_ends_are_recorded_nothing_starts_and_status_says_why_until_there_is_room(
    short_dir: Path,
):
    """Five agents end while the state directory's disk has not one byte left."""
    with small_disk(short_dir / "d", 24) as disk, small_disk(short_dir / "w", 1) as work:
        state = disk / "state"
        (short_dir / "h").mkdir()
        (short_dir / "h" / "state").symlink_to(state)
        with fleet(
            short_dir / "h", 7, state_dir=str(state), watermarks={"memory": 0, "disk": "1MiB"}
        ) as ships:
            home = ships.home
            process = ships.coordinate()
            numbers = list(range(5))
            for number in numbers:
                ships.add(number)
            ships.at_gate(numbers)
            assert ships.ask("get_status")["degraded"] == []
            fill(disk / "filler")
            until("it is noticed", lambda: ships.ask("get_status")["degraded"] == ["disk"])
            assert "degraded: disk" in home.run("status").stdout
            until("the log says so", lambda: notes(home, "daemon.degraded"))
            runs = [ships.run_dir(ships.runs(number)[0]) for number in numbers]
            for number in numbers:
                ships.open_gate(number)
            for number, folder in zip(numbers, runs, strict=True):
                until("its end is recorded", (folder / "exit").exists)
                assert f'"exit_code": {number % 5},' in (folder / "exit").read_text()
            assert process.poll() is None
            assert len(list((state / "run").iterdir())) == 5
            (disk / "filler").unlink()
            ships.over(numbers)
            assert ships.ask("get_status")["degraded"] == []
            for number in numbers:
                run = ships.runs(number)[0]
                assert run["exit_code"] == number % 5
                assert len(ships.runs(number)) == 1
                # the last line found no room: that is the agent's own loss, and nothing before it is
                assert output_of(number).startswith((ships.run_dir(run) / "out").read_bytes())
                counted = ships.events(run["id"])
                assert (counted["run.exited"], counted["run.ended"]) == (1, 1)
            assert process.poll() is None

            # and a workspace whose disk is full is its own agent's trouble alone
            full, fine = 5, 6
            (ships.project(full) / "do.sh").write_text(f"cat /dev/zero > {work}/big || exit 3")
            ships.open_gate(fine)
            for number in (full, fine):
                ships.add(number)
            ships.over([full, fine])
            assert ships.runs(full)[0]["exit_code"] == 3
            assert ships.runs(fine)[0]["exit_code"] == fine % 5
            assert ships.ask("get_status")["degraded"] == []
            until("the log says so", lambda: notes(home, "daemon.recovered"))
            ships.stop(process)


@pytest.mark.needs("mount")
def test_work_that_is_done_while_the_disk_is_full_is_sealed_when_there_is_room(short_dir: Path):
    """However long that takes: it costs no attempt and is not thrown away."""
    with small_disk(short_dir / "d", 64) as disk:
        (short_dir / "h").mkdir()
        with storm(short_dir / "h", disk) as weather:
            home = weather.home
            task = weather.add("plain")
            assert task is not None
            run = home.running(task)
            (home.state / "worktrees" / "app" / task / "done.txt").write_text("done\n")
            weather.fill()
            weather.open_gate(task, 0)
            folder = home.state / "run" / run["id"]
            until("its end is recorded", lambda: not is_held(folder))
            until("it was tried often, and soon again", lambda: len(_failed(home)) > TRIES)
            weather.free()
            done = home.finished(task)
            assert (done["status"], done["attempt"]) == ("succeeded", 1)
            sealed = home.shown(run["id"])["commit"]
            assert git(home.repo, "show", f"{sealed}:done.txt") == "done"
            weather.go_home()


def _failed(home: House) -> list[str]:
    return [line["stage"] for line in home.logged("run.failed")]
