"""Which service a process belongs to, and what its unit does to what it started."""

from __future__ import annotations

import pytest

from aiagent_coordinator.cli.doctor_service import mode_of, unit_of

USER = "/user.slice/user-1000.slice/user@1000.service"


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        (f"0::{USER}/app.slice/agents.service\n", ("agents.service", True)),
        (f"0::{USER}/app.slice/agents.service/runs\n", ("agents.service", True)),
        ("0::/system.slice/agents.service\n", ("agents.service", False)),
        ("1:name=systemd:/system.slice/agents.service\n0::/\n", ("agents.service", False)),
        (f"0::{USER}/app.slice/a\\x2db.service\n", ("a-b.service", True)),
        (f"0::{USER}/app.slice/app-term.scope\n", None),
        (f"0::{USER}/init.scope\n", None),
        ("0::/user.slice/user-1000.slice/session-2.scope\n", None),
        (f"0::{USER}\n", None),
        ("4:memory:/x.service\n0::/\n", None),
        ("", None),
    ],
)
def test_the_control_group_names_the_service(cgroup: str, unit: tuple[str, bool] | None):
    assert unit_of(cgroup) == unit


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("[Service]\nKillMode=process\n", "process"),
        ("[Service]\n KillMode = mixed \n", "mixed"),
        ("[Service]\nKillMode=process\nKillMode=\n", "control-group"),
        ("[Service]\n#KillMode=process\n", "control-group"),
        ("", "control-group"),
    ],
)
def test_the_last_word_of_a_unit_counts(text: str, mode: str):
    assert mode_of(text) == mode
