"""Groups of the Linux kernel (cgroup v2) for the trees of commands, where a part of them is ours to use.

With one, a tree is killed in one step whatever forks meanwhile, and the kernel itself counts memory,
processor time and processes. Without one everything works, by the shim and by watching.
Source: the kernel's Documentation/admin-guide/cgroup-v2.rst; systemd's "Control Group APIs and Delegation".
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aiagent_coordinator.executors.base import Caps

#: Where the coordinator itself goes, so that its group may hand controllers on: a group with
#: processes of its own may not.
MAIN = "aac-main"
_WANTED = ("memory", "pids", "cpu")
#: systemd marks what it hands over; without systemd nobody else manages groups.
_MARKS = ("user.delegate", "trusted.delegate")
#: A command joins its group within minutes of its making; after so long an empty one is done with.
STALE_SECONDS = 3600.0
_CPU_PERIOD_USEC = 100_000


@dataclass(frozen=True)
class Place:
    """A group below which we may make groups, and what the kernel counts there."""

    folder: Path
    controllers: frozenset[str]


@cache
def place() -> Place | None:
    """Where groups can be made; None where they cannot. Looked for once; see `find`."""
    return find(Path("/proc/self"), is_managed=Path("/run/systemd/system").is_dir())


def find(myself: Path, *, is_managed: bool) -> Place | None:
    """Look for the group that is ours, try whether it can be used, and take what it counts.

    Args:
        myself: The folder of this process in /proc.
        is_managed: Whether a manager runs the groups of this machine, so that only what it marks
            as handed over may be touched.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        own = _own_folder(myself)
        if own is None:
            return None
        base = own.parent if own.name == MAIN else own
        if (is_managed and not _is_handed_over(base)) or not _can_kill_below(base):
            return None
        return Place(base, _take_controllers(base))
    except (OSError, ValueError):
        return None


def seems_ours() -> bool:
    """Whether `place` would find one, as far as looking alone can say."""
    try:
        own = _own_folder(Path("/proc/self"))
        if own is None or not os.access(own, os.W_OK):
            return False
        base = own.parent if own.name == MAIN else own
        is_managed = Path("/run/systemd/system").is_dir()
        return not is_managed or _is_handed_over(base)
    except (OSError, ValueError):
        return False


def _own_folder(myself: Path) -> Path | None:
    """The folder of our group of the second version."""
    line = next(
        (one for one in (myself / "cgroup").read_text("utf-8").splitlines() if one[:3] == "0::"),
        None,
    )
    for mount in (myself / "mountinfo").read_text("utf-8").splitlines():
        before, _, after = mount.partition(" - ")
        if line is None or not after.startswith("cgroup2 "):
            continue
        root, folder = before.split()[3:5]
        path = os.path.relpath(line[3:], root)
        return None if path.startswith("..") else Path(folder) / path
    return None


def _is_handed_over(folder: Path) -> bool:
    for mark in _MARKS:
        try:
            if os.getxattr(folder, mark) == b"1":
                return True
        except OSError:
            continue
    return False


def _can_kill_below(folder: Path) -> bool:
    """Whether a group can be made there, and killed as one (Linux 5.14)."""
    probe = folder / f"aac-probe-{os.getpid()}"
    try:
        probe.mkdir()
    except OSError:
        return False
    try:
        return os.access(probe / "cgroup.kill", os.W_OK)
    finally:
        probe.rmdir()


def _take_controllers(folder: Path) -> frozenset[str]:
    """Have the kernel count below; what it offers there in the end."""
    offered = set((folder / "cgroup.controllers").read_text("ascii").split())
    for name in [one for one in _WANTED if one in offered]:
        try:
            _hand_on(folder, name)
        except OSError:
            continue
    return frozenset((folder / "cgroup.subtree_control").read_text("ascii").split())


def _hand_on(folder: Path, controller: str) -> None:
    control = folder / "cgroup.subtree_control"
    if controller in control.read_text("ascii").split():
        return
    try:
        control.write_text(f"+{controller}", "ascii")
    except OSError:
        # Busy with processes of its own: ourselves.
        main = folder / MAIN
        main.mkdir(exist_ok=True)
        (main / "cgroup.procs").write_text("0", "ascii")
        control.write_text(f"+{controller}", "ascii")


def folder_of(directory: Path) -> Path | None:
    """Where the group of a command is, if it has one.

    It follows from the directory, so a later life of ours finds it again.
    """
    found = place()
    digest = hashlib.sha256(os.fsencode(directory.absolute())).hexdigest()
    return found and found.folder / f"aac-{digest[:20]}"


def make(directory: Path, caps: Caps) -> Path | None:
    """Make the group of a command, with its caps; None where there are no groups."""
    found, folder = place(), folder_of(directory)
    if found is None or folder is None:
        return None
    try:
        folder.mkdir(exist_ok=True)
        for name, value in settings_of(caps, found.controllers).items():
            (folder / name).write_text(value, "ascii")
    except OSError:
        return None
    return folder


def settings_of(caps: Caps, controllers: frozenset[str]) -> dict[str, str]:
    """What is written into a group for its caps, of what the kernel counts there."""
    settings: dict[str, str] = {}
    if caps.memory_bytes is not None and "memory" in controllers:
        settings |= {"memory.max": str(caps.memory_bytes), "memory.oom.group": "1"}
    if caps.processes is not None and "pids" in controllers:
        settings["pids.max"] = str(caps.processes)
    if caps.cpu_percent is not None and "cpu" in controllers:
        quota = max(1000, round(caps.cpu_percent * _CPU_PERIOD_USEC / 100))
        settings["cpu.max"] = f"{quota} {_CPU_PERIOD_USEC}"
    return settings


def counts(controller: str) -> bool:
    """Whether the kernel counts this for our commands."""
    found = place()
    return found is not None and controller in found.controllers


def kill(directory: Path) -> None:
    """Kill everything in a command's group, if it has one."""
    group = folder_of(directory)
    if group is not None:
        try:
            (group / "cgroup.kill").write_text("1", "ascii")
        except OSError:
            pass


def tidy(older_than_seconds: float = STALE_SECONDS) -> int:
    """Take away groups that nothing is in any more; returns how many.

    They stay where a command was let go with its leftovers, or was killed and never asked about.
    """
    found, gone = place(), 0
    if found is None:
        return 0
    for group in found.folder.glob("aac-*"):
        try:
            if time.time() - group.stat().st_mtime >= older_than_seconds and group.name != MAIN:
                group.rmdir()  # refused while something is in it
                gone += 1
        except OSError:
            continue
    return gone


def remove(directory: Path) -> None:
    """Take a command's group away if nothing is in it."""
    group = folder_of(directory)
    if group is not None:
        try:
            group.rmdir()
        except OSError:
            pass
