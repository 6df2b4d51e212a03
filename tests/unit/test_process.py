"""One bounded command: it returns, whatever the command does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiagent_coordinator.wire.process import (
    TimedOut,
    boot_id,
    parent_pid,
    run_bounded,
    start_ticks,
)

FAKE_CLI = str(Path(__file__).parents[1] / "fakes" / "fake_cli.py")
FAKE = [sys.executable, "-I", "-S", FAKE_CLI]
#: The test's own time limit is the bound; this is more than any of these takes.
LONG = 60.0


def test_output_input_and_exit_code_are_those_of_the_command(tmp_path: Path):
    done = run_bounded([*FAKE, "lines:2", "errlines:1", "exit:3"], timeout_seconds=LONG)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"line 1\nline 2\n", b"line 1\n")
    assert not done.truncated
    text = os.urandom(3_000_000)
    assert run_bounded([*FAKE, "stdin"], stdin=text, timeout_seconds=LONG).stdout == text
    env = {"A": "1"}
    done = run_bounded(
        ["/bin/sh", "-c", "pwd; echo $A$B"], cwd=tmp_path, env=env, timeout_seconds=LONG
    )
    assert done.stdout == f"{tmp_path}\n1\n".encode()


def test_a_signal_is_a_negative_return_code():
    assert run_bounded([*FAKE, "signal:9"], timeout_seconds=LONG).returncode == -9


def test_a_command_that_does_not_read_its_input_is_no_error():
    done = run_bounded([*FAKE, "exit:0"], stdin=bytes(1_000_000), timeout_seconds=LONG)
    assert done.returncode == 0


def test_output_beyond_the_limit_is_dropped_and_noted():
    done = run_bounded([*FAKE, "mb:5", "lines:1"], max_output_bytes=1000, timeout_seconds=LONG)
    assert (len(done.stdout), done.truncated, done.returncode) == (1000, True, 0)


def test_a_descendant_that_keeps_the_pipes_open_does_not_delay_the_answer(tmp_path: Path):
    """The end of a pipe is not the end of a process."""
    done = run_bounded(
        [*FAKE, f"tag:{tmp_path}", "spawn:setsid", "lines:3", "exit:4"], timeout_seconds=LONG
    )
    assert (done.returncode, done.stdout) == (4, b"line 1\nline 2\nline 3\n")
    left = _living(str(tmp_path))
    assert len(left) == 1
    os.kill(left[0], 9)


def test_a_descendant_that_never_stops_talking_does_not_delay_the_answer(tmp_path: Path):
    script = f"while :; do echo {tmp_path}; done & echo $!"
    done = run_bounded(["/bin/sh", "-c", script], timeout_seconds=LONG)
    os.kill(int(done.stdout.splitlines()[0]), 9)
    assert done.returncode == 0


@pytest.mark.parametrize("actions", [[], ["ignore-term"], ["spawn:child-ignoring"]])
def test_a_command_that_takes_too_long_is_ended_with_its_group(tmp_path: Path, actions: list[str]):
    with pytest.raises(TimedOut, match=r"longer than 1 s") as caught:
        run_bounded([*FAKE, f"tag:{tmp_path}", "lines:1", *actions, "forever"], timeout_seconds=1.0)
    assert caught.value.so_far.stdout == b"line 1\n"
    assert caught.value.so_far.returncode < 0
    deadline = time.monotonic() + 10
    while _living(str(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_timed_out_command_may_clean_up_first():
    """git removes its lock files on TERM and cannot on KILL."""
    with pytest.raises(TimedOut) as caught:
        run_bounded([*FAKE, "term-exit:7", "lines:1", "forever"], timeout_seconds=1.0)
    assert caught.value.so_far.returncode == 7


def test_what_cannot_be_started_raises_what_the_system_said(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        run_bounded(["/no/such/program"], timeout_seconds=LONG)
    with pytest.raises(FileNotFoundError):
        run_bounded(["/bin/true"], cwd=tmp_path / "gone", timeout_seconds=LONG)


def test_a_process_is_told_by_its_start_and_its_parent():
    child = subprocess.Popen([*FAKE, "forever"])
    try:
        ticks = start_ticks(child.pid)
        assert ticks is not None
        assert ticks >= (start_ticks(os.getpid()) or 0)
        assert start_ticks(child.pid) == ticks
        assert parent_pid(child.pid) == os.getpid()
    finally:
        child.kill()
        child.wait()
    assert start_ticks(child.pid) is None
    assert parent_pid(child.pid) is None
    assert boot_id() == boot_id() != ""


def _living(word: str) -> list[int]:
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if word.encode() in line:
                found.append(int(folder.name))
    return found
