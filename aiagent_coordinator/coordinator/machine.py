"""What the machine has left for one more run."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

#: Where version 2 of the control groups is mounted, and which of them is ours.
_GROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Machine:
    """What the machine has left, in bytes; None: not known, and then no reason to wait."""

    memory_free: int | None = None
    disk_free: int | None = None


def look(folder: Path) -> Machine:
    """See what is left; the disk is that of the folder. Blocks as long as a file system does."""
    free = psutil.virtual_memory().available
    allowed = _left_in_group()
    try:
        disk = shutil.disk_usage(folder).free
    except OSError:
        disk = None
    return Machine(free if allowed is None else min(free, allowed), disk)


def _left_in_group() -> int | None:
    """What our control group may still take: in a container less than the machine has."""
    try:
        own = next(
            line.split("::", 1)[1]
            for line in _OWN.read_text().splitlines()
            if line.startswith("0::")
        )
        group = _GROUPS / own.lstrip("/")
        limit = (group / "memory.max").read_text().strip()
        if limit == "max":
            return None
        return max(0, int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError, StopIteration):
        return None
