"""Limits of a run: who is over one is ended by name or told of, and nobody else notices."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from support.house import be_ordinary, house, script, until

REPORT = {"report": {"result": "success", "summary": "done"}}
MIB = 1024 * 1024


#: They take what the machine has; beside others both sides would only wait.
pytestmark = pytest.mark.alone


def python(code: str, program: str = sys.executable) -> str:
    """A script that runs a program and then reports success."""
    return script({"run": {"argv": [program, "-I", "-S", "-c", code]}}, REPORT)


EATER = f"import time; kept = bytearray({256 * MIB}); time.sleep(600)"
SPINNER = "while True: pass"
FORKER = """
import os, time
for number in range(30):
    if os.fork() == 0:
        time.sleep(600)
time.sleep(600)
"""
#: Whoever of it is killed is replaced at once by those who are left.
BOMB = """
import os, time
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.01)
"""
#: Says nothing and waits for nothing.
WORKER = """
import time
end = time.monotonic() + 6
while time.monotonic() < end: pass
"""
SILENT = script({"sleep": {"seconds": 600}}, REPORT)
#: limits of an agent → what it does, and how its run ends.
CASES: dict[str, tuple[dict[str, Any], str, tuple[str, str | None]]] = {
    "eater": ({"memory": "128MiB"}, python(EATER), ("failed", "memory_limit")),
    "spinner": ({"cpu_percent": 4}, python(SPINNER), ("failed", "cpu_limit")),
    "forker": ({"processes": 12}, python(FORKER), ("failed", "process_limit")),
    "talker": (
        {"log_warn": "1MB", "log_max": "4MB"},
        script({"print": {"megabytes": 9}}, {"sleep": {"seconds": 600}}),
        ("failed", "log_limit"),
    ),
    "sleeper": ({"silence_timeout": "3s"}, SILENT, ("failed", "stalled")),
    "thinker": ({"silence_timeout": "3s"}, python(WORKER), ("succeeded", None)),
    "dozer": (
        {"silence_timeout": "3s", "silence_action": "warn"},
        script({"sleep": {"seconds": 7}}, REPORT),
        ("succeeded", None),
    ),
    "sprawler": (
        {"processes": 3, "processes_action": "warn"},
        python(
            "import os, time\nfor n in range(9): os.fork() or time.sleep(5) or os._exit(0)\ntime.sleep(5)"
        ),
        ("succeeded", None),
    ),
    "late": ({"run_timeout": "2s"}, SILENT, ("failed", "timed_out")),
    "modest": (
        {},
        script({"write": {"path": "a.txt", "text": "a\n"}}, REPORT),
        ("succeeded", None),
    ),
}


def test_a_run_over_a_limit_is_ended_by_name_and_the_others_are_not(short_dir: Path):
    """Memory, processor, processes, output, silence and time; a warning alone ends nobody."""
    with house(short_dir) as home:
        home.write(
            agents={
                name: {"provider": "rehearsal", "limits": limits}
                for name, (limits, _, _) in CASES.items()
            },
            projects=[{"id": "app", "path": str(home.repo), "limits": {"open_files": 256}}],
            max_concurrent=len(CASES),
            stop_grace_seconds=1,
            retry={"max_attempts": 2, "backoff_seconds": [0]},
        )
        home.ready()
        for name, (_, told, _) in CASES.items():
            tries = "2" if name == "late" else "1"
            home.add(name, told, agent=name, max_attempts=tries)
        tasks = {task["agent_id"]: task["id"] for task in home.ask("list_tasks")["tasks"]}
        ended = {name: home.last(tasks[name], 2 if name == "late" else 1) for name in CASES}
        for name, (_, _, expected) in CASES.items():
            run = ended[name]
            assert (run["outcome"], run["reason"]) == expected, (name, run)
        # what went over is told, what only came near too
        warned = {name: set(run["warnings"] or {}) for name, run in ended.items()}
        assert warned == {
            "eater": {"memory"},
            "spinner": {"cpu"},
            "forker": {"processes"},
            "talker": {"log_limit"},
            "sleeper": {"silence", "silent"},
            "thinker": set(),
            "dozer": {"silence", "silent"},
            "sprawler": {"processes"},
            "late": set(),
            "modest": set(),
        }
        actions = [event["action"] for event in events_of(home, ended["dozer"]["id"])]
        assert actions.count("run.warning") == 2
        assert "run.ended" in actions[actions.index("run.warning") :]
        # an ended one was tried again, once, as its attempts allow
        assert len(home.runs(tasks["late"])) == 2
        assert home.finished(tasks["late"])["status_reason"] == "attempts_exhausted"
        # every run says what it used
        for name, run in ended.items():
            assert run["cpu_seconds"] > 0, name
            assert run["peak_rss"] > 5 * MIB, name
            assert run["summary"]["seconds"] > 0, name
            stages = {stage["name"] for stage in run["summary"]["stages"]}
            assert {"prepare", "launch", "watch", "exit"} <= stages
        assert ended["eater"]["peak_rss"] > 128 * MIB
        assert ended["forker"]["summary"]["peak_processes"] > 12
        assert ended["talker"]["summary"]["out_bytes"] > 4_000_000
        home.down()


def events_of(home: Any, run_id: str) -> list[dict[str, Any]]:
    """What the board tells of a run, oldest first."""
    import sqlite3  # noqa: PLC0415 - the board has no call for it yet

    with sqlite3.connect(f"file:{home.state / 'store.db'}?mode=ro", uri=True) as store:
        rows = store.execute(
            "SELECT action FROM event WHERE run_id = ? ORDER BY seq", (run_id,)
        ).fetchall()
    return [{"action": action} for (action,) in rows]


@pytest.mark.needs("ordinary user")
def test_a_fork_bomb_and_a_memory_eater_of_an_ordinary_user_leave_the_rest_at_work(
    short_dir: Path,
):
    """The system itself stops the bomb from taking the machine; the watch then ends it by name."""
    with house(short_dir) as home:
        home.write(
            agents={
                "bomber": {"provider": "rehearsal", "limits": {"processes": 40}},
                "eater": {"provider": "rehearsal", "limits": {"memory": "128MiB"}},
                "modest": {"provider": "rehearsal"},
            },
            projects=[{"id": "app", "path": str(home.repo)}],
            stop_grace_seconds=1,
        )
        be_ordinary(home)
        home.ready()
        add = ("task", "add", "--project", "app", "--max-attempts", "1", "--title", "x", "--agent")
        told = {
            "eater": python(EATER, home.python),
            "bomber": python(BOMB, home.python),
            "modest": script(REPORT),
        }
        # the last one is put on the board, claimed and worked on while the bomb goes off
        ids = {
            name: home.json(*add, name, "--description", text)["id"] for name, text in told.items()
        }

        def modest_succeeded() -> bool:
            ends = [line for line in home.logged("run.end") if line["task_id"] == ids["modest"]]
            return any(line["outcome"] == "succeeded" for line in ends)

        try:
            until("the modest one has done its work", modest_succeeded)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{home.log_text()}") from None
        for name, reason in (("bomber", "process_limit"), ("eater", "memory_limit")):
            run = home.last(ids[name])
            assert (run["outcome"], run["reason"]) == ("failed", reason)
        assert home.last(ids["bomber"])["summary"]["peak_processes"] > 40
        home.down()
