"""One cycle over 1000 pairs that all hold: ours on one pipelined connection, aiagent-runner on 1002.

    python benchmarks/hold_cycle.py [--pairs 1000] [--rounds 7] [--venv DIR] [--json]

The reference is aiagent-runner 0.1.3 and 0.1.13 from the package index, each in a virtual environment
that is made once under DIR (default: a folder in the temporary directory) and kept there. All sides run
in processes of their own against the same `fast_server.py`, in turn, `--rounds` times; the medians over all cycles count.
A cycle is health check, list of projects, `get_agent_action` for every pair: in ours the calls of
`coordinator.client`, in the reference its own `Coordinator._run_once`. It takes about half a minute, and
no longer than five.

Goals, against 0.1.3: wall at least 40 times, CPU of the client at least 50 times less, at most 3
connections. Exit status 1 when one is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
#: What one measured process may take, and what an installation may take.
RUN_SECONDS, INSTALL_SECONDS = 60, 240
REFERENCES = {"0.1.3": ["aiagent-runner==0.1.3"], "0.1.13": ["aiagent-runner==0.1.13", "aiohttp"]}
#: Measured cycles per process, so that every process takes about a second.
OURS_CYCLES, REFERENCE_CYCLES = 20, 3
WALL_GOAL, CPU_GOAL, CONNECTIONS_GOAL = 40, 50, 3

OURS = """
import json, sys, time
import anyio
from aiagent_coordinator.coordinator.client import connect

async def cycle(client):
    token = {"coordinator_token": "tok-123"}
    health = await client.call("health_check", token)
    assert health["status"] == "ok"
    listed = await client.call("list_active_projects_with_agents", token)
    pairs = [
        {"agent_id": agent, "project_id": project["project_id"], **token}
        for project in listed["projects"] for agent in project["agents"]
    ]
    actions = await client.call_many("get_agent_action", pairs)
    assert all(action["action"] == "hold" for action in actions)
    return len(actions)

async def main(path, pairs):
    walls, cpus = [], []
    async with connect(path) as client:
        # As in the reference, the first two warm the interpreter up and do not count.
        for _ in range(2 + int(sys.argv[3])):
            wall, cpu = time.perf_counter(), time.process_time()
            assert await cycle(client) == pairs
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
    print(json.dumps({"wall": walls[2:], "cpu": cpus[2:]}))

anyio.run(main, sys.argv[1], int(sys.argv[2]))
"""

REFERENCE = """
import asyncio, json, logging, sys, time
from aiagent_runner.coordinator import Coordinator
from aiagent_runner.coordinator_config import AgentConfig, CoordinatorConfig

logging.disable(logging.CRITICAL)

async def main(path, pairs, agents):
    config = CoordinatorConfig(mcp_socket_path=path, coordinator_token="tok-123",
                               agents={f"agt_{n}": AgentConfig(passkey="x") for n in range(agents)})
    coordinator = Coordinator(config)
    walls, cpus, calls = [], [], 0
    plain = coordinator.mcp_client.get_agent_action

    async def counted(*args):
        nonlocal calls
        calls += 1
        answer = await plain(*args)
        assert answer.action == "hold"
        return answer

    coordinator.mcp_client.get_agent_action = counted
    await coordinator._run_once()
    assert calls == pairs, calls
    coordinator.mcp_client.get_agent_action = plain
    for _ in range(1 + int(sys.argv[4])):
        wall, cpu = time.perf_counter(), time.process_time()
        await coordinator._run_once()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    print(json.dumps({"wall": walls[1:], "cpu": cpus[1:]}))

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


def reference_python(folder: Path, version: str) -> str:
    """The interpreter of a virtual environment with that version of the reference."""
    home = folder / f"runner-{version}"
    python = home / "bin" / "python"
    if not (home / "installed").exists():
        print(f"installing aiagent-runner {version} into {home} …", file=sys.stderr)
        venv.create(home, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *REFERENCES[version]]
        subprocess.run(command, check=True, timeout=INSTALL_SECONDS)
        (home / "installed").touch()
    return str(python)


class Server:
    """The fast server in a process of its own."""

    def __init__(self, path: str, projects: int, agents: int) -> None:
        command = [sys.executable, str(HERE / "fast_server.py"), path, str(projects), str(agents)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.read()

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def connections(self) -> int:
        """How many connections were made since the last question."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.read())

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(RUN_SECONDS)


def measure(server: Server, command: list[str]) -> tuple[dict[str, list[float]], int]:
    """Run one side once; give what its cycles took, and how many connections all of them made."""
    done = subprocess.run(command, check=True, timeout=RUN_SECONDS, capture_output=True, text=True)
    return json.loads(done.stdout), server.connections()


def run(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Measure all sides in turn; give each side's medians over all cycles of all rounds."""
    agents = min(100, options.pairs)
    projects = options.pairs // agents
    pairs = str(projects * agents)
    pythons = {version: reference_python(options.venv, version) for version in REFERENCES}
    with tempfile.TemporaryDirectory(prefix="aac-") as folder:
        path = f"{folder}/s.sock"
        server = Server(path, projects, agents)
        sides = {"ours": [sys.executable, "-c", OURS, path, pairs, str(OURS_CYCLES)]}
        for version, python in pythons.items():
            sides[version] = [
                python,
                "-c",
                REFERENCE,
                path,
                pairs,
                str(agents),
                str(REFERENCE_CYCLES),
            ]
        taken: dict[str, dict[str, list[float]]] = {
            side: {"wall": [], "cpu": [], "connections": []} for side in sides
        }
        try:
            for _ in range(options.rounds):
                for side, command in sides.items():
                    figures, connections = measure(server, command)
                    taken[side]["wall"] += figures["wall"]
                    taken[side]["cpu"] += figures["cpu"]
                    # Ours keeps one connection for all cycles; the reference has none over.
                    cycles = 1 if side == "ours" else REFERENCE_CYCLES + 2
                    taken[side]["connections"].append(connections / cycles)
        finally:
            server.end()
    return {
        side: {key: statistics.median(values) for key, values in figures.items()}
        for side, figures in taken.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=1000, help="rounded down to full hundreds")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--venv", type=Path, default=Path(tempfile.gettempdir()) / "aiagent-coordinator-bench"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    medians = run(options)
    ours = medians["ours"]
    report: dict[str, Any] = {"pairs": options.pairs, "sides": medians, "ratios": {}}
    for version in REFERENCES:
        side = medians[version]
        report["ratios"][version] = {
            "wall": side["wall"] / ours["wall"],
            "cpu": side["cpu"] / ours["cpu"],
        }
    if options.json:
        print(json.dumps(report))
    else:
        show(report)
    ratio = report["ratios"]["0.1.3"]
    met = (
        ratio["wall"] >= WALL_GOAL
        and ratio["cpu"] >= CPU_GOAL
        and ours["connections"] <= CONNECTIONS_GOAL
    )
    return 0 if met else 1


def show(report: dict[str, Any]) -> None:
    print(f"one cycle, {report['pairs']} pairs, all hold; medians")
    for side, figures in report["sides"].items():
        wall, cpu = figures["wall"] * 1e3, figures["cpu"] * 1e3
        name = side if side == "ours" else f"aiagent-runner {side}"
        print(
            f"  {name:22} wall {wall:7.2f} ms  CPU {cpu:7.2f} ms  connections {figures['connections']:g}"
        )
    for version, ratio in report["ratios"].items():
        print(
            f"  ours against {version:6}: wall {ratio['wall']:.1f}x less (goal {WALL_GOAL}x), "
            f"CPU {ratio['cpu']:.1f}x less (goal {CPU_GOAL}x)"
        )


if __name__ == "__main__":
    sys.exit(main())
