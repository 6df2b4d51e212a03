"""`stop`: whom it ends, how it tells them, and what it says of the agents."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aiagent_coordinator import paths

FAKES = Path(__file__).parents[1] / "fakes"
PATIENCE = 30.0

Hold = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def state(tmp_path: Path) -> paths.StateDir:
    found = paths.StateDir(tmp_path / "state")
    found.create()
    return found


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Start processes that hold locks."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(FAKES / "lock_holder.py"), *map(str, words)],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def stop(state: paths.StateDir, *words: str) -> subprocess.CompletedProcess[str]:
    folder = state.root.parent
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_STATE_HOME": str(folder / "s"),
        "XDG_CONFIG_HOME": str(folder / "c"),
    }
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "aiagent_coordinator",
            "stop",
            "--state-dir",
            str(state.root),
            *words,
        ],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        timeout=PATIENCE,
        check=False,
    )


def signals(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.read().split()


def test_with_nothing_running_stop_says_so(state: paths.StateDir) -> None:
    done = stop(state)
    assert (done.returncode, done.stderr) == (
        4,
        "error: nothing is running for the default configuration\n",
    )


def test_one_process_with_both_roles_is_told_once_and_waited_for(
    state: paths.StateDir, hold: Hold
) -> None:
    process = hold(state.server_lock, state.coordinator_lock)
    done = stop(state)
    assert (done.returncode, done.stdout) == (0, "Stopped. No agent is running.\n")
    assert signals(process) == ["SIGTERM"]


def test_kill_tells_the_loop_to_stop_its_agents_and_the_server_just_to_end(
    state: paths.StateDir, hold: Hold
) -> None:
    server, loop = hold(state.server_lock), hold(state.coordinator_lock)
    assert stop(state, "--kill").returncode == 0
    assert signals(loop) == ["SIGUSR1"]
    assert signals(server) == ["SIGTERM"]


@pytest.mark.parametrize(
    ("count", "line"),
    [
        (1, "Stopped. 1 run keeps running; the next start takes it over.\n"),
        (2, "Stopped. 2 runs keep running; the next start takes them over.\n"),
    ],
)
def test_stop_says_how_many_runs_keep_running(
    state: paths.StateDir, hold: Hold, count: int, line: str
) -> None:
    hold(state.server_lock)
    for number in range(3):
        state.run(f"run_{number}").mkdir()
        (state.run(f"run_{number}") / "lock").touch()
    hold(*(state.run(f"run_{number}") / "lock" for number in range(count)))
    assert stop(state).stdout == line


def test_a_process_that_does_not_end_is_named(state: paths.StateDir, hold: Hold) -> None:
    process = hold("--stubborn", state.server_lock)
    done = stop(state, "--timeout", "0.3")
    assert done.returncode == 6
    assert done.stderr.splitlines()[0] == f"error: process {process.pid} has not ended after 0.3 s"


def test_a_note_that_names_another_process_signals_nobody(
    state: paths.StateDir, hold: Hold
) -> None:
    process = hold("--wrong-note", state.server_lock)
    done = stop(state)
    assert done.returncode == 6
    assert f"process {process.pid} of the lock" in done.stderr
    process.kill()
    assert signals(process) == []


def test_a_lock_without_a_note_signals_nobody(state: paths.StateDir, hold: Hold) -> None:
    process = hold("--no-note", state.server_lock)
    done = stop(state)
    assert done.returncode == 6
    assert "does not say by which process" in done.stderr
    process.kill()
    assert signals(process) == []


def test_a_lock_file_that_nobody_holds_is_nobody(state: paths.StateDir, hold: Hold) -> None:
    process = hold(state.server_lock)
    process.kill()
    process.wait()
    # its note still names a process, which by now may be anybody
    assert stop(state).returncode == 4
