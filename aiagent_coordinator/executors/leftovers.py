"""What a command left behind whose shim could not see to it: found by group, by tag, or by having been seen.

The shim itself ends what is below it; this is for a shim that was killed, and for systems on which
orphans escape a parent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path

from aiagent_coordinator.executors import cgroup, inspection, processes
from aiagent_coordinator.executors.base import HoldState
from aiagent_coordinator.executors.processes import Seen
from aiagent_coordinator.wire import process

#: So much of a command line is kept.
COMMAND_CHARS = 200
#: So many are named; all are ended.
NAMED = 20


def run_of(directory: Path) -> str:
    """The run that a directory belongs to: its own name, or for a step that of the run around it."""
    return directory.parent.parent.name if directory.parent.name == "steps" else directory.name


def clear(directory: Path, known: Collection[tuple[int, int]]) -> None:
    """End what is left of a command and name it in its directory. Blocking, bounded.

    Args:
        directory: The command's; nothing happens while its lock is held or when it never started.
        known: Processes of its tree that were seen before, as (pid, start ticks).
    """
    found = inspection.inspect(directory)
    if found.state is HoldState.HELD or not found.started:
        return
    run_id, since = run_of(directory), inspection.started_ticks(directory)

    def left() -> list[Seen]:
        return [
            one
            for one in processes.look()
            if (one.pid, one.started) in known or (one.tag == run_id and one.started >= since)
        ]

    # Looked at before the groups are killed: afterwards nobody knows what it was.
    ended = {(one.pid, one.started): one for one in left()}
    main = inspection.main_process(directory)
    if main is not None and main.boot_id == process.boot_id():
        # What forks faster than a look at all processes takes is met by its group alone: a command
        # may have forked before it was put into a group of the kernel's, or there is none.
        group = processes.end_group(
            main.pid,
            main.start_ticks,
            lambda one: one.tag == run_id or (one.pid, one.started) in known,
        )
        ended |= {(one.pid, one.started): one for one in group}
    cgroup.kill(directory)
    ended |= {(one.pid, one.started): one for one in processes.end_all(left)}
    cgroup.remove(directory)
    # The command itself is no leftover: its shim's death killed it, or is about to.
    _name(directory, [one for one in ended.values() if main is None or one.pid != main.pid])


def _name(directory: Path, ended: list[Seen]) -> None:
    lines = [
        json.dumps({"pid": one.pid, "command": one.command[:COMMAND_CHARS]}) + "\n"
        for one in ended[:NAMED]
    ]
    if not lines:
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(directory / "leftovers", flags, 0o600)
    except OSError:
        return  # they are gone; only their names are lost
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.writelines(lines)
