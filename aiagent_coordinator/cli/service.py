"""`service install|uninstall|status|logs`: the coordinator as a service of this user."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from aiagent_coordinator.cli import options, output, service_files
from aiagent_coordinator.cli.connect import locate
from aiagent_coordinator.cli.service_files import Found, Whose
from aiagent_coordinator.cli.service_manager import Manager, run_all
from aiagent_coordinator.cli.service_units import Service
from aiagent_coordinator.config.find import find_config
from aiagent_coordinator.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    UnavailableError,
    ValidationError,
)
from aiagent_coordinator.messages import text
from aiagent_coordinator.wire import lockfile
from aiagent_coordinator.wire.process import TimedOut, run_bounded

NAME = "aiagent-coordinator"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
#: Variables that say where things lie: taken over, so that the service finds the same.
_TAKEN = ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")
#: What the manager itself gives every service.
_GIVEN = ("HOME", "USER", "LOGNAME", "SHELL", "LANG", "XDG_RUNTIME_DIR")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
#: Every program of the settings is asked for its version.
DOCTOR_SECONDS = 180.0


@click.group(help=text("help.service"))
@options.common
def service() -> None:
    """The coordinator as a service."""


def _which(command: Any) -> Any:  # noqa: ANN401 - click's own
    command = click.option("--name", default=NAME, metavar="NAME", help=text("help.option.service_name"))(command)  # fmt: skip
    return click.option(
        "--manager", type=click.Choice(["systemd", "launchd"]), help=text("help.option.manager")
    )(command)


@service.command(help=text("help.service.install"))
@_which
@click.option("--now", is_flag=True, help=text("help.option.service_now"))
@click.option("--force", is_flag=True, help=text("help.option.service_force"))
@options.as_json
@options.common
def install(name: str, manager: str | None, now: bool, force: bool, as_json: bool) -> int:
    """Write the service's file, and say what to do next."""
    given, place = options.current(), _manager(manager, name)
    made = _service(given, name)
    content = service_files.marked(place.text(made))
    found = service_files.look(place.file)
    changes = service_files.differences(place.file, found.text, content) if found.text else []
    _refuse_foreign(place.file, found, changes, force=force)
    if found.whose in {Whose.EDITED, Whose.FOREIGN}:
        place.file.replace(place.file.with_name(f"{place.file.name}.bak"))
    if place.is_launchd:
        place.log.parent.mkdir(parents=True, exist_ok=True)
    service_files.put(place.file, content)
    done = list(run_all(place.start_commands())) if now else []
    examined = _doctor(made)
    facts = {
        "file": str(place.file),
        "manager": place.name,
        "replaced": found.whose.value,
        "diff": changes,
        "content": content,
        "not_taken": _not_taken(made),
        "next": [list(argv) for argv in ([] if now else place.start_commands())],
        "linger": list(place.linger_command()),
        "commands": [{"argv": list(one.argv), "trouble": one.trouble} for one in done],
        "doctor": examined,
    }
    if as_json:
        output.json_result(facts)
    else:
        _tell_installed(place, made, facts)
    return 1 if any(one.trouble for one in done) else 0


def _tell_installed(place: Manager, made: Service, facts: dict[str, Any]) -> None:
    for line in facts["diff"] or facts["content"].splitlines():
        output.result(line)
    output.talk(text("service.written", file=place.file))
    if facts["not_taken"]:
        names = ", ".join(facts["not_taken"])
        file = made.secrets_file
        output.talk(
            text("service.not_taken_launchd", names=names)
            if place.is_launchd
            else text("service.not_taken", names=names, file=file)
        )
    for one in facts["commands"]:
        _tell_command(one["argv"], one["trouble"])
    for argv in facts["next"]:
        output.talk(text("service.next", command=shlex.join(argv)))
    if facts["linger"]:
        output.talk(text("service.linger", command=shlex.join(facts["linger"])))
    examined: dict[str, Any] = facts["doctor"]
    for one in examined.get("findings", ()):
        if one["level"] in {"fault", "warning"}:
            output.talk(text("service.finding", **one))
    output.talk(
        text("service.doctor_fine")
        if examined["ok"]
        else text("service.doctor_faults", error=examined.get("error", ""))
    )


def _tell_command(argv: Sequence[str], trouble: str) -> None:
    command = shlex.join(argv)
    output.talk(
        text("service.failed", command=command, trouble=trouble)
        if trouble
        else text("service.done", command=command)
    )


@service.command(help=text("help.service.uninstall"))
@_which
@click.option("--force", is_flag=True, help=text("help.option.service_force"))
@options.as_json
@options.common
def uninstall(name: str, manager: str | None, force: bool, as_json: bool) -> None:
    """Stop the service and take its file away; agents keep running."""
    place = _manager(manager, name)
    found = _installed(place)
    _refuse_foreign(place.file, found, [], force=force)
    done = list(run_all(place.stop_commands()))
    place.file.unlink()
    done += run_all(place.forget_commands())
    if as_json:
        commands = [{"argv": list(one.argv), "trouble": one.trouble} for one in done]
        output.json_result({"file": str(place.file), "commands": commands})
        return
    for one in done:
        _tell_command(one.argv, one.trouble)
    output.result(text("service.removed", file=place.file))


@service.command(help=text("help.service.status"))
@_which
@options.as_json
@options.common
def status(name: str, manager: str | None, as_json: bool) -> None:
    """Say what is installed, what the manager says of it, and who runs."""
    place = _manager(manager, name)
    found = _installed(place)
    here = locate(options.current())
    lock = str(here.state_dir.coordinator_lock)
    pid = (lockfile.read(lock) or {}).get("pid") if lockfile.is_held(lock) else None
    facts: dict[str, Any] = {
        "file": str(place.file),
        "manager": place.name,
        "written": found.whose.value,
        "state": place.state(),
        "pid": pid,
    }
    if as_json:
        output.json_result(facts)
        return
    state: dict[str, str] | None = facts["state"]
    said = text("service.unasked", manager=place.name) if state is None else state.get("print")
    words = said or ", ".join(f"{key} {value}" for key, value in (state or {}).items())
    output.facts(
        [
            ("file", place.file),
            ("written", text(f"service.written.{found.whose.value}")),
            (place.name, words),
            ("process", pid),
        ]
    )


@service.command(help=text("help.service.logs"))
@_which
@click.option("-f", "--follow", is_flag=True, help=text("help.option.service_follow"))
@click.option("-n", "--lines", type=click.IntRange(0), default=100, metavar="N", show_default=True, help=text("help.option.lines"))  # fmt: skip
@options.as_json
@options.common
def logs(name: str, manager: str | None, follow: bool, lines: int, as_json: bool) -> None:
    """Become the manager's own program that prints the log."""
    place = _manager(manager, name)
    argv = place.log_command(lines=lines, follow=follow, as_json=as_json)
    output.flush()
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - a list of words, no shell
    except OSError as error:
        raise UnavailableError(f"{argv[0]}: {error.strerror}") from error


def _manager(name: str | None, service_name: str) -> Manager:
    if not _NAME.match(service_name):
        raise ValidationError(text("service.bad_name", name=service_name))
    return Manager.of(name, service_name)


def _service(given: options.Options, name: str) -> Service:
    """The service of this configuration, as it would be started from this shell."""
    config = find_config(given.config)
    if config is None:
        raise ConfigError(text("service.no_config"), hint=text("service.no_config_hint"))
    config = config.resolve()
    words = [sys.executable, "-P", "-m", "aiagent_coordinator", "--config", str(config)]
    if "state_dir" in given.overrides:
        words += ["--state-dir", str(Path(given.overrides["state_dir"]).expanduser().absolute())]
    if "format" in given.overrides:
        words += ["--format", given.overrides["format"]]
    folders = [one for one in os.environ.get("PATH", "").split(os.pathsep) if one.startswith("/")]
    environment = {"PATH": os.pathsep.join(dict.fromkeys(folders))}
    environment |= {one: os.environ[one] for one in _TAKEN if os.environ.get(one)}
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    secrets = Path(home) / "aiagent-coordinator" / f"{name}.env"
    return Service(name, tuple(words), config.parent, environment, secrets, str(config))


def _refuse_foreign(file: Path, found: Found, changes: list[str], *, force: bool) -> None:
    """Touch nothing that is not ours, unless that was said; what would change is shown first."""
    if found.whose not in {Whose.EDITED, Whose.FOREIGN} or force:
        return
    for line in changes:
        output.talk(line)
    message = (
        text("service.edited", file=file)
        if found.whose is Whose.EDITED
        else text("service.foreign", file=file)
    )
    raise ConflictError(message, hint=text("service.force_hint"))


def _installed(place: Manager) -> Found:
    found = service_files.look(place.file)
    if found.whose is Whose.ABSENT:
        raise NotFoundError(
            text("service.absent", file=place.file), hint=text("service.absent_hint")
        )
    return found


def _not_taken(made: Service) -> list[str]:
    """Variables of this shell that the service might miss. They may hold secrets: only named."""
    from aiagent_coordinator.config.load import ENVIRONMENT_PREFIX
    from aiagent_coordinator.providers.catalog import load_catalog

    catalog = load_catalog()
    asked = {name for one in catalog for name in catalog.get(one).launch.pass_env}
    wanted = asked.union(_PROXIES)
    there = set(made.environment).union(_from_file(made.secrets_file))
    return sorted(
        name
        for name, value in os.environ.items()
        if value and (name in wanted or name.startswith(ENVIRONMENT_PREFIX)) and name not in there
    )


def _from_file(file: Path) -> dict[str, str]:
    """The variables of a file of `NAME=value` lines; empty when it cannot be read."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.strip().partition("=") for line in lines if not line.lstrip().startswith("#"))
    return {name: value.strip("\"'") for name, equals, value in pairs if equals}


def _doctor(made: Service) -> dict[str, Any]:
    """Let `doctor` look from where the service will stand: its PATH, its folder, nothing else."""
    given = {name: os.environ[name] for name in _GIVEN if os.environ.get(name)}
    env = {**given, **made.environment, **_from_file(made.secrets_file)}
    argv = [*made.argv[:4], "doctor", *made.argv[4:], "--json"]
    try:
        done = run_bounded(argv, cwd=made.folder, env=env, timeout_seconds=DOCTOR_SECONDS)
        return json.loads(done.stdout)
    except (OSError, TimedOut, ValueError) as error:
        return {"ok": False, "error": str(error), "findings": []}
