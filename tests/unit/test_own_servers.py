"""Servers of a program's own settings: in a run or not, as each program can be told, and refused where it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiagent_coordinator.config import load_settings
from aiagent_coordinator.errors import ConfigError
from aiagent_coordinator.providers.catalog import Catalog, load_catalog
from aiagent_coordinator.providers.command import LaunchValues, render_words
from aiagent_coordinator.providers.configured import configured_catalog
from aiagent_coordinator.providers.mcp_config import config
from aiagent_coordinator.providers.options import Chosen, in_force

CONFIGURATION = """\
ai_providers: { claude: { own_servers: inherit } }
projects:
  - { id: app, workspace: scratch, agents: [ada, bo], own_servers: none }
  - { id: lab, workspace: scratch, agents: [ada, bo, cy] }
agents:
  ada: { provider: claude }
  bo: { provider: claude, own_servers: inherit, own_servers_denied: [jira, wiki] }
  cy: { provider: codex, own_servers_denied: [jira] }
"""


def configured(folder: Path, text: str = CONFIGURATION) -> Catalog:
    file = folder / "c.yaml"
    file.write_text(text, "utf-8")
    return configured_catalog(load_settings(file, known_providers=tuple(load_catalog())))


def values(folder: Path, chosen: Chosen) -> LaunchValues:
    return LaunchValues(folder, folder / "work", "/s", "run_1", "a", "p", options=chosen)


def words(name: str, folder: Path, chosen: Chosen) -> str:
    return " ".join(render_words(load_catalog().get(name), values(folder, chosen)))


def test_an_agent_goes_before_its_project_and_that_before_its_provider(tmp_path: Path):
    catalog = configured(tmp_path)
    said = {
        (agent, project): catalog.chosen("claude", agent, project).values.get("own_servers")
        for agent in ("ada", "bo")
        for project in ("app", "lab")
    }
    assert said == {
        ("ada", "app"): "none",
        ("ada", "lab"): "inherit",
        ("bo", "app"): "inherit",
        ("bo", "lab"): "inherit",
    }
    assert "--strict-mcp-config" in words(
        "claude", tmp_path, catalog.chosen("claude", "ada", "app")
    )
    shown = words("claude", tmp_path, catalog.chosen("claude", "bo", "app"))
    assert "--strict-mcp-config" not in shown
    assert "--disallowedTools mcp__jira --disallowedTools mcp__wiki" in shown
    shown = words("codex", tmp_path, catalog.chosen("codex", "cy", "lab"))
    assert "-c mcp_servers.jira.enabled=false" in shown


@pytest.mark.parametrize(
    ("name", "default"),
    [
        *((name, "none") for name in ("claude", "gemini", "cline", "vibe")),
        *((name, "inherit") for name in ("codex", "opencode", "copilot")),
        ("qwen", None),
    ],
)
def test_without_a_setting_it_stays_as_it_was(name: str, default: str | None, tmp_path: Path):
    assert in_force(load_catalog().get(name), Chosen()).get("own_servers") == default
    assert ("--strict-mcp-config" in words(name, tmp_path, Chosen())) == (name == "claude")


def test_our_servers_stand_beside_those_that_are_switched_off(tmp_path: Path):
    chosen = Chosen({"own_servers_denied": ("jira", "coord")})
    told = config(load_catalog().get("opencode"), values(tmp_path, chosen))
    servers = json.loads(json.dumps(told))["mcp"]
    assert servers["jira"] == {"enabled": False}
    assert servers["coord"]["enabled"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("ada: { provider: codex, own_servers: none }", "Codex CLI knows inherit, not 'none'"),
        ("ada: { provider: gemini, own_servers: inherit }", "Gemini CLI knows none, not 'inherit'"),
        (
            "ada: { provider: vibe, approval: bypass, own_servers_denied: [a] }",
            "cannot be told this",
        ),
        ("ada: { provider: acp, own_servers: none }", "cannot be told this"),
        ("ada: { provider: codex, own_servers_denied: [Coord] }", "expected a name of a server"),
        ("ada: { provider: codex, own_servers_denied: ['a b'] }", "expected a name of a server"),
        ("ada: { provider: claude, own_servers: some }", "expected 'inherit' or 'none'"),
    ],
)
def test_what_a_program_cannot_do_is_refused_with_its_line(tmp_path: Path, line: str, told: str):
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, f"i_understand_unsandboxed: true\nagents:\n  {line}\n")
    assert f"{tmp_path}/c.yaml:3: agents.ada.own_servers" in caught.value.message
    assert told in caught.value.message


def test_a_project_is_refused_what_one_of_its_agents_cannot_do(tmp_path: Path):
    text = CONFIGURATION.replace("agents: [ada, bo], own", "agents: [ada, cy], own")
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, text)
    assert caught.value.message == (
        f"{tmp_path}/c.yaml:3: projects[0].own_servers: agent cy: Codex CLI knows inherit, not 'none'"
    )
