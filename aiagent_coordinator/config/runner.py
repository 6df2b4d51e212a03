"""Files of aiagent-runner, the coordinator of AI Agent PM: recognised, and read as that program reads them.

Every key keeps its meaning. What that program ignores in silence is a notice here. Only a whole value
`${VAR}` is expanded, and only in tokens and passkeys.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from aiagent_coordinator.config.source import KeyPath, Problem, Source
from aiagent_coordinator.config.values import describe
from aiagent_coordinator.config.words import Value

#: Keys that only our own files have.
_OURS = frozenset({"projects", "state_dir", "socket"})
#: Keys that only files of aiagent-runner have.
_THEIRS = frozenset(
    {
        *("mcp_socket_path", "server_url", "log_upload", "error_protection"),
        *("root_agent_id", "debug_mode"),
    }
)
_KNOWN = _THEIRS | {
    *("polling_interval", "max_concurrent", "coordinator_token", "ai_providers", "agents"),
    *("log_directory", "agent_base_prompt"),
}
_UPLOAD = ("enabled", "max_file_size_mb", "retry_count", "retry_delay_seconds")
_PROTECTION = (
    *("enabled", "default_cooldown_seconds", "max_cooldown_seconds"),
    *("quota_detection_enabled", "quota_margin_percent"),
)
#: What that program starts claude with where the file does not say.
_CLAUDE_ARGS = ("--dangerously-skip-permissions",)
#: Flags that let a CLI do everything unasked.
_SKIPS = frozenset({"--dangerously-skip-permissions", "--yolo", "-y"})
_GEMINI = "gemini"


@dataclass(frozen=True)
class Runner:
    """What a file of aiagent-runner says beyond our own settings."""

    #: Agents that are this coordinator's to start, with what they show the server.
    passkeys: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    #: Of the server's MCP endpoint; None: it listens on a socket.
    url: str | None = None
    root_agent_id: str | None = None
    #: Values of `error_protection`.
    protection: Mapping[str, float | bool] = field(default_factory=dict[str, "float | bool"])
    #: Values of `log_upload` when it is on, with `url`.
    upload: Mapping[str, float | str] | None = None
    #: What a person should know of how the file was read.
    notices: tuple[str, ...] = ()


def is_runner_shaped(data: Mapping[str, Value]) -> bool:
    """Whether a file is one of aiagent-runner and none of ours."""
    agents, providers = _inside(data.get("agents")), _inside(data.get("ai_providers"))
    if _OURS & data.keys() or any("provider" in agent for agent in agents):
        return False
    return bool(
        _THEIRS & data.keys()
        or any("cli_command" in provider for provider in providers)
        or any("passkey" in agent for agent in agents)
    )


def translate(
    source: Source, environment: Mapping[str, str], home: Path | None = None
) -> tuple[dict[str, Value], Runner, list[Problem]]:
    """Read such a file as settings of ours, and what goes beyond them.

    Args:
        source: The file.
        environment: Where `${VAR}`, `MCP_COORDINATOR_TOKEN` and the platform's folders come from.
        home: The user's home; found when None.

    Returns:
        Our settings as data, the rest, and mistakes that make the file useless.
    """
    return _Translation(source, environment, home or Path.home()).all()


def default_socket(
    environment: Mapping[str, str], home: Path, platform: str = sys.platform
) -> Path:
    """Where AI Agent PM listens when nobody says otherwise."""
    if platform == "darwin":
        return home / "Library/Application Support/AIAgentPM/mcp.sock"
    runtime = environment.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "aiagent-runner/mcp.sock"
    data = environment.get("XDG_DATA_HOME")
    return (Path(data) if data else home / ".local/share") / "aiagent-runner/mcp.sock"


class _Translation:
    """One file on its way."""

    def __init__(self, source: Source, environment: Mapping[str, str], home: Path) -> None:
        self._source = source
        self._data = source.data
        self._environment = environment
        self._home = home
        self._notices: list[str] = []
        self._problems: list[Problem] = []

    def all(self) -> tuple[dict[str, Value], Runner, list[Problem]]:
        for key in sorted(self._data.keys() - _KNOWN):
            self._note((key,), "is not known and was ignored")
        ours: dict[str, Value] = {
            key: self._data[key]
            for key in ("polling_interval", "max_concurrent")
            if key in self._data
        }
        for key in ("log_directory",):
            text = self._text(key)
            if text:
                ours[key] = _literal(text)
        url = self._url()
        if url is None:
            ours["socket"] = _literal(str(self._socket()))
        token = self._secret(("coordinator_token",), self._data.get("coordinator_token"))
        token = token or self._environment.get("MCP_COORDINATOR_TOKEN", "")
        if token:
            ours["coordinator_token"] = _literal(token)
        else:
            self._note(
                (), "no coordinator_token and no MCP_COORDINATOR_TOKEN: the server will refuse"
            )
        ours["ai_providers"] = self._providers()
        runner = Runner(
            passkeys=self._passkeys(),
            url=url,
            root_agent_id=self._text("root_agent_id") or None,
            protection=self._section("error_protection", _PROTECTION),
            upload=self._upload(),
            notices=tuple(self._notices),
        )
        return ours, runner, self._problems

    # -- single keys ---------------------------------------------------------------------------------

    def _url(self) -> str | None:
        """Where calls go when the file names a URL; `mcp_socket_path` may be one."""
        named, base = self._text("mcp_socket_path"), self._text("server_url")
        if base and named:
            self._note(("server_url",), "is used to send logs; calls go to mcp_socket_path")
        if named:
            key, url = "mcp_socket_path", named
            if not _is_web(named):
                return None
        elif base:
            key, url = "server_url", f"{base.rstrip('/')}/mcp"
        else:
            return None
        reason = _why_no_url(url)
        if reason is not None:
            self._wrong((key,), reason)
        elif url.startswith("http://") and not _is_this_machine(url):
            self._note((key,), "is not encrypted: who is on the way reads the token and passkeys")
        return url

    def _socket(self) -> Path:
        named = self._text("mcp_socket_path")
        if not named:
            return default_socket(self._environment, self._home)
        return Path(self._home, named[2:]) if named.startswith("~/") else Path(named)

    def _providers(self) -> dict[str, Value]:
        found: dict[str, Value] = {}
        is_debug = self._is_debug()
        for name, entry in self._entries("ai_providers").items():
            command = entry.get("cli_command", name)
            arguments = self._arguments(("ai_providers", name, "cli_args"), entry.get("cli_args"))
            if not isinstance(command, str) or not command:
                self._wrong(("ai_providers", name, "cli_command"), "must be text")
                continue
            for key in sorted(entry.keys() - {"cli_command", "cli_args"}):
                self._note(("ai_providers", name, key), "is not known and was ignored")
            self._warn_of_skips(name, arguments)
            found[name] = _provider(name, command, arguments, is_debug=is_debug)
        if "claude" not in found:
            self._warn_of_skips("claude", list(_CLAUDE_ARGS))
            found["claude"] = _provider("claude", "claude", list(_CLAUDE_ARGS), is_debug=False)
        return found

    def _arguments(self, key: KeyPath, value: Value) -> list[str]:
        if value is None:
            return []
        if isinstance(value, str):
            return value.split()
        if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
            return [str(one) for one in value]
        self._wrong(key, f"expected a list or a line of text, got {describe(value)}")
        return []

    def _warn_of_skips(self, name: str, arguments: list[str]) -> None:
        for flag in sorted(_SKIPS.intersection(arguments)):
            self._note(
                ("ai_providers", name),
                f"{flag} lets its program do everything as you, with nobody asked",
            )

    def _is_debug(self) -> bool:
        value = self._data.get("debug_mode", True)
        if not isinstance(value, bool):
            self._wrong(("debug_mode",), f"expected true or false, got {describe(value)}")
        return value is True

    def _passkeys(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, entry in self._entries("agents").items():
            passkey = self._secret(("agents", name, "passkey"), entry.get("passkey"))
            for key in sorted(entry.keys() - {"passkey"}):
                self._note(("agents", name, key), "is not known and was ignored")
            if passkey:
                found[name] = passkey
            else:
                self._note(("agents", name), "has no passkey: it is not started here")
        return found

    def _secret(self, key: KeyPath, value: Value) -> str:
        """A secret: as it stands, or a whole `${VAR}`; empty when the variable is not set."""
        if value is None:
            return ""
        if not isinstance(value, str):
            self._wrong(key, "must be text in quotes")
            return ""
        if value.startswith("${") and value.endswith("}"):
            name = value[2:-1]
            if name not in self._environment:
                self._note(key, f"the environment variable {name} is not set")
            return self._environment.get(name, "")
        return value

    def _upload(self) -> dict[str, float | str] | None:
        section = self._section("log_upload", _UPLOAD)
        if not section.get("enabled", False):
            return None
        port = self._environment.get("AIAGENTPM_WEBSERVER_PORT", "8080")
        named = self._text("mcp_socket_path")
        beside = named.rstrip("/").removesuffix("/mcp") if _is_web(named) else ""
        base = self._text("server_url").rstrip("/") or beside or f"http://localhost:{port}"
        numbers = {key: float(value) for key, value in section.items() if key != "enabled"}
        return {**numbers, "url": f"{base}/api/v1/execution-logs/upload"}

    def _section(self, key: str, known: tuple[str, ...]) -> dict[str, float | bool]:
        value = self._data.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._wrong((key,), f"expected a mapping, got {describe(value)}")
            return {}
        found: dict[str, float | bool] = {}
        for name, item in value.items():
            if name not in known:
                self._note((key, name), "is not known and was ignored")
            elif isinstance(item, bool) == name.endswith("enabled") and isinstance(
                item, bool | int | float
            ):
                found[name] = item
            else:
                self._wrong((key, name), f"cannot be {describe(item)}")
        return found

    def _text(self, key: str) -> str:
        value = self._data.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            self._wrong((key,), f"expected text, got {describe(value)}")
            return ""
        return value

    def _entries(self, key: str) -> dict[str, dict[str, Value]]:
        value = self._data.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._wrong((key,), f"expected a mapping, got {describe(value)}")
            return {}
        found: dict[str, dict[str, Value]] = {}
        for name, item in value.items():
            if item is None or isinstance(item, dict):
                found[name] = item or {}
            else:
                self._wrong((key, name), f"expected a mapping, got {describe(item)}")
        return found

    def _note(self, key: KeyPath, text: str) -> None:
        self._notices.append(
            Problem(self._source.line_of(key), key, text).render(self._source.file)
        )

    def _wrong(self, key: KeyPath, reason: str) -> None:
        self._problems.append(Problem(self._source.line_of(key), key, reason))


def _provider(name: str, command: str, arguments: list[str], *, is_debug: bool) -> dict[str, Value]:
    """One of our providers: with gemini's flags where it is gemini, else with claude's."""
    if is_debug and name == _GEMINI:
        arguments = [*arguments, "--debug"]
    return {
        "cli_command": _literal(command),
        "cli_args": [_literal(one) for one in arguments],
        "like": _GEMINI if name == _GEMINI else "claude",
    }


def _is_web(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _why_no_url(url: str) -> str | None:
    """Why calls cannot go there; None when they can."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"is no URL: {error}"
    if not _is_web(url) or not host:
        return "expected http://HOST:PORT or https://HOST:PORT"
    if parts.username is not None or parts.password is not None:
        return "must not hold a password: URLs are logged; the token is coordinator_token"
    if parts.fragment or not url.isprintable() or " " in url:
        return "is no URL of a server"
    return None


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _literal(text: str) -> str:
    """Text that expands to itself."""
    return text.replace("${", "$${")


def _inside(value: Value) -> list[Mapping[str, Value]]:
    """The mappings in a mapping."""
    items = value.values() if isinstance(value, dict) else ()
    return [cast("Mapping[str, Value]", item) for item in items if isinstance(item, dict)]
