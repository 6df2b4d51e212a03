"""What a CLI's environment holds: the allow-list, what its definition names, what the run is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.providers.catalog import load_catalog
from aiagent_coordinator.providers.environment import child_env
from aiagent_coordinator.providers.values import LaunchValues

COMMAND = load_catalog().get("command")
VALUES = LaunchValues(
    run_dir=Path("/state/run/run_1"),
    workspace=Path("/work"),
    socket="/s.sock",
    run_id="run_1",
    agent_id="robin",
    project_id="shop",
    task_id="tsk_1",
    temp_dir="/tmp/aac-1",
)
OF_THE_RUN = {
    "AIAGENT_SOCKET": "/s.sock",
    "AIAGENT_TOKEN_FILE": "/state/run/run_1/token",
    "AIAGENT_TASK_ID": "tsk_1",
    "AIAGENT_RUN_ID": "run_1",
    "AIAGENT_PROJECT_ID": "shop",
    "AIAGENT_AGENT_ID": "robin",
    "AIAGENT_WORKSPACE": "/work",
    "AIAGENT_ARTIFACTS_DIR": "/work/.aiagent/artifacts",
    "AGENT_ID": "robin",
    "PROJECT_ID": "shop",
    "WORKING_DIRECTORY": "/work",
    "TMPDIR": "/tmp/aac-1",
}
NEVER = [
    *("LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "NODE_OPTIONS", "PYTHONPATH"),
    *("PYTHONSTARTUP", "PYTHONHOME", "PERL5LIB", "PERL5OPT", "RUBYOPT", "RUBYLIB", "BASH_ENV"),
    *("ENV", "JAVA_TOOL_OPTIONS", "GIT_DIR", "GIT_SSH_COMMAND", "GIT_CONFIG_COUNT"),
    *("AIAGENT_COORDINATOR_TOKEN", "AIAGENT_OTHER", "BASH_FUNC_ls%%", "PROMPT_COMMAND"),
]


def asking(*names: str):
    return replace(COMMAND, launch=replace(COMMAND.launch, pass_env=names))


def test_of_a_crowded_environment_only_the_allowed_passes():
    passing = {
        "HOME": "/home/robin",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        "XDG_CONFIG_HOME": "/c",
        "HTTPS_PROXY": "http://proxy",
        "no_proxy": "localhost",
        "SSL_CERT_FILE": "/ca.pem",
    }
    staying = {
        "ANTHROPIC_API_KEY": "sk-1",
        "AWS_SECRET_ACCESS_KEY": "x",
        "SSH_AUTH_SOCK": "/agent",
        "XDG_RUNTIME_DIR": "/run/user/1",
        "TMPDIR": "/shared",
        **dict.fromkeys(NEVER, "evil"),
    }
    path = {"PATH": "/usr/bin:/bin"}
    assert child_env(passing | staying | path, COMMAND, VALUES) == passing | path | OF_THE_RUN


def test_a_definition_may_ask_for_more():
    env = child_env({"MY_KEY": "k", "OTHER": "o"}, asking("MY_KEY", "NOT_THERE"), VALUES)
    assert env["MY_KEY"] == "k"
    assert not {"OTHER", "NOT_THERE"} & env.keys()


@pytest.mark.parametrize("name", NEVER)
def test_what_makes_programs_run_code_never_passes_whoever_asks(name: str):
    assert name not in child_env({name: "evil"}, asking(name), VALUES)
    sets_it = replace(COMMAND, launch=replace(COMMAND.launch, env={name: "evil"}))
    assert name not in child_env({}, sets_it, VALUES)


def test_the_run_has_the_last_word_about_itself():
    sets_it = replace(COMMAND, launch=replace(COMMAND.launch, env={"AGENT_ID": "x", "QUIET": "1"}))
    env = child_env({"AGENT_ID": "y", "WORKING_DIRECTORY": "/"}, sets_it, VALUES)
    assert env == {**OF_THE_RUN, "QUIET": "1", "PATH": env["PATH"]}


def test_what_a_run_does_not_have_is_left_out():
    env = child_env({}, COMMAND, replace(VALUES, task_id="", temp_dir=""))
    assert not {"AIAGENT_TASK_ID", "TMPDIR"} & env.keys()


def test_the_path_leads_neither_into_the_workspace_nor_to_where_one_stands():
    env = child_env({"PATH": "/work/bin:.:/usr/bin::/bin"}, COMMAND, VALUES)
    assert env["PATH"] == "/usr/bin:/bin"


def test_without_a_path_there_is_the_systems_own():
    assert "/bin" in child_env({}, COMMAND, VALUES)["PATH"]


@given(st.dictionaries(st.text().map("SECRET".__add__), st.text()))
def test_no_unknown_variable_passes(parent: dict[str, str]):
    assert child_env(parent, COMMAND, VALUES) == child_env({}, COMMAND, VALUES)
