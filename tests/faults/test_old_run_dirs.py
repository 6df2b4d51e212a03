"""Run directories of other days: of an older version, of an unknown one, and ten thousand that are over."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import marshal
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiagent_coordinator.coordinator.recover import look
from aiagent_coordinator.coordinator.retention import Ended, Retention, choose, collect, ended_runs
from aiagent_coordinator.executors.base import HoldState
from aiagent_coordinator.executors.inspection import inspect, is_held
from aiagent_coordinator.logs.merge import records
from aiagent_coordinator.pipeline.copies import LIVE, OVER, read_copy, write_copy
from aiagent_coordinator.pipeline.run import RunRecord, Stage
from support.fleet import Fleet, fleet, kill, notes
from support.house import until

#: A run directory as the first version left it, with the programs of its time.
V1 = Path(__file__).parents[1] / "fixtures" / "run-v1"
DAY = 86400.0


def record(name: str, stage: Stage = Stage.WATCH) -> RunRecord:
    return RunRecord(name, "a", "p", "task", 0, "rehearsal", stage)


def test_a_run_directory_of_version_1_is_read_as_it_was_meant(tmp_path: Path):
    folder = tmp_path / "run_01k0000000000000000000000v"
    shutil.copytree(V1, folder)
    found = inspect(folder)
    assert found.state is HoldState.RECORDED
    assert found.record is not None
    assert found.record.exit_code == 7
    assert found.shim is not None
    assert found.shim.pid == json.loads((V1 / "lock").read_text(encoding="ascii"))["pid"]
    assert [one.data for one in records(folder)] == [b"one", b"two", b"three"]


@pytest.fixture
def ships(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path / "f", 3) as made:
        yield made


def plant_programs(folder: Path) -> None:
    """Put the programs of version 1 where a run's own are: what is there is not replaced."""
    for name in ("format", "shim.py", "bridge.py"):
        shutil.copy(V1 / name, folder / name)
    code = compile((V1 / "shim.py").read_bytes(), "shim.py", "exec", optimize=2)
    header = importlib.util.MAGIC_NUMBER + bytes(12)
    (folder / "shim.pyc").write_bytes(header + marshal.dumps(code))


def test_runs_of_the_version_before_are_adopted_and_those_of_an_unknown_one_are_left(ships: Fleet):
    """The old shim runs on under the new coordinator, alive or ended meanwhile, with an old journal."""
    state = ships.home.state
    lives, ended = 0, 1
    for number in (lives, ended):
        process = ships.coordinate(AIAGENT_FAILPOINT="stage.prepare.begin:1*kill")
        ships.add(number)
        until("it is killed before it prepares", lambda p=process: p.poll() is not None)
        (made,) = [one for one in (state / "run").iterdir() if not (one / "shim.py").exists()]
        plant_programs(made)
        process = ships.coordinate()
        ships.at_gate([number])
        kill(process)
    folders = [ships.run_dir(ships.runs(number)[0]) for number in (lives, ended)]
    for folder in folders:
        assert (folder / "shim.py").read_bytes() == (V1 / "shim.py").read_bytes()
        (folder / LIVE).unlink()  # that version kept no copies, and no number beside its journal
    (state / "epoch").unlink()
    with sqlite3.connect(state / "journal.db") as journal:
        for run_id, text in journal.execute("SELECT run_id, record FROM run").fetchall():
            old = {k: v for k, v in json.loads(text).items() if k != "launched_monotonic"}
            change = "UPDATE run SET record = ? WHERE run_id = ?"
            journal.execute(change, (json.dumps(old), run_id))
    journal.close()
    ships.open_gate(ended)
    until("one ends while nobody looks", lambda: not is_held(folders[1]))

    unknown = state / "run" / "run_01k0000000000000000000000u"
    unknown.mkdir()
    (unknown / "format").write_text("2\n")
    (unknown / "something").write_text("of that version")
    process = ships.coordinate()
    until("the living one is adopted", lambda: ships.runs(ended)[0]["phase"] == "ended")
    adopted = {note["run_id"] for note in notes(ships.home, "run.adopted")}
    assert folders[0].name in adopted
    ships.open_gate(lives)
    ships.over([lives, ended])
    for number in (lives, ended):
        ships.check_once(number)
    assert [note["run_id"] for note in notes(ships.home, "run.foreign")] == [unknown.name]
    assert (unknown / "something").read_text() == "of that version"
    doctor = json.loads(ships.home.run("doctor", "--json", check=False).stdout)
    (said,) = [one for one in doctor["findings"] if one["name"] == "runs"]
    assert unknown.name in said["message"]
    gone = json.loads(ships.home.run("gc", "--json").stdout)
    assert gone["removed"] == []
    assert unknown.exists()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def make_over(runs: Path, name: str, *, age: float, size: int = 0, now: float = 100 * DAY) -> Path:
    """A run whose every report was taken so long ago."""
    folder = runs / name
    folder.mkdir(parents=True)
    (folder / "format").write_text("1\n")
    (folder / "out").write_bytes(b"x" * size)
    write_copy(folder, record(name, Stage.DONE))
    os.utime(folder / OVER, (now - age, now - age))
    return folder


def test_what_is_over_goes_by_age_and_by_size_and_the_oldest_first():
    now = 100 * DAY
    ended = [Ended(f"r{day}", now - day * DAY, 10) for day in (1, 2, 3, 40, 50)]

    def gone(retention: Retention) -> list[str]:
        return [one.name for one in choose(ended, retention, now)]

    assert gone(Retention(30 * DAY, 1000)) == ["r50", "r40"]
    assert gone(Retention(90 * DAY, 50)) == []
    assert gone(Retention(90 * DAY, 49)) == ["r50"]
    assert gone(Retention(90 * DAY, 20)) == ["r50", "r40", "r3"]
    assert gone(Retention(30 * DAY, 15)) == ["r50", "r40", "r3", "r2"]
    assert gone(Retention(0, 0)) == ["r50", "r40", "r3", "r2", "r1"]


async def test_nothing_goes_that_lives_is_not_reported_or_is_not_understood(tmp_path: Path):
    """However old it is and however little may stay."""
    runs, now = tmp_path / "run", 100 * DAY
    over = make_over(runs, "run_over", age=50 * DAY)
    kept = {name: make_over(runs, name, age=50 * DAY) for name in ("held", "foreign", "unreported")}
    (kept["foreign"] / "format").write_text("2\n")
    (kept["unreported"] / OVER).rename(kept["unreported"] / LIVE)
    held = (kept["held"] / "lock").open("w")

    fcntl.flock(held, fcntl.LOCK_EX)
    # an older version kept no copies: its token went when everything was told
    for name, is_told in (("old_told", True), ("old_untold", False)):
        folder = runs / name
        shutil.copytree(V1, folder)
        if not is_told:
            (folder / "token").write_text("sess_x")
            kept[name] = folder
        os.utime(folder / "exit", (now - 50 * DAY, now - 50 * DAY))
    # a start that was killed before it was journaled, and one that may still be journaled
    for name, age in (("unborn", 2 * DAY), ("being_born", 1.0)):
        (runs / name).mkdir()
        (runs / name / "token").write_text("sess_x")
        os.utime(runs / name / "token", (now - age, now - age))
    kept["being_born"] = runs / "being_born"
    (runs / "half.removing").mkdir()

    gone = {one.name for one in await collect(runs, Retention(DAY, 0), now)}
    assert gone == {over.name, "old_told", "unborn", "half.removing"}
    assert {path.name for path in runs.iterdir()} == set(kept)
    held.close()


def test_old_run_directories_are_passed_by_without_reading_them(tmp_path: Path):
    """A look reads what is not over, once; benchmarks/recovery.py says what ten thousand cost."""
    runs = tmp_path / "run"
    for number in range(300):
        make_over(runs, f"run_{number:03}", age=DAY)
    alive = runs / "run_alive"
    alive.mkdir()
    write_copy(alive, record("run_alive"))
    behind = runs / "run_behind"
    behind.mkdir()
    write_copy(behind, record("run_behind", Stage.SEAL))
    told = make_over(runs, "run_told", age=DAY)
    journal = [record("run_behind", Stage.WATCH), record(told.name, Stage.RESULT)]
    found = look(runs, journal, {one.run_id for one in journal}, set())
    assert [(one.run_id, one.stage) for one in found.newer] == [
        ("run_behind", Stage.SEAL),
        ("run_told", Stage.DONE),
        ("run_alive", Stage.WATCH),
    ]
    assert found.left == []
    assert len(found.settled) == 303
    again = look(runs, [], set(), found.settled)
    assert (again.newer, again.left, again.foreign) == ([], [], [])
    assert len(ended_runs(runs, 100 * DAY)) == 301


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff" * 100, b'{"run_id": "other"}', None])
def test_a_copy_that_cannot_be_read_is_no_copy(tmp_path: Path, content: bytes | None):
    if content is None:
        (tmp_path / LIVE).symlink_to("/etc/passwd")
    else:
        (tmp_path / LIVE).write_bytes(content)
    assert read_copy(tmp_path) is None
