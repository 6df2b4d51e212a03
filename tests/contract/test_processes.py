"""Real processes, seen and ended: a group that forks all the time, and numbers that passed to others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator

import psutil
import pytest

from aiagent_coordinator.executors import processes
from aiagent_coordinator.executors.processes import TAG, Seen
from aiagent_coordinator.wire import process
from support.house import until

#: Each lives 3 ms; a look at all processes takes longer.
HOPPER = """
import os, time
print(flush=True)
while True:
    time.sleep(0.003)
    if os.fork(): os._exit(0)
"""


@pytest.fixture
def hopper() -> Generator[tuple[int, int]]:
    """A group without its leader whose only member is always another: number and start."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", HOPPER],
        stdout=subprocess.PIPE,
        env={TAG: "run_hopper"},
        start_new_session=True,
    )
    started = process.start_ticks(child.pid) or 0
    assert child.stdout is not None
    child.stdout.readline()
    child.wait()
    yield child.pid, started
    child.stdout.close()
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_group_whose_members_live_for_a_moment_is_ended_whole(hopper: tuple[int, int]):
    leader, started = hopper
    ended = processes.end_group(leader, started, lambda one: one.tag == "run_hopper")
    # while one forks, the next is there too
    assert {one.tag for one in ended} == {"run_hopper"}
    until("nobody of it is left", lambda: not has_members(leader))


def test_a_group_of_somebody_else_goes_on():
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as child:
        started = process.start_ticks(child.pid) or 0
        asked: list[int] = []

        def nobody(one: Seen) -> bool:
            until("it stands still", lambda: is_now(one.pid, psutil.STATUS_STOPPED))
            asked.append(one.pid)
            return False

        try:
            assert processes.end_group(child.pid, started, nobody) == []
            assert asked == [child.pid]
            until("it goes on", lambda: is_now(child.pid, psutil.STATUS_SLEEPING))
        finally:
            child.kill()


def is_now(pid: int, status: str) -> bool:
    return bool(psutil.Process(pid).status() == status)


def test_a_number_that_passed_to_another_is_left_alone():
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as child:
        started = process.start_ticks(child.pid) or 0

        def any_of_it(_one: Seen) -> bool:
            return True

        assert processes.end_group(child.pid, started + 1, any_of_it) == []
        assert child.poll() is None
        assert [one.pid for one in processes.end_group(child.pid, started, any_of_it)] == [
            child.pid
        ]
        assert child.wait(20) == -signal.SIGKILL
