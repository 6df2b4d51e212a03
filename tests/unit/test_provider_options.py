"""What is wanted of a CLI: how it reaches the program, and what happens where it cannot."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from aiagent_coordinator.cli.installed import standing_text
from aiagent_coordinator.config import load_settings
from aiagent_coordinator.errors import ConfigError, ProviderError
from aiagent_coordinator.providers.catalog import load_catalog
from aiagent_coordinator.providers.command import LaunchValues, render, render_words
from aiagent_coordinator.providers.configured import configured_catalog
from aiagent_coordinator.providers.definition import load_definition
from aiagent_coordinator.providers.environment import child_env
from aiagent_coordinator.providers.mcp_config import config
from aiagent_coordinator.providers.options import Chosen
from aiagent_coordinator.providers.probing import Probe
from aiagent_coordinator.providers.versions import Standing, check_range, standing

CATALOG = load_catalog()
URL = "http://127.0.0.1:9/v1"
KEY = "a-key-that-nobody-sees"


def values(model: str = "", /, **options: str | tuple[str, ...]) -> LaunchValues:
    return LaunchValues(
        run_dir=Path("/run"),
        workspace=Path("/work"),
        socket="/s",
        run_id="run_1",
        agent_id="a",
        project_id="p",
        model=model,
        options=Chosen(options),
    )


def added(name: str, given: LaunchValues) -> list[str]:
    """The words that options add to those without any."""
    definition = CATALOG.get(name)
    plain = list(render_words(definition, replace(given, options=Chosen())))
    return [word for word in render_words(definition, given) if word not in plain]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("claude", {"max_budget": "2.5"}, ["--max-budget-usd", "2.5"]),
        ("claude", {"tools_denied": ("Bash", "WebFetch")}, ["--disallowedTools", "Bash", "WebFetch"]),
        ("claude", {"project_config": "on"}, ["user,project,local"]),
        ("claude", {"max_turns": "7"}, ["--max-turns", "7"]),
        ("codex", {"effort": "high"}, ['model_reasoning_effort="high"']),
        ("codex", {"cli_sandbox": "read-only"}, ['sandbox_mode="read-only"']),
        ("qwen", {"tools_denied": ("edit",)}, ["--exclude-tools", "edit"]),
        ("copilot", {"tools_denied": ("shell(rm:*)", "url")}, ["--deny-tool", "shell(rm:*)", "--deny-tool", "url"]),
        ("copilot", {"effort": "max"}, ["--reasoning-effort", "max"]),
        ("cline", {"effort": "low"}, ["--thinking", "low"]),
        ("vibe", {"max_budget": "1"}, ["--max-price", "1"]),
        ("opencode", {"effort": "high"}, ["--variant", "high"]),
    ],
)  # fmt: skip
def test_an_option_reaches_the_program_in_its_own_words(
    name: str, options: dict[str, str | tuple[str, ...]], words: list[str]
):
    assert added(name, values(**options)) == words


def test_what_a_project_holds_is_left_out_unless_it_is_asked_for():
    off = {name: render_words(CATALOG.get(name), values()) for name in ("claude", "gemini", "qwen")}
    on = {name: render_words(CATALOG.get(name), values(project_config="on")) for name in off}
    assert "user" in off["claude"]
    assert "--allowed-mcp-server-names" in off["gemini"]
    assert "--allowed-mcp-server-names" not in on["gemini"]
    gemini = {
        way: child_env({}, CATALOG.get("gemini"), values(project_config=way))
        for way in ("on", "off")
    }
    assert gemini["on"].get("GEMINI_CLI_TRUST_WORKSPACE") == "true"
    assert "GEMINI_CLI_TRUST_WORKSPACE" not in gemini["off"]
    assert "--bare" in off["qwen"]
    assert "--bare" not in on["qwen"]
    opencode = CATALOG.get("opencode")
    assert child_env({}, opencode, values())["OPENCODE_DISABLE_PROJECT_CONFIG"] == "1"
    assert "OPENCODE_DISABLE_PROJECT_CONFIG" not in child_env(
        {}, opencode, values(project_config="on")
    )


def test_options_of_a_settings_file_are_put_into_it_as_what_they_are():
    gemini = config(CATALOG.get("gemini"), values(max_turns="9", tools_denied=("web_fetch",)))
    assert gemini["model"] == {"maxSessionTurns": 9}
    assert gemini["tools"] == {"exclude": ["web_fetch"]}
    given = values("mine/some/model", base_url=URL, request_timeout="90", tools_denied=("bash",))
    opencode = config(CATALOG.get("opencode"), given)
    assert opencode["provider"] == {
        "mine": {
            "npm": "@ai-sdk/openai-compatible",
            "options": {"baseURL": URL, "timeout": 90_000},
            "models": {"some/model": {"name": "some/model"}},
        }
    }
    permission = opencode["permission"]
    assert isinstance(permission, dict)
    assert (permission["bash"], permission["webfetch"]) == ("deny", "ask")


def test_an_endpoint_of_a_model_without_a_provider_is_refused():
    with pytest.raises(ProviderError, match="base_url needs the model as provider/model"):
        config(CATALOG.get("opencode"), values("model", base_url=URL))


@pytest.mark.parametrize(
    "name", ["claude", "codex", "gemini", "opencode", "qwen", "copilot", "vibe"]
)
def test_a_key_reaches_the_program_alone(name: str):
    definition = CATALOG.get(name)
    definition = replace(definition, detect=replace(definition.detect, executable="/bin/sh"))
    given = values("mine/model", base_url=URL)
    given = replace(given, options=replace(given.options, secrets={"api_key": SecretStr(KEY)}))
    rendered = render(definition, given, os.environ)
    shown = " ".join(rendered.argv) + str(rendered.env) + repr(given)
    assert KEY not in shown + b"".join(rendered.files.values()).decode()
    assert KEY in child_env({}, definition, given).values()


def test_a_value_that_looks_like_a_flag_is_refused():
    with pytest.raises(ProviderError, match="effort must not begin with a dash"):
        render_words(CATALOG.get("claude"), values(effort="--evil"))


CONFIGURATION = """\
agents:
  ada:
    provider: {provider}
    {agent}
ai_providers:
  {provider}:
    {entry}
projects: []
"""


@pytest.mark.parametrize(
    ("provider", "agent", "entry", "line", "told"),
    [
        ("codex", "role: x", "max_turns: 5", 7, "Codex CLI cannot be told this; it can: api_key"),
        ("gemini", "role: x", "request_timeout: 5m", 7, "Gemini CLI cannot be told this"),
        ("gemini", "role: x", "cli_sandbox: 'on'", 7, "Gemini CLI cannot be told this"),
        ("qwen", "cli_sandbox: 'on'", "max_turns: 5", 4, "Qwen Code cannot be told this"),
        ("amp", "approval: bypass", "max_turns: 5", 7, "Amp cannot be told this"),
        ("amp", "role: x", "models: [a]", 3, "Amp cannot be held to 'edits'; it can: bypass"),
        ("crush", "approval: bypass", "base_url: http://x.example", 7, "Crush cannot be told this"),
        ("goose", "role: x", "effort: high", 7, "goose cannot be told this"),
        ("kimi", "tools_denied: [Bash]", "models: [a]", 4, "Kimi Code cannot be told this"),
        ("copilot", "role: x", "project_config: true", 7, "Copilot CLI knows off, not 'on'"),
        ("vibe", "approval: bypass\n    max_budget: 2", "base_url: http://x.example", 5, "cannot keep it with base_url"),
        ("vibe", "approval: bypass", "base_url: http://x.example\n    max_budget: 2", 8, "cannot keep it with base_url"),
        ("claude", "effort: huge", "max_turns: 5", 4, "knows low, medium, high, xhigh, max, not 'huge'"),
        ("codex", "role: x", "project_config: true", 7, "Codex CLI knows off, not 'on'"),
        ("cline", "approval: bypass", "base_url: http://x.example", 7, "Cline cannot be told this"),
        ("cline", "approval: edits", "effort: low", 4, "Cline cannot be held to 'edits'; it can: ask, bypass"),
        ("rehearsal", "effort: high", "models: [a]", 4, "cannot be told this; it has no options"),
        ("rehearsal", "extra_args: [x]", "models: [a]", 4, "says nowhere where they stand"),
        ("cline", "role: x", "effort: low", 3, "Cline cannot be held to 'edits'; it can: ask, bypass"),
        ("claude", "role: x", "base_url: ftp://x", 7, "expected a URL"),
        ("claude", "role: x", "base_url: https://a:b@x", 7, "a key belongs into api_key"),
    ],
)  # fmt: skip
def test_what_a_program_cannot_do_is_refused_with_file_and_line(
    tmp_path: Path, provider: str, agent: str, entry: str, line: int, told: str
):
    file = tmp_path / "c.yaml"
    text = CONFIGURATION.format(provider=provider, agent=agent, entry=entry)
    if "bypass" in agent:
        text = f"i_understand_unsandboxed: true\n{text}"
        line += 1
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        configured_catalog(load_settings(file, environment={}))
    assert caught.value.message.startswith(f"{file}:{line}: ")
    assert told in caught.value.message


def test_what_an_agent_wants_goes_before_what_its_provider_says(tmp_path: Path):
    file = tmp_path / "c.yaml"
    agent, entry = "effort: max\n    extra_args: [--b]", "effort: low\n    extra_args: [--a]"
    file.write_text(CONFIGURATION.format(provider="claude", agent=agent, entry=entry), "utf-8")
    catalog = configured_catalog(load_settings(file, environment={}))
    assert catalog.chosen("claude", "ada").values["effort"] == "max"
    assert catalog.chosen("claude", "other").values["effort"] == "low"
    assert catalog.extra_args("claude", "ada") == ("--a", "--b")


DEFINITION = """\
schema = 1
name = "mine"
title = "Mine"
[detect]
executable = "mine"
[launch]
args = [["{option_args}"]]
"""


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("[options.efort]", "8: options.efort: unknown option 'efort'; did you mean effort?"),
        ('[options.effort]\nargs = [["{efort}"]]', "unknown placeholder {efort}; did you mean effort"),
        ('[options.effort]\nargs = [["{api_key}"]]', "unknown placeholder {api_key}"),
        ('[options.api_key]\nargs = [["{api_key}"]]', "unknown placeholder {api_key}"),
        ('[options.effort]\ndefault = "x"', "9: options.effort.default: 'x' is none of its values"),
        ('[options.effort]\nsettings = { a = "b" }', "has no place"),
        ('[options.effort]\nenv = { LD_PRELOAD = "b" }', "LD_PRELOAD never reaches a CLI"),
        ('[options.effort]\nnot_with = ["x"]', "9: options.effort.not_with: 'x' is no option"),
        ("[capabilities]\nresume = true", "9: capabilities.resume: is stated, and nothing"),
        ("[capabilities]\nbudget_flag = true", "capabilities.budget_flag: is stated"),
        ('[capabilities]\nversions = "2.x"', "'2.x' is no range"),
        ('[capabilities]\nmcp = ["fiel"]', "unknown way 'fiel'; did you mean file?"),
        ('[capabilities]\napproval = ["no"]', "unknown mode 'no'"),
    ],
)  # fmt: skip
def test_a_definition_that_says_what_cannot_be_is_refused(more: str, told: str):
    with pytest.raises(ProviderError) as caught:
        load_definition(f"{DEFINITION}{more}\n", "x.toml")
    assert told in caught.value.message


def test_a_definition_that_says_nothing_of_what_it_can_is_known_by_its_words():
    more = (
        '[options.max_turns]\nargs = [["-t", "{max_turns}"]]\n[output]\ndialect = "claude-stream"\n'
    )
    can = load_definition(DEFINITION + more).can
    assert (can.turn_limit, can.json_stream, can.resume, can.mcp) == (True, True, False, ())


@pytest.mark.parametrize(
    ("version", "found"),
    [
        ("2.1.196", Standing.OLDER),
        ("2.1.197", Standing.CHECKED),
        ("2.1.999", Standing.CHECKED),
        ("2.2.0", Standing.NEWER),
        ("3", Standing.NEWER),
        ("1.9.9", Standing.TOO_OLD),
        (None, Standing.UNKNOWN),
    ],
)
def test_a_version_stands_to_the_range_that_was_looked_at(version: str | None, found: Standing):
    assert standing(version, ">=2.1.197, <2.2", ">=2.0") is found


def test_a_version_of_no_range_says_nothing():
    assert standing("1.0", "") is Standing.UNKNOWN
    with pytest.raises(ValueError, match="is no range"):
        check_range("~=2.1")


@pytest.mark.parametrize("name", list(CATALOG))
def test_a_shipped_definition_was_looked_at_with_the_version_that_it_names(name: str):
    definition = CATALOG.get(name)
    if definition.checked is None:
        return
    versions = definition.can.versions
    assert standing(definition.checked.version, versions) is Standing.CHECKED, versions
    assert json.dumps(sorted(definition.options))


def test_a_program_whose_definition_was_never_seen_to_work_says_so(tmp_path: Path):
    one = Probe(CATALOG.get("goose"), tmp_path / "goose", "1.2.3")
    assert standing_text(one).startswith("unverified: from its documentation")
