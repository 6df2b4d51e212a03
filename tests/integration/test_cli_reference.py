"""What is generated is current, what is quick stays quick, what is said is in the catalogue."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import click
import pytest

import aiagent_coordinator
from aiagent_coordinator import messages
from aiagent_coordinator.cli.main import main
from support.house import House, house

SOURCE = Path(aiagent_coordinator.__file__).parent
REFERENCE = Path(__file__).parents[2] / "docs/reference"
PATIENCE = 60.0
HEAVY = ("pydantic", "anyio", "mcp", "sqlalchemy", "starlette", "rich", "yaml")
#: What every start of a quick command would pay for, and hardly one needs.
SLOW = (
    "logging", "subprocess", "shutil", "tempfile", "random", "difflib", "traceback", "unicodedata",
    "platformdirs", "secrets", "importlib.metadata",
)  # fmt: skip
#: What the help of everything takes of ours.
HELP = {
    "__main__", "characters", "cli", "cli.later", "cli.main", "cli.options", "cli.output", "errors",
    "messages",
}  # fmt: skip
#: What asking the server takes beyond that.
ASK = {
    "cli.connect", "config", "config.find", "paths", "wire", "wire.answers", "wire.client",
    "wire.framing", "wire.lockfile", "wire.protocol",
}  # fmt: skip


def python(
    *words: str, home: Path, more: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), **(more or {})}
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        env=environment,
        cwd=home,
        timeout=PATIENCE,
        check=False,
    )


def test_the_reference_pages_are_what_the_code_says(tmp_path: Path) -> None:
    done = python(str(REFERENCE / "generate.py"), "--check", home=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "words",
    [
        ("--help",), ("task", "add", "--help"), ("status",), ("stop",), ("task", "list"), ("run", "list"),
        ("task", "add", "--project", "p", "--title", "t"), ("demo", "--help"),
        ("logs", "x"), ("explain", "x"), ("project", "list"), ("agent", "list"), ("task", "answer", "x", "y"),
        ("init", "--help"), ("doctor", "--help"), ("config", "--help"),
    ],
)  # fmt: skip
def test_a_quick_command_imports_nothing_heavy(tmp_path: Path, words: tuple[str, ...]) -> None:
    code = (
        "import sys\n"
        "from aiagent_coordinator.__main__ import main\n"
        "main(sys.argv[1:])\n"
        f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = python("-c", code, *words, home=tmp_path)
    assert done.stderr.splitlines()[-1] == "heavy: []"


def loaded_by(
    words: tuple[str, ...], *, home: Path, program: str = "main", more: dict[str, str] | None = None
) -> tuple[set[str], set[str]]:
    """Modules of ours (their names without the package's) and of others after a command."""
    note = home / "loaded.txt"
    code = (
        "import sys\n"
        f"from aiagent_coordinator.__main__ import {program}\n"
        "note, *words = sys.argv[1:]\n"
        f"assert {program}(words) == 0\n"
        "open(note, 'w').write(' '.join(sys.modules))\n"
    )
    done = python("-c", code, str(note), *words, home=home, more=more)
    assert done.returncode == 0, done.stderr
    names = set(note.read_text("utf-8").split())
    ours = {name for name in names if name.startswith("aiagent_coordinator.")}
    return {name.removeprefix("aiagent_coordinator.") for name in ours}, names - ours


def test_the_help_of_everything_imports_no_command(tmp_path: Path) -> None:
    ours, others = loaded_by(("--help",), home=tmp_path)
    assert ours == HELP
    assert not others & {*SLOW, "json", "pathlib", "dataclasses", "socket", "hashlib"}


def test_the_agents_command_imports_no_other_one(tmp_path: Path) -> None:
    ours, others = loaded_by(("--help",), home=tmp_path, program="agent_main")
    assert ours == HELP | {"cli.task_commands"}
    assert not others & {*SLOW, "json", "pathlib", "dataclasses", "socket", "hashlib"}


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (("status",), {"cli.status"}),
        (("project", "list"), {"cli.project", "cli.columns"}),
        (("agent", "list"), {"cli.agent", "cli.columns"}),
        (("run", "list"), {"cli.run"}),
        (("task", "list"), {"cli.task", "cli.equipment", "tasks", "task_options"}),
    ],
)
def test_asking_the_server_imports_that_command_and_the_way_there(
    own: House, words: tuple[str, ...], more: set[str]
) -> None:
    told = (*words, "--config", str(own.config))
    ours, others = loaded_by(told, home=own.root, more=own.env)
    assert ours == HELP | ASK | more
    assert not others & {*SLOW}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Generator[House]:
    """A house whose server runs."""
    with house(tmp_path_factory.mktemp("h")) as home:
        home.ready()
        yield home


@pytest.mark.parametrize("program", ["main", "agent_main"])
def test_the_version_is_answered_before_anything_is_imported(tmp_path: Path, program: str) -> None:
    code = (
        "import sys\n"
        f"from aiagent_coordinator.__main__ import {program}\n"
        f"status = {program}(['--version'])\n"
        "ours = sorted(name for name in sys.modules if name.startswith(('aiagent', 'click')))\n"
        "print(status, *ours)\n"
    )
    version, loaded = python("-c", code, home=tmp_path).stdout.splitlines()
    assert version.endswith(f" {aiagent_coordinator.__version__}")
    assert loaded == "0 aiagent_coordinator aiagent_coordinator.__main__"


def test_the_version_is_answered_beside_other_options_too(tmp_path: Path) -> None:
    done = python("-m", "aiagent_coordinator", "--debug", "--version", home=tmp_path)
    assert done.stdout == f"aiagent-coordinator {aiagent_coordinator.__version__}\n"


def test_the_agents_command_says_what_it_is(tmp_path: Path) -> None:
    code = "import sys; from aiagent_coordinator.__main__ import agent_main; sys.exit(agent_main())"
    assert python("-c", code, "--help", home=tmp_path).returncode == 0
    done = python("-c", code, "start", home=tmp_path)
    assert done.returncode == 7
    for name in ("AIAGENT_SOCKET", "AIAGENT_TOKEN_FILE", "AIAGENT_TASK_ID", "AIAGENT_RUN_ID"):
        assert name in done.stderr
    assert "the coordinator sets them" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_every_sentence_shown_is_in_the_catalogue_and_every_one_there_is_shown() -> None:
    used: set[str] = set()
    patterns: list[str] = []
    for file in (SOURCE / "cli").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) != "text" or not node.args:
                continue
            parts = (
                [node.args[0].body, node.args[0].orelse]
                if isinstance(node.args[0], ast.IfExp)
                else [node.args[0]]
            )
            for part in parts:
                if isinstance(part, ast.Constant):
                    used.add(str(part.value))
                elif isinstance(part, ast.JoinedStr) and isinstance(part.values[0], ast.Constant):
                    patterns.append(str(part.values[0].value))
    known = messages.keys()
    assert used <= known
    begun = {key for key in known if key.startswith(tuple(patterns))}
    assert known == used | begun


def test_every_command_that_a_hint_names_exists() -> None:
    """A hint that names a command which is not there leaves a person with nothing."""
    named = [
        (file, span)
        for file in SOURCE.rglob("*.py")
        for hint in _hints(ast.parse(file.read_text("utf-8")))
        for span in re.findall(r"`([a-z][^`]*)`", hint)
        if not span.startswith("python ")
    ]
    assert named
    for file, span in named:
        words = span.removeprefix("aiagent-coordinator ").split()
        command: click.Command | None = main
        while words and isinstance(command, click.Group):
            command = command.commands.get(words.pop(0))
        assert command is not None, f"{file.name}: there is no command `{span}`"


def _hints(tree: ast.Module) -> list[str]:
    """What every call in a module gives as its hint; what is filled in later is `X`, a noun `project`."""
    given = [
        word.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for word in node.keywords
        if word.arg == "hint"
    ]
    return [_shown(value) for value in given]


def _shown(value: ast.expr) -> str:
    match value:
        case ast.Constant(str(text)):
            return text
        case ast.JoinedStr(parts):
            return "".join(_shown(part) for part in parts)
        case ast.FormattedValue(ast.Name("noun")):
            return "project"
        case _:
            return "X"
