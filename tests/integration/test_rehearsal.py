"""The rehearsal agent as a program: it does what the coordinator and its script say, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator import rehearsal

PROGRAM = (sys.executable, "-I", "-m", "aiagent_coordinator.rehearsal")
BOARD = Path(__file__).parent.parent / "fakes" / "stdio_board.py"
#: A bound, not a measure: each of these runs takes a fraction of a second.
BOUND_SECONDS = 60


@dataclass
class Rehearsal:
    status: int
    out: str
    err: str
    calls: list[Any]

    @property
    def tools(self) -> list[str]:
        return [name for name, _ in self.calls]


Run = Callable[..., Rehearsal]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    subprocess.run(["git", "init", "-q", str(work)], check=True)
    return work


@pytest.fixture
def rehearse(tmp_path: Path, folder: Path) -> Run:
    def run(script: object, *board: str, prompt: str = "") -> Rehearsal:
        calls = tmp_path / "calls"
        calls.write_text("")
        config = tmp_path / "mcp.json"
        entry = {"command": sys.executable, "args": [str(BOARD), str(calls), *board]}
        config.write_text(json.dumps({"mcpServers": {"coord": entry}}))
        block = f"```rehearsal\n{json.dumps(script)}\n```\n" if script is not None else ""
        done = subprocess.run(
            [*PROGRAM, "--mcp-config", str(config)],
            input=f"# Task\n\nDo it {{or not}}.\n\n{block}{prompt}",
            capture_output=True,
            text=True,
            cwd=folder,
            timeout=BOUND_SECONDS,
            check=False,
        )
        heard = [json.loads(line) for line in calls.read_text().splitlines()]
        return Rehearsal(done.returncode, done.stdout, done.stderr, heard)

    return run


WHOLE_STORY = [
    *("authenticate", "get_next_action", "get_my_task", "get_next_action"),
    *("report_completed", "get_next_action", "logout"),
]


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_without_a_script_it_does_a_small_task_and_reports_success(rehearse: Run, folder: Path):
    done = rehearse(None)
    assert (done.status, done.err) == (0, "")
    assert done.tools == WHOLE_STORY
    assert done.calls[4] == ["report_completed", {"result": "success", "summary": "Rehearsed."}]
    assert git(folder, "log", "--format=%s") == "Rehearse"
    assert git(folder, "status", "--porcelain") == ""


def test_it_does_the_steps_of_its_script_in_order(rehearse: Run, folder: Path):
    done = rehearse(
        {
            "steps": [
                {"do": "say", "text": "hello"},
                {"do": "write", "path": "deep/a.txt", "text": "one\n"},
                {"append": {"path": "deep/a.txt", "content": "two\n"}},
                {"do": "progress", "percent": 40, "message": "half"},
                {"commit": "Add it"},
                {"commit": "Nothing new"},
                {"run": ["git", "tag", "done"]},
                {"sleep": 0},
                {"do": "report", "result": "failed", "summary": "on purpose"},
            ]
        }
    )
    assert done.status == 0, done.err
    assert (folder / "deep/a.txt").read_text() == "one\ntwo\n"
    assert git(folder, "log", "--format=%s") == "Add it"
    assert git(folder, "tag") == "done"
    assert ["report_progress", {"progress": 40, "message": "half"}] in done.calls
    assert done.calls[-3] == ["report_completed", {"result": "failed", "summary": "on purpose"}]
    said = done.out.splitlines()
    assert said[:3] == ["* say hello", "hello", "* write deep/a.txt"]
    assert "nothing to commit" in said
    assert said[-1] == "done"


def test_each_attempt_has_its_own_steps_and_the_last_ones_stay(rehearse: Run):
    script = {"attempts": [{"steps": [{"say": "first"}]}, {"steps": [{"say": "later"}]}]}
    assert "first" in rehearse(script).out
    assert "later" in rehearse(script, "attempt=2").out
    assert "later" in rehearse(script, "attempt=7").out


def test_an_agent_that_cannot_ask_takes_the_attempt_from_its_prompt(rehearse: Run):
    script = {
        "attempts": [{"steps": [{"no_mcp": True}]}, {"steps": [{"say": "2"}, {"no_mcp": True}]}]
    }
    done = rehearse(script, prompt="\nAttempt: 2 of 3\n")
    assert done.out.splitlines()[:2] == ["* say 2", "2"]
    assert done.calls == []


def test_it_can_begin_without_authenticating(rehearse: Run):
    done = rehearse({"steps": [{"no_auth": True}, {"say": "silent"}]})
    assert (done.status, done.calls) == (0, [])
    assert "silent" in done.out


def test_it_chatters_with_the_coordinator_while_it_works(rehearse: Run):
    done = rehearse({"steps": [{"chatter": {"calls": 6}}]})
    assert done.status == 0
    numbers = [part["message"] for name, part in done.calls if name == "report_progress"]
    assert numbers == ["call 0", "call 2", "call 4"]
    assert done.tools.count("get_next_action") == 3 + 3


@pytest.mark.parametrize(
    "tool", ["authenticate", "get_next_action", "report_progress", "report_completed", "logout"]
)
@pytest.mark.parametrize("how", ["fail", "die"])
def test_a_failed_call_ends_it_with_97_and_a_word_why(rehearse: Run, how: str, tool: str):
    done = rehearse({"steps": [{"progress": 10}]}, f"{how}={tool}")
    assert done.status == 97
    (line,) = [line for line in done.err.splitlines() if line.startswith("rehearsal: ")]
    assert line.startswith("rehearsal: call failed: ")


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([{"do": "wrte", "path": "a"}], "step 1: unknown step 'wrte'"),
        ([{"say": "a"}, {"do": "write", "path": "a"}], "step 2 (write): missing a required"),
        ([{"do": "say", "text": "a", "loud": 1}], "step 1 (say): got an unexpected"),
        ("say", "step 1: unknown step ''"),
        (3, "the rehearsal block is no script"),
    ],
)
def test_a_wrong_script_is_told_before_anything_is_done(rehearse: Run, steps: object, told: str):
    done = rehearse({"steps": steps})
    assert done.status == 2
    assert told in done.err
    assert done.calls == []


@pytest.mark.parametrize(
    ("step", "status"),
    [
        ({"exit": 3}, 3),
        ({"crash": True}, 1),
        ({"kill_self": {"signal": 9}}, -signal.SIGKILL),
        ({"kill-self": 15}, -signal.SIGTERM),
    ],
)
def test_it_ends_as_badly_as_its_script_says(rehearse: Run, step: object, status: int):
    done = rehearse({"steps": [step]})
    assert done.status == status
    assert "report_completed" not in done.tools
    assert ("RuntimeError" in done.err) == (status == 1)


def test_it_prints_as_much_as_it_is_told(rehearse: Run):
    done = rehearse({"steps": [{"print": 2}, {"do": "long_line", "megabytes": 1}]})
    assert 2_900_000 < len(done.out) < 3_100_000
    assert max(map(len, done.out.splitlines())) == 1_000_000


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
@pytest.mark.parametrize("shape", ["child", "group", "session", "daemon", "stubborn"])
def test_it_leaves_a_child_of_the_named_shape_behind(folder: Path, tmp_path: Path, shape: str):
    script = {"steps": [{"no_mcp": True}, {"spawn_child": {"seconds": 30, "shape": shape}}]}
    out = tmp_path / "out"
    with out.open("wb") as sink:
        done = subprocess.run(
            PROGRAM,
            input=f"```rehearsal\n{json.dumps(script)}\n```\n".encode(),
            stdout=sink,
            env={**os.environ, "REHEARSAL_TEST": str(tmp_path)},
            cwd=folder,
            timeout=BOUND_SECONDS,
            check=False,
        )
    assert done.returncode == 0
    left = processes_with(f"REHEARSAL_TEST={tmp_path}")
    assert len(left) == 1
    pid = left[0]
    is_leader = os.getsid(pid) == pid
    assert is_leader == (shape in {"session", "daemon", "stubborn"})
    assert (os.getpgid(pid) == pid) == (shape != "child")
    os.kill(pid, signal.SIGKILL)


def test_it_survives_term_when_it_is_to_ignore_it(rehearse: Run):
    kill = ["sh", "-c", "kill -TERM $PPID"]
    done = rehearse({"steps": [{"ignore_term": True}, {"run": kill}, {"say": "still here"}]})
    assert done.status == 0
    assert "still here" in done.out


def test_it_imports_nothing_from_where_it_works(rehearse: Run, folder: Path):
    (folder / "json.py").write_text("raise SystemExit('imported from the workspace')")
    (folder / "aiagent_coordinator.py").write_text("raise SystemExit('the same')")
    assert rehearse({"steps": []}).status == 0


def test_a_call_without_an_answer_has_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    board = [str(BOARD), str(tmp_path / "calls"), "hang=authenticate"]
    server = rehearsal.Server({"command": sys.executable, "args": board})
    server.open()
    monkeypatch.setattr(rehearsal, "CALL_SECONDS", 0.2)
    with pytest.raises(rehearsal.CallFailedError, match="tools/call: no answer"):
        server.call("authenticate")
    server.close()


def processes_with(variable: str) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if variable.encode() in variables:
            found.append(int(entry.name))
    return found
