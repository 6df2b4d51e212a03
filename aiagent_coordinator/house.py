"""The state directory, taken for one life of the process: its locks, its layout, its keys."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiagent_coordinator import __version__, once
from aiagent_coordinator.clock import SystemClock, iso
from aiagent_coordinator.config import Loaded
from aiagent_coordinator.errors import ConfigError
from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.redaction import Masker
from aiagent_coordinator.wire import lockfile

#: What one process is by default.
BOTH = frozenset({"server", "coordinator"})
#: Shorter values of variables are words, and would be masked wherever they stand.
SECRET_CHARS = 12
#: Raised when the layout of the state directory changes.
STATE_VERSION = 1


@dataclass(frozen=True)
class House:
    """What one life works with: settings, places and keys."""

    loaded: Loaded
    state: StateDir
    socket: Path
    coordinator_token: str
    operator_key: str
    masker: Masker


def enter(loaded: Loaded, roles: frozenset[str]) -> tuple[House, ExitStack]:
    """Take the state directory for ourselves and read its keys."""
    state = loaded.state_dir
    socket_path = loaded.socket
    state.create()
    _check_version(state)
    with ExitStack() as stack:
        stack.enter_context(_locks(state, roles, socket_path))
        token, operator_key = _coordinator_token(loaded, state), _key(state.operator_key)
        masker = Masker((token, operator_key, *_secrets(loaded)))
        house = House(loaded, state, socket_path, token, operator_key, masker)
        return house, stack.pop_all()


def passkeys(loaded: Loaded) -> dict[str, str | None]:
    """The passkey of every declared agent; None for one without."""
    return {
        agent_id: agent.passkey.get_secret_value() if agent.passkey else None
        for agent_id, agent in loaded.settings.agents.items()
    }


def _secrets(loaded: Loaded) -> list[str]:
    """Everything of the configuration that is shown nowhere."""
    http = loaded.settings.http
    tokens = (http.person_token, http.coordinator_token)
    found = [token.get_secret_value() for token in tokens if token is not None]
    keys = [one.api_key for one in loaded.settings.ai_providers.values()]
    found += [key.get_secret_value() for key in keys if key is not None]
    found += [
        value.get_secret_value()
        for provider in loaded.settings.ai_providers.values()
        for account in provider.accounts.values()
        for value in account.env.values()
        if is_secret(value.get_secret_value())
    ]
    found += _of_servers(loaded)
    shown = loaded.runner.passkeys.values() if loaded.runner else ()
    return [*found, *filter(None, passkeys(loaded).values()), *shown]


def is_secret(value: str) -> bool:
    """Whether a variable of an account is to be shown nowhere: a path or a short word is no secret."""
    return len(value) >= SECRET_CHARS and not value.startswith(("/", "~"))


def _of_servers(loaded: Loaded) -> list[str]:
    """What MCP servers of the user's are given."""
    settings = loaded.settings
    levels = [one.mcp_servers for one in (settings, *settings.projects, *settings.agents.values())]
    given = (one for level in levels for one in level.values())
    values = (value for one in given for value in (*one.env.values(), *one.headers.values()))
    return [text for value in values if is_secret(text := value.get_secret_value())]


@contextmanager
def _locks(state: StateDir, roles: frozenset[str], socket_path: Path) -> Generator[None]:
    """Hold the state directory for the roles of this process."""
    files = {"server": state.server_lock, "coordinator": state.coordinator_lock}
    held: list[int] = []
    try:
        for role in sorted(roles):
            descriptor = lockfile.take(
                str(files[role]),
                role=role,
                version=__version__,
                socket=str(socket_path),
                started_at=iso(SystemClock().now()),
            )
            held.append(descriptor)
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)


def _check_version(state: StateDir) -> None:
    """Refuse a state directory that another version laid out.

    Raises:
        ConfigError: it is not ours to use; nothing was changed.
    """
    found = once.read(state.version_file, lambda: str(STATE_VERSION))
    if found != str(STATE_VERSION):
        raise ConfigError(
            f"{state.root} has layout {found!r}, this program knows {STATE_VERSION}",
            hint="use the program that made it, or another state_dir",
        )


def _coordinator_token(loaded: Loaded, state: StateDir) -> str:
    """What a coordinator shows: as configured, else the state directory's own key."""
    configured = loaded.settings.coordinator_token
    return configured.get_secret_value() if configured else _key(state.coordinator_key)


def _key(path: Path) -> str:
    """Read a key of the state directory, made at first start, readable by the owner alone."""
    return once.read(path, lambda: secrets.token_hex(32))
