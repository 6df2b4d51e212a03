"""The service manager of this user: where its files lie, and its own commands, each bounded."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiagent_coordinator.cli.service_units import Service, label_of, launchd_agent, systemd_unit
from aiagent_coordinator.wire.process import TimedOut, run_bounded

#: A manager answers at once; stopping a service may take as long as it lets itself be given.
SECONDS = 90.0
#: What is asked about a unit.
_PROPERTIES = ("ActiveState", "SubState", "MainPID", "NRestarts", "KillMode", "UnitFileState")


@dataclass(frozen=True)
class Done:
    """How a command of the manager ended; `trouble` is empty when it did what it was asked."""

    argv: tuple[str, ...]
    trouble: str = ""
    output: str = ""


@dataclass(frozen=True)
class Manager:
    """systemd's user manager, or launchd."""

    name: str
    service: str

    @classmethod
    def of(cls, name: str | None, service: str) -> Manager:
        """The one that was named, else the one of this system."""
        return cls(name or ("launchd" if sys.platform == "darwin" else "systemd"), service)

    @property
    def is_launchd(self) -> bool:
        """Whether it is macOS's."""
        return self.name == "launchd"

    @property
    def file(self) -> Path:
        """Where the service's file lies."""
        if self.is_launchd:
            return Path.home() / "Library" / "LaunchAgents" / f"{label_of(self.service)}.plist"
        config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
        return Path(config) / "systemd" / "user" / f"{self.service}.service"

    @property
    def log(self) -> Path:
        """Where launchd writes what the service prints; systemd has its journal."""
        return Path.home() / "Library" / "Logs" / "aiagent-coordinator" / f"{self.service}.log"

    def text(self, service: Service) -> str:
        """The text of the service's file."""
        if self.is_launchd:
            return launchd_agent(service, log=self.log)
        return systemd_unit(service)

    def start_commands(self) -> list[tuple[str, ...]]:
        """What makes the manager know the file and start the service, now and at every login."""
        if self.is_launchd:
            return [("launchctl", "bootstrap", f"gui/{os.getuid()}", str(self.file))]
        return [
            ("systemctl", "--user", "daemon-reload"),
            ("systemctl", "--user", "enable", "--now", f"{self.service}.service"),
        ]

    def stop_commands(self) -> list[tuple[str, ...]]:
        """What ends the service, before its file goes. Agents stay."""
        if self.is_launchd:
            return [("launchctl", "bootout", f"gui/{os.getuid()}/{label_of(self.service)}")]
        return [("systemctl", "--user", "disable", "--now", f"{self.service}.service")]

    def forget_commands(self) -> list[tuple[str, ...]]:
        """What makes the manager see that the file is gone."""
        return [] if self.is_launchd else [("systemctl", "--user", "daemon-reload")]

    def linger_command(self) -> tuple[str, ...]:
        """What lets services of this user run while nobody is logged in; empty where there is none."""
        if self.is_launchd:
            return ()
        return ("loginctl", "enable-linger", os.environ.get("USER") or str(os.getuid()))

    def log_command(self, *, lines: int, follow: bool, as_json: bool) -> tuple[str, ...]:
        """What prints what the service printed."""
        if self.is_launchd:
            return ("tail", "-n", str(lines), *(("-f",) if follow else ()), str(self.log))
        words = ("journalctl", "--user", "--user-unit", f"{self.service}.service", "-n", str(lines))
        return (*words, *(("-f",) if follow else ()), *(("-o", "json") if as_json else ()))

    def state(self) -> dict[str, str] | None:
        """What the manager says of the service; None when it cannot be asked."""
        if self.is_launchd:
            done = run(("launchctl", "print", f"gui/{os.getuid()}/{label_of(self.service)}"))
            return None if done.trouble else {"print": done.output}
        unit = f"{self.service}.service"
        wanted = f"--property={','.join(_PROPERTIES)}"
        done = run(("systemctl", "--user", "show", unit, wanted))
        if done.trouble:
            return None
        pairs = (line.partition("=") for line in done.output.splitlines())
        return {name: value for name, equals, value in pairs if equals}


def run_all(commands: Sequence[tuple[str, ...]]) -> Iterator[Done]:
    """Run one command after the other, until one fails."""
    for argv in commands:
        done = run(argv)
        yield done
        if done.trouble:
            return


def run(argv: tuple[str, ...]) -> Done:
    """Run one command of the manager, bounded."""
    try:
        done = run_bounded(argv, timeout_seconds=SECONDS)
    except FileNotFoundError:
        return Done(argv, f"{argv[0]} was not found")
    except (OSError, TimedOut) as error:
        return Done(argv, str(error))
    output = done.stdout.decode("utf-8", "replace")
    if done.returncode == 0:
        return Done(argv, output=output)
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return Done(argv, said[-1] if said else f"exit status {done.returncode}", output)
