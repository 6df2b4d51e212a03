"""What a service manager is told: a systemd user unit, or a launchd agent. Pure."""

from __future__ import annotations

import plistlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Without a sign of life for so long the manager starts us anew. Agents go on meanwhile.
WATCHDOG_SECONDS = 120
#: A start may upgrade the store and take up hundreds of runs.
START_SECONDS = 300
#: An end waits for reports in flight.
STOP_SECONDS = 60
RESTART_SECONDS = 5
#: launchd starts nothing more often.
THROTTLE_SECONDS = 10
#: Ends that another start cannot mend: usage, configuration, refused rights, already running.
HOPELESS = (2, 3, 7, 9)
LABEL = "dev.aiagent-coordinator"


@dataclass(frozen=True)
class Service:
    """What is to run as a service.

    Attributes:
        name: Of the service; `aiagent-coordinator` unless somebody wants several.
        argv: The command; the first word is an absolute path.
        folder: Where it runs.
        environment: Variables it gets beside what the manager gives; no secret is among them.
        secrets_file: Where a person may put variables with secrets; need not exist.
    """

    name: str
    argv: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str]
    secrets_file: Path
    about: str = ""


def systemd_unit(service: Service) -> str:
    """The text of a user unit."""
    environment = "".join(
        f"Environment={_quoted(f'{name}={value}')}\n"
        for name, value in sorted(service.environment.items())
    )
    command = " ".join(_quoted(word).replace("$", "$$") for word in service.argv)
    return f"""\
[Unit]
Description=AI agent coordinator ({_plain(service.about)})
StartLimitIntervalSec=300
StartLimitBurst=10

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
WorkingDirectory={_plain(str(service.folder))}
{environment}# Variables with secrets belong into this file of yours (chmod 600), not in here.
EnvironmentFile=-{_plain(str(service.secrets_file))}
WatchdogSec={WATCHDOG_SECONDS}
TimeoutStartSec={START_SECONDS}
TimeoutStopSec={STOP_SECONDS}
Restart=on-failure
RestartSec={RESTART_SECONDS}
RestartPreventExitStatus={" ".join(str(code) for code in HOPELESS)}
# Agents belong to their shims: a stop or restart of the service leaves them running.
KillMode=process
# Limits of runs are set in control groups below this one.
Delegate=yes

[Install]
WantedBy=default.target
"""


def _quoted(word: str) -> str:
    """One word of systemd's language."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped.replace("%", "%%")}"'


def _plain(text: str) -> str:
    """Text that fills a line: nothing in it is a specifier or ends the line."""
    return re.sub(r"[\x00-\x1f]", "?", text).replace("%", "%%")


def launchd_agent(service: Service, *, log: Path) -> str:
    """The text of a property list for ~/Library/LaunchAgents."""
    values: dict[str, Any] = {
        "Label": label_of(service.name),
        "ProgramArguments": list(service.argv),
        "WorkingDirectory": str(service.folder),
        "EnvironmentVariables": dict(sorted(service.environment.items())),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": THROTTLE_SECONDS,
        "ExitTimeOut": STOP_SECONDS,
        # else what is left of our process group would be ended with us
        "AbandonProcessGroup": True,
        "StandardOutPath": str(log),
        "StandardErrorPath": str(log),
    }
    return plistlib.dumps(values, sort_keys=False).decode()


def label_of(name: str) -> str:
    """What launchd calls a service."""
    return LABEL if name == "aiagent-coordinator" else f"{LABEL}.{name}"
