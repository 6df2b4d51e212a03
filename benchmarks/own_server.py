"""Our own server with 1000 pairs: a pass by pairs, a pass in one call, and what it costs to wait.

    python benchmarks/own_server.py [--rounds 3] [--idle 60] [--venv DIR]

The passes are asked of one server in turn: by aiagent-runner 0.1.3 from the package index, by our
client pair by pair on one connection, and by the one call that our coordinator makes: with the whole
answer, as when something happened, and as ever after, when the name of the last answer says it all. Then server and
coordinator do nothing together for `--idle` seconds; their processor time counts, on no other scale than
a core. Goals: pair by pair at least 5 times, in one call at least 500 times less wall than the reference;
idle at most 0.2 % of a core. Exit status 1 when one is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "tests"))

from hold_cycle import OURS, REFERENCE, reference_python  # noqa: E402 - the path is set above

from support.house import House, house  # noqa: E402

AGENTS, PROJECTS = 100, 10
TOKEN = "tok-123"
RUN_SECONDS = 120
PAIRS_GOAL, BATCH_GOAL, IDLE_GOAL = 5, 500, 0.2

BATCH = """
import json, sys, time
import anyio
from aiagent_coordinator.coordinator.client import connect
from aiagent_coordinator.wire.protocol import hello_coordinator

async def main(path):
    walls = []
    async with connect(path, hello=hello_coordinator("tok-123")) as client:
        known = {}
        for _ in range(2 + 50):
            began = time.perf_counter()
            answer = await client.call("list_agent_actions", {"coordinator_id": "crd_bench", **known})
            walls.append(time.perf_counter() - began)
            if sys.argv[2] == "again":
                known = {"known": answer["etag"]}
    print(json.dumps({"wall": walls[2:]}))

anyio.run(main, sys.argv[1])
"""


def many(home: House) -> None:
    """A configuration of 1000 pairs, with nothing to do."""
    home.write(
        coordinator_token=TOKEN,
        polling_interval="10s",  # as without a word
        agents={f"agt_{one}": {"provider": "rehearsal"} for one in range(AGENTS)},
        projects=[{"id": f"p{one}", "workspace": "scratch"} for one in range(PROJECTS)],
    )


def passes(home: House, python: str, rounds: int) -> dict[str, float]:
    """Seconds of one pass, by who makes it."""
    path, pairs = str(home.socket), str(AGENTS * PROJECTS)
    sides = {
        "aiagent-runner 0.1.3": [python, "-c", REFERENCE, path, pairs, str(AGENTS), "2"],
        "ours, pair by pair": [sys.executable, "-c", OURS, path, pairs, "5"],
        "ours, in one call": [sys.executable, "-c", BATCH, path, "whole"],
        "ours, nothing new": [sys.executable, "-c", BATCH, path, "again"],
    }
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, command in sides.items():
            done = subprocess.run(
                command, check=True, timeout=RUN_SECONDS, capture_output=True, text=True
            )
            taken[side] += json.loads(done.stdout)["wall"]
    return {side: statistics.median(walls) for side, walls in taken.items()}


def idle(pid: int, seconds: float) -> float:
    """Per cent of a core that a process takes while nothing happens."""
    process = psutil.Process(pid)
    time.sleep(5)  # what follows a start is not idle
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(seconds)
    after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    return 100 * used / (time.monotonic() - began)


def verdict(name: str, value: str, goal: str, *, is_met: bool) -> bool:
    print(f"{name:<44} {value:>12}   goal {goal:<10} {'reached' if is_met else 'missed'}")
    return is_met


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=float, default=60.0)
    parser.add_argument(
        "--venv", type=Path, default=Path(tempfile.gettempdir()) / "aiagent-coordinator-bench"
    )
    options = parser.parse_args()
    python = reference_python(options.venv, "0.1.3")
    met: list[bool] = []
    with tempfile.TemporaryDirectory(prefix="aac-") as folder, house(Path(folder)) as home:
        many(home)
        home.ready("serve")
        walls = passes(home, python, options.rounds)
        for side, wall in walls.items():
            print(f"a pass over {AGENTS * PROJECTS} pairs, {side:<22} {wall * 1e3:9.2f} ms")
        reference, by_pairs, batch, again = walls.values()
        for name, ratio, goal in (
            ("pair by pair, times less", reference / by_pairs, PAIRS_GOAL),
            ("in one call, times less", reference / batch, BATCH_GOAL),
            ("in one call, nothing new, times less", reference / again, BATCH_GOAL),
        ):
            met.append(verdict(name, f"{ratio:.1f}", f">= {goal}", is_met=ratio >= goal))
        home.down()
    with tempfile.TemporaryDirectory(prefix="aac-") as folder, house(Path(folder)) as home:
        many(home)
        share = idle(home.ready().pid, options.idle)
        met.append(
            verdict(
                "server and coordinator, idle",
                f"{share:.2f} %",
                f"<= {IDLE_GOAL} %",
                is_met=share <= IDLE_GOAL,
            )
        )
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
