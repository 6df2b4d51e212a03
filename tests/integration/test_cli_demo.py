"""`demo` for real: what it shows, what it leaves, and that an interrupt leaves nothing running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

#: The demo takes about three seconds on an idle machine.
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
    for process in psutil.process_iter(["cmdline"]):
        words: list[str] = process.info["cmdline"] or []
        if any(str(home) in word for word in words):
            found.append(" ".join(words))
    return found


def test_the_demo_does_its_task_and_leaves_nothing(home: Path) -> None:
    done = demo(home)
    assert done.returncode == 0, done.stderr
    assert "Give the discount on the whole order: succeeded" in done.stdout
    assert "verified" in done.stdout
    assert str(home) not in done.stdout + done.stderr
    assert files(home) == []
    assert processes(home) == []


def test_the_demo_as_json_names_what_it_kept(home: Path) -> None:
    done = demo(home, "--json", "--state", "kept")
    assert (done.returncode, done.stderr) == (0, "")
    told: dict[str, Any] = json.loads(done.stdout)
    [task] = told["tasks"]
    assert list(task) == [
        "id", "title", "status", "agent", "provider", "attempts", "exit_code", "branch", "commit",
        "log_path", "seconds",
    ]  # fmt: skip
    assert (task["status"], task["agent"], task["provider"]) == ("succeeded", "robin", "rehearsal")
    assert (task["attempts"], task["exit_code"]) == (1, 0)
    assert 0 < task["seconds"] < told["seconds"]
    assert Path(task["log_path"]).read_text("utf-8")
    shown = subprocess.run(
        ["git", "-C", str(home / "kept/shop"), "show", "--stat", "--format=%H", task["branch"]],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    ).stdout
    assert shown.splitlines()[0] == task["commit"]
    assert "prices.py" in shown
    assert not (home / ".local/state/aiagent-coordinator").exists() or files(home / ".local") == []


def test_a_demo_that_is_not_kept_names_no_path_in_its_json(home: Path) -> None:
    done = demo(home, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tasks"][0]["log_path"] is None
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
