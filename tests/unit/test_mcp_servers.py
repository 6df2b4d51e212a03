"""Servers that agents have beside ours: merged by level, written in each program's way, secrets in no argument."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator.config import load_settings
from aiagent_coordinator.config.explain import entries
from aiagent_coordinator.errors import ConfigError
from aiagent_coordinator.providers.catalog import Catalog, load_catalog
from aiagent_coordinator.providers.command import LaunchValues, render
from aiagent_coordinator.providers.configured import configured_catalog
from aiagent_coordinator.providers.environment import child_env

SECRET = "a-secret-of-a-server"
CONFIGURATION = """\
agents:
  ada:
    provider: claude
    mcp_servers:
      wiki: { enabled: false }
      mine: { command: mine }
projects:
  - id: app
    workspace: scratch
    mcp_servers:
      jira: { command: jira-of-app, args: [--x], env: { JIRA_KEY: "${KEY}" } }
mcp_servers:
  jira: { command: jira, env: { OLD: "${KEY}" } }
  wiki: { url: "https://wiki.example/mcp", headers: { Authorization: "Bearer ${KEY}" } }
"""


def configured(folder: Path, text: str = CONFIGURATION) -> Catalog:
    file = folder / "c.yaml"
    file.write_text(text, "utf-8")
    return configured_catalog(load_settings(file, environment={"KEY": SECRET}))


def test_of_one_name_the_innermost_level_counts_and_may_switch_it_off(tmp_path: Path):
    catalog = configured(tmp_path)
    in_app = catalog.servers("app", "ada")
    assert [(one.name, one.command) for one in in_app] == [
        ("jira", "jira-of-app"),
        ("mine", "mine"),
    ]
    assert set(in_app[0].env) == {"JIRA_KEY"}
    assert [one.name for one in catalog.servers("other", "ada")] == ["jira", "mine"]
    assert [one.name for one in catalog.servers("other", "other")] == ["jira", "wiki"]


def test_it_is_explained_who_set_a_server_without_its_secrets(tmp_path: Path):
    file = tmp_path / "c.yaml"
    file.write_text(CONFIGURATION, "utf-8")
    found = {one.key: one for one in entries(load_settings(file, environment={"KEY": SECRET}))}
    jira = found["projects[0].mcp_servers.jira.command"]
    assert (jira.value, jira.origin.rpartition(":")[2]) == ("jira-of-app", "11")
    assert SECRET not in str(found)


@pytest.mark.parametrize(
    ("servers", "told"),
    [
        ("Coord: { command: x }", "coord is the name of our own server"),
        ('"a b": { command: x }', "is no name of a server"),
        ("a: {}", "give command or url, one of them"),
        ("a: { command: x, url: http://y }", "give command or url, one of them"),
        ("a: { url: http://y, args: [z] }", "args and env belong to a command"),
        ("a: { command: x, headers: { A: b } }", "headers belong to a url"),
    ],
)
def test_a_server_that_cannot_be_is_refused(tmp_path: Path, servers: str, told: str):
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, f"mcp_servers: {{ {servers} }}\n")
    assert caught.value.message.startswith(f"{tmp_path}/c.yaml:1: mcp_servers.")
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("provider", "told"),
    [
        ("codex", "the headers would stand in an argument"),
        ("rehearsal", "takes no server at an address: mcp_servers.wiki"),
    ],
)
def test_a_server_that_a_program_cannot_be_told_of_is_refused(
    tmp_path: Path, provider: str, told: str
):
    text = CONFIGURATION.replace("provider: claude", f"provider: {provider}").replace(
        "      wiki: { enabled: false }\n", ""
    )
    with pytest.raises(ConfigError, match=told):
        configured(tmp_path, text)


def written(name: str, folder: Path) -> tuple[dict[str, Any], str]:
    """The servers as a program is told of them, and everything that others can see of it."""
    catalog = configured(folder)
    servers = catalog.servers("app", "nobody")
    if name == "codex":
        servers = tuple(one for one in servers if not one.headers)
    definition = load_catalog().get(name)
    definition = replace(definition, detect=replace(definition.detect, executable="/bin/sh"))
    values = LaunchValues(folder, folder / "work", "/s", "run_1", "a", "p", servers=servers)
    rendered = render(definition, values, os.environ)
    for path, content in rendered.files.items():
        (values.files_dir / path).parent.mkdir(parents=True, exist_ok=True)
        (values.files_dir / path).write_bytes(content)
    env = child_env({}, definition, values)
    told: dict[str, Any] = {}
    for content in rendered.files.values():
        if content.startswith(b"{"):
            told |= json.loads(content).get(definition.mcp.root_key, {})
    told |= json.loads(env.get("OPENCODE_CONFIG_CONTENT", "{}")).get("mcp", {})
    listed = json.loads(env.get("VIBE_MCP_SERVERS", "[]"))
    told |= {one["name"]: one for one in listed}
    return told, " ".join(rendered.argv)


@pytest.mark.parametrize(
    "name", ["claude", "gemini", "opencode", "qwen", "copilot", "cline", "vibe", "acp"]
)
def test_a_program_is_told_of_all_servers_in_its_own_way(name: str, tmp_path: Path):
    told, shown = written(name, tmp_path)
    assert set(told) == {"coord", "jira", "wiki"}
    assert list(told)[-1] == "coord"
    assert SECRET not in shown
    command = told["jira"]["command"]
    words: list[str] = [command, *told["jira"].get("args", [])]
    if not isinstance(command, str):
        words = list(command)
    assert words[0] == sys.executable
    assert words[-2:] == ["jira-of-app", "--x"]
    assert set(told["jira"]) <= set(told["coord"])
    if name == "claude":
        assert "--allowedTools mcp__coord mcp__jira mcp__wiki" in shown
    if name == "gemini":
        assert "--allowed-mcp-server-names coord jira wiki" in shown


def test_codex_is_told_of_servers_by_arguments_that_hold_no_secret(tmp_path: Path):
    _, shown = written("codex", tmp_path)
    assert "mcp_servers.coord={" in shown
    assert "mcp_servers.jira={" in shown
    assert shown.count('"required"=true') == 1
    assert SECRET not in shown


def test_a_server_is_started_with_its_variables(tmp_path: Path):
    told, _ = written("claude", tmp_path)
    words = [told["jira"]["command"], *told["jira"]["args"]]
    position = words.index("jira-of-app")
    prints = ["/bin/sh", "-c", 'echo "$JIRA_KEY"']
    done = subprocess.run(
        [*words[:position], *prints], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == f"{SECRET}\n"
    absent = subprocess.run(
        [*words[:position], "/nowhere/x"], capture_output=True, text=True, timeout=30, check=False
    )
    assert (absent.returncode, absent.stderr) == (127, "/nowhere/x: No such file or directory\n")
    assert stat.S_ISREG((tmp_path / "files/mcp-jira.json").stat().st_mode)
