"""A server that is away, loses its answers or says nonsense: nothing is lost, nothing done twice."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.house import House, house, living, script, until

MEDDLER = Path(__file__).parents[1] / "fakes" / "meddler.py"
#: Several words of the agent, so that a line that breaks breaks something.
TALK: list[dict[str, Any]] = [
    {"progress": {"value": 10, "message": "begun"}},
    {"write": {"path": "new.txt", "text": "new\n"}},
    {"report": {"result": "success", "summary": "done"}},
]


@contextmanager
def meddled(folder: Path, *orders: dict[str, Any], **settings: Any) -> Generator[House]:
    """A house whose coordinator reaches its server through the meddler."""
    with house(folder, **settings) as home:
        (folder / "orders").write_text("".join(json.dumps(each) + "\n" for each in orders))
        home.env["AIAGENT_COORDINATOR_SOCKET"] = str(folder / "real.sock")
        home.settings.pop("socket")
        home.write()
        home.place = home.state, folder / "real.sock"
        home.ready("serve")
        between = subprocess.Popen(
            [
                sys.executable,
                str(MEDDLER),
                str(home.socket),
                str(folder / "real.sock"),
                str(folder / "orders"),
            ],
            stdout=subprocess.PIPE,
        )
        assert between.stdout is not None
        try:
            assert between.stdout.readline() == b"ready\n"
            home.env["AIAGENT_COORDINATOR_SOCKET"] = str(home.socket)
            yield home
        finally:
            home.close()
            between.kill()
            between.wait()
            between.stdout.close()


def used(home: House) -> list[dict[str, Any]]:
    path = home.root / "orders.used"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def counted(home: House, run_id: str) -> Counter[str]:
    """How often each thing happened to a run, as the store has it."""
    uri = f"file:{home.state / 'store.db'}?mode=ro"
    with sqlite3.connect(uri, uri=True) as store:
        rows = store.execute("SELECT action FROM event WHERE run_id = ?", (run_id,)).fetchall()
    return Counter(action for (action,) in rows)


def once_each(home: House, run_id: str) -> None:
    happened = counted(home, run_id)
    for action in ("run.claimed", "run.started", "run.exited", "run.ended"):
        assert happened[action] == 1, (action, happened)


def add(home: House, title: str = "Say something", *steps: dict[str, Any]) -> str:
    home.env["AIAGENT_COORDINATOR_SOCKET"] = str(home.root / "real.sock")
    task = home.add(title, script(*(steps or TALK)))
    home.env["AIAGENT_COORDINATOR_SOCKET"] = str(home.socket)
    return str(task["id"])


@pytest.mark.parametrize("how", ["lose", "swallow"])
@pytest.mark.parametrize(
    "tool",
    [
        "list_agent_actions",
        "claim_run",
        "report_run_started",
        "report_run_exit",
        "report_run_result",
    ],
)
def test_a_call_whose_answer_is_lost_takes_effect_once(short_dir: Path, tool: str, how: str):
    """Twice in a row; whether the server did it before the line broke makes no difference."""
    order = {"tool": tool, "do": how}
    with meddled(short_dir, order, order) as home:
        home.start("coordinate")
        task = add(home)
        assert home.finished(task)["status"] == "succeeded"
        (run,) = home.runs(task)
        assert (run["outcome"], run["attempt"], run["exit_code"]) == ("succeeded", 1, 0)
        until("both answers were lost", lambda: len(used(home)) == 2)
        once_each(home, run["id"])


def test_an_answer_that_never_comes_over_a_line_that_stays_is_asked_for_again(short_dir: Path):
    """The result was taken and nobody says so: after its deadline the call is made again, and counts once."""
    with meddled(short_dir, {"tool": "report_run_result", "do": "silence"}) as home:
        home.start("coordinate")
        task = add(home)
        until("the answer was kept back", lambda: used(home))
        done = home.finished(task)
        assert (done["status"], done["attempt"]) == ("succeeded", 1)
        (run,) = home.runs(task)
        token = home.state / "run" / run["id"] / "token"
        until("the coordinator knows it is over", lambda: not token.exists(), 120)
        once_each(home, run["id"])


NONSENSE: dict[str, dict[str, Any]] = {
    "an unknown action": {
        "actions": [{"agent_id": "worker", "project_id": "app", "action": "fly"}]
    },
    "missing fields": {"actions": [{"action": "start"}, {}, {"agent_id": "worker"}]},
    "nothing where a list is": {"actions": None},
    "entries that are no objects": {"actions": [None, 5, "start", ["start"], {"agent_id": {}}]},
    "an agent nobody knows": {
        "actions": [{"agent_id": "ghost", "project_id": "app", "action": "start", "provider": "x"}]
    },
    "a project nobody knows": {
        "actions": [
            {"agent_id": "worker", "project_id": "lost", "action": "start", "provider": "rehearsal"}
        ]
    },
    "a version that is text": {"version": "new"},
    "places that are no number": {
        "actions": [
            {
                "agent_id": "worker",
                "project_id": "app",
                "action": "start",
                "provider": "rehearsal",
                "slots_free": "many",
            }
        ]
    },
    "fewer places than none": {
        "actions": [
            {
                "agent_id": "worker",
                "project_id": "app",
                "action": "start",
                "provider": "rehearsal",
                "slots_free": -1,
                "max_concurrent": -1,
            }
        ]
    },
    "a place for everybody": {
        "actions": [
            {
                "agent_id": "ghost",
                "project_id": "app",
                "action": "start",
                "provider": "rehearsal",
                "slots_free": 1_000_000_000,
                "max_concurrent": 1_000_000_000,
            }
        ]
    },
    "ten megabytes": {"actions": [{"agent_id": "w" * 10_000_000}]},
}


@pytest.mark.parametrize("case", NONSENSE)
def test_what_makes_no_sense_is_skipped_and_the_next_pass_is_as_ever(short_dir: Path, case: str):
    order = {"tool": "list_agent_actions", "do": "merge", "with": NONSENSE[case]}
    with meddled(short_dir, order, order) as home:
        process = home.start("coordinate")
        task = add(home)
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        assert len(used(home)) == 2
        assert len(home.runs()) == 1
        assert process.poll() is None
        assert "Traceback" not in home.log.read_text(encoding="utf-8")


LINES = {
    "no JSON": "this is no answer",
    "a number that is none": '{"jsonrpc":"2.0","id":ID,"result":NaN}',
    "an endless depth": '{"jsonrpc":"2.0","id":ID,"result":' + "[" * 100_000 + "]" * 100_000 + "}",
    "a number of five thousand digits": '{"jsonrpc":"2.0","id":ID,"result":' + "7" * 5000 + "}",
    "a key twice": '{"jsonrpc":"2.0","id":ID,"result":{"a":1},"result":{"b":2}}',
    "nothing": '{"jsonrpc":"2.0","id":ID,"result":null}',
    "an answer to nobody": '{"jsonrpc":"2.0","id":987654321,"result":{}}',
}


@pytest.mark.parametrize("case", LINES)
def test_a_line_that_is_no_answer_ends_nothing_for_good(short_dir: Path, case: str):
    order = {"tool": "list_agent_actions", "do": "line", "with": LINES[case]}
    with meddled(short_dir, order) as home:
        process = home.start("coordinate")
        task = add(home)
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        assert len(used(home)) == 1
        assert process.poll() is None


def test_what_ends_while_the_server_is_away_is_reported_once_and_in_order(short_dir: Path):
    with house(short_dir) as home:
        home.write(
            agents={name: {"provider": "plain"} for name in ("ann", "bob", "cem")},
            ai_providers={
                "plain": {
                    "like": "command",
                    "cli_command": "sh",
                    "cli_args": ["-c", "until [ -e .aiagent/go ]; do sleep 0.05; done"],
                }
            },
            projects=[{"id": "app", "path": str(home.repo)}],
        )
        server = home.ready("serve")
        home.start("coordinate")
        tasks = [home.add(f"Work {who}", "x", agent=who)["id"] for who in ("ann", "bob", "cem")]
        until("all run", lambda: sum(run["phase"] == "running" for run in home.runs()) == 3)
        runs = [run["id"] for run in home.runs()]
        next_one = home.add("Next", "x", agent="ann")["id"]
        server.send_signal(signal.SIGKILL)
        server.wait()
        for task in tasks:
            (home.state / "worktrees" / "app" / task / ".aiagent" / "go").touch()
            # one after the other, so that there is an order to keep
            (run,) = [each for each in runs if _task_of(home, each) == task]
            until("it has ended", lambda run=run: (home.state / "run" / run / "exit").exists())
        assert not home.up()
        assert len(list((home.state / "run").iterdir())) == 3, "nothing is started meanwhile"
        home.ready("serve")
        home.running(next_one)
        home.go(next_one)
        home.finished(next_one)
        ended = [home.finished(task) for task in tasks]
        assert [task["status"] for task in ended] == ["succeeded"] * 3
        for run in runs:
            once_each(home, run)
        assert [run["id"] for run in home.runs()][:-1] == runs
        exits = sorted(home.runs(), key=lambda run: run["ended_at"])
        assert [run["task_id"] for run in exits] == [*tasks, next_one]


def test_a_shim_that_dies_while_its_run_waits_for_the_server_is_reaped(short_dir: Path):
    """The server may be away for hours; who ended meanwhile does not stay in the list of processes."""
    with house(short_dir) as home:
        home.env["AIAGENT_FAILPOINT"] = "tool.begun/report_run_started:1*kill"
        server = home.ready("serve")
        home.env.pop("AIAGENT_FAILPOINT")
        coordinator = home.start("coordinate")
        task = home.add("Work", script(*TALK))["id"]
        until("the server dies when it hears of the start", lambda: server.poll() is not None)
        (run,) = (home.state / "run").iterdir()
        shim = int(json.loads((run / "lock").read_text().strip("\0\n "))["pid"])
        os.kill(shim, signal.SIGKILL)
        until("it is reaped", lambda: not Path(f"/proc/{shim}").exists())
        assert coordinator.poll() is None
        home.ready("serve")
        assert home.finished(task)["status"] == "succeeded"
        assert [one["outcome"] for one in home.runs(task)][-1] == "succeeded"


def _task_of(home: House, run_id: str) -> str:
    uri = f"file:{home.state / 'store.db'}?mode=ro"
    with sqlite3.connect(uri, uri=True) as store:
        ((task,),) = store.execute("SELECT task_id FROM run WHERE id = ?", (run_id,)).fetchall()
    return str(task)


def test_a_server_that_comes_and_goes_within_a_pass_makes_no_second_run(short_dir: Path):
    with house(short_dir) as home:
        server = home.ready("serve")
        home.start("coordinate")
        tasks = [home.add(f"Talk {number}", script(*TALK))["id"] for number in range(3)]
        for _ in range(4):
            server.send_signal(signal.SIGKILL)
            server.wait()
            server = home.start("serve")
            time.sleep(0.3)
        until("the server answers", home.up)
        for task in tasks:
            assert home.finished(task)["status"] == "succeeded"
            (run,) = home.runs(task)
            once_each(home, run["id"])


def test_one_agent_in_many_projects_keeps_to_the_limit_and_starves_none(short_dir: Path):
    """Every process that works is counted while they work."""
    count = int(os.environ.get("AIAGENT_MANY_PROJECTS", "8"))
    with house(short_dir) as home:
        names = [f"p{number:02}" for number in range(count)]
        home.write(
            projects=[{"id": name, "workspace": "scratch", "agents": ["worker"]} for name in names],
            agents={"worker": {"provider": "rehearsal", "max_concurrent": count}},
            max_concurrent=3,
        )
        home.ready()
        steps = [{"sleep": {"seconds": 1.0}}, TALK[-1]]
        tasks = [
            home.add(f"{name} {number}", script(*steps), project=name)["id"]
            for number in range(2)
            for name in names
        ]
        most = 0
        while not all(run["phase"] == "ended" for run in home.runs()) or len(home.runs()) < len(
            tasks
        ):
            working = sum(run["phase"] in {"starting", "running"} for run in home.runs())
            most = max(most, working)
            time.sleep(0.02)
        assert 1 < most <= 3
        order = [run["project_id"] for run in home.runs()]
        # each project had its first turn before any had its second; starts of one pass have no order
        assert set(order[: count + 2]) == set(names)
        assert [home.task(task)["status"] for task in tasks] == ["succeeded"] * len(tasks)


def test_a_flood_of_strangers_does_not_keep_anybody_from_working(short_dir: Path):
    """Half lines, lines that are too long, and a thousand calls: the board goes on beside them."""
    flood = (
        "import socket,sys,time\n"
        "held=[]\n"
        "end=time.monotonic()+20\n"
        'call=b\'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_status"}}\\n\'\n'
        "while time.monotonic()<end:\n"
        "    s=socket.socket(socket.AF_UNIX); s.settimeout(5)\n"
        "    try:\n"
        "        s.connect(sys.argv[1]); s.sendall([call*50, b'{\"half\": ', b'x'*70000][len(held)%3])\n"
        "    except OSError: pass\n"
        "    held.append(s); held[:]=held[-100:]\n"
        "    time.sleep(0.005)\n"
    )
    with house(short_dir) as home:
        process = home.ready()
        flooding = subprocess.Popen([sys.executable, "-c", flood, str(home.socket)])
        try:
            task = home.add("Work on", script(*TALK))
            assert home.finished(task["id"])["status"] == "succeeded"
            resident = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
            (line,) = [each for each in resident.splitlines() if each.startswith("VmRSS")]
            assert int(line.split()[1]) < 300_000
        finally:
            flooding.kill()
            flooding.wait()


def test_a_program_that_crashes_at_once_is_tried_so_often_and_no_more(short_dir: Path):
    with house(short_dir) as home:
        home.write(
            agents={"worker": {"provider": "broken"}},
            ai_providers={"broken": {"like": "command", "cli_command": "false"}},
            retry={"max_attempts": 3, "backoff_seconds": [0.05]},
        )
        home.ready()
        task = home.add("Crash", "x")
        done = home.finished(task["id"])
        assert (done["status"], done["status_reason"]) == ("failed", "attempts_exhausted")
        assert [run["attempt"] for run in home.runs(task["id"])] == [1, 2, 3]
        until("nothing of it is left", lambda: len(living(home)) == 1)
