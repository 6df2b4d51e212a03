"""`doctor`: what must be there for work to begin, each fault with what mends it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import locate
from aiagent_coordinator.cli.doctor_machine import machine_findings
from aiagent_coordinator.cli.doctor_quota import quota_findings
from aiagent_coordinator.cli.doctor_sandbox import sandbox_findings
from aiagent_coordinator.cli.doctor_service import service_findings
from aiagent_coordinator.cli.findings import Finding, Level
from aiagent_coordinator.cli.service_manager import Manager
from aiagent_coordinator.config.find import find_config
from aiagent_coordinator.errors import CoordinatorError
from aiagent_coordinator.messages import text
from aiagent_coordinator.wire import lockfile
from aiagent_coordinator.wire.process import TimedOut, run_bounded

if TYPE_CHECKING:
    from aiagent_coordinator.cli.installed import Installed
    from aiagent_coordinator.config import AgentSettings, Loaded, ProjectSettings
    from aiagent_coordinator.providers.catalog import Catalog

#: A run's worktree and log need more than this.
LEAST_BYTES = 100 * 1000**2
#: Below it something fills up soon.
LITTLE_BYTES = 2 * 1000**3
#: `worktree add --no-track` and the options of the seal are older; the tests run with this and newer.
LEAST_GIT = (2, 30)


@click.command(help=text("help.doctor"))
@click.option("--footprint", "wants_footprint", is_flag=True, help=text("help.option.footprint"))
@options.as_json
@options.file_format
@options.common
def doctor(wants_footprint: bool, as_json: bool) -> int:
    """Look at everything that work needs."""
    if wants_footprint:
        return _footprint(as_json=as_json)
    findings = list(examine(options.current()))
    faults = [one for one in findings if one.level == "fault"]
    if as_json:
        output.json_result({"ok": not faults, "findings": [asdict(one) for one in findings]})
        return 1 if faults else 0
    width = max(len(one.name) for one in findings)
    for one in findings:
        mark = text(f"doctor.level.{one.level}")
        output.result(f"{mark:<7}  {one.name:<{width}}  {one.message}")
        if one.fix:
            output.result(text("doctor.fix", fix=one.fix))
    output.result(text("doctor.faults" if faults else "doctor.fine", count=len(faults)))
    return 1 if faults else 0


def _footprint(*, as_json: bool) -> int:
    """List everything of ours that lies on this machine."""
    from aiagent_coordinator.cli.footprint import footprint
    from aiagent_coordinator.config import load_settings

    given = options.current()
    loaded = load_settings(find_config(given.config), overrides=given.overrides)
    found = list(footprint(loaded))
    total = sum(one.size_bytes for one in found)
    if as_json:
        output.json_result({"traces": [asdict(one) for one in found], "size_bytes": total})
        return 0
    headings = [text(f"table.{name}") for name in ("kind", "bytes", "place")]
    output.table(headings, [(one.kind, one.size_bytes or "", one.place) for one in found])
    output.talk(text("doctor.footprint", megabytes=f"{total / 1000**2:.1f}"))
    return 0


def examine(given: options.Options) -> Iterator[Finding]:
    """Look at one thing after the other; nothing is changed, no agent is started."""
    yield from _system()
    yield from machine_findings()
    loaded, catalog, finding = _configuration(given)
    yield finding
    if loaded is not None and catalog is not None:
        yield _safely("socket", lambda: _socket(loaded.socket))
        yield _safely("state", lambda: _state(loaded.state_dir.root))
        yield from _disk(loaded.state_dir.root)
        yield from _foreign_runs(loaded.state_dir.runs)
        yield from _clis(loaded, catalog)
        yield from sandbox_findings(loaded.settings)
        yield from quota_findings(given, loaded)
        for project in loaded.settings.projects:
            yield _project(project)
    yield from _server(given)
    yield from _service(given)


def _system() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} ({sys.executable})")
    yield _git()
    if os.geteuid() == 0:
        yield Finding("root", "warning", text("doctor.root"), text("doctor.root_fix"))
    if sys.platform != "linux":
        yield Finding("platform", "note", text("doctor.not_linux", system=platform.system()))


def _git() -> Finding:
    path = shutil.which("git")
    if path is None:
        return Finding("git", "fault", text("doctor.git_absent"), text("doctor.git_fix"))
    try:
        done = run_bounded([path, "--version"], timeout_seconds=10)
    except (OSError, TimedOut) as error:
        return Finding("git", "fault", str(error), text("doctor.git_fix"))
    found = re.search(rb"(\d+)\.(\d+)(\.\d+)*", done.stdout)
    if found is None or (int(found[1]), int(found[2])) < LEAST_GIT:
        return Finding("git", "fault", text("doctor.git_old", path=path), text("doctor.git_fix"))
    return Finding("git", "ok", f"{found[0].decode()} ({path})")


def _configuration(
    given: options.Options,
) -> tuple[Loaded | None, Catalog | None, Finding]:
    from aiagent_coordinator.config import load_settings
    from aiagent_coordinator.providers.catalog import load_catalog
    from aiagent_coordinator.providers.configured import configured_catalog

    try:
        file = find_config(given.config)
        loaded = load_settings(
            file, overrides=given.overrides, known_providers=tuple(load_catalog())
        )
        catalog = configured_catalog(loaded)
    except CoordinatorError as error:
        fix = error.hint or text("doctor.config_fix")
        return None, None, Finding("configuration", "fault", error.message, fix)
    if file is None:
        finding = Finding("configuration", "warning", text("config.none"), text("config.none_hint"))
    else:
        finding = Finding("configuration", "ok", str(file))
    return loaded, catalog, finding


def _safely(name: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except CoordinatorError as error:
        return Finding(name, "fault", error.message, error.hint)


def _socket(path: Path) -> Finding:
    folder = path.parent if path.parent.exists() else _nearest(path.parent)
    if not os.access(folder, os.W_OK | os.X_OK):
        message = text("doctor.not_writable", path=folder)
        return Finding("socket", "fault", message, text("doctor.socket_fix"))
    if path.exists() and not path.is_socket():
        message = text("doctor.no_socket", path=path)
        return Finding("socket", "fault", message, text("doctor.socket_fix"))
    return Finding("socket", "ok", str(path))


def _state(root: Path) -> Finding:
    if not root.exists():
        folder = _nearest(root)
        if os.access(folder, os.W_OK | os.X_OK):
            return Finding("state", "ok", text("doctor.state_new", path=root))
        message = text("doctor.not_writable", path=folder)
        return Finding("state", "fault", message, text("doctor.state_fix"))
    info = root.lstat()
    if not root.is_dir() or root.is_symlink() or info.st_uid != os.geteuid():
        message = text("doctor.state_foreign", path=root)
        return Finding("state", "fault", message, text("doctor.state_fix"))
    if info.st_mode & 0o077:
        message = text("doctor.state_open", path=root)
        return Finding("state", "warning", message, f"chmod 700 {root}")
    return Finding("state", "ok", str(root))


def _disk(root: Path) -> Iterator[Finding]:
    try:
        free = shutil.disk_usage(_nearest(root)).free
    except OSError as error:
        yield Finding("disk", "warning", str(error))
        return
    level: Level = "ok"
    if free < LITTLE_BYTES:
        level = "fault" if free < LEAST_BYTES else "warning"
    fix = "" if level == "ok" else text("doctor.disk_fix")
    yield Finding("disk", level, text("doctor.disk", gigabytes=f"{free / 1000**3:.1f}"), fix)


def _foreign_runs(runs: Path) -> Iterator[Finding]:
    """Run directories that another version made: nothing here reads or removes them."""
    from aiagent_coordinator.executors.inspection import FORMAT, read_plain

    versions = ((name, read_plain(runs / name / "format", 64)) for name in _listed(runs))
    names = [name for name, found in versions if found is not None and found.strip() != FORMAT]
    if names:
        message = text("doctor.foreign_runs", count=len(names), names=", ".join(names[:3]))
        yield Finding("runs", "warning", message, text("doctor.foreign_runs_fix"))


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names, not paths
    except OSError:
        return []


def _clis(loaded: Loaded, catalog: Catalog) -> Iterator[Finding]:
    from aiagent_coordinator.cli.installed import NOT_LOOKED_FOR
    from aiagent_coordinator.providers.probing import Prober

    agents = loaded.settings.agents
    used = {agent.provider for agent in agents.values()}
    # a program of the same name may be another one: what was never seen to work is looked at when it is used
    names = [
        name
        for name in catalog
        if name in used or (name not in NOT_LOOKED_FOR and catalog.get(name).verified)
    ]
    prober = Prober(memory=loaded.state_dir.root / "versions.json", asks_login=True)
    found = prober.look((catalog.get(name), catalog.chosen(name)) for name in names)
    known = {one.definition.name: one for one in found}
    for name, one in known.items():
        yield _cli(name, one, name in used)
        yield from _login(name, one, name in used)
    for agent_id, agent in agents.items():
        yield from _approval(agent_id, agent, known.get(agent.provider))


def _cli(name: str, one: Installed, is_used: bool) -> Finding:
    from aiagent_coordinator.cli.installed import standing_text

    label = f"provider {name}"
    if one.path is None:
        executable = one.definition.detect.executable
        message = text("doctor.cli_absent", title=one.definition.title, executable=executable)
        if not is_used:
            return Finding(label, "note", message)
        return Finding(label, "fault", message, text("doctor.cli_fix", name=name))
    version = one.version or text("init.unknown_version")
    message = f"{one.definition.title} {version} ({one.path})"
    if one.is_too_old:
        wanted = one.definition.detect.supported
        return Finding(label, "warning", message, text("doctor.cli_old_fix", wanted=wanted))
    said = standing_text(one)
    if said:
        return Finding(label, "note", f"{message}: {said}")
    return Finding(label, "ok", message)


def _login(name: str, one: Installed, is_used: bool) -> Iterator[Finding]:
    """Say when an agent's program is known to be logged in nowhere."""
    if is_used and one.login.value == "needs_login":
        told = text("doctor.cli_login", title=one.definition.title)
        yield Finding(f"provider {name}", "warning", told, one.definition.auth.login)


def _approval(agent_id: str, agent: AgentSettings, one: Installed | None) -> Iterator[Finding]:
    """Say when the agent's program has no way to be held to its approval mode."""
    if one is None or agent.provider == "rehearsal":
        return
    modes = one.definition.approval
    if getattr(modes, agent.approval):
        if agent.approval == "bypass" and os.geteuid() == 0:
            yield Finding(f"agent {agent_id}", "warning", text("doctor.bypass_root"))
        return
    message = text("doctor.approval", provider=agent.provider, mode=agent.approval)
    has_others = bool(modes.ask or modes.edits or modes.bypass)
    level: Level = "warning" if has_others else "note"
    yield Finding(f"agent {agent_id}", level, message)


def _project(project: ProjectSettings) -> Finding:
    label = f"project {project.id}"
    path = project.path
    if path is None:
        return Finding(label, "ok", text("doctor.scratch"))
    if not path.is_dir():
        message = text("doctor.no_folder", path=path)
        return Finding(label, "fault", message, text("doctor.path_fix", project=project.id))
    if project.workspace == "worktree" and not any(
        (place / ".git").exists() for place in (path, *path.parents)
    ):
        message = text("doctor.no_repository", path=path)
        return Finding(label, "fault", message, text("doctor.repository_fix", path=path))
    return Finding(label, "ok", str(path))


def _server(given: options.Options) -> Iterator[Finding]:
    try:
        place = locate(given)
    except CoordinatorError:
        return  # told by `configuration`
    holder = lockfile.read(str(place.state_dir.server_lock)) or {}
    if lockfile.is_held(str(place.state_dir.server_lock)):
        yield Finding("server", "ok", text("doctor.server", pid=holder.get("pid")))
    else:
        yield Finding("server", "note", text("server.none", origin=place.origin))


def _service(given: options.Options) -> Iterator[Finding]:
    if sys.platform != "linux":
        return
    pid: int | None = os.getpid()
    try:
        place = locate(given)
    except CoordinatorError:
        pass  # told by `configuration`
    else:
        lock = str(place.state_dir.coordinator_lock)
        pid = (lockfile.read(lock) or {}).get("pid") if lockfile.is_held(lock) else pid
    yield from service_findings(pid, [Manager.of("systemd", "aiagent-coordinator").file])


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest one around it that exists."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder
