"""Real processes, seen and ended: a group that forks all the time, and numbers that passed to others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator

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
    assert [one.tag for one in ended] == ["run_hopper"]
    until("nobody of it is left", lambda: not has_members(leader))


def test_a_group_of_somebody_else_goes_on(hopper: tuple[int, int]):
    leader, started = hopper
    assert processes.end_group(leader, started, lambda one: one.tag == "run_other") == []
    before = time.monotonic()
    seen: set[int] = set()
    while len(seen) < 3 and time.monotonic() - before < 20:
        seen |= {one.pid for one in processes.look() if one.tag == "run_hopper"}
    assert len(seen) >= 3


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
