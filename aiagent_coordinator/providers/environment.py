"""The environment of a CLI: an allow-list, what its definition names, and what the run is. Nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiagent_coordinator.providers.command import render_env, secret_env
from aiagent_coordinator.providers.detect import path_with, resolve, safe_path
from aiagent_coordinator.providers.shape import Definition
from aiagent_coordinator.providers.values import LaunchValues
from aiagent_coordinator.providers.variables import is_allowed, never_passes

#: Variables that put folders of the home elsewhere (XDG Base Directory 0.8), and which.
HOME_FOLDERS: Final[Mapping[str, str]] = {
    "XDG_CONFIG_HOME": "~/.config/",
    "XDG_DATA_HOME": "~/.local/share/",
    "XDG_STATE_HOME": "~/.local/state/",
    "XDG_CACHE_HOME": "~/.cache/",
}


def child_env(
    parent: Mapping[str, str], definition: Definition, values: LaunchValues
) -> dict[str, str]:
    """Build the environment of a run's CLI from nothing.

    Args:
        parent: What the coordinator runs with.
        definition: Names further variables that pass, and sets its own.
        values: The run; told to the CLI as `AIAGENT_*`, `AGENT_ID`, `PROJECT_ID`, `WORKING_DIRECTORY`.
    """
    asked = frozenset(definition.launch.pass_env)
    passing = {
        name: value
        for name, value in parent.items()
        if (is_allowed(name) or name in asked) and not never_passes(name)
    }
    path = safe_path(parent.get("PATH"), values.workspace)
    # npm's launchers look for their interpreter on the PATH, and it lies beside them
    program = resolve(definition, path, values.workspace, parent.get("HOME"))
    passing["PATH"] = path_with(program, path)
    own = render_env(definition, values)
    passing |= {name: value for name, value in own.items() if not never_passes(name)}
    # last of all: what the configuration gives goes before what the coordinator was started with
    return passing | run_env(values) | secret_env(definition, values)


def of_account(environ: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """An environment with the variables of an account; one with a home of its own has its folders there.

    Args:
        environ: Without those of any account.
        own: The account's.
    """
    elsewhere = HOME_FOLDERS if "HOME" in own else ()
    return {name: value for name, value in environ.items() if name not in elsewhere} | dict(own)


def run_env(values: LaunchValues) -> dict[str, str]:
    """What tells a program which run it belongs to; a variable without a value is left out."""
    variables = {
        "AIAGENT_SOCKET": values.socket,
        "AIAGENT_TOKEN_FILE": str(values.run_dir / "token"),
        "AIAGENT_TASK_ID": values.task_id,
        "AIAGENT_RUN_ID": values.run_id,
        "AIAGENT_PROJECT_ID": values.project_id,
        "AIAGENT_AGENT_ID": values.agent_id,
        "AIAGENT_WORKSPACE": str(values.workspace),
        "AIAGENT_ARTIFACTS_DIR": str(values.artifacts_dir),
        "AGENT_ID": values.agent_id,
        "PROJECT_ID": values.project_id,
        "WORKING_DIRECTORY": str(values.workspace),
        "TMPDIR": values.temp_dir,
    }
    return {name: value for name, value in variables.items() if value}
