"""Which CLIs this machine has, in which version, and whether they are logged in: asked of the programs.

Each is asked with a deadline, from outside of every project, with the environment that its runs have.
What one said of its version is remembered for as long as the file is the same.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, cast

from aiagent_coordinator.providers.detect import resolve
from aiagent_coordinator.providers.environment import child_env
from aiagent_coordinator.providers.logins import holds_login
from aiagent_coordinator.providers.options import Chosen
from aiagent_coordinator.providers.shape import Auth, Definition
from aiagent_coordinator.providers.values import LaunchValues
from aiagent_coordinator.providers.versions import Standing, standing
from aiagent_coordinator.wire.process import TimedOut, run_bounded

#: Some CLIs take seconds to start on a busy machine; one that hangs must not hold anybody up.
PROBE_SECONDS = 15.0
_MOST_BYTES = 65536
#: Where a program is asked: no project is there to be read.
_NOWHERE = Path("/")
_AT_ONCE = 4


class Login(StrEnum):
    """What is known of a login."""

    #: The CLI says so itself.
    LOGGED_IN = "logged_in"
    #: A key is set; whether it is good, its model's server alone knows.
    KEY = "key"
    NEEDS_LOGIN = "needs_login"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Probe:
    """A definition and the program it drives on this machine; without a path it is not there."""

    definition: Definition
    path: Path | None
    #: None: it did not say, or in words that the definition does not know.
    version: str | None = None
    login: Login = Login.UNKNOWN

    @property
    def standing(self) -> Standing:
        """How its version stands to what the definition was looked at with."""
        if not self.definition.verified:
            return Standing.UNVERIFIED
        wanted = self.definition.detect.supported
        return standing(self.version, self.definition.can.versions, wanted)

    @property
    def is_too_old(self) -> bool:
        """Whether its version is below what the definition was written for."""
        return self.standing is Standing.TOO_OLD


@dataclass(frozen=True)
class Prober:
    """How programs are asked.

    Args:
        environ: What runs are started with.
        memory: A file that remembers versions; without one each is asked.
        forbidden: Folders that no program is taken from: workspaces.
        asks_login: Whether they are asked for their login too.
    """

    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    memory: Path | None = None
    forbidden: Path = Path(os.devnull)
    asks_login: bool = False

    def look(self, wanted: Iterable[tuple[Definition, Chosen]]) -> list[Probe]:
        """Look for each definition's program and ask those that are there."""
        known = _remembered(self.memory)
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            found = list(pool.map(partial(self._look, known), wanted))
        _remember(self.memory, known)
        return found

    def _look(self, known: dict[str, str], wanted: tuple[Definition, Chosen]) -> Probe:
        definition, chosen = wanted
        env = probe_env(self.environ, definition, chosen)
        path = resolve(definition, env.get("PATH"), self.forbidden, env.get("HOME"))
        if path is None:
            return Probe(definition, None)
        found = Probe(definition, path, self._version(definition, path, env, known))
        if not self.asks_login:
            return found
        return replace(found, login=login_of(definition, path, env))

    def _version(
        self, definition: Definition, path: Path, env: Mapping[str, str], known: dict[str, str]
    ) -> str | None:
        detect = definition.detect
        # without words of its own it would be started as for work
        if not detect.version_pattern or not detect.version_args:
            return None
        key = identity(path)
        if key in known:
            return known[key]
        said = _ask([str(path), *definition.launch.command, *detect.version_args], env)
        if said is None:
            return None
        found = re.search(detect.version_pattern, said[1])
        version = found[1] if found and found.groups() else None
        if version and key:
            known[key] = version
        return version


def probe_env(environ: Mapping[str, str], definition: Definition, chosen: Chosen) -> dict[str, str]:
    """The environment of the provider's runs, without what tells a program its run."""
    values = LaunchValues(
        run_dir=_NOWHERE,
        workspace=Path(os.devnull),
        socket="",
        run_id="",
        agent_id="",
        project_id="",
        options=chosen,
    )
    # what is made of a run's own folders would point nowhere
    launch = replace(definition.launch, env={})
    env = child_env(environ, replace(definition, launch=launch), values)
    return {name: value for name, value in env.items() if not name.startswith("AIAGENT_")}


def login_of(definition: Definition, path: Path, env: Mapping[str, str]) -> Login:
    """Ask a CLI whether it is logged in, where it can say so without a model."""
    auth = definition.auth
    if auth.files and not any(env.get(name) for name in auth.key_env):
        return Login.LOGGED_IN if holds_login(auth, env) else Login.NEEDS_LOGIN
    said = None
    if definition.auth.status_args:
        words = [str(path), *definition.launch.command, *definition.auth.status_args]
        said = _ask(words, env)
    return judge_login(auth, env, said)


def judge_login(auth: Auth, env: Mapping[str, str], said: tuple[int, str] | None) -> Login:
    """Say what is known of a login. Pure.

    Args:
        auth: How the CLI tells.
        env: The variables that its runs get.
        said: Its exit status and words; None when it was not asked, or did not answer.
    """
    words = said[1] if said else ""
    if said and said[0] == 0 and auth.logged_in and re.search(auth.logged_in, words):
        return Login.LOGGED_IN
    if any(env.get(name) for name in auth.key_env):
        return Login.KEY
    is_out = bool(auth.logged_out and re.search(auth.logged_out, words))
    # what it says otherwise may be another version's words: that is not known to be no login
    return Login.NEEDS_LOGIN if is_out else Login.UNKNOWN


def identity(path: Path) -> str:
    """What a program's file is: where its links lead, and when that was written. Empty: it is gone."""
    real = Path(os.path.realpath(path))
    try:
        info = real.stat()
    except OSError:
        return ""
    return f"{real}:{info.st_ino}:{info.st_mtime_ns}:{info.st_size}"


def _ask(argv: list[str], env: Mapping[str, str]) -> tuple[int, str] | None:
    try:
        done = run_bounded(
            argv,
            cwd=_NOWHERE,
            env=dict(env),
            timeout_seconds=PROBE_SECONDS,
            max_output_bytes=_MOST_BYTES,
        )
    except (OSError, TimedOut):
        return None
    return done.returncode, (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace")


def _remembered(file: Path | None) -> dict[str, str]:
    try:
        told: object = json.loads(file.read_text("utf-8")) if file else {}
    except (OSError, ValueError):
        return {}
    if not isinstance(told, dict):
        return {}
    pairs = cast("dict[str, Any]", told).items()
    return {key: value for key, value in pairs if isinstance(value, str)}


def _remember(file: Path | None, known: Mapping[str, str]) -> None:
    """Keep what is still true; it is only a memory, so a disk that takes nothing harms nobody."""
    if file is None or not file.parent.is_dir():
        return
    true = {key: version for key, version in known.items() if key == identity(Path(_place(key)))}
    draft = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        draft.write_text(json.dumps(true), "utf-8")
        draft.replace(file)
    except OSError:
        draft.unlink(missing_ok=True)


def _place(key: str) -> str:
    return key.rsplit(":", 3)[0]
