"""What it weighs: memory of the daemon, cold starts of quick commands, time until the socket answers.

    python benchmarks/footprint.py [--starts 15]

Ratios against a bare interpreter and against `import mcp`, taken in the same run.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from aiagent_coordinator.wire.client import BlockingClient  # noqa: E402
from aiagent_coordinator.wire.protocol import hello_person  # noqa: E402
from support.house import House, house, until  # noqa: E402 - the path is set above

PAIRS = (10, 100)  # agents, projects
CONNECTIONS = 100


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def cold(argv: Sequence[str], env: dict[str, str]) -> float:
    """Milliseconds of one whole start."""
    began = time.perf_counter()
    subprocess.run(argv, capture_output=True, env=env, check=True, timeout=60)
    return (time.perf_counter() - began) * 1000


def import_mcp() -> tuple[float, float]:
    """Milliseconds and MiB of a process that imports mcp and nothing else."""
    code = "import mcp, sys; sys.stdout.write('x'); sys.stdout.flush(); sys.stdin.read()"
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout
    process.stdout.read(1)
    took = (time.perf_counter() - began) * 1000
    weight = rss_mib(process.pid)
    process.communicate(b"")
    return took, weight


def show(name: str, ratio: float, goal: float, detail: str) -> None:
    verdict = "reached" if ratio <= goal else "missed"
    print(f"{name:<44} ratio {ratio:5.2f}   goal <= {goal:<4} {verdict:<8} {detail}")


def quick_commands(home: House, starts: int) -> None:
    """Cold starts of the quick commands against a bare interpreter."""
    env = {**os.environ, **home.env}
    program = [sys.executable, "-m", "aiagent_coordinator"]
    console = Path(sys.executable).with_name("aiagent-coordinator")
    if console.exists():
        program = [str(console)]
    wanted = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "--version": [*program, "--version"],
        "--help": [*program, "--help"],
        "status": [*program, "status", "--config", str(home.config)],
    }
    for argv in wanted.values():
        cold(argv, env)
    times: dict[str, list[float]] = {name: [] for name in wanted}
    for _ in range(starts):
        for name, argv in wanted.items():
            times[name].append(cold(argv, env))
    middle = {name: statistics.median(values) for name, values in times.items()}
    bare = middle.pop("python -c pass")
    for (name, took), goal in zip(middle.items(), (3, 5, 8), strict=True):
        show(f"cold start of {name}", took / bare, goal, f"{took:.0f} ms, bare {bare:.0f} ms")


def first_answer(home: House) -> float:
    """Milliseconds from starting the daemon to the first answered tool call."""
    began = time.perf_counter()
    home.start()
    key = home.state / "operator.key"
    until("the socket is there", lambda: home.socket.exists() and key.exists())
    hello = hello_person(key.read_text(encoding="ascii").strip())

    def answered() -> bool:
        try:
            with BlockingClient(str(home.socket), hello, 10) as person:
                return bool(person.call("get_status", {}))
        except Exception:
            return False

    until("a call is answered", answered)
    return (time.perf_counter() - began) * 1000


def many(home: House) -> None:
    """A configuration of 1000 pairs on one repository."""
    agents, projects = PAIRS
    home.write(
        agents={f"a{number}": {"provider": "rehearsal"} for number in range(agents)},
        projects=[
            {"id": f"p{number}", "path": str(home.repo), "shared_path": True}
            for number in range(projects)
        ],
    )


def largest_imports(pid: int) -> None:
    """What of the product's heavy friends is resident, asked of a process that imports the same."""
    del pid
    code = (
        "import sys, aiagent_coordinator.daemon, aiagent_coordinator.server.app,"
        " aiagent_coordinator.server.adapter, aiagent_coordinator.store.engine;"
        "names = {m.split('.')[0] for m in sys.modules};"
        "print(*sorted(names & {'alembic', 'rich', 'click', 'mcp', 'sqlalchemy', 'starlette',"
        " 'uvicorn', 'pydantic', 'yaml', 'anyio', 'httpx2', 'jsonschema', 'cryptography'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True
    )
    print("  resident:", done.stdout.strip())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=15)
    chosen = parser.parse_args()
    # An installed program is compiled: the first start here leaves it so, this variable would forbid it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="aab-") as name, house(Path(name)) as home:
        many(home)
        took, weight = zip(*(import_mcp() for _ in range(5)), strict=True)
        importing, heavy = statistics.median(took), statistics.median(weight)
        answers: list[float] = []
        for _ in range(5):
            answers.append(first_answer(home))
            home.run("stop")
        show(
            "start -> first answered call",
            statistics.median(answers) / importing,
            1.3,
            f"{statistics.median(answers):.0f} ms, import mcp {importing:.0f} ms",
        )
        process = home.ready()
        quick_commands(home, chosen.starts)
        sockets = [socket.socket(socket.AF_UNIX) for _ in range(CONNECTIONS)]
        for one in sockets:
            one.connect(str(home.socket))
        time.sleep(3)
        memory = rss_mib(process.pid)
        show(
            "memory of the daemon, 1000 pairs",
            memory / heavy,
            1.6,
            f"{memory:.0f} MiB, import mcp {heavy:.0f} MiB, {CONNECTIONS} connections",
        )
        largest_imports(process.pid)
        home.run("stop")
        home.ready("serve")
        alone = home.start("coordinate")
        time.sleep(3)
        verdict = "reached" if rss_mib(alone.pid) <= 40 else "missed"
        print(
            f"{'memory of coordinate alone':<44} {rss_mib(alone.pid):5.0f} MiB   goal <= 40   {verdict}"
        )


if __name__ == "__main__":
    main()
