"""The executor of this machine: the suite, and what only a lock and a local shim can show."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from aiagent_coordinator.errors import SpawnError
from aiagent_coordinator.executors.base import Executor, Hold, HoldState
from aiagent_coordinator.executors.inspection import inspect, is_held
from aiagent_coordinator.executors.local import LocalExecutor
from aiagent_coordinator.executors.programs import copy_programs
from aiagent_coordinator.wire import process
from tests.contract.executor_suite import *  # noqa: F403 - the suite's tests and fixtures
from tests.contract.executor_suite import FAKE_CLI, Bench, eventually, finish, start

SPAWNER = FAKE_CLI.with_name("spawner.py")


@pytest.fixture
def executor() -> Executor:
    return LocalExecutor()


async def test_a_killed_shim_takes_the_command_with_it_and_the_run_is_lost(
    executor: Executor, bench: Bench
):
    """An unknown end is a state of its own, never exit code 0."""
    spec = bench.fake("ignore-term", f"mark:{bench.root}/mark", "forever")
    directory = await start(executor, bench, spec)
    await eventually(bench.marks)
    shim = executor.inspect(directory).shim
    assert shim is not None
    os.kill(shim.pid, signal.SIGKILL)
    with anyio.fail_after(10):
        found = await executor.wait(directory)
    assert (found.state, found.record, found.started) == (HoldState.LOST, None, True)
    await eventually(lambda: not bench.living())
    again = await executor.hold(directory, bench.fake(), bench.shim_file)
    assert again.state is HoldState.LOST


async def test_another_process_adopts_what_runs(executor: Executor, bench: Bench):
    directory = await start(executor, bench, bench.fake(f"wait:{bench.root}/go", "exit:9"))
    follower = await anyio.open_process(
        [sys.executable, str(SPAWNER), str(bench.shim_file), str(directory), "wait"]
    )
    async with follower:
        assert executor.inspect(directory).state is HoldState.HELD
        (bench.root / "go").touch()
        assert follower.stdout is not None
        with anyio.fail_after(20):
            said = b"".join([piece async for piece in follower.stdout])
        assert said == b"recorded 9\n"


async def test_the_shim_is_reaped_and_leaves_no_zombie(bench: Bench):
    executor = LocalExecutor()
    directory = await start(executor, bench, bench.fake("exit:0"))
    shim = (await executor.wait(directory)).shim
    assert shim is not None
    assert process.start_ticks(shim.pid) is None


async def test_observers_do_not_take_each_other_for_the_shim(bench: Bench):
    """Probing the lock takes it for a moment; that must not look like a run."""
    (bench.root / "lock").touch()
    seen: list[bool] = []

    def look() -> None:
        seen.extend(is_held(bench.root) for _ in range(2000))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    await anyio.to_thread.run_sync(lambda: [thread.join() for thread in threads])
    assert len(seen) == 8000
    assert not any(seen)


async def test_holding_copes_with_observers(executor: Executor, bench: Bench):
    """A look at the lock while it is being taken only delays the start."""
    directory = bench.root / "r"
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            is_held(directory)

    observers = [threading.Thread(target=look) for _ in range(3)]
    for observer in observers:
        observer.start()
    try:
        found = await finish(executor, bench, bench.fake("exit:0"))
    finally:
        is_over.set()
        await anyio.to_thread.run_sync(lambda: [observer.join() for observer in observers])
    assert found.state is HoldState.RECORDED


async def test_a_lock_that_is_held_without_a_name_is_held(bench: Bench):
    directory = bench.root / "r"
    directory.mkdir()
    holder = await anyio.to_thread.run_sync(
        lambda: subprocess.Popen(
            ["flock", str(directory / "lock"), "sleep", "1000"], start_new_session=True
        )
    )
    try:
        await eventually(lambda: is_held(directory))
        assert inspect(directory) == Hold(HoldState.HELD, None, None, started=False)
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.wait()


async def test_an_identity_that_belongs_to_a_stranger_is_not_waited_for(
    executor: Executor, bench: Bench
):
    """A process number is reused; its start is not."""
    directory = await start(executor, bench, bench.fake(f"wait:{bench.root}/go", "exit:2"))
    lock = directory / "lock"
    facts = json.loads(lock.read_text())
    facts["pid"] = 1
    with lock.open("r+") as file:
        file.write(json.dumps(facts | {"pid": os.getppid()}) + "\n")
    assert executor.inspect(directory).state is HoldState.HELD
    (bench.root / "go").touch()
    with anyio.fail_after(10):
        found = await executor.wait(directory)
    assert found.state is HoldState.RECORDED
    assert process.start_ticks(os.getppid()) is not None


async def test_a_shim_that_never_takes_over_is_told_at_once(executor: Executor, bench: Bench):
    directory = bench.root / "r"
    spec = bench.fake(gate_seconds=60)
    await executor.hold(directory, spec, bench.root / "no_shim.py")
    with anyio.fail_after(10):
        assert (await executor.wait(directory)).state is HoldState.NEVER_STARTED
        with pytest.raises(SpawnError, match="before its command started"):
            await executor.go(directory)
    assert not await executor.signal(directory, "T")


async def test_without_a_gate_what_never_started_is_started_again_with_one_it_is_not(
    executor: Executor, bench: Bench
):
    directory = bench.root / "r"
    await executor.hold(directory, bench.fake(), bench.root / "no_shim.py")
    assert (await executor.wait(directory)).state is HoldState.NEVER_STARTED
    gated = await executor.hold(directory, bench.fake(gate_seconds=60), bench.shim_file)
    assert gated.state is HoldState.NEVER_STARTED
    found = await finish(executor, bench, bench.fake("exit:6"))
    assert found.record is not None
    assert found.record.exit_code == 6


@pytest.mark.parametrize("name", ["started", "started.tmp"])
async def test_what_may_have_run_is_not_started_again(executor: Executor, bench: Bench, name: str):
    directory = bench.root / "r"
    directory.mkdir()
    (directory / "lock").touch()
    (directory / name).touch()
    found = await executor.hold(directory, bench.fake(), bench.shim_file)
    assert found.state is HoldState.LOST


GOOD = {
    "v": 1,
    "exit_code": 7,
    "signal": None,
    "reason": None,
    "error": None,
    "started_at_ns": 1_700_000_000_000_000_000,
    "ended_at_ns": 1_700_000_001_000_000_000,
    "cpu_seconds": 0.5,
    "max_rss_kib": 100,
    "stop": None,
}


def _record(**changes: object) -> bytes:
    return json.dumps(GOOD | changes).encode().ljust(4095) + b"\n"


BAD_RECORDS = {
    "empty": b"",
    "zeros": bytes(4096),
    "torn": _record()[:40] + bytes(4056),
    "no newline": _record()[:-1],
    "binary": os.urandom(4096),
    "a list": b"[]\n",
    "another version": _record(v=2),
    "deep": b"[" * 8000 + b"\n",
    "too long": _record() + b" " * 8192,
    "huge number": b'{"v": ' + b"9" * 8000 + b"}\n",
    "NaN": _record(cpu_seconds=float("nan")),
    "text as code": _record(exit_code="7"),
    "true as code": _record(exit_code=True),
    "code too high": _record(exit_code=256),
    "neither": _record(exit_code=None),
    "both": _record(signal=9),
    "unknown reason": _record(reason="tired"),
    "reason no text": _record(reason=["x"]),
    "before time": _record(ended_at_ns=-1),
    "after time": _record(ended_at_ns=2**80),
    "missing member": b'{"v": 1, "exit_code": 0}\n',
    "not UTF-8": b'{"v": 1, "reason": "\xff"}\n',
}


def _ended(directory: Path) -> Path:
    directory.mkdir()
    for name in ("lock", "started"):
        (directory / name).touch()
    return directory


@pytest.mark.parametrize("case", BAD_RECORDS)
def test_a_record_that_cannot_be_read_is_a_state_not_an_exception(bench: Bench, case: str):
    directory = _ended(bench.root / "r")
    (directory / "exit").write_bytes(BAD_RECORDS[case])
    assert inspect(directory) == Hold(HoldState.BAD_RECORD, None, None, started=True)


def test_a_record_of_a_gigabyte_is_not_read(bench: Bench):
    directory = _ended(bench.root / "r")
    with (directory / "exit").open("wb") as file:
        file.truncate(1 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert inspect(directory).state is HoldState.BAD_RECORD
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory"])
def test_a_record_that_is_no_file_is_bad(bench: Bench, kind: str):
    directory = _ended(bench.root / "r")
    target = directory / "exit"
    (bench.root / "elsewhere").write_bytes(_record())
    match kind:
        case "symlink":
            target.symlink_to(bench.root / "elsewhere")
        case "fifo":
            os.mkfifo(target)
        case _:
            target.mkdir()
    assert inspect(directory).state is HoldState.BAD_RECORD


def test_what_the_shim_wrote_counts_without_its_rename(bench: Bench):
    directory = _ended(bench.root / "r")
    (directory / "exit.tmp").write_bytes(_record())
    found = inspect(directory)
    assert found.record is not None
    assert (found.state, found.record.exit_code) == (HoldState.RECORDED, 7)
    (directory / "exit.tmp").write_bytes(BAD_RECORDS["torn"])
    assert inspect(directory).state is HoldState.LOST


@pytest.mark.parametrize("content", [b"2\n", b"", b"1.1\n", b"\0" * 100])
async def test_a_directory_of_another_version_is_left_alone(
    executor: Executor, bench: Bench, content: bytes
):
    directory = bench.root / "r"
    directory.mkdir()
    (directory / "format").write_bytes(content)
    found = await executor.hold(directory, bench.fake(), bench.shim_file)
    assert found.state is HoldState.FOREIGN_FORMAT
    assert [file.name for file in directory.iterdir()] == ["format"]


@pytest.mark.parametrize("changes", [{"A\0": "b"}, {"A=B": "c"}, {"A": "x" * 3_000_000}])
async def test_an_environment_that_cannot_be_passed_is_a_spawn_error(
    executor: Executor, bench: Bench, changes: dict[str, str]
):
    with pytest.raises(SpawnError):
        await executor.hold(bench.root / "r", bench.fake(env=changes), bench.shim_file)
    assert executor.inspect(bench.root / "r").state is HoldState.NEVER_STARTED


async def test_a_directory_that_cannot_be_made_is_a_spawn_error(executor: Executor, bench: Bench):
    (bench.root / "file").touch()
    with pytest.raises(SpawnError, match="Not a directory"):
        await executor.hold(bench.root / "file/r", bench.fake(), bench.shim_file)


async def test_a_lock_that_is_a_link_is_refused(executor: Executor, bench: Bench):
    directory = bench.root / "r"
    directory.mkdir()
    (directory / "lock").symlink_to(bench.root / "elsewhere")
    with pytest.raises(SpawnError, match="symbolic links"):
        await executor.hold(directory, bench.fake(), bench.shim_file)
    assert not (bench.root / "elsewhere").exists()


async def test_no_secret_of_the_environment_is_written(executor: Executor, bench: Bench):
    spec = bench.fake("exit:0", env={"KEY": "very-secret-value"})
    await finish(executor, bench, spec)
    for file in (bench.root / "r").iterdir():
        if file.is_file():
            assert b"very-secret-value" not in file.read_bytes()
            assert file.stat().st_mode & 0o077 == 0


def test_the_programs_are_copied_once_and_then_left(bench: Bench):
    directory = bench.shim_file.parent
    assert {file.name for file in directory.iterdir()} == {
        "format",
        "shim.py",
        "shim.pyc",
        "bridge.py",
        "confine.py",
    }
    (directory / "shim.py").write_text("mine")
    copy_programs(directory)
    assert (directory / "shim.py").read_text() == "mine"


async def test_a_compiled_shim_of_another_python_is_not_used(executor: Executor, bench: Bench):
    bench.shim_file.with_suffix(".pyc").write_bytes(b"\0\1\2\3 of another version")
    found = await finish(executor, bench, bench.fake("exit:0"))
    assert found.state is HoldState.RECORDED


async def test_a_step_lies_inside_its_run_and_shares_its_shim(executor: Executor, bench: Bench):
    run = bench.root / "run"
    copy_programs(run)
    step = run / "steps" / "1"
    await executor.hold(step, replace(bench.fake("exit:2")), run / "shim.py")
    found = await executor.wait(step)
    assert found.record is not None
    assert found.record.exit_code == 2


@pytest.mark.parametrize("seed", range(6))
async def test_a_coordinator_killed_while_it_starts_runs_loses_none_and_doubles_none(
    executor: Executor, bench: Bench, seed: int
):
    """Whatever the moment: each run is in one state, and the story goes on from there."""
    count = 8
    for number in range(count):
        copy_programs(bench.root / str(number))
    coordinator = await anyio.open_process(
        [sys.executable, str(SPAWNER), str(bench.shim_file), str(bench.root), str(count)]
    )
    async with coordinator:
        # Importing takes most of a second; the first lock is where the burst begins.
        await eventually(lambda: any(bench.root.glob("*/lock")))
        await anyio.sleep(random.Random(seed).uniform(0, 0.25))
        coordinator.kill()
        await coordinator.wait()
    for number in range(count):
        directory = bench.root / str(number)
        found = executor.inspect(directory)
        if found.state is HoldState.HELD and not found.started:
            # As recovery does: the intent is known, so the gate is opened once more.
            try:
                await executor.go(directory)
            except SpawnError:
                # Held by a fork that was about to become the shim of another run.
                assert executor.inspect(directory).state is HoldState.NEVER_STARTED
        with anyio.fail_after(20):
            found = await executor.wait(directory)
        assert found.state in {HoldState.ABSENT, HoldState.NEVER_STARTED, HoldState.RECORDED}
        ran = bench.marks(f"{number}.mark")
        assert ran == (1 if found.state is HoldState.RECORDED else 0)
        if found.record is not None:
            assert found.record.exit_code == 7
            assert (directory / "out").read_text() == "line 1\nline 2\nline 3\n"
    assert not bench.living()


async def test_a_shim_is_taken_note_of_even_when_it_is_gone_only_a_moment_after_its_lock(
    executor: Executor, bench: Bench
):
    """The kernel lets the lock go before the process ends; nobody may look for hours after that."""
    for number in range(10):
        directory = await start(executor, bench, bench.fake("exit:0"), f"r{number}")
        shim = executor.inspect(directory).shim
        assert shim is not None
        while is_held(directory):
            pass
        with anyio.fail_after(30):
            await executor.wait(directory)
        assert process.start_ticks(shim.pid) is None, f"left to be reaped, in round {number}"
