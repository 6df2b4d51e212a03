"""The notify protocol, on a real datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiagent_coordinator.wire.notify import Notifier


@pytest.fixture
def manager(short_dir: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(short_dir / "notify"))
        end.settimeout(10)
        yield end


def test_the_variables_are_taken_out_of_the_environment(manager: socket.socket):
    """What we start must not speak for us."""
    address = manager.getsockname()
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000", "OTHER": "1"}
    notifier = Notifier.from_environment(environment)
    assert environment == {"OTHER": "1"}
    assert (notifier.watchdog_seconds, notifier.sign_seconds) == (3.0, 1.0)
    notifier.ready()
    assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    ("pid", "limit", "expected"),
    [("", "1000000", 1.0), ("own", "1000000", 1.0), ("1", "1000000", None), ("", "", None), ("", "soon", None), ("", "0", None)],
)  # fmt: skip
def test_a_watchdog_is_meant_for_one_process(pid: str, limit: str, expected: float | None):
    given = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": limit, "WATCHDOG_PID": pid}
    if pid == "own":
        given["WATCHDOG_PID"] = str(os.getpid())
    assert Notifier.from_environment(given).watchdog_seconds == expected


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234", "/nobody/there", "@nobody", "/x" * 200])  # fmt: skip
def test_an_address_that_nobody_reads_costs_nothing(address: str):
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"})
    notifier.ready()
    notifier.sign_of_life()
    notifier.stopping()


def test_signs_of_life_are_rarer_than_progress(manager: socket.socket):
    """A busy loop beats thousands of times; the manager hears what it needs."""
    notifier = Notifier(manager.getsockname(), 600)
    for _ in range(1000):
        notifier.sign_of_life()
    manager.setblocking(False)
    assert manager.recv(100) == b"WATCHDOG=1"
    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_a_manager_that_does_not_read_is_not_waited_for(manager: socket.socket):
    notifier = Notifier(manager.getsockname())
    for _ in range(10_000):
        notifier.ready()
