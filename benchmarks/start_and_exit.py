"""How long from "a task is ready" to the CLI's first instruction, and from its exit to the board.

    python benchmarks/start_and_exit.py [--events 60] [--rounds 8]

Side by side in one run: our daemon (own server, push, full synchronous store), and as the floor a
bare push over a socket followed by a Popen of the same shim. Needs gcc. Prints ratios; absolute
times are noise. Beside it the reference's figure at its defaults (a poll every 10 s): 4.3 s.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from aiagent_coordinator.wire import shim  # noqa: E402
from aiagent_coordinator.wire.client import BlockingClient  # noqa: E402
from aiagent_coordinator.wire.protocol import hello_person  # noqa: E402
from support.house import House, house, until  # noqa: E402 - the path is set above

#: The reference at its defaults: mean of half its polling interval, measured over 20 events.
REFERENCE_SECONDS = 4.3
AGENTS = 20


def floor_start(folder: Path, stamp: Path, port: socket.socket, sent: list[int]) -> float:
    """One bare start: a push arrives, the same shim is started with the same CLI."""
    port.recv(1)
    run = Path(tempfile.mkdtemp(dir=folder))
    process = spawn_bare(run, stamp)
    took = (stamped(run) - sent[0]) / 1e6
    process.wait(20)
    return took


def spawn_bare(run: Path, stamp: Path) -> subprocess.Popen[bytes]:
    """Start the shim as bare as it goes: its folder, its lock, no gate."""
    spec = {
        "format": 1,
        "run_id": run.name,
        "argv": [str(stamp)],
        "cwd": str(run),
        "stdin": "null",
        "gate_seconds": None,
        "grace_seconds": 5.0,
        "kill_leftovers": True,
        "server": None,
    }
    (run / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    os.mkfifo(run / "ctl", 0o600)
    lock = os.open(run / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    argv = [sys.executable, "-I", "-S", str(shim.__file__), str(run), str(lock)]
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(lock,),
        start_new_session=True,
        env={"PATH": os.defpath},
    )
    os.close(lock)
    return process


def stamped(run: Path) -> int:
    """When the CLI of a run folder said it began."""

    def said() -> int:
        try:
            return int((run / "out").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    return int(until("the CLI has begun", said))


def client(home: House) -> BlockingClient:
    """A person's open connection."""
    key = (home.state / "operator.key").read_text(encoding="ascii").strip()
    return BlockingClient(str(home.socket), hello_person(key), 30)


def ours(home: House, person: BlockingClient, agents: list[str], project: str) -> list[float]:
    """Put a task per agent on the board at once; milliseconds to each CLI's first instruction."""
    known = {run.name for run in (home.state / "run").iterdir()}
    sent = time.time_ns()
    for agent in agents:
        person.call("create_task", {"project_id": project, "agent_id": agent, "title": "go"})

    def begun() -> list[Path]:
        new = [run for run in (home.state / "run").iterdir() if run.name not in known]
        return new if len([run for run in new if (run / "exit").exists()]) == len(agents) else []

    found = until("every CLI has run", begun)
    return [(stamped(run) - sent) / 1e6 for run in found]


def settle(person: BlockingClient) -> None:
    """Wait until nothing runs."""

    def idle() -> bool:
        runs: list[dict[str, Any]] = person.call("list_runs", {"limit": 100})["runs"]
        return all(run["phase"] == "ended" for run in runs)

    until("all runs are over", idle)


def exits(home: House) -> list[float]:
    """Milliseconds from each CLI's end to the committed report of it."""
    with sqlite3.connect(f"file:{home.state / 'store.db'}?mode=ro", uri=True) as store:
        rows = store.execute(
            "SELECT run_id, ts FROM event WHERE action = 'run.exited' ORDER BY seq"
        ).fetchall()
    found: list[float] = []
    for run_id, ts in rows:
        record = json.loads((home.state / "run" / run_id / "exit").read_text(encoding="utf-8"))
        found.append(ts / 1000 - record["ended_at_ns"] / 1e6)
    return found


def floors(folder: Path, stamp: Path, count: int) -> list[float]:
    """Bare starts one after another, each after a push from another thread."""
    reader, writer = socket.socketpair()
    found: list[float] = []
    for _ in range(count):
        sent = [0]

        def push(sent: list[int] = sent) -> None:
            sent[0] = time.time_ns()
            writer.send(b"!")

        thread = threading.Thread(target=push)
        thread.start()
        found.append(floor_start(folder, stamp, reader, sent))
        thread.join()
    return found


def bare_burst(folder: Path, stamp: Path) -> float:
    """20 bare starts at once; milliseconds to the last first instruction."""
    runs = [Path(tempfile.mkdtemp(dir=folder)) for _ in range(AGENTS)]
    began = time.time_ns()
    started = [spawn_bare(run, stamp) for run in runs]
    last = max(stamped(run) for run in runs)
    for process in started:
        process.wait(20)
    return (last - began) / 1e6


def show(name: str, mine: float, floor: float, goal: float) -> None:
    """One line: what we got beside the floor, and whether the goal is reached."""
    verdict = "reached" if mine <= goal * floor else "missed"
    print(
        f"{name:<44} {mine:8.1f} ms   floor {floor:7.1f} ms   ratio {mine / floor:5.2f}"
        f"   goal <= {goal:<4} {verdict}"
    )


def measure(root: Path, stamp: Path, events: int, rounds: int) -> None:
    """Both ways in turn, so that a busy moment of the machine hits both."""
    bare = root / "bare"
    bare.mkdir()
    plain = root / "plain"
    plain.mkdir()
    names = [f"a{number}" for number in range(AGENTS)]
    (root / "h").mkdir()
    with house(root / "h") as home:
        home.write(
            agents={agent: {"provider": "stamp", "max_concurrent": 2} for agent in names},
            ai_providers={"stamp": {"like": "command", "cli_command": str(stamp)}},
            projects=[{"id": "app", "path": str(home.repo)}, {"id": "dir", "path": str(plain)}],
            max_concurrent=AGENTS,
            max_finishing=4,
        )
        home.settings["projects"][1]["workspace"] = "directory"
        home.write()
        home.ready()
        with client(home) as person:
            singles(home, person, bare, stamp, events)
            alone = exits(home)
            bursts(home, person, bare, stamp, names, rounds)
            together = exits(home)[len(alone) :]
    for name, took in (("one at a time", alone), ("20 at once", together)):
        print(
            f"exit -> report committed on the board, p50, {name:<14} {statistics.median(took):8.1f} ms"
            f"   goal <= 10 ms   (of {len(took)})"
        )


def singles(home: House, person: BlockingClient, bare: Path, stamp: Path, events: int) -> None:
    """One task at a time."""
    found: dict[str, list[float]] = {"dir": [], "app": [], "floor": []}
    for _ in range(events):
        for project in ("dir", "app"):
            found[project] += ours(home, person, ["a0"], project)
            settle(person)
        found["floor"] += floors(bare, stamp, 1)
    middle = {name: statistics.median(values) for name, values in found.items()}
    show("ready -> first instruction, directory, p50", middle["dir"], middle["floor"], 1.5)
    show("ready -> first instruction, worktree, p50", middle["app"], middle["floor"], 1.5)
    times = REFERENCE_SECONDS * 1000 / middle["dir"]
    print(
        f"{'  against the reference at its defaults':<44} {times:8.0f} times sooner (goal >= 100)"
    )


def bursts(
    home: House, person: BlockingClient, bare: Path, stamp: Path, names: list[str], rounds: int
) -> None:
    """20 tasks at once, in turn with 20 bare starts."""
    mine: list[float] = []
    floor: list[float] = []
    for _ in range(rounds):
        mine.append(max(ours(home, person, names, "app")))
        settle(person)
        floor.append(bare_burst(bare, stamp))
    show(
        "20 starts, last first instruction, median",
        statistics.median(mine),
        statistics.median(floor),
        1.3,
    )


def main() -> None:
    """Read the arguments, build the CLI, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=8)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aab-") as name:
        root = Path(name)
        stamp = root / "stamp"
        subprocess.run(["gcc", "-O2", "-o", str(stamp), str(HERE / "stamp.c")], check=True)
        measure(root, stamp, chosen.events, chosen.rounds)


if __name__ == "__main__":
    main()
