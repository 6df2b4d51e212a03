"""Every shipped definition, and what a definition of one's own may and may not say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator.errors import ProviderError
from aiagent_coordinator.providers.catalog import load_catalog, shipped_folder
from aiagent_coordinator.providers.command import LaunchValues, render, render_words
from aiagent_coordinator.providers.definition import Definition, load_definition
from aiagent_coordinator.providers.environment import child_env
from aiagent_coordinator.providers.mcp_config import config_text
from aiagent_coordinator.providers.probing import Probe
from aiagent_coordinator.providers.versions import Standing

ECHO = Path(__file__).parent.parent / "fakes" / "echo_cli.py"
#: These are conversations, no command lines to compare; their own tests have them.
TALKS = {"acp", "goose", "kimi"}
FILES = sorted(file for file in shipped_folder().glob("*.toml") if file.stem not in TALKS)
RUN = "/state/run/run_1"
#: Expected words after the executable, for a run in /work with a prompt.
BRIDGE = {"command": "/py", "args": ["-I", "-S", f"{RUN}/bridge.py"]}
CODEX_ENTRY = (
    f'"command"="/py","args"=["-I","-S","{RUN}/bridge.py"],"required"=true,'
    '"default_tools_approval_mode"="approve","tool_timeout_sec"=600'
)
ARGV: dict[str, tuple[str, ...]] = {
    "amp": (
        *("-x", "--stream-json", "--settings-file", f"{RUN}/files/mcp.json"),
        *("--no-notifications", "--no-ide", "--no-color"),
    ),
    "crush": ("run", "--quiet", "--data-dir", f"{RUN}/files/crush"),
    "claude": (
        *("--permission-mode", "acceptEdits"),
        *("-p", "--output-format", "stream-json", "--verbose"),
        *("--mcp-config", f"{RUN}/files/mcp.json", "--allowedTools", "mcp__coord"),
        *("--setting-sources", "user", "--strict-mcp-config"),
    ),
    "cline": ("--json", f"Read the file {RUN}/prompt and do exactly what it says."),
    "codex": (
        *("exec", "--json", "--skip-git-repo-check", "-c", 'sandbox_mode="workspace-write"', "-c"),
        f"mcp_servers.coord={{{CODEX_ENTRY}}}",
        *("-c", "check_for_update_on_startup=false", "-"),
    ),
    "command": (),
    "copilot": (
        *("--allow-tool", "coord", "--allow-tool", "write", "--output-format", "json"),
        *("--no-color", "--no-ask-user", "--no-auto-update"),
        *("--additional-mcp-config", f"@{RUN}/files/mcp.json", "--disable-builtin-mcps"),
    ),
    "gemini": (
        *("--approval-mode", "auto_edit", "--skip-trust", "-o", "stream-json"),
        *("--allowed-mcp-server-names", "coord"),
    ),
    "opencode": (
        *("run", "--format", "json", "--print-logs", "--log-level", "ERROR"),
        *("--title", "tsk_1"),
    ),
    "qwen": (
        *("--approval-mode", "auto-edit", "-o", "stream-json", "--bare"),
        *("--append-system-prompt", "The current working directory is: /work"),
        *("--mcp-config", f"{RUN}/files/mcp.json"),
    ),
    "vibe": ("--output", "streaming", "--prompt-file", f"{RUN}/prompt"),
    "rehearsal": (
        *("-I", "-m", "aiagent_coordinator.rehearsal"),
        *("--mcp-config", f"{RUN}/files/mcp.json"),
    ),
}
#: Those that read the prompt from a file.
FROM_FILE = {"cline", "vibe"}
#: Expected configuration files.
MCP: dict[str, dict[str, Any]] = {
    "amp": {"mcp.json": {"amp.dangerouslyAllowAll": True, "amp.mcpServers": {"coord": BRIDGE}}},
    "crush": {
        "crush.json": {"mcp": {"coord": {"type": "stdio", **BRIDGE, "timeout": 60}}},
    },
    "claude": {
        "mcp.json": {"mcpServers": {"coord": {"type": "stdio", **BRIDGE, "timeout": 600_000}}}
    },
    "cline": {
        "cline_mcp_settings.json": {
            "mcpServers": {"coord": {**BRIDGE, "disabled": False, "timeout": 600}}
        }
    },
    "codex": {},
    "command": {},
    "copilot": {
        "mcp.json": {
            "mcpServers": {"coord": {"type": "local", **BRIDGE, "tools": ["*"], "timeout": 600_000}}
        }
    },
    "vibe": {},
    "gemini": {
        ".gemini/settings.json": {
            "security": {"auth": {"selectedType": "gemini-api-key"}},
            "general": {"enableAutoUpdate": False, "maxAttempts": 5},
            "privacy": {"usageStatisticsEnabled": False},
            "mcpServers": {"coord": {**BRIDGE, "trust": True, "timeout": 600_000}},
        }
    },
    "opencode": {},
    "qwen": {
        "mcp.json": {
            "mcpServers": {
                "coord": {**BRIDGE, "trust": True, "alwaysLoadTools": True, "timeout": 600_000}
            }
        }
    },
    "rehearsal": {"mcp.json": {"mcpServers": {"coord": {"type": "stdio", **BRIDGE}}}},
}


@dataclass(frozen=True)
class Inline:
    cli_command: str | None = None
    cli_args: Sequence[str] | None = None
    like: str | None = None
    kick_command: str | None = None
    models: Sequence[str] = ()
    max_turns: int | None = None
    mode: str | None = None


def values(folder: Path | None = None) -> LaunchValues:
    return LaunchValues(
        run_dir=folder / "run" if folder else Path(RUN),
        workspace=folder / "work" if folder else Path("/work"),
        socket="/run/s.sock",
        run_id="run_1",
        agent_id="robin",
        project_id="shop",
        task_id="tsk_1",
        temp_dir="/tmp/aac-1",
        prompt="do {it}",
        python=sys.executable if folder else "/py",
    )


def runnable(definition: Definition) -> Definition:
    """The definition with a program that is there, where it names none itself."""
    detect = replace(definition.detect, executable=sys.executable)
    return definition if definition.name == "rehearsal" else replace(definition, detect=detect)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_shipped_definition_renders_to_its_known_command_line(file: Path):
    rendered = render(runnable(load_definition(file)), values(), os.environ)
    assert rendered.argv == (sys.executable, *ARGV[file.stem])
    assert rendered.argv_masked == rendered.argv
    assert rendered.stdin == ("null" if file.stem in FROM_FILE else "prompt")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_shipped_definition_writes_its_known_mcp_configuration(file: Path):
    rendered = render(runnable(load_definition(file)), values(), os.environ)
    assert {name: json.loads(data) for name, data in rendered.files.items()} == MCP[file.stem]


#: What is added to the words and the configuration of a run that has skills, and whose agent has a role.
WITH_SKILLS: dict[str, tuple[str, ...]] = {
    "amp": (),
    "crush": (),
    "claude": (
        *("--plugin-dir", "/skills", "--add-dir", "/skills"),
        *("--append-system-prompt-file", "/role"),
    ),
    "cline": (),
    "codex": (),
    "command": (),
    "copilot": ("--add-dir", "/skills"),
    "vibe": ("--add-dir", "/skills"),
    "gemini": ("--include-directories", "/skills"),
    "opencode": (),
    "qwen": ("--include-directories", "/skills"),
    "rehearsal": (),
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_cli_is_shown_the_folder_of_its_runs_skills(file: Path):
    definition = load_definition(file)
    given = replace(values(), skills_dir="/skills", system_prompt_file="/role")
    words, more = render_words(definition, values()), render_words(definition, given)
    added = [word for word in more if word not in words]
    assert set(added) == set(WITH_SKILLS[file.stem])
    text, with_skills = config_text(definition, values()), config_text(definition, given)
    assert "skills" not in text
    if file.stem == "opencode":
        rules = json.loads(with_skills)["permission"]["external_directory"]
        assert list(rules.items()) == [("*", "ask"), ("/skills/*", "allow")]
    else:
        assert with_skills == text


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_cli_started_by_a_shipped_definition_gets_everything(file: Path, tmp_path: Path):
    """The round trip: a real process in the place of the CLI tells what reached it."""
    (tmp_path / "work").mkdir()
    (tmp_path / "run" / "files").mkdir(parents=True)
    # what overrides a program keeps the definition's own flags
    inline = Inline(sys.executable, (str(ECHO),), like=file.stem)
    definition = load_catalog({"fake": inline}, user=tmp_path).get("fake")
    run = values(tmp_path)
    rendered = render(definition, run, os.environ)
    for name, content in rendered.files.items():
        (run.files_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (run.files_dir / name).write_bytes(content)
    done = subprocess.run(
        rendered.argv,
        input=run.prompt,
        cwd=run.workspace,
        env=child_env(os.environ, definition, run),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["stdin"] == "do {it}"
    assert told["env"]["AIAGENT_RUN_ID"] == "run_1"
    assert told["args"] == list(rendered.argv[2:])
    bridge = str(tmp_path / "run/bridge.py")
    if definition.can_report:
        assert told["server"]["args"][-1] == bridge
    else:
        assert told["server"] is None


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_secret_is_rendered(file: Path):
    """The token lies in the run's folder; the command line and the files name at most that folder."""
    rendered = render(runnable(load_definition(file)), values(), os.environ)
    text = " ".join(rendered.argv) + b"".join(rendered.files.values()).decode()
    assert "token" not in text.lower()


def test_a_program_that_cannot_report_says_so_by_its_exit_status():
    catalog = load_catalog()
    assert list(catalog) == [
        *("acp", "amp", "claude", "cline", "codex", "command", "copilot", "crush", "gemini"),
        *("goose", "kimi", "opencode", "qwen", "rehearsal", "vibe"),
    ]
    assert catalog.get("command").exit0_is_success
    assert not catalog.get("command").can_report
    assert not catalog.get("rehearsal").exit0_is_success


@pytest.mark.parametrize("name", ["goose", "kimi"])
def test_an_agent_that_speaks_the_protocol_is_started_for_it_by_our_driver(name: str):
    given = replace(values(), is_live=True, model="m1", approval="ask", provider_session_id="s1")
    rendered = render(runnable(load_catalog().get(name)), given, os.environ)
    assert rendered.argv[:4] == ("/py", "-I", "-m", "aiagent_coordinator.drivers.acp")
    cut = rendered.argv.index("--")
    assert rendered.argv[cut + 1 :] == (sys.executable, "acp")
    told = " ".join(rendered.argv[4:cut])
    assert "--approval ask" in told
    assert f"--mcp {RUN}/files/mcp.json" in told
    assert "--resume s1" in told
    # goose takes its model from a variable, and asks for every tool, which our driver answers
    model = (
        rendered.env.get("GOOSE_MODEL") if name == "goose" else "m1" if "--model m1" in told else ""
    )
    assert model == "m1"
    assert rendered.env.get("GOOSE_MODE") == ("approve" if name == "goose" else None)


UNVERIFIED = {"amp", "crush", "goose", "kimi"}


def test_what_was_never_seen_to_work_says_so_and_claims_no_version():
    catalog = load_catalog()
    assert {name for name in catalog if not catalog.get(name).verified} == UNVERIFIED
    for name in UNVERIFIED:
        definition = catalog.get(name)
        assert (definition.checked, definition.can.versions) == (None, "")
        assert definition.source.startswith("https://")
        assert Probe(definition, Path("/x"), "1.2.3").standing is Standing.UNVERIFIED
        # it is never started without a word: an old `kimi` fetches a script then
        words = [*definition.launch.args, *definition.live.args]
        assert definition.detect.version_args
        assert words[0] in {("-x", "--stream-json"), ("run", "--quiet"), ("acp",)}


GOOD = """\
schema = 1
name = "mine"
title = "Mine"
checked = { version = "1.2", on = 2026-11-21 }

[detect]
executable = "mine"

[launch]
args = [
  ["--model", "{model}"],
]
env = { QUIET = "1" }

[mcp]
style = "file"
stdio = { command = "{bridge_command}", args = "{bridge_args}" }

[exit_codes]
53 = "turn_limit"

[[errors]]
pattern = 'Not logged in'
reason = "auth"

[[errors]]
pattern = 'quota'
reason = "quota"
"""


def test_a_definition_with_every_table_loads():
    definition = load_definition(GOOD)
    assert definition.checked is not None
    assert definition.checked.on == "2026-11-21"
    assert definition.errors[1].reason == "quota"
    assert definition.limits.silence_seconds == 1800


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("schema = 1", "schema = 2", "1: schema: must be 1, found 2"),
        ("schema = 1\n", "", "x.toml: schema: must be 1, found nothing"),
        ("title", "tilte", "3: tilte: unknown key; did you mean title?"),
        ("title = ", "title = 1 #", "3: title: Input should be a valid string"),
        ("executable = ", "exec = ", "7: detect.exec: unknown key; did you mean executable?"),
        ('executable = "mine"', 'executable = "./mine"', "7: detect.executable: must be a"),
        ('executable = "mine"', 'executable = "{model}"', "7: detect.executable: the only"),
        ("{model}", "{modle}", "10: launch.args: unknown placeholder {modle}; did you mean model?"),
        ("{model}", "{tool}", "10: launch.args: unknown placeholder {tool}"),
        ("{model}", "x{mcp_tools}", "10: launch.args: {mcp_tools} is a list"),
        (
            "args = [\n",
            'resume = [["{approval_args}"]]\nargs = [\n',
            "10: launch.resume: {approval_args} belongs",
        ),
        ("{model}", "{prompt}", '10: launch.args: {prompt} needs prompt = "argument"'),
        (
            "args = [\n",
            'prompt = "file"\nargs = [\n',
            "10: launch.prompt: file needs {prompt_file}",
        ),
        ("args = [\n", 'prompt = "fax"\nargs = [\n', "10: launch.prompt: Input should be"),
        (
            "args = [\n",
            'answers = "stdin"\nargs = [\n',
            "10: launch.answers: stdin needs the prompt elsewhere",
        ),
        ('QUIET = "1"', 'LD_PRELOAD = "x"', "13: launch.env: LD_PRELOAD never reaches a CLI"),
        ("env = {", 'pass_env = ["GIT_DIR"]\nenv = {', "13: launch.pass_env: GIT_DIR never"),
        ("env = {", 'runs_unasked = ["../x"]\nenv = {', "13: launch.runs_unasked: '../x' must"),
        ('QUIET = "1"', 'QUIET = "{extra_args}"', "13: launch.env.QUIET: {extra_args} is a list"),
        ('style = "file"', 'style = "fiel"', "16: mcp.style: Input should be"),
        ('style = "file"', 'file = "../x"', "16: mcp.file: must be a path inside"),
        (
            "env = {",
            'system_prompt_file = "/x"\nenv = {',
            "13: launch.system_prompt_file: must be a path inside",
        ),
        ("[launch]\n", '[skills]\ndir = ""\n[launch]\n', "skills.dir: must be a path inside"),
        ("[launch]\n", '[skills]\nbelow = "a/../b"\n[launch]\n', "skills.below: must be a path"),
        ("[launch]\n", '[skills]\nbelwo = "a"\n[launch]\n', "skills.belwo: unknown key; did"),
        ('style = "file"', 'style = "file"\ntool_timeout = "x"', "17: mcp.tool_timeout: 'x' is no"),
        ("{bridge_args}", "{bridge}", "17: mcp.stdio: unknown placeholder {bridge}"),
        (
            'stdio = { command = "{bridge_command}", args = "{bridge_args}" }',
            "",
            "mcp.stdio: is miss",
        ),
        ("[exit_codes]", "[exit_code]", "19: exit_code: unknown key; did you mean exit_codes?"),
        ("53", "530", "20: exit_codes.530: an exit code is"),
        (
            "turn_limit",
            "turn_limits",
            "20: exit_codes.53: unknown reason 'turn_limits'; did you mean",
        ),
        ("'quota'", "'(quota'", "27: errors.1.pattern: not a regular expression"),
        ("'quota'", "'(a+)+b'", "27: errors.1.pattern: repeats a group that repeats"),
        ('reason = "auth"', 'reason = "au"', "24: errors.0.reason: unknown reason 'au'"),
        ("pattern = 'quota'\n", "", "26: errors.1.pattern: is missing"),
        ("[detect]", "[detect", "not TOML: "),
        ('name = "mine"', 'name = "My CLI"', "2: name: must be lower-case"),
        ("[exit_codes]", '[output]\ndialect = "x"\n[exit_codes]', "20: output.dialect: unknown"),
        ("[exit_codes]", '[limits]\nsilence = "soon"\n[exit_codes]', "20: limits.silence: 'soon'"),
    ],
)
def test_a_wrong_definition_is_refused_with_file_line_key_and_reason(
    tmp_path: Path, old: str, new: str, told: str
):
    file = tmp_path / "x.toml"
    file.write_text(GOOD.replace(old, new), "utf-8")
    with pytest.raises(ProviderError) as caught:
        load_definition(file)
    assert told in caught.value.message
    assert caught.value.message.startswith(str(file))


def test_a_missing_table_is_named():
    with pytest.raises(ProviderError, match="here: detect: is missing"):
        load_definition('schema = 1\nname = "a"\ntitle = "A"\n[launch]\n', "here")


def test_the_users_own_file_wins_over_the_shipped_one(tmp_path: Path):
    (tmp_path / "rehearsal.toml").write_text(GOOD.replace('"mine"', '"rehearsal"'), "utf-8")
    assert load_catalog(user=tmp_path).get("rehearsal").title == "Mine"


def test_a_file_has_the_name_of_its_provider(tmp_path: Path):
    (tmp_path / "yours.toml").write_text(GOOD, "utf-8")
    with pytest.raises(ProviderError, match=r"yours\.toml: name: must be 'yours'"):
        load_catalog(user=tmp_path)


@pytest.mark.parametrize(
    ("name", "approval", "flags"),
    [
        ("claude", "ask", ("--permission-mode", "dontAsk")),
        ("claude", "bypass", ("--permission-mode", "bypassPermissions")),
        ("codex", "ask", ("-c", 'sandbox_mode="read-only"')),
        ("codex", "bypass", ("-c", 'sandbox_mode="danger-full-access"')),
        ("gemini", "ask", ("--approval-mode", "default")),
        ("gemini", "bypass", ("--approval-mode", "yolo")),
    ],
)
def test_each_approval_mode_takes_the_place_of_the_default(
    name: str, approval: str, flags: tuple[str, ...]
):
    definition = load_catalog().get(name)
    edits = "\0".join(definition.approval.edits)
    words = "\0".join(render_words(definition, replace(values(), approval=approval)))
    assert words == "\0".join(ARGV[name]).replace(edits, "\0".join(flags))


def test_a_resumed_session_is_a_command_of_codex_and_a_flag_of_the_others():
    again = replace(values(), provider_session_id="s1", new_uuid="u1")
    rendered = {name: render_words(load_catalog().get(name), again) for name in ARGV}
    assert rendered["codex"][:4] == ("exec", "resume", "s1", "--json")
    assert rendered["claude"][:2] == ("--resume", "s1")
    assert rendered["gemini"][:2] == ("--resume", "s1")


def test_codex_reads_its_servers_entry_whatever_the_path_holds():
    odd = replace(values(), run_dir=Path('/r "1"\\\t\x7fé'))
    words = render_words(load_catalog().get("codex"), odd)
    entry = next(word for word in words if word.startswith("mcp_servers."))
    assert tomllib.loads(entry)["mcp_servers"]["coord"]["args"][-1] == f"{odd.run_dir}/bridge.py"
