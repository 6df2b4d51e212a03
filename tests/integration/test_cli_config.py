"""`config show|validate|set|explain`, as a person types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FILE = """\
# mine
max_concurrent: 2     # runs at a time
coordinator_token: ${MY_TOKEN}
agents:
  robin: {provider: mine, passkey: pass-of-robin}
ai_providers:
  mine: {like: command, cli_command: x, cli_args: ["--key", "${MY_API_KEY}", "${PLACE}"]}
"""
SECRETS = {"MY_TOKEN": "the-token-value", "MY_API_KEY": "the-key-value", "PLACE": "/somewhere"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "coordinator.yaml"
    made.write_text(FILE, "utf-8")
    return made


def run(file: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aiagent_coordinator", "config", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={"PATH": os.environ["PATH"], "HOME": str(file.parent / "home"), **SECRETS, **environment},
        cwd=file.parent,
        timeout=60,
        check=False,
    )  # fmt: skip


def test_show_names_every_value_and_where_it_was_set(file: Path) -> None:
    done = run(file, "show", "--json", AIAGENT_COORDINATOR_TIMEZONE="Asia/Tokyo")
    shown = {line["key"]: line for line in json.loads(done.stdout)["settings"]}
    assert shown["max_concurrent"] == {
        "key": "max_concurrent",
        "value": 2,
        "origin": "coordinator.yaml:2",
    }
    assert shown["timezone"]["origin"] == "AIAGENT_COORDINATOR_TIMEZONE"
    assert (shown["polling_interval"]["value"], shown["polling_interval"]["origin"]) == (
        10,
        "default",
    )
    assert shown["state_dir"]["value"]
    plain = run(file, "show").stdout
    assert "max_concurrent" in plain
    assert "coordinator.yaml:2" in plain


@pytest.mark.parametrize("words", [("show",), ("show", "--json"), ("explain", "agents"), ("explain", "ai_providers")])  # fmt: skip
def test_no_secret_is_shown_wherever_it_was_put(file: Path, words: tuple[str, ...]) -> None:
    done = run(file, *words)
    assert done.returncode == 0
    for secret in ("the-token-value", "the-key-value", "pass-of-robin"):
        assert secret not in done.stdout + done.stderr
    assert ("/somewhere" in done.stdout) == ("agents" not in words)


def test_validate_says_yes_or_every_mistake_with_status_3(file: Path) -> None:
    done = run(file, "validate")
    assert (done.returncode, done.stdout) == (0, f"{file} can be used.\n")
    file.write_text(f"{FILE}retry: {{max_attempts: 0}}\nzzz: 1\n", "utf-8")
    done = run(file, "validate")
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "error: coordinator.yaml:8: retry.max_attempts: must be at least 1, got 0",
        "error: coordinator.yaml:9: zzz: unknown setting",
    ]


def test_validate_knows_providers(file: Path) -> None:
    file.write_text("agents: {a: {provider: rehersal}}\n", "utf-8")
    done = run(file, "validate")
    assert done.returncode == 3
    assert "there is no provider 'rehersal' (did you mean rehearsal?)" in done.stderr


def test_set_changes_one_line_and_keeps_the_comments(file: Path) -> None:
    done = run(file, "set", "max_concurrent", "5")
    assert (done.returncode, done.stdout) == (0, f"max_concurrent is set in {file}.\n")
    assert file.read_text("utf-8") == FILE.replace(": 2     #", ": 5     #")


def test_set_quotes_what_must_be_text(file: Path) -> None:
    assert run(file, "set", "agents.robin.model", "4.5").returncode == 0
    assert 'model: "4.5"}' in file.read_text("utf-8")


@pytest.mark.parametrize(
    ("key", "value", "status", "told"),
    [
        (
            "max_concurrent",
            "many",
            3,
            "coordinator.yaml:2: max_concurrent: expected a whole number",
        ),
        ("log_level", "BOGUS", 3, "log_level: expected 'debug', 'info', 'warn' or 'error'"),
        ("agents.robin.approval", "bypass", 3, "set sandbox, or i_understand_unsandboxed: true"),
        ("state_dir", "${NOT_SET}", 3, "the environment variable NOT_SET is not set"),
        ("a..b", "1", 2, "is no key"),
        ("projects.x.path", "1", 3, "projects: expected a list"),
    ],
)
def test_a_bad_value_leaves_the_file_as_it_was(
    file: Path, key: str, value: str, status: int, told: str
) -> None:
    before = file.stat().st_mtime_ns
    done = run(file, "set", key, value)
    assert done.returncode == status
    assert told in done.stderr
    assert file.read_text("utf-8") == FILE
    assert file.stat().st_mtime_ns == before


def test_set_says_when_something_else_wins(file: Path) -> None:
    done = run(file, "set", "max_concurrent", "5", AIAGENT_COORDINATOR_MAX_CONCURRENT="9")
    assert done.stderr == (
        "note: AIAGENT_COORDINATOR_MAX_CONCURRENT sets max_concurrent too, and wins over the file\n"
    )


def test_explain_tells_meaning_value_and_origin(file: Path) -> None:
    known = json.loads(run(file, "explain", "agents.robin.provider", "--json").stdout)
    assert known["required"] is True
    assert known["values"] == [
        {"key": "agents.robin.provider", "value": "mine", "origin": "coordinator.yaml:5"}
    ]
    done = run(file, "explain", "max_concurent")
    assert done.returncode == 5
    assert "there is no setting max_concurent (did you mean max_concurrent?)" in done.stderr


def test_without_a_file_the_defaults_are_shown_and_set_says_how_to_make_one(file: Path) -> None:
    file.unlink()
    assert run(file, "show").returncode == 0
    done = run(file, "set", "max_concurrent", "5")
    assert (done.returncode, done.stderr.splitlines()[1]) == (
        3,
        "hint: write one with: aiagent-coordinator init",
    )


THEIRS = "mcp_socket_path: /nowhere/mcp.sock\nagents: {w1: {passkey: p1}}\n"


def test_the_shape_of_a_file_is_said_where_it_must_not_be_guessed(file: Path) -> None:
    file.write_text(THEIRS, "utf-8")
    assert run(file, "validate").returncode == 0
    assert run(file, "validate", "--format", "runner").returncode == 0
    done = run(file, "validate", "--format", "native")
    assert done.returncode == 3
    assert "mcp_socket_path: unknown setting" in done.stderr
    assert run(file, "validate", "--format", "yaml").returncode == 2


@pytest.mark.parametrize(
    "words", [["status"], ["task", "add", "--title", "x", "--project", "p"], ["run", "list"]]
)
def test_a_command_for_a_board_says_that_another_server_has_it(
    file: Path, words: list[str]
) -> None:
    file.write_text(THEIRS, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "aiagent_coordinator", *words, "--config", str(file)],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "HOME": str(file.parent), "XDG_RUNTIME_DIR": str(file.parent)},
    )  # fmt: skip
    assert done.returncode == 4
    assert "is for driving a server of AI Agent PM, which has the board" in done.stderr
    assert "start it with" not in done.stderr


SERVERS = """\
mcp_servers:
  jira: { command: jira, env: { OLD: "${MY_API_KEY}" } }
  wiki: { url: "https://wiki.example/mcp", headers: { Authorization: "Bearer ${MY_TOKEN}" } }
projects:
  - id: app
    workspace: scratch
    agents: [ada, bo]
    own_servers: inherit
    mcp_servers:
      jira: { command: jira-of-app }
  - { id: lab, workspace: scratch, agents: [ada] }
agents:
  ada:
    provider: claude
    mcp_servers:
      mine: { command: mine }
      wiki: { enabled: false }
  bo: { provider: opencode, own_servers_denied: [slack] }
"""


def test_explain_shows_the_servers_that_an_agent_gets_and_which_line_said_so(file: Path) -> None:
    file.write_text(SERVERS, "utf-8")
    told = json.loads(run(file, "explain", "mcp_servers", "--json").stdout)["servers"]
    assert [(one["agent"], one["project"]) for one in told] == [
        ("ada", "app"),
        ("bo", "app"),
        ("ada", "lab"),
    ]
    servers = {
        (one["agent"], one["project"], line["name"]): (
            line["is_on"],
            f"{line['level']} {line['origin'].rpartition(':')[2]}".strip(),
            [f"{said['level']} {said['origin'].rpartition(':')[2]}" for said in line["overrides"]],
        )
        for one in told
        for line in one["servers"]
    }
    assert servers == {
        ("ada", "app", "jira"): (True, "project 10", ["everywhere 2"]),
        ("ada", "app", "mine"): (True, "agent 16", []),
        ("ada", "app", "wiki"): (False, "agent 17", ["everywhere 3"]),
        ("ada", "app", "coord"): (True, "ours", []),
        ("bo", "app", "jira"): (True, "project 10", ["everywhere 2"]),
        ("bo", "app", "wiki"): (True, "everywhere 3", []),
        ("bo", "app", "coord"): (True, "ours", []),
        ("ada", "lab", "jira"): (True, "everywhere 2", []),
        ("ada", "lab", "mine"): (True, "agent 16", []),
        ("ada", "lab", "wiki"): (False, "agent 17", ["everywhere 3"]),
        ("ada", "lab", "coord"): (True, "ours", []),
    }
    own = [(one["own_servers"], one["own_servers_origin"].rpartition(":")[2]) for one in told]
    assert own == [("inherit", "8"), ("inherit", "8"), ("none", "default")]

    shown = run(file, "explain", "agents.ada.mcp_servers", "--project", "app").stdout
    assert "Agent ada in project app; servers of its program's own settings: inherit" in shown
    assert "on, in place of everywhere coordinator.yaml:2" in shown
    assert "off, in place of everywhere coordinator.yaml:3" in shown
    assert "Agent bo" not in shown
    assert (
        "inherit (coordinator.yaml:8), without slack"
        in run(file, "explain", "agents.bo.own_servers").stdout
    )
    for secret in SECRETS.values():
        assert secret not in shown + json.dumps(told)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("mcp_servers", "--agent", "nobody"), "the file has no agent 'nobody'"),
        (("mcp_servers", "--project", "none"), "the file has no project 'none'"),
        (("max_concurrent", "--agent", "ada"), "are for settings of MCP servers"),
        (("mcp_servers", "--task", "tsk_1"), "no server is running"),
    ],
)
def test_explain_refuses_what_has_no_servers(file: Path, words: tuple[str, ...], told: str) -> None:
    file.write_text(SERVERS, "utf-8")
    done = run(file, "explain", *words)
    assert done.returncode != 0
    assert told in done.stderr
