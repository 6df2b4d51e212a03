"""Configuration files: what they may say, and how every mistake is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.config import Loaded, find_config, load_settings
from aiagent_coordinator.config.source import parse_source
from aiagent_coordinator.config.values import (
    MAX_SECONDS,
    BadValueError,
    expand,
    parse_argv,
    parse_duration,
    parse_size,
)
from aiagent_coordinator.config.words import Value, plain
from aiagent_coordinator.errors import ConfigError


def write(folder: Path, content: str) -> Path:
    file = folder / "coordinator.yaml"
    file.write_text(content, "utf-8")
    return file


def load(
    folder: Path,
    content: str,
    *,
    environment: dict[str, str] | None = None,
    overrides: dict[str, str] | None = None,
    known_providers: set[str] | None = None,
) -> Loaded:
    return load_settings(
        write(folder, content),
        environment=environment or {},
        overrides=overrides,
        known_providers=known_providers,
    )


def problems(folder: Path, content: str, **given: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, content, **given)
    assert caught.value.exit_code == 3
    lines: list[str] = caught.value.details.get("problems", [caught.value.message])  # pyright: ignore[reportAssignmentType] - lines
    assert lines[0] == caught.value.message
    return [line.replace(f"{folder}/coordinator.yaml", "F") for line in lines]


FULL = """\
polling_interval: 500ms
max_concurrent: 4
max_finishing: 1
stop_grace_seconds: 0
silence_timeout: 1h
state_dir: state
socket: ~/s.sock
log_directory: ~/logs
coordinator_token: ${TOKEN}
run_timeout: 2h
timezone: Asia/Tokyo
i_understand_unsandboxed: true
ask: {hold_seconds: 5, max_per_task: 2, timeout: 3d}
retry: {max_attempts: 2, backoff_seconds: [1, 2m]}
agents:
  robin: {provider: rehearsal, model: "4.5", role: "be $kind, ${not_expanded}", max_concurrent: 2, approval: bypass, passkey: "${TOKEN}"}
projects:
  - id: shop
    path: ../shop
    base_ref: main
    agents: [robin]
    checks: [make test, [sh, -c, 'echo "$HOME"']]
    workspace: directory
    max_concurrent: 1
    allow_dirty: true
  - {id: fresh, workspace: scratch}
ai_providers:
  mine: {cli_command: bin/x, cli_args: ["--home", "${HOME_OF_X}/y", "$${Z}"], like: command}
  other: {cli_command: x}
"""


def test_every_setting_is_read(tmp_path: Path) -> None:
    environment = {"TOKEN": "secret-token", "HOME_OF_X": "/x"}
    loaded = load(tmp_path, FULL, environment=environment)
    settings = loaded.settings
    assert settings.polling_interval == 0.5
    assert settings.stop_grace_seconds == 0
    assert settings.silence_timeout == 3600
    assert settings.coordinator_token is not None
    assert settings.coordinator_token.get_secret_value() == "secret-token"
    assert settings.retry.policy().backoff_seconds == (1.0, 120.0)
    assert (settings.ask.hold_seconds, settings.ask.max_per_task) == (5, 2)
    assert (settings.ask.timeout, settings.run_timeout) == (3 * 86400, 7200)
    assert settings.log_directory == Path.home() / "logs"
    assert settings.timezone == "Asia/Tokyo"
    passkey = settings.agents["robin"].passkey
    assert passkey is not None
    assert passkey.get_secret_value() == "secret-token"
    assert settings.agents["robin"].agent("robin").approval == "bypass"
    assert settings.projects[1].project().path == ""
    assert settings.agents["robin"].agent("robin").role == "be $kind, ${not_expanded}"
    project = settings.projects[0].project()
    assert Path(project.path) == tmp_path.parent / "shop"
    assert [check.argv for check in project.checks] == [
        ("make", "test"),
        ("sh", "-c", 'echo "$HOME"'),
    ]
    assert settings.ai_providers["mine"].cli_command == str(tmp_path / "bin/x")
    assert settings.ai_providers["mine"].cli_args == ("--home", "/x/y", "${Z}")
    assert settings.ai_providers["other"].cli_command == "x"
    assert loaded.state_dir.root == tmp_path / "state"
    assert loaded.socket == Path.home() / "s.sock"


def test_a_secret_is_not_in_the_representation(tmp_path: Path) -> None:
    loaded = load(tmp_path, FULL, environment={"TOKEN": "secret-token", "HOME_OF_X": "/x"})
    assert "secret-token" not in repr(loaded)


def test_no_file_and_an_empty_one_give_the_defaults(tmp_path: Path) -> None:
    settings = load_settings(None, environment={}).settings
    assert load(tmp_path, "# nothing\n").settings == settings
    assert (settings.polling_interval, settings.max_concurrent) == (10.0, 3)
    assert settings.retry.backoff_seconds == (30.0, 120.0, 600.0)


def test_a_project_without_agents_has_all_of_them(tmp_path: Path) -> None:
    content = "agents: {a: {provider: x}, b: {provider: x}}\nprojects: [{id: p, path: .}]\n"
    settings = load(tmp_path, content).settings
    assert settings.agents_of(settings.projects[0]) == ("a", "b")


def test_flag_wins_over_environment_over_file_and_each_origin_is_known(tmp_path: Path) -> None:
    content = "max_concurrent: 4\nmax_finishing: 4\npolling_interval: 4\n"
    loaded = load(
        tmp_path,
        content,
        environment={
            "AIAGENT_COORDINATOR_MAX_CONCURRENT": "5",
            "AIAGENT_COORDINATOR_MAX_FINISHING": "5",
        },
        overrides={"max_concurrent": "6"},
    )
    settings = loaded.settings
    assert (settings.max_concurrent, settings.max_finishing) == (6, 5)
    assert settings.polling_interval == 4
    assert loaded.origins == {
        "max_concurrent": "flag",
        "max_finishing": "AIAGENT_COORDINATOR_MAX_FINISHING",
        "polling_interval": f"{tmp_path}/coordinator.yaml:3",
    }


def test_a_path_given_as_flag_starts_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    loaded = load(tmp_path, "state_dir: a\n", overrides={"state_dir": "b"})
    assert loaded.settings.state_dir == elsewhere / "b"


def test_a_mistake_in_a_flag_names_the_flag(tmp_path: Path) -> None:
    found = problems(tmp_path, "max_concurrent: 4\n", overrides={"max_concurrent": "many"})
    assert found == [
        "F: max_concurrent: expected a whole number, got the text 'many' (set by flag)"
    ]


#: What somebody writes → the line that tells it.
MISTAKES = {
    "ask: {hold_second: 5}": "F:1: ask.hold_second: unknown setting (did you mean hold_seconds?)",
    "ask: {hold_seconds: 5 minutes}": "F:1: ask.hold_seconds: unknown unit 'minutes' in '5 minutes'; use ms, s, m, h or d",
    "ask: {timeout: 0}": "F:1: ask.timeout: must be longer than 0",
    "run_timeout: 0": "F:1: run_timeout: must be longer than 0",
    "timezone: Tokyo": "F:1: timezone: there is no time zone 'Tokyo'; names look like UTC or Asia/Tokyo",
    "timezone: ../../etc/passwd": "F:1: timezone: there is no time zone '../../etc/passwd'; names look like UTC or Asia/Tokyo",
    "timezone: 9": "F:1: timezone: expected a name like Asia/Tokyo, got the number 9",
    "agents:\n  a:\n    provider: x\n    approval: bypass": "F:4: agents.a.approval: bypass lets its program run anything as you, outside any sandbox; set sandbox, or i_understand_unsandboxed: true if you accept that",
    "agents: {a: {provider: x, approval: never}}": "F:1: agents.a.approval: expected 'ask', 'edits' or 'bypass', got the text 'never'",
    "agents: {a: {provider: x, passkey: 12345678}}": "F:1: agents.a.passkey: must be text in quotes, and not empty",
    "projects: [{id: p, path: ., workspace: scratch}]": "F:1: projects[0].path: has no meaning with workspace: scratch; remove one",
    "polling_intervall: 1": "F:1: polling_intervall: unknown setting (did you mean polling_interval?)",
    "zzz: 1": "F:1: zzz: unknown setting",
    "agents:\n  a:\n    provider: x\n    modell: z": "F:4: agents.a.modell: unknown setting (did you mean model?)",
    "retry: {max_attempt: 1}": "F:1: retry.max_attempt: unknown setting (did you mean max_attempts?)",
    "max_concurrent: two": "F:1: max_concurrent: expected a whole number, got the text 'two'",
    "max_concurrent: 2.5": "F:1: max_concurrent: expected a whole number, got the number 2.5",
    "max_concurrent: true": "F:1: max_concurrent: expected a whole number, got true",
    "max_concurrent: 0": "F:1: max_concurrent: must be at least 1, got 0",
    "max_concurrent:": "F:1: max_concurrent: expected a whole number, got nothing",
    "\npolling_interval: 10x": "F:2: polling_interval: unknown unit 'x' in '10x'; use ms, s, m, h or d",
    "polling_interval: soon": "F:1: polling_interval: expected a duration like 10s, 5m or 500ms, got 'soon'",
    "polling_interval: 0": "F:1: polling_interval: must be longer than 0",
    "polling_interval: -1": "F:1: polling_interval: must lie between 0 and ten years, got -1",
    "agents: {a: {provider: 4.5}}": 'F:1: agents.a.provider: expected text, got the number 4.5; write "4.5" in quotes',
    "agents: {a: {provider: true}}": "F:1: agents.a.provider: expected text, got true; put it in quotes if the word is meant",
    "agents: {a: {}}": "F:1: agents.a.provider: is required",
    "agents: [a]": "F:1: agents: expected a mapping of `key: value` lines, got a list",
    "agents: {A b: {provider: x}}": "F:1: agents.A b: is no id: lower-case letters, digits, `.`, `_`, `-`, the first a letter or digit, at most 63",
    "agents: {../x: {provider: x}}": "F:1: agents.../x: is no id: lower-case letters, digits, `.`, `_`, `-`, the first a letter or digit, at most 63",
    "projects: {id: p}": "F:1: projects: expected a list, got a mapping",
    "projects:\n- path: .": "F:2: projects[0].id: is required",
    "projects:\n- id: p": "F:2: projects[0].path: is required",
    "projects:\n- id: p\n  path: ''": "F:3: projects[0].path: expected a path, got nothing",
    "projects:\n- id: P\n  path: .": "F:2: projects[0].id: the text 'P' is no id: lower-case letters, digits, `.`, `_`, `-`, the first a letter or digit, at most 63",
    "projects: [{id: p, path: .}, {id: p, path: x}]": "F:1: projects[1].id: p is the id of two projects",
    "projects:\n- {id: p, path: .}\n- {id: q, path: ./x/..}": "F:3: projects[1].path: is also the path of project p; set shared_path: true on both if you mean it",
    "agents: {robin: {provider: x}}\nprojects:\n- id: p\n  path: .\n  agents:\n  - robin\n  - robim": "F:7: projects[0].agents[1]: there is no agent 'robim' (did you mean robin?)",
    "projects: [{id: p, path: ., workspace: clone}]": "F:1: projects[0].workspace: expected 'worktree', 'directory' or 'scratch', got the text 'clone'",
    "projects: [{id: p, path: ., checks: make}]": "F:1: projects[0].checks: expected a list, got the text 'make'",
    "projects: [{id: p, path: ., checks: [[]]}]": "F:1: projects[0].checks[0]: the command is empty",
    "projects: [{id: p, path: ., checks: [[a, 1]]}]": 'F:1: projects[0].checks[0]: every word of a command is text, got the number 1; write "1" in quotes',
    "projects: [{id: p, path: ., checks: [\"a 'b\"]}]": "F:1: projects[0].checks[0]: \"a 'b\" cannot be split into words: No closing quotation",
    "state_dir: ${NOT_SET}/x": "F:1: state_dir: the environment variable NOT_SET is not set",
    "state_dir: ${NOT SET}/x": "F:1: state_dir: ${NOT SET} names no variable; only the form ${NAME} is known",
    "state_dir: ~nobody-of-that-name/x": "F:1: state_dir: ~nobody-of-that-name names no home folder",
    "coordinator_token: ''": "F:1: coordinator_token: must be text in quotes, and not empty",
    "coordinator_token: 123456": "F:1: coordinator_token: must be text in quotes, and not empty",
}  # fmt: skip


@pytest.mark.parametrize("content", MISTAKES)
def test_a_mistake_is_told_with_file_line_and_key(tmp_path: Path, content: str) -> None:
    assert problems(tmp_path, content) == [MISTAKES[content]]


#: Words that YAML readers take for different things, where a word or number is meant.
TRAPS = [
    "on", "off", "yes", "No", "y", "1:30", "0777", "0x1F", "0o17", "1e3", "1_000", ".inf", ".NaN",
    "2026-01-01",
]  # fmt: skip


@pytest.mark.parametrize("word", TRAPS)
def test_a_word_that_yaml_versions_read_differently_is_refused(tmp_path: Path, word: str) -> None:
    content = f"agents:\n  a:\n    provider: {word}\n"
    [line] = problems(tmp_path, content)
    assert line.startswith(f"F:3: agents.a.provider: {word} is read differently")
    quoted = f'agents:\n  a:\n    provider: "{word}"\n'
    assert load(tmp_path, quoted).settings.agents["a"].provider == word


def test_a_trap_as_a_key_is_refused_too(tmp_path: Path) -> None:
    [line] = problems(tmp_path, "agents:\n  no: {provider: x}\n")
    assert line.startswith("F:2: agents: no is read differently")


#: What is no acceptable YAML → the line that tells it begins with this.
NOT_YAML = {
    "a: &x 1\nb: 2": "F:1: a: anchors (&name) are not allowed",
    "a: 1\nb: *x": "F:2: b: aliases (*name) are not allowed",
    "a: !!python/object/apply:os.system [id]": "F:1: a: tags (",
    "a: !x 1": "F:1: a: tags (!x) are not allowed",
    "max_concurrent: 1\nmax_concurrent: 2": "F:2: max_concurrent: is set twice, first in line 1",
    "retry:\n  max_attempts: 1\n  max_attempts: 2": "F:3: retry.max_attempts: is set twice, first in line 2",
    "? [a]\n: 1": "F:1: a key must be text",
    "? {a: 1}\n: {b: 2}": "F:1: a key must be text",
    "1: x": "F:1: 1: a key must be text; put it in quotes",
    "null: x": "F:1: None: a key must be text; put it in quotes",
    "retry:\n\tmax_attempts: 1": "F:2: is indented with a tab",
    "a: [1": "F:",
    "a: 'x": "F:",
    "a: b: c": "F:1: is not valid YAML",
    "--- {}\n--- {}": "F:2: holds a second document",
    "- a": "F:1: must hold settings",
    "just text": "F:1: must hold settings",
    "a: \x01": "F:1: has a character U+0001 that YAML forbids",
    "a: " + "[" * 70 + "]" * 70: "F:1: is nested deeper than 64 levels",
}


@pytest.mark.parametrize("content", NOT_YAML)
def test_what_is_no_acceptable_yaml_is_told_with_its_line(tmp_path: Path, content: str) -> None:
    assert problems(tmp_path, content)[0].startswith(NOT_YAML[content])


def test_a_bomb_of_aliases_never_grows(tmp_path: Path) -> None:
    levels = "\n".join(f"l{n}: &l{n} [{','.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10))
    found = problems(tmp_path, f"l0: &l0 [lol]\n{levels}\n")
    assert found[0] == "F:1: l0: anchors (&name) are not allowed; write the value out"
    assert len(found) == 91


def test_twenty_thousand_levels_are_refused_without_recursion(tmp_path: Path) -> None:
    [line] = problems(tmp_path, "a: " + "[" * 20_000 + "]" * 20_000)
    assert line == "F:1: is nested deeper than 64 levels"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a: " + b"x" * (1024 * 1024), "is larger than 1 MiB; this is no configuration"),
        (b"a: 1\n" * 20_000, "holds too many values; this is no configuration"),
    ],
)
def test_a_file_that_is_too_large_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "coordinator.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        load_settings(file, environment={})


def test_a_file_that_is_not_utf8_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "coordinator.yaml"
    file.write_bytes(b"# one\nstate_dir: caf\xe9\n")
    with pytest.raises(ConfigError, match=r":2: is not UTF-8"):
        load_settings(file, environment={})


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_settings(tmp_path, environment={})


def test_all_mistakes_of_a_file_are_told_in_the_order_of_its_lines(tmp_path: Path) -> None:
    content = "zzz: 1\nprojects: [{path: 1}]\nmax_concurrent: x\n"
    assert [line.split(":")[1] for line in problems(tmp_path, content)] == ["1", "2", "2", "3"]


def test_projects_may_share_a_path_when_both_say_so(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    shared = "projects:\n- {id: p, path: ., shared_path: true}\n- {id: q, path: link%s}\n"
    assert len(load(tmp_path, shared % ", shared_path: true").settings.projects) == 2
    assert "is also the path of project p" in problems(tmp_path, shared % "")[0]


def test_unknown_providers_are_told_where_the_known_ones_are_given(tmp_path: Path) -> None:
    content = (
        "agents: {a: {provider: rehersal}, b: {provider: mine}}\n"
        "ai_providers: {mine: {like: comand}}\n"
    )
    assert problems(tmp_path, content, known_providers={"rehearsal", "command"}) == [
        "F:1: agents.a.provider: there is no provider 'rehersal' (did you mean rehearsal?)",
        "F:2: ai_providers.mine.like: there is no provider 'comand' (did you mean command?)",
    ]


def test_a_socket_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    loaded = load(tmp_path, f"socket: /{'x' * 100}\n")
    with pytest.raises(ConfigError, match="101 bytes"):
        _ = loaded.socket


def test_the_file_is_found_by_flag_then_environment_then_here_then_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, home = tmp_path / "here", tmp_path / "home"
    here.mkdir()
    (home / "aiagent-coordinator").mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.delenv("AIAGENT_COORDINATOR_CONFIG", raising=False)
    assert find_config(None) is None
    at_home = write(home / "aiagent-coordinator", "")
    if os.uname().sysname == "Linux":
        assert find_config(None) == at_home
    beside = write(here, "")
    assert find_config(None) == beside
    other = tmp_path / "other.yaml"
    other.touch()
    monkeypatch.setenv("AIAGENT_COORDINATOR_CONFIG", str(other))
    assert find_config(None) == other
    assert find_config(beside) == beside


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        find_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        find_config(tmp_path)


def test_the_minimal_example_loads() -> None:
    example = Path(__file__).parents[2] / "examples/minimal/coordinator.yaml"
    settings = load_settings(example, environment={}).settings
    assert settings.projects[0].path == example.parent
    assert settings.projects[0].agents == tuple(settings.agents)


UNITS = {"ms": 0.001, "s": 1, "": 1, "m": 60, "h": 3600, "d": 86400}


@given(st.integers(0, 10**6), st.integers(0, 999), st.sampled_from(sorted(UNITS)))
def test_a_duration_is_its_number_times_its_unit(whole: int, part: int, unit: str) -> None:
    text = f"{whole}.{part:03}{unit}"
    wanted = float(f"{whole}.{part:03}") * UNITS[unit]
    if wanted > MAX_SECONDS:
        with pytest.raises(BadValueError):
            parse_duration(text)
    else:
        assert parse_duration(text) == pytest.approx(wanted)


@given(st.one_of(st.text(), st.floats(), st.integers(), st.none(), st.booleans(), st.lists(st.integers())))  # fmt: skip
def test_whatever_is_given_as_a_duration_is_seconds_or_refused(value: object) -> None:
    try:
        seconds = parse_duration(value)
    except BadValueError:
        return
    assert 0 <= seconds <= MAX_SECONDS
    assert not isinstance(value, bool)


@pytest.mark.parametrize(
    ("text", "size"), [("10MB", 10_000_000), ("1.5KiB", 1536), ("4096", 4096), (7, 7), ("2gb", 2 * 10**9)]
)  # fmt: skip
def test_a_size_is_its_number_times_its_unit(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("value", ["10 apples", "-1", "", None, True, 1.5, "MB"])
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(BadValueError):
        parse_size(value)


def test_expansion_is_one_pass_and_knows_one_form() -> None:
    environment = {"A": "${B}", "B": "b"}
    assert expand("${A} $A $(B) `B` $${A} {A}", environment) == "${B} $A $(B) `B` ${A} {A}"


@given(st.text())
def test_a_line_splits_into_words_without_a_shell_or_is_refused(line: str) -> None:
    try:
        argv = parse_argv(line)
    except BadValueError:
        return
    assert argv
    assert all("\0" not in word for word in argv)


@given(st.text())
def test_any_text_is_settings_or_one_clear_refusal(text: str) -> None:
    refusal = ""
    try:
        parse_source(text, "F")
    except ConfigError as error:
        refusal = error.message
    assert not refusal or refusal.startswith("F:")


@pytest.mark.parametrize(
    ("word", "value"),
    [("", None), ("~", None), ("true", True), ("False", False), ("0", 0), ("-12", -12), ("1.50", 1.5),
     (".5", 0.5), ("7.", 7.0), ("a", "a"), ("1.2.3", "1.2.3"), ("9" * 40, "9" * 40)],
)  # fmt: skip
def test_a_plain_word_has_the_value_that_every_yaml_gives_it(word: str, value: Value) -> None:
    assert plain(word) == value
    assert type(plain(word)) is type(value)
