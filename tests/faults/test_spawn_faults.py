"""A start that the system refuses: no crash, a named end, and the place is free again.

`AIAGENT_ALL_EXITS=1` tries every exit code there is.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from aiagent_coordinator.executors.base import HoldState, LaunchSpec
from aiagent_coordinator.executors.inspection import inspect
from aiagent_coordinator.executors.local import LocalExecutor
from aiagent_coordinator.executors.programs import copy_programs
from support.house import house, script, until

FAKES = Path(__file__).parents[1] / "fakes"
REPORT = {"report": {"result": "success", "summary": "done"}}
SHIM_PYTHON = os.path.realpath(sys.executable)


@pytest.mark.needs("strace")
def test_a_shim_that_cannot_be_started_costs_no_attempt_and_frees_its_place(short_dir: Path):
    """As when the user may have no more processes; it goes on when the system lets us again."""
    under = ("strace", "-D", "-f", "-o", str(short_dir / "trace"), "-P", SHIM_PYTHON)
    fault = ("-e", "trace=execve", "--inject=execve:error=EAGAIN")
    with house(short_dir) as home:
        home.write(retry={"max_attempts": 1, "backoff_seconds": [3, 6]})
        daemon = home.ready(under=(*under, *fault))
        task = home.add("cannot start", script(REPORT))["id"]
        first = home.last(task)
        assert (first["outcome"], first["reason"]) == ("not_started", "spawn_failed")
        again = home.last(task, 2)
        assert (again["outcome"], again["reason"]) == ("not_started", "spawn_failed")
        told = [line["error"] for line in home.logged("run.exit")]
        assert all("Resource temporarily unavailable" in error for error in told)
        home.run("stop")
        until("it is down", lambda: daemon.poll() is not None)
        home.ready()
        done = home.finished(task)
        assert (done["status"], done["attempt"]) == ("succeeded", 1)
        home.down()


@pytest.mark.needs("strace")
def test_a_machine_that_has_no_process_to_give_for_a_moment_is_waited_for(short_dir: Path):
    # -I 2: it detaches when it is asked to end.
    under = ("strace", "-D", "-I2", "-f", "-o", str(short_dir / "trace"), "-P", SHIM_PYTHON)
    fault = ("-e", "trace=execve", "--inject=execve:error=EAGAIN")
    trace = short_dir / "trace"
    with house(short_dir) as home:
        daemon = home.ready(under=(*under, *fault))
        task = home.add("starts at last", script(REPORT))["id"]
        until("it was refused twice", lambda: trace.read_text().count("EAGAIN") >= 2)
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        tracer = int(status.partition("TracerPid:")[2].split()[0])
        os.kill(tracer, signal.SIGTERM)  # it lets go, and the system gives processes again
        assert home.last(task)["outcome"] == "succeeded"
        home.down()


def test_without_descriptors_nothing_starts_and_nothing_crashes(tmp_path: Path):
    """For every number of descriptors that is too small."""
    copy_programs(tmp_path)
    done = subprocess.run(
        [sys.executable, FAKES / "starved_spawner.py", tmp_path / "shim.py", tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["spare"] for one in said] == list(range(len(said)))
    assert said[-1]["code"] == 7
    refused = said[:-1]
    assert len(refused) > 3
    for one in refused:
        assert one["code"] is None, one
        assert one["end"] in {"absent", "never_started", "recorded"}, one
        assert one["error"] or one["state"] != "held", one
        assert not (tmp_path / f"{one['spare']}.mark").exists(), one
    assert any("Too many open files" in (one["error"] or "") for one in refused)


@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    "fault", ["openat:error=EMFILE", "clone:error=EAGAIN", "pipe2:error=EMFILE"]
)
def test_a_shim_that_is_refused_any_one_thing_leaves_a_true_state(tmp_path: Path, fault: str):
    """The Nth call fails, for all N: a command that ran is never called unstarted, nor the reverse."""
    copy_programs(tmp_path / "programs")
    call = fault.partition(":")[0]
    # The interpreter's own start opens many files, all alike.
    numbers = range(1, 80, 4 if call == "openat" else 1)
    for number in numbers:
        directory, trace = tmp_path / str(number), tmp_path / "trace"
        inject = f"--inject={fault}:when={number}"
        found = held_under(directory, ("strace", "-o", str(trace), "-e", f"trace={call}", inject))
        mark = directory.with_suffix(".mark").exists()
        if found.state is HoldState.RECORDED:
            assert found.record is not None
            assert found.record.exit_code == (7 if mark else None), (number, found)
            assert mark or found.record.reason == "spawn_failed", (number, found)
        else:
            assert found.state is (HoldState.LOST if mark else HoldState.NEVER_STARTED), number
        if "(INJECTED)" not in trace.read_text():
            assert number > 1
            return
    pytest.fail("the call is still reached")


def held_under(directory: Path, wrapper: tuple[str, ...]):
    """Start a shim as the executor does, but through a tracer, and see it to its end."""
    import fcntl  # noqa: PLC0415 - here alone

    directory.mkdir()
    shim = directory.parent / "programs" / "shim.py"
    argv = [SHIM_PYTHON, "-I", "-S", str(FAKES / "fake_cli.py")]
    spec = {
        "format": 1,
        "argv": [*argv, f"mark:{directory}.mark", "exit:7"],
        "cwd": "/",
        "stdin": "null",
        "gate_seconds": None,
        "grace_seconds": 0.3,
        "kill_leftovers": True,
    }
    (directory / "spec.json").write_text(json.dumps(spec))
    os.mkfifo(directory / "ctl", 0o600)
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    tracer = subprocess.Popen(
        [*wrapper, SHIM_PYTHON, "-I", "-S", str(shim), str(directory), str(lock)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(lock,),
    )
    os.close(lock)
    tracer.wait(30)
    until("the lock is free", lambda: inspect(directory).state is not HoldState.HELD)
    return inspect(directory)


ALL = bool(os.environ.get("AIAGENT_ALL_EXITS"))
CODES = range(256) if ALL else (0, 1, 2, 126, 127, 128, 129, 137, 143, 254, 255)
#: These do not end a process.
HARMLESS = {17, 18, 19, 20, 21, 22, 23, 28}
SIGNALS = [n for n in range(1, 32) if n not in HARMLESS] if ALL else [1, 6, 9, 11, 15]


async def test_exit_codes_and_signals_are_told_apart_exactly(tmp_path: Path):
    """137 is an exit code; killed by signal 9 is something else."""
    copy_programs(tmp_path / "programs")
    executor, seen = LocalExecutor(), dict[str, tuple[int | None, int | None]]()
    limiter = anyio.CapacityLimiter(8)

    async def one(action: str) -> None:
        argv = (sys.executable, "-I", "-S", str(FAKES / "fake_cli.py"), action)
        spec = LaunchSpec("run", argv, tmp_path, {})
        directory = tmp_path / action.replace(":", "-")
        async with limiter:
            await executor.hold(directory, spec, tmp_path / "programs" / "shim.py")
            record = (await executor.wait(directory)).record
        assert record is not None
        seen[action] = (record.exit_code, record.signal)
        await anyio.to_thread.run_sync(shutil.rmtree, directory)

    expected = {f"exit:{code}": (code, None) for code in CODES}
    expected |= {f"signal:{number}": (None, number) for number in SIGNALS}
    async with anyio.create_task_group() as group:
        for action in expected:
            group.start_soon(one, action)
    assert seen == expected
