"""What a shim reads before it starts its command: spec.json, and the limits in it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from aiagent_coordinator.executors import cgroup, processes
from aiagent_coordinator.executors.base import Caps, LaunchSpec

#: The backstop against fork bombs: so many times the processes a tree may have, and at least so many.
BACKSTOP_TIMES = 4
BACKSTOP_LEAST = 512


def write_spec(directory: Path, spec: LaunchSpec) -> None:
    """Write spec.json. Not made durable: after a power cut nothing of it runs anyway."""
    server, group = spec.server, cgroup.make(directory, spec.caps)
    text = json.dumps(
        {
            "format": 1,
            "run_id": spec.run_id,
            "argv": spec.argv,
            "cwd": os.fspath(spec.cwd),
            "stdin": spec.stdin,
            "gate_seconds": spec.gate_seconds,
            "grace_seconds": spec.grace_seconds,
            "kill_leftovers": spec.kill_leftovers,
            "cgroup": group and os.fspath(group),
            "cgroup_late": not spec.caps.need_group,
            "rlimits": _rlimits(spec.caps),
            "server": server
            and {
                "socket": server.socket,
                "ours": server.ours,
                "hold_seconds": server.hold_seconds,
            },
        }
    )
    temporary = directory / "spec.json.tmp"
    temporary.write_text(text + "\n", encoding="ascii")
    temporary.chmod(0o600)
    temporary.replace(directory / "spec.json")


def _rlimits(caps: Caps) -> dict[str, int]:
    """Limits that each process of the tree carries. Source: setrlimit(2)."""
    limits: dict[str, int] = {}
    if caps.open_files is not None:
        limits["nofile"] = caps.open_files
    if caps.processes is not None and not cgroup.counts("pids"):
        # The kernel counts threads of all the user's programs here: far above what the tree may
        # have, it only keeps a fork bomb from taking the machine before it is seen.
        limits["nproc"] = processes.tasks_of_user() + max(
            BACKSTOP_TIMES * caps.processes, BACKSTOP_LEAST
        )
    return limits
