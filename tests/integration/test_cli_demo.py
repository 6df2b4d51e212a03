"""`demo` for real: what it shows, what it leaves, and that an interrupt leaves nothing running."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

#: The demo takes about fifteen seconds on an idle machine.
PATIENCE = 100.0


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Children of a shell's background job ignore SIGINT, and so would what is started here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def home(short_dir: Path) -> Path:
    return short_dir.resolve()


def environment(home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "AIAGENT_COORDINATOR_STATE_DIR": "/nowhere/of/mine",
    }


def argv(*words: str) -> list[str]:
    return [sys.executable, "-m", "aiagent_coordinator", "demo", *words]


def demo(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv(*words),
        capture_output=True,
        text=True,
        env=environment(home),
        cwd=home,
        timeout=PATIENCE,
        check=False,
    )


def files(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir())


def processes(home: Path) -> list[str]:
    """Command lines that name the folder: whatever the demo started does."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if any(os.fsencode(home) in word for word in words):
            found.append(os.fsdecode(b" ".join(words)))
    return found


def test_the_demo_does_its_tasks_and_leaves_nothing(home: Path) -> None:
    done = demo(home)
    assert done.returncode == 0, done.stderr
    heading, *rows = done.stdout.splitlines()
    assert heading.split() == [
        "task", "status", "agent", "attempts", "duration", "branch", "commit", "verification",
    ]  # fmt: skip
    assert all("succeeded" in row and "verified" in row for row in rows[:6])
    assert "waiting for an answer" in done.stderr
    assert "queued for attempt 2" in done.stderr
    assert str(home) not in done.stdout + done.stderr
    assert files(home) == []
    assert processes(home) == []


def test_the_demo_as_json_names_what_it_kept(home: Path) -> None:
    done = demo(home, "--json", "--state", "kept")
    assert (done.returncode, done.stderr) == (0, "")
    told: dict[str, Any] = json.loads(done.stdout)
    tasks: list[dict[str, Any]] = told["tasks"]
    assert list(tasks[0]) == [
        "id", "title", "status", "agent", "provider", "attempts", "exit_code", "branch", "commit",
        "log_path", "seconds",
    ]  # fmt: skip
    assert len(tasks) == 6
    assert {task["status"] for task in tasks} == {"succeeded"}
    assert {task["agent"] for task in tasks} == {"robin", "kim", "maya"}
    assert sorted(task["attempts"] for task in tasks) == [1, 1, 1, 1, 1, 2]
    assert max(task["seconds"] for task in tasks) < told["seconds"]
    for task in tasks:
        assert Path(task["log_path"]).read_text("utf-8")
        place = home / "kept" / task["branch"].split("/")[1]
        found = git(place, "rev-parse", task["branch"])
        assert found == task["commit"]
    logs = {task["title"]: Path(task["log_path"]).read_text("utf-8") for task in tasks}
    asked = [title for title, log in logs.items() if "answer: " in log]
    assert len(asked) == 2, "both questions were answered, one of them in a second run"
    events = states(home / "kept/state/store.db")
    assert [one for one in events if one == ("suspended", "asked")] == [("suspended", "asked")]
    assert ("verify_failed", "verify_failed") in events
    config = (home / "kept/coordinator.yaml").read_text("utf-8")
    for line in ("  hold_seconds: 5", "  backoff_seconds: [1]", "polling_interval: 1s"):
        assert f"\n{line}\n" in config
    assert not (home / ".local/state/aiagent-coordinator").exists() or files(home / ".local") == []


def git(place: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(place), *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    ).stdout.strip()


def states(store: Path) -> list[tuple[str, str | None]]:
    """Outcome and reason of every run."""
    with closing(sqlite3.connect(store)) as conn:
        return list(conn.execute("SELECT outcome, reason FROM run"))


def test_a_demo_that_is_not_kept_names_no_path_in_its_json(home: Path) -> None:
    done = demo(home, "--json")
    assert done.returncode == 0, done.stderr
    assert {task["log_path"] for task in json.loads(done.stdout)["tasks"]} == {None}
    assert str(home) not in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_and_no_folder(
    home: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        argv(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(home),
        cwd=home,
    )  # fmt: skip
    assert process.stderr is not None
    deadline = time.monotonic() + PATIENCE
    seen: list[str] = []
    while not any("on the board" in line for line in seen):
        assert time.monotonic() < deadline
        seen.append(process.stderr.readline())
        assert seen[-1], seen
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "")
    assert err.endswith("error: interrupted\n")
    assert processes(home) == []
    assert files(home) == []


def test_a_demo_that_is_killed_leaves_no_process(home: Path) -> None:
    process = subprocess.Popen(
        argv(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment(home),
        cwd=home,
    )  # fmt: skip
    assert process.stderr is not None
    while "on the board" not in process.stderr.readline():
        assert process.poll() is None
    process.kill()
    process.communicate(timeout=PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while found := processes(home):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


@pytest.mark.parametrize("columns", [40, 100])
def test_the_live_board_shows_the_status_however_narrow_the_terminal_is(
    home: Path, columns: int
) -> None:
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    process = subprocess.Popen(
        argv(),
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        env={**environment(home), "TERM": "xterm"},
        cwd=home,
    )
    os.close(terminal)
    shown = b""
    try:
        while part := os.read(controller, 65536):
            shown += part
    except OSError:  # Linux says EIO at the end
        pass
    os.close(controller)
    assert process.wait(PATIENCE) == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode("utf-8")).replace("\r", "")
    live, _, closing_table = plain.partition("Stopped server and loop.")
    rows = [line.rstrip() for line in live.splitlines() if line.startswith("Say under")]
    assert {len(row) <= columns for row in rows} == {True}
    for status in ("waiting", "succeeded"):
        assert any(status in row.split() for row in rows), status
    # the closing table folds no status either
    assert len(re.findall(r"\bsucceeded\b", closing_table)) == 6
