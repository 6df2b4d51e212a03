"""The coordinator dies in every way there is, or is overtaken: runs, reports and logs are what they were.

`AIAGENT_LONG=1` runs the long forms: 200 agents in place of 20.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiagent_coordinator.executors.inspection import is_held
from support.fleet import Fleet, fleet, kill, notes
from support.house import until

LONG = bool(os.environ.get("AIAGENT_LONG"))
MANY = 200 if LONG else 20
BURST = 50


@pytest.fixture(scope="module")
def ships(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    root = Path(os.path.realpath(tmp_path_factory.mktemp("f", numbered=True)))
    lease = {"seconds": "2s", "takeover_grace": "1s"}
    with fleet(root, MANY + BURST + 25, lease=lease) as made:
        yield made


@pytest.fixture(autouse=True)
def _no_coordinator_stays(ships: Fleet) -> Iterator[None]:
    yield
    for process in ships.home.processes[1:]:
        if process.poll() is None:
            kill(process)


@pytest.mark.timeout(900)
def test_killed_or_crashed_again_and_again_while_many_agents_run_it_loses_nothing(ships: Fleet):
    """Right exit codes, every byte of output, one start and one report each."""
    numbers = ships.take(MANY)
    process = ships.coordinate()
    for number in numbers:
        ships.add(number)
    ships.at_gate(numbers)
    kill(process)
    # what ends while nobody looks is told by the next life
    for number in numbers[::2]:
        ships.open_gate(number)
    process = ships.coordinate()
    until("it took up the others", lambda: len(notes(ships.home, "run.adopted")) >= MANY // 2)
    for how in (signal.SIGSEGV, signal.SIGKILL):
        kill(process, how)
        process = ships.coordinate()
    for number in numbers[1::2]:
        ships.open_gate(number)
    ships.over(numbers)
    for number in numbers:
        ships.check_once(number)
    ships.stop(process)
    assert process.returncode == 0


def test_stopped_in_the_middle_of_a_burst_of_starts_it_leaves_all_to_the_next_life(ships: Fleet):
    """SIGTERM ends it within seconds, agents keep running, and what was not begun begins later."""
    numbers = ships.take(BURST)
    process = ships.coordinate()
    for number in numbers:
        ships.add(number)
    known = set((ships.home.state / "run").iterdir())

    def begun() -> int:
        return len(set((ships.home.state / "run").iterdir()) - known)

    until("the burst has begun", lambda: begun() > BURST // 5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    process = ships.coordinate()
    for number in numbers:
        ships.open_gate(number)
    ships.over(numbers)
    for number in numbers:
        ships.check_once(number)
    ships.stop(process)


def test_signals_that_come_twice_end_it_once_and_hangup_ends_nothing(ships: Fleet):
    (number,) = ships.take(1)
    before = len(ships.home.log.read_text(encoding="utf-8"))
    ships.add(number)
    for ends, status in (((signal.SIGTERM, signal.SIGTERM), 0), ((signal.SIGINT,), 130)):
        looks = _drives(ships)
        process = ships.coordinate()
        until("it drives the run", lambda n=looks: _drives(ships) > n)
        for one in (signal.SIGHUP, signal.SIGHUP, *ends):
            process.send_signal(one)
        assert process.wait(60) == status
    process = ships.coordinate()
    ships.open_gate(number)
    ships.over([number])
    ships.check_once(number)
    ships.stop(process)
    assert "Traceback" not in ships.home.log.read_text(encoding="utf-8")[before:]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2])
def test_a_signal_at_any_moment_of_its_end_cuts_nothing_short(ships: Fleet, number: signal.Signals):
    """It is told again and again until it is gone; it still goes as it was told first."""
    for _ in range(2):
        before = _lives(ships)
        process = ships.coordinate()
        until("it asked the server", lambda n=before: _lives(ships) > n)
        process.send_signal(signal.SIGTERM)
        while process.poll() is None:
            process.send_signal(number)
            time.sleep(0.0005)
        assert process.returncode == 0


def _lives(ships: Fleet) -> int:
    """How many lives of coordinators the server has seen."""
    with sqlite3.connect(f"file:{ships.home.state / 'store.db'}?mode=ro", uri=True) as store:
        ((count,),) = store.execute("SELECT count(*) FROM event WHERE action = 'coordinator.seen'")
    store.close()
    return int(count)


def _drives(ships: Fleet) -> int:
    return len(notes(ships.home, "run.start")) + len(notes(ships.home, "run.adopted"))


def test_of_two_that_start_at_once_one_goes_and_says_who_stays(ships: Fleet):
    (number,) = ships.take(1)
    ships.add(number)
    both = [ships.coordinate(), ships.coordinate()]
    until("one is gone", lambda: [one for one in both if one.poll() is not None])
    (gone,) = [one for one in both if one.poll() is not None]
    (stays,) = [one for one in both if one is not gone]
    assert gone.returncode == 9
    said = ships.home.log.read_text(encoding="utf-8")
    assert f"process {stays.pid} already runs the coordinator" in said
    ships.open_gate(number)
    ships.over([number])
    ships.check_once(number)
    ships.stop(stays)


def test_one_that_slept_while_its_lock_was_taken_changes_nothing_when_it_wakes(ships: Fleet):
    """Every write of the earlier life is refused, it ends by itself, and nothing is started twice."""
    numbers = ships.take(3)
    sleeper = ships.coordinate()
    for number in numbers[:2]:
        ships.add(number)
    ships.at_gate(numbers[:2])
    sleeper.send_signal(signal.SIGSTOP)
    # somebody thinks it dead and takes the lock away
    (ships.home.state / "coordinator.lock").unlink()
    heir = ships.coordinate()
    until("the heir has taken them up", lambda: len(_adopted_by(ships, heir.pid)) >= 2)
    # what the sleeper would report first: an agent that ends just before it wakes
    ships.open_gate(numbers[0])
    ships.over([numbers[0]])
    ships.add(numbers[2])
    sleeper.send_signal(signal.SIGCONT)
    assert sleeper.wait(60) == 9
    for number in numbers[1:]:
        ships.open_gate(number)
    ships.over(numbers)
    for number in numbers:
        ships.check_once(number)
    assert heir.poll() is None
    ships.stop(heir)


def _adopted_by(ships: Fleet, _pid: int) -> list[str]:
    return [note["run_id"] for note in notes(ships.home, "run.adopted")]


def test_after_the_lease_another_host_takes_over_and_the_first_is_refused(
    ships: Fleet, tmp_path: Path
):
    """Paused beyond lease and grace: the task runs elsewhere, the late reports change nothing."""
    (number,) = ships.take(1)
    first = ships.coordinate()
    task = ships.add(number)
    ships.at_gate([number])
    (lost,) = ships.runs(number)
    first.send_signal(signal.SIGSTOP)
    other = ships.another(tmp_path)
    other.start("coordinate")
    try:
        until("the task was taken over", lambda: len(ships.runs(number)) == 2)
        again = ships.runs(number)[1]
        out = other.state / "run" / again["id"] / "out"
        until("it runs there", lambda: out.exists() and b"line 49 of" in out.read_bytes())
        first.send_signal(signal.SIGCONT)
        ships.open_gate(number)
        ships.over([number])
        until("the first knows", lambda: _refused(ships, lost["id"]))
        old, new = ships.runs(number)
        assert (old["id"], old["outcome"], old["reason"]) == (lost["id"], "lost", "lost")
        assert new["id"] == again["id"]
        assert new["exit_code"] == number % 5
        counted = ships.events(lost["id"])
        assert (counted["run.exited"], counted["run.ended"]) == (0, 1), counted
        assert ships.events(new["id"])["run.ended"] == 1
        assert len(list(ships.home.state.glob(f"run/{new['id']}"))) == 0
        assert ships.task(task)["status"] in {"succeeded", "failed"}
    finally:
        other.close()
    ships.stop(first)


def _refused(ships: Fleet, run_id: str) -> bool:
    return ships.events(run_id)["run.superseded"] > 0


DAMAGES = (
    "garbage",
    "a broken header",
    "cut off",
    "its log removed",
    "its index removed",
    "empty",
    "removed",
)


def damage(file: Path, how: str) -> None:
    """Do to a database what disks, people and their tools do."""
    match how:
        case "garbage":
            _unlink(file, "-wal", "-shm")  # with its log SQLite would mend it by itself
            file.write_bytes(b"garbage" * 2000)
        case "a broken header":
            _unlink(file, "-wal", "-shm")
            file.write_bytes(b"SQLite format 3\0" + b"\1" * 4000)
        case "cut off":
            sqlite3.connect(file).execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()
            os.truncate(file, file.stat().st_size // 2)
        case "its log removed":
            _unlink(file, "-wal", "-shm")
        case "its index removed":
            _unlink(file, "-shm")
        case "empty":
            _unlink(file, "-wal", "-shm")
            os.truncate(file, 0)
        case _:
            _unlink(file, "", "-wal", "-shm")


def _unlink(file: Path, *suffixes: str) -> None:
    for suffix in suffixes:
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def test_a_journal_damaged_in_any_way_is_made_again_and_costs_nothing(ships: Fleet):
    """Each life finds another damage; the same agents live through them all, and nothing is told twice."""
    waits, told, sealed = ships.take(3)
    process = ships.coordinate()
    ships.open_gate(told)
    for number in (waits, told):
        ships.add(number)
    ships.over([told])
    ships.at_gate([waits])
    kill(process)
    journal = ships.home.state / "journal.db"
    for name in DAMAGES:
        adopted = len(notes(ships.home, "run.adopted"))
        damage(journal, name)
        process = ships.coordinate()
        until(f"{name}: taken up", lambda n=adopted: len(notes(ships.home, "run.adopted")) > n)
        kill(process)
    set_aside = notes(ships.home, "journal.set_aside")
    assert len(set_aside) >= 3
    kept = Path(set_aside[0]["kept"])
    assert kept.parent == ships.home.state / "quarantine"
    assert (kept / "journal.db").read_bytes() == b"garbage" * 2000
    # killed between its exit's report and its result, then without a journal
    ships.open_gate(sealed)
    ships.add(sealed)
    process = ships.coordinate(AIAGENT_FAILPOINT="stage.result.begin:1*kill")
    until("it is killed before the result", lambda: process.poll() is not None)
    damage(journal, "removed")
    process = ships.coordinate()
    ships.open_gate(waits)
    ships.over([waits, told, sealed])
    for number in (waits, told, sealed):
        ships.check_once(number)
    ships.stop(process)


def test_after_a_reboot_what_ran_is_lost_and_begins_once_more(ships: Fleet):
    """Everything is gone without a word, under a boot that is no more."""
    numbers = ships.take(2)
    process = ships.coordinate()
    for number in numbers:
        ships.add(number, max_attempts=3)
    ships.at_gate(numbers)
    kill(process)
    for number in numbers:
        lock = ships.run_dir(ships.runs(number)[0]) / "lock"
        shim = json.loads(lock.read_text(encoding="utf-8"))
        os.kill(shim["pid"], signal.SIGKILL)
        lock.write_text(json.dumps({**shim, "boot_id": "of the boot before"}) + "\n")
    process = ships.coordinate()
    ships.at_gate(numbers)
    for number in numbers:
        until("it begins once more", lambda number=number: len(ships.runs(number)) == 2)
        ships.open_gate(number)
    until("they end", lambda: all(ships.runs(n)[1]["phase"] == "ended" for n in numbers))
    for number in numbers:
        lost, again = ships.runs(number)[:2]
        assert (lost["outcome"], lost["reason"]) == ("lost", "shim_lost")
        assert lost["exit_code"] is None
        assert again["exit_code"] == number % 5
    ships.stop(process)


BAD_RECORDS = {
    "empty": b"",
    "torn": b'{"v": 1, "exit_code": 0, "sig',
    "binary": bytes(range(256)) * 16,
    "of another kind": b'["v", 1]\n',
    "a lie": b'{"v": 1, "exit_code": "0"}\n',
}


def test_an_exit_record_that_cannot_be_read_makes_its_run_lost_and_never_a_success(ships: Fleet):
    numbers = ships.take(len(BAD_RECORDS) + 1)
    process = ships.coordinate()
    for number in numbers:
        ships.add(number)
    ships.at_gate(numbers)
    kill(process)
    dirs = [ships.run_dir(ships.runs(number)[0]) for number in numbers]
    for number, folder in zip(numbers, dirs, strict=True):
        ships.open_gate(number)
        until("it ended", (folder / "exit").exists)
        until("its shim is gone", lambda folder=folder: not is_held(folder))
        # its task is not to run again: only what is said of this run counts here
        (ships.project(number) / "do.sh").write_text("exit 0")
    for folder, content in zip(dirs, BAD_RECORDS.values(), strict=False):
        (folder / "exit").write_bytes(content)
    os.truncate(dirs[-1] / "exit", 1024**3)
    process = ships.coordinate()
    for number, folder in zip(numbers, dirs, strict=True):
        until("it is told", lambda n=number: ships.runs(n)[0]["phase"] == "ended")
        run = ships.runs(number)[0]
        assert run["id"] == folder.name
        assert (run["outcome"], run["reason"], run["exit_code"]) == ("lost", "bad_record", None)
    ships.stop(process)
