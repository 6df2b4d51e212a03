"""What starting a run costs: bare shims, and the executor's own start beside them.

    python benchmarks/spawn.py [--rounds N] [--json]

`first instruction` is the moment the shim notes after the command's exec. All figures are of one
machine and one run, interleaved; ratios are what may be compared.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import anyio

from aiagent_coordinator.executors.base import LaunchSpec
from aiagent_coordinator.executors.inspection import inspect
from aiagent_coordinator.executors.local import LocalExecutor
from aiagent_coordinator.executors.programs import copy_programs

PYTHON = os.path.realpath(sys.executable)
COMMAND = ("/bin/sleep", "1000")
COUNT = 20
#: What a server of ready-made shims would be: it has the program loaded and forks one per request.
FORKING = """
import os, sys
program = compile(open(sys.argv[1]).read(), "shim.py", "exec", optimize=2)
names = {"__name__": "shim"}
exec(program, names)
sys.stdin.readline()
for pair in sys.argv[2:]:
    directory, _, lock = pair.rpartition(":")
    if os.fork() == 0:
        os.setsid()
        sys.argv = ["shim", directory, lock]
        names["main"]()
        os._exit(0)
    os.close(int(lock))
sys.stdin.readline()
"""


def spec(gate_seconds: float | None = None) -> LaunchSpec:
    return LaunchSpec("run", COMMAND, Path("/"), {}, gate_seconds=gate_seconds)


def ready(root: Path, count: int) -> list[tuple[Path, int]]:
    """Run directories with everything a shim reads, and their locks."""
    locks: list[tuple[Path, int]] = []
    for number in range(count):
        directory = root / f"bare{number}"
        directory.mkdir()
        facts = {
            "format": 1,
            "argv": COMMAND,
            "cwd": "/",
            "stdin": "null",
            "gate_seconds": None,
            "grace_seconds": 1,
            "kill_leftovers": True,
        }
        (directory / "spec.json").write_text(json.dumps(facts))
        os.mkfifo(directory / "ctl")
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        locks.append((directory, lock))
    return locks


def bare_starts(root: Path, count: int, program: Path) -> float:
    """Seconds from the first Popen to the last command's first instruction; files made before."""
    locks = ready(root, count)
    begin = time.time_ns()
    for directory, lock in locks:
        child = subprocess.Popen(
            [PYTHON, "-I", "-S", str(program), str(directory), str(lock)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
            pass_fds=(lock,),
            start_new_session=True,
        )
        child.returncode = 0  # ends with its command, below
        os.close(lock)
    return last_start([directory for directory, _ in locks]) - begin / 1e9


def forked_starts(root: Path, count: int, source: Path) -> tuple[float, float]:
    """The same from a process that has the shim loaded: seconds, and MiB of memory per shim."""
    locks = ready(root, count)
    pairs = [f"{directory}:{lock}" for directory, lock in locks]
    with subprocess.Popen(
        [PYTHON, "-I", "-S", "-c", FORKING, str(source), *pairs],
        stdin=subprocess.PIPE,
        env={},
        pass_fds=[lock for _, lock in locks],
    ) as server:
        assert server.stdin is not None
        for _, lock in locks:
            os.close(lock)
        time.sleep(0.1)  # until it is ready, as it would be
        begin = time.time_ns()
        server.stdin.write(b"go\n")
        server.stdin.flush()
        took = last_start([directory for directory, _ in locks]) - begin / 1e9
        used = memory(root)["Pss"]
        anyio.run(end_all, [directory for directory, _ in locks])
    return took, used


async def executor_starts(root: Path, count: int) -> float:
    """The same through hold and go, files and copies of the programs included."""
    executor = LocalExecutor()
    directories = [root / f"ours{number}" for number in range(count)]
    begin = time.time_ns()

    async def one(directory: Path) -> None:
        copy_programs(directory)
        await executor.hold(directory, replace(spec(60.0)), directory / "shim.py")
        await executor.go(directory)

    async with anyio.create_task_group() as group:
        for directory in directories:
            group.start_soon(one, directory)
    return last_start(directories) - begin / 1e9


def last_start(directories: list[Path]) -> float:
    stamps: list[int] = []
    for directory in directories:
        while not (directory / "started").exists():
            time.sleep(0.001)
        stamps.append(json.loads((directory / "started").read_text())["at_ns"])
    return max(stamps) / 1e9


def bare_python() -> float:
    begin = time.perf_counter()
    subprocess.run([PYTHON, "-I", "-S", "-c", "pass"], check=True, env={})
    return time.perf_counter() - begin


def memory(root: Path) -> dict[str, float]:
    """Mean memory of the idle shims of a root, in MiB."""
    sums = {"Pss": 0.0, "Rss": 0.0}
    shims = [found.shim for path in root.iterdir() if (found := inspect(path)).shim]
    for shim in shims:
        for line in Path(f"/proc/{shim.pid if shim else 0}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in sums:
                sums[name] += int(value.split()[0]) / 1024 / len(shims)
    return sums


def held(folder: str) -> list[Path]:
    return [lock.parent for lock in Path(folder).glob("*/lock")]


async def end_all(directories: list[Path]) -> float:
    """Kill every tree; seconds until all are gone."""
    executor = LocalExecutor()
    begin = time.perf_counter()

    async def one(directory: Path) -> None:
        await executor.signal(directory, "K")
        await executor.wait(directory)

    async with anyio.create_task_group() as group:
        for directory in directories:
            group.start_soon(one, directory)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    samples: dict[str, list[float]] = {}
    pss = rss = forked_pss = 0.0
    with tempfile.TemporaryDirectory(prefix="aac-spawn-") as name:
        programs = Path(name) / "programs"
        copy_programs(programs)
        compiled, source = programs / "shim.pyc", programs / "shim.py"
        for round_number in range(options.rounds + 1):
            measured: dict[str, float] = {"bare python": bare_python()}
            for title, count, program in (
                ("one bare shim", 1, compiled),
                ("one bare shim, not compiled", 1, source),
                (f"{COUNT} bare shims", COUNT, compiled),
            ):
                with tempfile.TemporaryDirectory(dir=name) as folder:
                    measured[title] = bare_starts(Path(folder), count, program)
                    if count == COUNT:
                        used = memory(Path(folder))
                        pss, rss = used["Pss"], used["Rss"]
                    measured[f"end of {count}"] = anyio.run(end_all, held(folder))
            for count, title in ((1, "one forked shim"), (COUNT, f"{COUNT} forked shims")):
                with tempfile.TemporaryDirectory(dir=name) as folder:
                    measured[title], forked_pss = forked_starts(Path(folder), count, source)
            for title, count in (("one hold + go", 1), (f"{COUNT} hold + go", COUNT)):
                with tempfile.TemporaryDirectory(dir=name) as folder:
                    measured[title] = anyio.run(executor_starts, Path(folder), count)
                    anyio.run(end_all, held(folder))
            if round_number:  # the first warms the caches
                for title, seconds in measured.items():
                    samples.setdefault(title, []).append(seconds)
    result = {title: statistics.median(values) * 1000 for title, values in samples.items()}
    result["ratio of 20 hold + go to 20 bare"] = result["20 hold + go"] / result["20 bare shims"]
    result["idle shim PSS MiB"], result["idle shim RSS MiB"] = pss, rss
    result["forked shim PSS MiB"] = forked_pss
    if options.json:
        print(json.dumps(result))
        return
    for title, value in result.items():
        unit = "" if "MiB" in title or "ratio" in title else " ms"
        print(f"{title:36} {value:8.2f}{unit}")


if __name__ == "__main__":
    main()
