"""What `doctor` says of what the system lends us: work goes on without each, with something less."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from aiagent_coordinator.cli.findings import Finding
from aiagent_coordinator.messages import text


def machine_findings() -> Iterator[Finding]:
    """Look for groups, inotify and a manager of services; Linux only, nothing is changed."""
    if not sys.platform.startswith("linux"):
        return
    from aiagent_coordinator.executors import cgroup

    yield _found("cgroup", cgroup.seems_ours())
    yield _found("inotify", _has_inotify())
    is_managed = Path("/run/systemd/system").is_dir() and shutil.which("systemctl") is not None
    yield _found("systemd", is_managed)


def _found(name: str, is_there: bool) -> Finding:
    word = "there" if is_there else "absent"
    return Finding(name, "ok" if is_there else "note", text(f"doctor.{name}_{word}"))


def _has_inotify() -> bool:
    descriptor = ctypes.CDLL(None).inotify_init1(os.O_CLOEXEC)
    if descriptor < 0:
        return False
    os.close(descriptor)
    return True
