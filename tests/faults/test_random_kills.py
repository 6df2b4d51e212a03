"""Kill -9 at random moments, again and again, while agents talk: nothing is lost, nothing doubled.

`AIAGENT_KILL_ROUNDS=200 pytest tests/faults/test_random_kills.py` is the long form.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator.runs import MAX_INFRA_REQUEUES
from support.house import House, house, living, script, until

ROUNDS = int(os.environ.get("AIAGENT_KILL_ROUNDS", "4"))
AGENTS = ("ann", "bob", "cem")
#: Every task says so often how far it is; each of these must be one event in the end.
STEPS = 12


def talking_task(home: House, agent: str, number: int) -> str:
    """A task whose agent calls the server all the while; returns its id."""
    steps: list[dict[str, Any]] = []
    for step in range(1, STEPS + 1):
        steps.append({"progress": {"value": step, "message": f"step {step}"}})
        steps.append({"sleep": {"seconds": 0.15}})
    steps.append({"write": {"path": f"{agent}-{number}.txt", "text": "done\n"}})
    steps.append({"report": {"result": "success", "summary": "done"}})
    return str(home.add(f"Talk {number}", script(*steps), agent=agent)["id"])


def events(home: House, run_id: str) -> Counter[str]:
    """What the store has of a run: how often each thing happened, progress by its value."""
    uri = f"file:{home.state / 'store.db'}?mode=ro"
    with sqlite3.connect(uri, uri=True) as store:
        rows = store.execute(
            "SELECT action, data FROM event WHERE run_id = ?", (run_id,)
        ).fetchall()
    counted: Counter[str] = Counter()
    for action, data in rows:
        value = json.loads(data or "{}").get("progress")
        counted[action if value is None else f"{action} {value}"] += 1
    return counted


def check_everything(home: House, task_ids: list[str]) -> None:
    """The promises, one by one, for every task that was put on the board."""
    for task_id in task_ids:
        done = home.finished(task_id)
        runs = home.runs(task_id)
        told = f"{done}\n{runs}\n{home.log_text()}"
        assert done["status"] == "succeeded", told
        # a kill between fork and exec leaves a run that never began: named so, and done by the next
        for never in runs[:-1]:
            assert never["outcome"] == "not_started", told
            assert not (home.state / "run" / never["id"] / "started").exists(), told
        run = runs[-1]
        assert run["outcome"] == "succeeded", told
        # a call that failed at the agent ends the rehearsal agent with another code
        assert run["exit_code"] == 0, told
        out = (home.state / "run" / run["id"] / "out").read_text(encoding="utf-8")
        # each step of the script is one line of output: a second start would say it twice
        assert out.count("* report success") == 1, out
        counted = events(home, run["id"])
        for action in ("run.claimed", "run.started", "run.reported", "run.exited", "run.ended"):
            assert counted[action] == 1, (action, counted)
        for step in range(1, STEPS + 1):
            assert counted[f"task.progress {step}"] == 1, (step, counted)


def kill_rounds(
    home: House, begin: Callable[[], list[subprocess.Popen[bytes]]], rounds: int
) -> list[str]:
    """Start, work, kill -9 at a random moment, and again; returns all tasks, the last life lives."""
    chance = random.Random(rounds)
    task_ids: list[str] = []
    for number in range(rounds):
        processes = begin()
        until("the server answers", home.up)
        task_ids += [talking_task(home, agent, number) for agent in AGENTS[: 1 + number % 3]]
        time.sleep(chance.uniform(0, 1.5))
        victims = processes if chance.random() < 0.5 else [chance.choice(processes)]
        for process in victims:
            process.send_signal(signal.SIGKILL)
            process.wait()
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
    begin()
    until("the server answers", home.up)
    return task_ids


def many_agents(home: House) -> None:
    home.write(
        agents={name: {"provider": "rehearsal"} for name in AGENTS},
        projects=[{"id": "app", "path": str(home.repo)}],
        max_concurrent=3,
    )


@pytest.mark.timeout(60 + ROUNDS * 30)
def test_killing_the_one_process_loses_and_doubles_nothing(short_dir: Path):
    with house(short_dir) as home:
        many_agents(home)
        task_ids = kill_rounds(home, lambda: [home.start()], ROUNDS)
        check_everything(home, task_ids)
        home.run("stop")
        until("no process is left", lambda: not living(home))


@pytest.mark.timeout(60 + ROUNDS * 30)
def test_killing_server_and_coordinator_apart_loses_and_doubles_nothing(short_dir: Path):
    with house(short_dir) as home:
        many_agents(home)
        task_ids = kill_rounds(
            home, lambda: [home.start("serve"), home.start("coordinate")], ROUNDS
        )
        check_everything(home, task_ids)
        home.run("stop")
        until("no process is left", lambda: not living(home))


@pytest.mark.timeout(60 + ROUNDS * 30)
def test_killing_shims_never_looks_like_success_and_leaks_nothing(short_dir: Path):
    """A run whose shim is killed is lost, its CLI is gone, and its task is done by the next run."""
    chance = random.Random(ROUNDS)
    with house(short_dir) as home:
        many_agents(home)
        home.ready()
        task_ids: list[str] = []
        lost: set[str] = set()
        for number in range(ROUNDS):
            task_ids.append(talking_task(home, AGENTS[number % 3], number))
            started = until("a run runs", lambda: sorted(home.state.glob("run/*/started")))
            time.sleep(chance.uniform(0, 0.8))
            run_dir = chance.choice(started[-3:]).parent
            if (run_dir / "exit").exists():
                continue
            shim = json.loads((run_dir / "lock").read_text(encoding="utf-8"))["pid"]
            cli = json.loads((run_dir / "started").read_text(encoding="utf-8"))["pid"]
            try:
                os.kill(shim, signal.SIGKILL)
            except ProcessLookupError:
                continue
            until("the CLI dies with its shim", lambda cli=cli: not Path(f"/proc/{cli}").exists())
            if not (run_dir / "exit").exists():
                lost.add(run_dir.name)
        for task_id in task_ids:
            done = home.finished(task_id)
            ends = [(run["outcome"], run["reason"]) for run in home.runs(task_id)]
            # who is hit more often than infrastructure may fail a task is given up, by name
            if ends.count(("lost", "shim_lost")) > MAX_INFRA_REQUEUES:
                assert done["status_reason"] == "attempts_exhausted", (done, ends)
                continue
            assert done["status"] == "succeeded", (done, ends)
        by_id = {run["id"]: run for run in home.runs()}
        assert lost, "no shim was killed in time: the test proved nothing"
        for run_id in lost:
            run = by_id[run_id]
            assert (run["outcome"], run["reason"]) == ("lost", "shim_lost"), run
            assert run["exit_code"] is None
        home.run("stop")
        until("no process is left", lambda: not living(home))
