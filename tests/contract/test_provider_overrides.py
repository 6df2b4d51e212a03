"""What `ai_providers` of the configuration makes of the definitions: other programs, other names."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from aiagent_coordinator.errors import ProviderError
from aiagent_coordinator.providers.catalog import Catalog, load_catalog
from aiagent_coordinator.providers.command import LaunchValues, render, render_words

MINE = """\
schema = 1
name = "mine"
title = "Mine"
[detect]
executable = "mine"
[launch]
args = [["--model", "{model}"]]
"""
VALUES = LaunchValues(
    run_dir=Path("/state/run/run_1"),
    workspace=Path("/work"),
    socket="/run/s.sock",
    run_id="run_1",
    agent_id="robin",
    project_id="shop",
    prompt="do it",
)


@dataclass(frozen=True)
class Inline:
    """An entry, as the configuration gives it."""

    cli_command: str | None = None
    cli_args: Sequence[str] | None = None
    like: str | None = None
    kick_command: str | None = None
    models: Sequence[str] = ()
    max_turns: int | None = None
    mode: str | None = None


def catalog(tmp_path: Path, **inline: Inline) -> Catalog:
    (tmp_path / "mine.toml").write_text(MINE, "utf-8")
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


def test_a_kick_command_is_split_into_words_and_never_read_by_a_shell(tmp_path: Path):
    """What the reference runner's own splitting breaks: quotes, spaces in a path, shell characters."""
    kick = "'/opt/my tools/cli' --say 'hello world' $HOME ; touch x"
    tool = catalog(tmp_path, tool=Inline(kick_command=kick)).get("tool")
    assert tool.detect.executable == "/opt/my tools/cli"
    assert tool.launch.command == ("--say", "hello world", "$HOME", ";", "touch", "x")


def test_a_program_that_nothing_is_known_of_is_started_like_claude(tmp_path: Path):
    tool = catalog(tmp_path, tool=Inline(sys.executable, ["--mine"])).get("tool")
    claude = render_words(load_catalog().get("claude"), VALUES)
    rendered = render(tool, VALUES, os.environ)
    assert rendered.argv == (sys.executable, "--mine", *claude)
    assert rendered.files.keys() == {"mcp.json"}
    assert (tool.name, tool.title) == ("tool", "tool")


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
        (Inline(), "ai_providers.new: no definition has this name, and no program is given"),
        (Inline(cli_args=["x"]), "ai_providers.new: no definition has this name, and no"),
        (Inline("x", kick_command="y"), "ai_providers.new.kick_command: stands in place of"),
        (
            Inline(kick_command="x 'y"),
            'ai_providers.new.kick_command: "x \'y" cannot be split into',
        ),
        (Inline(kick_command="  "), "ai_providers.new.kick_command: '  ' names no program"),
        (Inline(kick_command="bin/x y"), "ai_providers.new.kick_command: 'bin/x' is neither"),
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
    names = (
        "acp, amp, claude, cline, codex, command, copilot, crush, gemini, goose, kimi, opencode, qwen, "
        "rehearsal, vibe"
    )
    assert caught.value.hint == f"known: {names}"
