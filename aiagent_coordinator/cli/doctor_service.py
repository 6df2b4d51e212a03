"""What `doctor` says of the service we are, or that is installed: its stop must not end the agents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from aiagent_coordinator.cli.findings import Finding
from aiagent_coordinator.cli.service_manager import run
from aiagent_coordinator.messages import text

#: What a stop or restart of a unit leaves alone: all but its main process, or all.
GENTLE = frozenset({"process", "none"})
#: What systemd does to a unit that says nothing.
DEFAULT_MODE = "control-group"
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


def service_findings(pid: int | None, files: list[Path]) -> Iterator[Finding]:
    """Look at the unit of a process, and at unit files that may start one.

    Args:
        pid: The coordinator that runs, or we ourselves.
        files: Unit files of ours; those that do not exist are skipped.
    """
    unit = None if pid is None else unit_of(_read(Path(f"/proc/{pid}/cgroup")))
    if unit is not None:
        mode = _mode_in_force(*unit)
        if mode is not None:
            yield _finding(unit[0], mode)
    for file in files:
        if file.is_file() and (unit is None or file.name != unit[0]):
            yield _finding(str(file), mode_of(_read(file)))


def unit_of(cgroup: str) -> tuple[str, bool] | None:
    """The service that a process belongs to, from its /proc/PID/cgroup, and whether it is the user's.

    A process of a login session belongs to a scope: that is no service.
    """
    for line in cgroup.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number != "0" and controllers != "name=systemd":
            continue
        parts = [part for part in path.split("/") if part]
        # user@1000.service is the manager itself; what it started lies below
        units = [part for part in parts if part.endswith((".service", ".scope"))]
        if units and units[-1].endswith(".service") and not units[-1].startswith("user@"):
            name = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), units[-1])
            return name, any(part.startswith("user@") for part in parts)
    return None


def mode_of(unit_text: str) -> str:
    """What a unit's file says about the end of its processes; the last word counts."""
    said = re.findall(r"^\s*KillMode\s*=\s*([\w-]*)\s*$", unit_text, re.MULTILINE)
    return said[-1] if said and said[-1] else DEFAULT_MODE


def _mode_in_force(unit: str, is_of_user: bool) -> str | None:
    whose = ("--user",) if is_of_user else ()
    done = run(("systemctl", *whose, "show", unit, "--property=KillMode", "--value"))
    return None if done.trouble else done.output.strip() or None


def _finding(unit: str, mode: str) -> Finding:
    if mode in GENTLE:
        return Finding("service", "ok", text("doctor.unit", unit=unit, mode=mode))
    message = text("doctor.kill_mode", unit=unit, mode=mode)
    return Finding("service", "warning", message, text("doctor.kill_mode_fix"))


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
