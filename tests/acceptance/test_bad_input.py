"""What people type wrong, and boards that are large: one clear line, quickly, and nothing breaks."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import tempfile
import termios
import unicodedata
from collections.abc import Generator
from pathlib import Path

import anyio
import pytest
from sqlalchemy import insert, select

from aiagent_coordinator.clock import SystemClock
from aiagent_coordinator.store import tables
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.engine import open_store
from aiagent_coordinator.store.sqlite_file import sqlite_url
from aiagent_coordinator.store.unit import Unit
from support.house import COORDINATOR, PATIENCE_SECONDS, House, house
from support.relay import relay

HOSTILE = "$(touch owned) `id` ; rm -rf / | & && > < * ? ' \" \\ ! # ~ {a,b} [x] %s"
META = ("$`;|&><*?'\"\\!#~{}[]()%" * 30)[:500]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Generator[House]:
    """One server for all of this; nothing is ever started by it."""
    with (
        tempfile.TemporaryDirectory(prefix="aac-") as name,
        house(Path(name)) as home,
    ):
        home.ready("serve")
        yield home


def add(home: House, title: str, *more: str) -> subprocess.CompletedProcess[str]:
    return home.run("task", "add", "--project", "app", "--title", title, *more, check=False)


@pytest.mark.parametrize("title", [HOSTILE, META, "日本語の題名 🦉", "-x", "--help", "x" * 500, "e\u0301"])  # fmt: skip
def test_any_title_of_one_line_is_kept_as_it_is(board: House, title: str):
    """No shell reads it; it is normalised and nothing else."""
    made = json.loads(add(board, title, "--json").stdout)
    assert made["title"] == unicodedata.normalize("NFC", title)
    assert board.json("task", "show", made["id"])["title"] == made["title"]
    assert not list(board.root.rglob("owned"))


@pytest.mark.parametrize("title", ["", " ", "two\nlines", "a\rb", "a\x1bb", "x" * 501, "a\u2028b"])
def test_a_title_that_is_none_is_refused_in_one_line(board: House, title: str):
    """Exit status 2, no traceback, and nothing of it stands on the board."""
    before = len(board.json("task", "list")["tasks"])
    done = add(board, title)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert len(lines) <= 2
    assert "\x1b" not in done.stderr
    assert len(board.json("task", "list")["tasks"]) == before


def test_an_id_may_be_its_beginning_and_ambiguity_lists_who_is_meant(board: House):
    """Of two ids that begin alike both are named, with status 6; one that is none is not found."""
    first, second = (json.loads(add(board, f"T{n}", "--json").stdout)["id"] for n in (1, 2))
    length = next(n for n, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)
    common = first[:length]
    done = board.run("task", "show", common, check=False)
    assert done.returncode == 6
    assert first in done.stderr
    assert second in done.stderr
    unique = first[: len(common) + 1]
    assert board.json("task", "show", unique)["id"] == first
    assert board.json("task", "show", unique.removeprefix("tsk_"))["id"] == first


def test_a_task_may_be_meant_by_its_title(board: House):
    """As it is written or as a slug; two of one title are both named, and half a title is nobody's."""
    fence = json.loads(add(board, "Mend the Fence!", "--json").stdout)["id"]
    for words in ("Mend the Fence!", "mend-the-fence"):
        assert board.json("task", "show", words)["id"] == fence
    assert board.json("explain", "mend-the-fence")["task"]["id"] == fence
    assert board.run("task", "show", "mend-the", check=False).returncode == 5
    roof = json.loads(add(board, "Roof", "--depends-on", "mend-the-fence", "--json").stdout)
    assert roof["depends_on"] == [fence]
    # one word that all ids begin with is still the title of one
    tsk = json.loads(add(board, "tsk", "--json").stdout)["id"]
    assert board.json("task", "show", "tsk")["id"] == tsk
    other = json.loads(add(board, "mend THE fence", "--json").stdout)["id"]
    done = board.run("task", "cancel", "mend-the-fence", check=False)
    assert done.returncode == 6
    assert fence in done.stderr
    assert other in done.stderr
    assert board.json("project", "show", "App")["id"] == "app"


@pytest.mark.parametrize("ident", ["", "tsk_zzz", "%", "_", "'; drop table task; --", "日本", "x" * 5000])  # fmt: skip
@pytest.mark.parametrize(
    "words",
    [("task", "show"), ("task", "cancel"), ("task", "retry"), ("run", "show"), ("logs",), ("explain",), ("project", "pause"), ("agent", "show")],
    ids=" ".join,
)  # fmt: skip
def test_an_id_that_nothing_has_is_not_found(board: House, words: tuple[str, ...], ident: str):
    """Exit status 5 and one line."""
    done = board.run(*words, ident, check=False)
    assert done.returncode == 5, done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) <= 2


def test_dependencies_that_cannot_be_are_refused(board: House):
    """One that is not there: 5. A circle: 6, with its path, and nothing changes."""
    done = add(board, "Needs", "--depends-on", "tsk_zzz")
    assert done.returncode == 5
    assert "tsk_zzz" in done.stderr
    first = json.loads(add(board, "First", "--json").stdout)["id"]
    second = json.loads(add(board, "Second", "--depends-on", first, "--json").stdout)["id"]
    done = board.run("task", "depend", first, "--on", second, check=False)
    assert done.returncode == 6, done.stderr
    assert first in done.stderr
    assert second in done.stderr
    assert board.json("task", "show", first)["depends_on"] == []
    assert board.json("task", "show", second)["status"] == "blocked"
    assert board.json("task", "depend", second, "--not-on", first)["status"] == "queued"
    assert board.run("task", "depend", second, check=False).returncode == 2


def test_an_answer_to_a_task_that_asked_nothing_is_told(board: House):
    """Also to a cancelled one."""
    task = json.loads(add(board, "Quiet", "--json").stdout)["id"]
    for words in ((), ("task", "cancel", task)):
        if words:
            board.run(*words)
        done = board.run("task", "answer", task, "yes", check=False)
        assert done.returncode == 5
        assert done.stderr == f"error: task {task} has asked nothing\n"


@pytest.mark.parametrize(
    "words",
    [("status",), ("task", "list"), ("run", "list"), ("project", "list"), ("agent", "list"), ("logs", "x"), ("explain", "x"), ("stop",)],
    ids=" ".join,
)  # fmt: skip
def test_without_a_server_and_with_a_dead_one_a_command_says_so(
    short_dir: Path, words: tuple[str, ...]
):
    """Status 4 and how to start one; the same after the server was killed."""
    with house(short_dir) as home:
        done = home.run(*words, check=False)
        assert done.returncode == 4
        if words != ("status",):
            return  # killing one once is enough
        process = home.ready("serve")
        process.kill()
        process.wait(PATIENCE_SECONDS)
        done = home.run(*words, check=False)
        assert done.returncode == 4
        assert "start it with: aiagent-coordinator --config" in done.stderr


BOARD_TASKS = 5000
LISTS = [("task", "list"), ("task", "list", "--json"), ("run", "list"), ("status",), ("project", "list"), ("agent", "list"), ("project", "show", "app")]  # fmt: skip


@pytest.fixture(scope="module")
def large() -> Generator[House]:
    """A board of 5,000 tasks, made before its server starts."""
    with (
        tempfile.TemporaryDirectory(prefix="aac-") as name,
        house(Path(name)) as home,
    ):
        process = home.ready("serve")
        home.run("stop")
        process.wait(PATIENCE_SECONDS)
        anyio.run(_fill, home)
        home.ready("serve")
        yield home


async def _fill(home: House) -> None:
    def unit(unit: Unit) -> None:
        new = task_store.NewTask("app", "Task", description="d" * 2000)
        made = task_store.create_task(unit, new, "test")
        row = unit.conn.execute(select(tables.task).where(tables.task.c.id == made.id)).mappings()
        pattern = dict(row.one())
        unit.conn.execute(
            insert(tables.task),
            [
                {**pattern, "id": f"tsk_{number:026}", "title": f"Task {number} 日本 {'x' * 80}"}
                for number in range(1, BOARD_TASKS)
            ],
        )

    async with open_store(sqlite_url(home.state / "store.db"), clock=SystemClock()) as store:
        await store.write(unit)


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_every_list_of_a_large_board_is_whole_and_quick(large: House, words: tuple[str, ...]):
    """Nothing is cut, and nobody waits: far below the patience of a person, on two busy cores."""
    done = large.run(*words)
    if words == ("task", "list", "--json"):
        assert len(json.loads(done.stdout)["tasks"]) == BOARD_TASKS
    if words == ("task", "list"):
        assert len(done.stdout.splitlines()) == BOARD_TASKS + 1


def test_the_newest_of_a_large_board_are_listed(large: House):
    """`--limit` keeps the newest."""
    tasks = large.json("task", "list", "--limit", "3")["tasks"]
    assert [task["title"].split()[1:2] for task in tasks] == [["4998"], ["4999"], []]


#: Command → the calls it makes, and how many bytes of answers it needs at most.
COSTS = [
    (("task", "list", "--json"), ["list_tasks"] * 5, BOARD_TASKS * 2000),
    (("task", "list", "--limit", "10"), ["list_tasks"], 20_000),
    (("task", "list", "--limit", "1001"), ["list_tasks"] * 2, 1001 * 2000),
    (("task", "list", "--status", "failed"), ["list_tasks"], 2000),
    (("run", "list", "--limit", "10"), ["list_runs"], 2000),
    (("project", "list"), ["list_projects"], 5000),
    (("project", "show", "app"), ["get_project"], 5000),
    (("agent", "list"), ["list_agents"], 5000),
    (("status",), ["get_status"], 5000),
]


@pytest.mark.parametrize(("words", "calls", "size_bytes"), COSTS)
def test_a_command_asks_a_large_board_for_no_more_than_it_shows(
    large: House, tmp_path: Path, words: tuple[str, ...], calls: list[str], size_bytes: int
):
    """Descriptions of 2000 characters stay where they are, and so does what is beyond the limit."""
    with tempfile.TemporaryDirectory(prefix="aac-") as short:
        # no pointer file is found from there: the socket of the environment counts
        env = {name: str(tmp_path) for name in large.env} | {
            "AIAGENT_COORDINATOR_SOCKET": f"{short}/r.sock",
            "AIAGENT_COORDINATOR_STATE_DIR": str(large.state),
        }
        with relay(Path(short) / "r.sock", large.socket) as seen:
            done = subprocess.run(
                [*COORDINATOR, *words],
                env={**os.environ, **env},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=PATIENCE_SECONDS,
                check=False,
            )
    assert done.returncode == 0, done.stderr
    assert seen.calls == calls
    assert seen.answer_bytes <= size_bytes


@pytest.mark.parametrize("columns", [40, 72, 120])
def test_a_large_list_fits_into_a_terminal(large: House, columns: int):
    """No line is wider than it, and every task is there, with an id that can be copied."""
    shown = _on_terminal(large, "task", "list", columns=columns)
    widths = [
        sum(2 if unicodedata.east_asian_width(mark) in "WF" else 1 for mark in line.rstrip())
        for line in shown.replace("\r", "").splitlines()
    ]
    assert max(widths) <= columns
    assert len(re.findall("tsk_[0-9a-z]{26}", shown)) == BOARD_TASKS


def test_a_reader_that_leaves_a_large_list_ends_it_quietly(large: House):
    """As `| head -1` does: status 0, no word."""
    process = subprocess.Popen(
        [*COORDINATOR, "task", "list", "--config", str(large.config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **large.env},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(PATIENCE_SECONDS) == 0


def _on_terminal(home: House, *words: str, columns: int) -> str:
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [*COORDINATOR, *words, "--config", str(home.config)],
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        env={**_without_size(), **home.env, "TERM": "xterm", "NO_COLOR": "1"},
    )
    os.close(terminal)
    shown = b""
    try:
        while part := os.read(controller, 65536):
            shown += part
    except OSError:  # Linux says EIO at the end
        pass
    os.close(controller)
    assert process.wait(PATIENCE_SECONDS) == 0
    # bold is what is left of a terminal's commands
    return re.sub(r"\x1b\[[01]m", "", shown.decode("utf-8"))


def _without_size() -> dict[str, str]:
    """The environment without what would be believed more than the terminal itself."""
    return {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
