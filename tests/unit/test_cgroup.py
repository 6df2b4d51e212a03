"""Groups of the kernel: where one may be made, and what is written into it. Folders stand for the kernel's."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from aiagent_coordinator.executors import cgroup
from aiagent_coordinator.executors.base import Caps


class Kernel:
    """A tree of folders with what the kernel shows of groups."""

    def __init__(self, root: Path, own: str = "/user.slice/ours.service") -> None:
        self.mount = root / "cgroup"
        self.own = self.mount / own.strip("/")
        self.own.mkdir(parents=True)
        self.myself = root / "self"
        self.myself.mkdir()
        (self.myself / "cgroup").write_text(f"4:memory:/x\n0::{own}\n")
        line = f"30 24 0:26 / {self.mount} rw,nosuid - cgroup2 cgroup2 rw\n"
        (self.myself / "mountinfo").write_text("22 1 0:5 / / rw - ext4 /dev/sda rw\n" + line)
        (self.own / "cgroup.controllers").write_text("cpu memory pids\n")
        (self.own / "cgroup.subtree_control").write_text("memory pids\n")


@pytest.mark.parametrize("is_managed", [True, False])
def test_folders_without_the_kernel_behind_them_are_no_groups(tmp_path: Path, *, is_managed: bool):
    """A group can be killed as one: where that file does not appear by itself, there is none."""
    kernel = Kernel(tmp_path)
    assert cgroup.find(kernel.myself, is_managed=is_managed) is None
    assert not list(kernel.own.glob("aac-*"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cgroup", "4:memory:/x\n"),
        ("cgroup", "0::/elsewhere/../..\n"),
        ("mountinfo", "22 1 0:5 / / rw - ext4 /dev/sda rw\n"),
        ("mountinfo", "30 24 0:26 /other /sys rw - cgroup2 cgroup2 rw\n"),
        ("mountinfo", "torn - cgroup2\n"),
    ],
)
def test_a_machine_without_our_group_has_none(tmp_path: Path, name: str, content: str):
    kernel = Kernel(tmp_path)
    (kernel.myself / name).write_text(content)
    assert cgroup.find(kernel.myself, is_managed=False) is None


def test_only_what_the_kernel_counts_here_is_written():
    caps = Caps(processes=7, memory_bytes=4096, cpu_percent=250)
    everything = frozenset({"cpu", "memory", "pids"})
    assert cgroup.settings_of(caps, everything) == {
        "memory.max": "4096",
        "memory.oom.group": "1",
        "pids.max": "7",
        "cpu.max": "250000 100000",
    }
    assert cgroup.settings_of(caps, frozenset({"pids"})) == {"pids.max": "7"}
    assert cgroup.settings_of(Caps(), everything) == {}


@pytest.mark.needs("cgroup")
def test_a_group_follows_from_its_directory_and_goes_when_it_is_empty(tmp_path: Path):
    made = cgroup.make(tmp_path / "a", Caps())
    assert made is not None
    assert made == cgroup.folder_of(tmp_path / "a") != cgroup.folder_of(tmp_path / "b")
    assert (made / "cgroup.kill").exists()
    assert cgroup.make(tmp_path / "a", Caps()) == made
    cgroup.kill(tmp_path / "a")
    cgroup.remove(tmp_path / "a")
    cgroup.remove(tmp_path / "a")
    assert not made.exists()


@pytest.mark.needs("cgroup")
def test_groups_that_nothing_is_in_any_more_are_taken_away(tmp_path: Path):
    """Of what was let go with its leftovers, or killed and never asked about."""
    empty, busy = cgroup.make(tmp_path / "empty", Caps()), cgroup.make(tmp_path / "busy", Caps())
    assert empty is not None
    assert busy is not None
    with subprocess.Popen(["sleep", "600"]) as process:
        (busy / "cgroup.procs").write_text(str(process.pid))
        cgroup.tidy()
        assert empty.exists(), "a command may be about to join it"
        # Only what is far older than any start; others work on this machine too.
        an_hour_ago = time.time() - 2 * cgroup.STALE_SECONDS
        for group in (empty, busy):
            os.utime(group, (an_hour_ago, an_hour_ago))
        cgroup.tidy()
        assert (empty.exists(), busy.exists()) == (False, True)
        process.kill()
    cgroup.remove(tmp_path / "busy")
    assert not busy.exists()
