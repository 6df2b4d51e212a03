"""From a definition and a run to a command line: every value is one word, whatever it holds."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.errors import ProviderError, SpawnError
from aiagent_coordinator.providers.command import LaunchValues, render, render_env, render_words
from aiagent_coordinator.providers.definition import load_definition
from aiagent_coordinator.providers.detect import resolve, safe_path
from aiagent_coordinator.providers.mcp_config import config, config_files
from aiagent_coordinator.redaction import Masker
from aiagent_coordinator.tasks import Approval

TEXT = """\
schema = 1
name = "full"
title = "Full"

[detect]
executable = "full-cli"

[launch]
command = ["exec", "{model}"]
args = [
  ["-p", "--json"],
  ["--mcp-config", "{mcp_config_file}", "--strict"],
  ["--config={mcp_config_inline}"],
  ["--allowed", "{mcp_tools}", "--"],
  ["--model", "{model}"],
  ["--turns", "{max_turns}"],
  ["{extra_args}"],
  ["in {workspace}", "{{kept}}"],
]
resume = [["--resume", "{provider_session_id}"]]
own_session_id = [["--session-id", "{new_uuid}"]]
env = { FULL_HOME = "{files_dir}/home", FULL_MODEL = "{model}" }

[approval]
edits = ["--mode", "edits"]
bypass = ["--mode", "all"]

[mcp]
style = "file"
file = "conf/mcp.json"
root_key = "servers"
stdio = { type = "local", command = ["{bridge_command}", "{bridge_args}"], on = true, wait = 9, name = "a {server}" }
http = { url = "{url}", headers = "{headers}" }
tool_name = "mcp__{server}__{tool}"
""".replace('"{{kept}}"', '"{not a name}"')
FULL = load_definition(TEXT)
VALUES = LaunchValues(
    run_dir=Path("/run_1"),
    workspace=Path("/work"),
    socket="/s.sock",
    run_id="run_1",
    agent_id="robin",
    project_id="shop",
    python="/py",
    prompt="the prompt",
)
BASE = (
    *("exec", "{model}", "--mode", "edits", "-p", "--json"),
    *("--mcp-config", "/run_1/files/conf/mcp.json", "--strict"),
)


def words(values: LaunchValues) -> tuple[str, ...]:
    return tuple(word for word in render_words(FULL, values) if not word.startswith("--config="))


def test_a_group_vanishes_when_any_value_in_it_is_empty():
    assert words(VALUES) == (*BASE, "in /work", "{not a name}")


def test_lists_are_spliced_and_values_are_put_in_order():
    values = replace(VALUES, model="m", tools=("a", "b"), extra_args=("-x", "y z"), max_turns="5")
    assert words(values) == (
        *BASE,
        *("--allowed", "mcp__coord__a", "mcp__coord__b", "--"),
        *("--model", "m", "--turns", "5", "-x", "y z", "in /work", "{not a name}"),
    )


def test_a_session_is_resumed_or_begun_under_our_own_id():
    assert "--resume" not in words(replace(VALUES, new_uuid="u"))
    assert words(replace(VALUES, new_uuid="u"))[2:4] == ("--session-id", "u")
    assert words(replace(VALUES, new_uuid="u", provider_session_id="s"))[2:4] == ("--resume", "s")


@pytest.mark.parametrize(
    ("approval", "flags"),
    [(Approval.ASK, ()), ("edits", ("--mode", "edits")), (Approval.BYPASS, ("--mode", "all"))],
)
def test_the_approval_mode_has_its_flags(approval: Approval | str, flags: tuple[str, ...]):
    found = words(replace(VALUES, approval=approval))
    assert found[2 : 2 + len(flags)] == flags
    assert ("--mode" in found) == bool(flags)


@pytest.mark.parametrize(
    "value", ["; touch x", "$(touch x)", "a\nb", "{workspace}", "{model}", "'\"\\"]
)
def test_a_value_is_one_word_and_never_read_again(value: str):
    found = words(replace(VALUES, model=value, extra_args=(value, "--flag")))
    at = found.index("--model")
    assert found[at : at + 4] == ("--model", value, value, "--flag")


@given(st.text(min_size=1).filter(lambda text: not text.startswith("-")))
def test_any_model_is_exactly_one_word(value: str):
    found = words(replace(VALUES, model=value))
    assert len(found) == len(words(VALUES)) + 2
    assert value in found


@pytest.mark.parametrize("name", ["model", "provider_session_id", "max_turns", "setting_sources"])
def test_a_value_that_would_be_read_as_a_flag_is_refused(name: str):
    with pytest.raises(ProviderError, match=f"{name} must not begin with a dash"):
        render_words(FULL, replace(VALUES, **{name: "--dangerous"}))


def test_a_variable_vanishes_like_a_group():
    assert render_env(FULL, VALUES) == {"FULL_HOME": "/run_1/files/home"}
    assert render_env(FULL, replace(VALUES, model="m"))["FULL_MODEL"] == "m"


def test_the_mcp_entry_is_written_in_the_clis_own_words():
    entry = {
        "type": "local",
        "command": ["/py", "-I", "-S", "/run_1/bridge.py"],
        "on": True,
        "wait": 9,
        "name": "a coord",
    }
    assert config(FULL, VALUES) == {"servers": {"coord": entry}}
    assert list(config_files(FULL, VALUES)) == ["conf/mcp.json"]


def test_a_server_behind_an_address_has_the_other_entry():
    remote = replace(VALUES, url="https://a", headers={"X": "1"})
    assert config(FULL, remote) == {
        "servers": {"coord": {"url": "https://a", "headers": {"X": "1"}}}
    }


def test_an_inline_configuration_is_one_word_and_no_file():
    inline = load_definition(TEXT.replace('style = "file"', 'style = "inline"'))
    found = render_words(inline, VALUES)
    assert "--mcp-config" not in found
    (word,) = [word for word in found if word.startswith("--config=")]
    assert word.startswith('--config={"servers":{"coord":{"type":"local"')
    assert config_files(inline, VALUES) == {}


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return make_program(tmp_path / "bin" / "full-cli")


def make_program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_command_begins_with_the_absolute_program(program: Path):
    rendered = render(FULL, VALUES, {"PATH": str(program.parent)})
    assert rendered.argv[0] == str(program)
    assert rendered.stdin == "prompt"
    assert rendered.env == {"FULL_HOME": "/run_1/files/home"}


def test_a_missing_program_is_named_with_what_to_do(tmp_path: Path):
    with pytest.raises(SpawnError, match="full: the program 'full-cli' was not found") as caught:
        render(FULL, VALUES, {"PATH": str(tmp_path)})
    assert "ai_providers.full.cli_command" in caught.value.hint


def test_the_shown_command_holds_neither_prompt_nor_secret(program: Path):
    text = TEXT.replace("args = [\n", 'prompt = "argument"\nargs = [\n  ["--", "{prompt}"],\n')
    values = replace(VALUES, prompt="a long story", extra_args=("--key=opensesame",))
    rendered = render(
        load_definition(text), values, {"PATH": str(program.parent)}, masker=Masker(["opensesame"])
    )
    assert rendered.stdin == "null"
    assert "a long story" in rendered.argv
    assert "<prompt>" in rendered.argv_masked
    assert "--key=[masked]" in rendered.argv_masked
    assert not any("a long story" in word or "opensesame" in word for word in rendered.argv_masked)


@pytest.mark.parametrize(
    ("extra", "told"),
    [("a\0b", "holds a NUL"), ("x" * 131_072, "has 131072 bytes, at most 131071")],
)
def test_what_no_process_can_be_given_is_refused(program: Path, extra: str, told: str):
    with pytest.raises(ProviderError, match=told):
        render(FULL, replace(VALUES, extra_args=(extra,)), {"PATH": str(program.parent)})


def test_a_program_in_the_workspace_is_never_started(tmp_path: Path, program: Path):
    planted = make_program(tmp_path / "work" / "full-cli")
    link = tmp_path / "links"
    link.symlink_to(planted.parent)
    work = planted.parent
    for folder in (str(work), str(work / "sub" / ".."), str(link)):
        assert resolve(FULL, folder, work) is None
        assert resolve(FULL, f"{folder}:{program.parent}", work) == program
    inside = replace(FULL, detect=replace(FULL.detect, executable=str(planted)))
    assert resolve(inside, "", work) is None


def test_what_a_relative_path_would_find_is_never_started(
    tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(program.parent)
    for path in (".", "", "./", ":", "bin"):
        assert resolve(FULL, path, tmp_path / "work") is None


def test_a_folder_or_a_file_that_cannot_run_is_no_program(tmp_path: Path, program: Path):
    program.chmod(0o644)
    (tmp_path / "other" / "full-cli").mkdir(parents=True)
    path = f"{program.parent}:{tmp_path / 'other'}"
    assert resolve(FULL, path, tmp_path / "work") is None


def test_a_path_keeps_only_absolute_folders_outside_the_workspace():
    path = os.pathsep.join(["/usr/bin", ".", "", "/a/work/bin", "bin", "/a/workshop"])
    assert safe_path(path, Path("/a/work")) == f"/usr/bin{os.pathsep}/a/workshop"
