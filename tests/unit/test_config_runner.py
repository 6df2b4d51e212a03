"""Files of aiagent-runner: recognised, and every key of them means what it means there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from aiagent_coordinator.config import Loaded, load_settings
from aiagent_coordinator.config.runner import default_socket, is_runner_shaped
from aiagent_coordinator.errors import ConfigError
from aiagent_coordinator.providers.catalog import load_catalog

#: The sample of the released program's own description, word for word.
SAMPLE = """\
# config/coordinator_default.yaml がデフォルトで読み込まれます
# カスタム設定で上書き可能

polling_interval: 10
max_concurrent: 3

# AI providers
ai_providers:
  claude:
    cli_command: claude
    cli_args:
      - "--dangerously-skip-permissions"
      - "--max-turns"
      - "50"

# Agents (passkeyのみ - ai_type等はMCPから取得)
agents:
  agt_developer:
    passkey: secret123
  agt_reviewer:
    passkey: ${REVIEWER_PASSKEY}  # 環境変数展開対応

log_directory: /tmp/coordinator_logs
"""


def load(tmp_path: Path, text: str | dict[str, Any], **environment: str) -> Loaded:
    file = tmp_path / "runner.yaml"
    content = text if isinstance(text, str) else yaml.safe_dump(text)
    file.write_text(content, encoding="utf-8")
    return load_settings(file, environment={"XDG_RUNTIME_DIR": "/run/user/7", **environment})


def runner(loaded: Loaded) -> Any:
    assert loaded.runner is not None
    return loaded.runner


def test_the_sample_of_the_released_program_is_read_as_it_stands(tmp_path: Path):
    loaded = load(tmp_path, SAMPLE, REVIEWER_PASSKEY="secret456", MCP_COORDINATOR_TOKEN="tok")
    settings, read = loaded.settings, runner(loaded)
    assert (settings.polling_interval, settings.max_concurrent) == (10.0, 3)
    claude = settings.ai_providers["claude"]
    assert claude.cli_command == "claude"
    assert claude.cli_args == ("--dangerously-skip-permissions", "--max-turns", "50")
    assert read.passkeys == {"agt_developer": "secret123", "agt_reviewer": "secret456"}
    assert settings.log_directory == Path("/tmp/coordinator_logs")
    assert settings.coordinator_token is not None
    assert settings.coordinator_token.get_secret_value() == "tok"
    # without a socket: the platform's own
    assert settings.socket == default_socket({"XDG_RUNTIME_DIR": "/run/user/7"}, Path.home())
    (notice,) = read.notices
    assert "--dangerously-skip-permissions" in notice


@pytest.mark.parametrize(
    ("data", "is_theirs"),
    [
        ({"mcp_socket_path": "/s"}, True),
        ({"server_url": "http://x"}, True),
        ({"log_upload": {"enabled": False}}, True),
        ({"error_protection": {}}, True),
        ({"root_agent_id": "h"}, True),
        ({"debug_mode": False}, True),
        ({"ai_providers": {"claude": {"cli_command": "claude"}}}, True),
        ({"agents": {"a": {"passkey": "p"}}}, True),
        ({"polling_interval": 10}, False),
        ({}, False),
        ({"agents": {"a": {"passkey": "p", "provider": "claude"}}}, False),
        ({"mcp_socket_path": "/s", "projects": []}, False),
        ({"agents": {"a": {"passkey": "p"}}, "state_dir": "/x"}, False),
        ({"agents": {"a": {"passkey": "p"}}, "socket": "/x"}, False),
    ],
)
def test_a_file_is_theirs_by_its_keys(data: dict[str, Any], is_theirs: bool):
    assert is_runner_shaped(data) is is_theirs


def test_every_key_has_its_meaning(tmp_path: Path):
    loaded = load(
        tmp_path,
        {
            "polling_interval": 4,
            "max_concurrent": 9,
            "mcp_socket_path": "~/pm/mcp.sock",
            "server_url": "http://pm.example:8080/",
            "coordinator_token": "${TOKEN}",
            "root_agent_id": "human-lead",
            "ai_providers": {
                "claude": {"cli_command": "/opt/claude", "cli_args": "--one 'two three'"},
                "gemini": {"cli_args": ["-y"]},
                "mine": {"cli_command": "/opt/mine"},
            },
            "agents": {"w1": {"passkey": "p1"}},
            "debug_mode": True,
            "log_upload": {"enabled": True, "max_file_size_mb": 2, "retry_count": 5},
            "error_protection": {
                "enabled": False,
                "default_cooldown_seconds": 5,
                "max_cooldown_seconds": 50,
                "quota_detection_enabled": False,
                "quota_margin_percent": 20,
            },
        },
        TOKEN="tok ${x}",
    )
    settings, read = loaded.settings, runner(loaded)
    assert (settings.polling_interval, settings.max_concurrent) == (4.0, 9)
    assert settings.socket == Path.home() / "pm/mcp.sock"
    assert settings.coordinator_token is not None
    assert settings.coordinator_token.get_secret_value() == "tok ${x}"
    # a line is cut at blanks, not as a shell would
    assert settings.ai_providers["claude"].cli_args == ("--one", "'two", "three'")
    assert settings.ai_providers["gemini"].cli_args == ("-y", "--debug")
    catalog = load_catalog(settings.ai_providers)
    assert catalog.get("gemini").detect.executable == "gemini"
    assert catalog.get("mine").output.dialect == catalog.get("claude").output.dialect
    assert read.root_agent_id == "human-lead"
    assert dict(read.protection) == {
        "enabled": False,
        "default_cooldown_seconds": 5,
        "max_cooldown_seconds": 50,
        "quota_detection_enabled": False,
        "quota_margin_percent": 20,
    }
    assert read.upload == {
        "max_file_size_mb": 2.0,
        "retry_count": 5.0,
        "url": "http://pm.example:8080/api/v1/execution-logs/upload",
    }


def test_claude_is_there_without_being_named(tmp_path: Path):
    loaded = load(tmp_path, {"mcp_socket_path": "/s"})
    claude = loaded.settings.ai_providers["claude"]
    assert (claude.cli_command, claude.cli_args) == ("claude", ("--dangerously-skip-permissions",))


def test_what_means_nothing_is_a_notice_with_its_line(tmp_path: Path):
    loaded = load(
        tmp_path,
        "mcp_socket_path: /s\nfoo: 1\nagents:\n  w1: {passkey: '${NONE}', extra: 1}\n  w2:\n"
        "error_protection: {speed: 3}\nai_providers:\n  claude: {cli_command: c, colour: red}\n",
    )
    notices = "\n".join(runner(loaded).notices)
    for words in (
        ":2: foo: is not known",
        "w1.passkey: the environment variable NONE is not set",
        "w1: has no passkey: it is not started here",
        "w1.extra: is not known",
        "w2: has no passkey",
        "error_protection.speed: is not known",
        "claude.colour: is not known",
        "no coordinator_token",
    ):
        assert words in notices
    assert runner(loaded).passkeys == {}


def test_only_a_whole_value_is_expanded(tmp_path: Path):
    loaded = load(
        tmp_path,
        {
            "mcp_socket_path": "/run/${X}/s",
            "coordinator_token": "a${X}",
            "agents": {"w1": {"passkey": "${X} "}},
            "ai_providers": {"claude": {"cli_args": ["${X}"]}},
        },
        X="expanded",
    )
    assert loaded.settings.socket == Path("/run/${X}/s")
    assert loaded.settings.coordinator_token is not None
    assert loaded.settings.coordinator_token.get_secret_value() == "a${X}"
    assert loaded.settings.ai_providers["claude"].cli_args == ("${X}",)
    assert runner(loaded).passkeys == {"w1": "${X} "}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mcp_socket_path: http:///mcp", "http://HOST:PORT"),
        ("mcp_socket_path: http://user:pw@h/mcp", "password"),
        ("mcp_socket_path: 'http://h:99999/mcp'", "no URL"),
        ("mcp_socket_path: 'http://h/mcp#part'", "no URL"),
        ("server_url: pm.example", "http://HOST:PORT"),
        ("mcp_socket_path: [a]", "expected text"),
        ("mcp_socket_path: /s\npolling_interval: 0", "polling_interval"),
        ("mcp_socket_path: /s\nmax_concurrent: 0", "max_concurrent"),
        ("mcp_socket_path: /s\nagents: [w1]", "expected a mapping"),
        ("mcp_socket_path: /s\nagents:\n  w1: {passkey: 17}", "agents.w1.passkey"),
        ("mcp_socket_path: /s\nerror_protection: {enabled: 1}", "error_protection.enabled"),
        ("mcp_socket_path: /s\ndebug_mode: 1", "debug_mode"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_key(tmp_path: Path, text: str, words: str):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    problems: Any = caught.value.details["problems"]
    assert words in "\n".join(problems)


@pytest.mark.parametrize(
    ("environment", "socket"),
    [
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, "/run/user/7/aiagent-runner/mcp.sock"),
        ({"XDG_DATA_HOME": "/data"}, "/data/aiagent-runner/mcp.sock"),
        ({}, "/home/me/.local/share/aiagent-runner/mcp.sock"),
    ],
)
def test_their_default_socket_is_that_of_the_platform(environment: dict[str, str], socket: str):
    assert default_socket(environment, Path("/home/me"), "linux") == Path(socket)
    apple = "/home/me/Library/Application Support/AIAgentPM/mcp.sock"
    assert default_socket(environment, Path("/home/me"), "darwin") == Path(apple)


def test_flags_and_environment_win_as_everywhere(tmp_path: Path):
    file = tmp_path / "runner.yaml"
    file.write_text("mcp_socket_path: /s\npolling_interval: 4\n", encoding="utf-8")
    loaded = load_settings(
        file,
        environment={"AIAGENT_COORDINATOR_MAX_CONCURRENT": "7"},
        overrides={"polling_interval": "2"},
    )
    assert loaded.settings.polling_interval == 2.0
    assert loaded.settings.max_concurrent == 7


@pytest.mark.parametrize(
    ("text", "url", "upload"),
    [
        ("mcp_socket_path: http://h:1/mcp", "http://h:1/mcp", "http://h:1"),
        ("mcp_socket_path: https://h/pm/mcp/", "https://h/pm/mcp/", "https://h/pm"),
        ("server_url: https://h:1/", "https://h:1/mcp", "https://h:1"),
        ("{mcp_socket_path: http://a/mcp, server_url: http://b}", "http://a/mcp", "http://b"),
        ("{mcp_socket_path: /s, server_url: http://b}", None, "http://b"),
        ("{mcp_socket_path: /s}", None, "http://localhost:8080"),
    ],
)
def test_a_url_says_where_calls_and_logs_go(
    tmp_path: Path, text: str, url: str | None, upload: str
):
    told = yaml.safe_load(text) | {"log_upload": {"enabled": True}}
    read = runner(load(tmp_path, told))
    assert read.url == url
    assert read.upload is not None
    assert read.upload["url"] == f"{upload}/api/v1/execution-logs/upload"


@pytest.mark.parametrize(
    ("url", "is_told"),
    [
        ("http://10.0.0.7:8080/mcp", True),
        ("https://10.0.0.7/mcp", False),
        ("http://127.0.0.1:8080/mcp", False),
        ("http://localhost:8080/mcp", False),
    ],
)
def test_a_way_that_others_can_read_is_told(tmp_path: Path, url: str, *, is_told: bool):
    read = runner(load(tmp_path, {"mcp_socket_path": url}))
    assert any("not encrypted" in notice for notice in read.notices) is is_told


def test_agents_of_a_server_over_http_find_it_where_no_command_looks(tmp_path: Path):
    loaded = load(tmp_path, {"mcp_socket_path": "http://127.0.0.1:1/mcp"})
    assert loaded.socket.suffix == ".http"


def test_the_shape_of_a_file_can_be_said(tmp_path: Path):
    file = tmp_path / "coordinator.yaml"
    file.write_text("agents: {w1: {passkey: p1}}\n")
    as_native = {"format": "native"}
    assert load_settings(file, environment={}).runner is not None
    with pytest.raises(ConfigError, match="provider"):
        load_settings(file, environment={}, overrides=as_native)
    file.write_text("max_concurrent: 2\n")
    assert load_settings(file, environment={}, overrides=as_native).runner is None
    loaded = load_settings(file, environment={}, overrides={"format": "runner"})
    assert runner(loaded).passkeys == {}
    assert loaded.settings.max_concurrent == 2
