"""Every shipped definition, and what a definition of one's own may and may not say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator.errors import ProviderError
from aiagent_coordinator.providers.catalog import Catalog, load_catalog, shipped_folder
from aiagent_coordinator.providers.command import LaunchValues, render
from aiagent_coordinator.providers.definition import Definition, load_definition
from aiagent_coordinator.providers.environment import child_env

ECHO = Path(__file__).parent.parent / "fakes" / "echo_cli.py"
FILES = sorted(shipped_folder().glob("*.toml"))
RUN = "/state/run/run_1"
#: Expected words after the executable, for a run in /work with a prompt.
ARGV: dict[str, tuple[str, ...]] = {
    "command": (),
    "rehearsal": (
        *("-I", "-m", "aiagent_coordinator.rehearsal"),
        *("--mcp-config", f"{RUN}/files/mcp.json"),
    ),
}
#: Expected configuration files.
BRIDGE = {"command": "/py", "args": ["-I", "-S", f"{RUN}/bridge.py"]}
MCP: dict[str, dict[str, Any]] = {
    "command": {},
    "rehearsal": {"mcp.json": {"mcpServers": {"coord": {"type": "stdio", **BRIDGE}}}},
}


@dataclass(frozen=True)
class Inline:
    cli_command: str | None = None
    cli_args: Sequence[str] | None = None
    like: str | None = None


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
    assert rendered.stdin == "prompt"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_shipped_definition_writes_its_known_mcp_configuration(file: Path):
    rendered = render(runnable(load_definition(file)), values(), os.environ)
    assert {name: json.loads(data) for name, data in rendered.files.items()} == MCP[file.stem]


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
    if definition.can_report:
        assert told["servers"]["mcpServers"]["coord"]["args"][-1] == str(tmp_path / "run/bridge.py")
    else:
        assert told["servers"] is None


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_secret_is_rendered(file: Path):
    """The token lies in the run's folder; the command line and the files name at most that folder."""
    rendered = render(runnable(load_definition(file)), values(), os.environ)
    text = " ".join(rendered.argv) + b"".join(rendered.files.values()).decode()
    assert "token" not in text.lower()


def test_a_program_that_cannot_report_says_so_by_its_exit_status():
    catalog = load_catalog()
    assert list(catalog) == ["command", "rehearsal"]
    assert catalog.get("command").exit0_is_success
    assert not catalog.get("command").can_report
    assert not catalog.get("rehearsal").exit0_is_success


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
        ("{model}", "{prompt}", '10: launch.args: {prompt} needs prompt = "argument"'),
        (
            "args = [\n",
            'prompt = "file"\nargs = [\n',
            "10: launch.prompt: file needs {prompt_file}",
        ),
        ("args = [\n", 'prompt = "fax"\nargs = [\n', "10: launch.prompt: Input should be"),
        ('QUIET = "1"', 'LD_PRELOAD = "x"', "13: launch.env: LD_PRELOAD never reaches a CLI"),
        ("env = {", 'pass_env = ["GIT_DIR"]\nenv = {', "13: launch.pass_env: GIT_DIR never"),
        ('QUIET = "1"', 'QUIET = "{extra_args}"', "13: launch.env.QUIET: {extra_args} is a list"),
        ('style = "file"', 'style = "fiel"', "16: mcp.style: Input should be"),
        ('style = "file"', 'file = "../x"', "16: mcp.file: must be a path inside"),
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


def catalog(tmp_path: Path, **inline: Inline) -> Catalog:
    (tmp_path / "mine.toml").write_text(GOOD, "utf-8")
    return load_catalog(inline, user=tmp_path)


def test_an_inline_program_replaces_the_definitions_own_and_is_one_word(tmp_path: Path):
    mine = catalog(tmp_path, mine=Inline("/opt/my tools/cli $(x)", ["--a b", "{model}"])).get(
        "mine"
    )
    assert mine.detect.executable == "/opt/my tools/cli $(x)"
    assert mine.launch.command == ("--a b", "{model}")
    assert mine.launch.args == (("--model", "{model}"),)
    assert mine.title == "Mine"


def test_inline_arguments_alone_follow_the_definitions_own_program(tmp_path: Path):
    rehearsal = catalog(tmp_path, rehearsal=Inline(cli_args=["-v"])).get("rehearsal")
    assert rehearsal.launch.command == ("-I", "-m", "aiagent_coordinator.rehearsal", "-v")


def test_a_new_name_is_like_another(tmp_path: Path):
    listed = catalog(tmp_path, tool=Inline("tool", like="command"), more=Inline(like="tool"))
    assert listed.get("tool").exit0_is_success
    assert (listed.get("more").name, listed.get("more").detect.executable) == ("more", "tool")


def test_a_program_in_the_home_folder_is_found_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", "/home/robin")
    tool = catalog(tmp_path, tool=Inline("~/bin/tool", like="command")).get("tool")
    assert tool.detect.executable == "/home/robin/bin/tool"


@pytest.mark.parametrize(
    ("inline", "told"),
    [
        (
            Inline("x", like="rehersal"),
            "ai_providers.new.like: unknown provider 'rehersal'; did you",
        ),
        (Inline("x"), "ai_providers.new: no definition has this name"),
        (Inline("bin/x", like="command"), "ai_providers.new.cli_command: 'bin/x' is neither"),
        (Inline("", like="command"), "ai_providers.new.cli_command: '' is neither"),
    ],
)
def test_a_wrong_inline_provider_is_refused(tmp_path: Path, inline: Inline, told: str):
    with pytest.raises(ProviderError) as caught:
        catalog(tmp_path, new=inline)
    assert told in caught.value.message


def test_an_unknown_provider_is_told_with_those_there_are():
    with pytest.raises(ProviderError, match="did you mean rehearsal") as caught:
        load_catalog().get("rehersal")
    assert caught.value.hint == "known: command, rehearsal"
