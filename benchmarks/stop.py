"""What stopping costs the loop: 20 runs that ignore TERM are stopped at once.

    python benchmarks/stop.py [--runs N] [--grace SECONDS] [--json]

A task of the same loop wakes every 5 ms; what it is late by is the stall. Beside it: the same loop with
the same runs while nobody stops them, and trees stopped one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio

from aiagent_coordinator.executors.base import LaunchSpec
from aiagent_coordinator.executors.local import LocalExecutor
from aiagent_coordinator.executors.programs import copy_programs

FAKE_CLI = Path(__file__).parents[1] / "tests" / "fakes" / "fake_cli.py"
BEAT_SECONDS = 0.005
#: So long the loop is measured with nothing to do.
IDLE_SECONDS = 2.0
#: One after the other is tried with so many: their total is a product.
ONE_BY_ONE = 3


async def stalls(work: Callable[[], Awaitable[None]]) -> tuple[list[float], float]:
    """How late a beat was during some work, each in seconds, and how long the work took."""
    late: list[float] = []
    took = 0.0

    async def beat() -> None:
        while True:
            due = time.perf_counter() + BEAT_SECONDS
            await anyio.sleep(BEAT_SECONDS)
            late.append(max(0.0, time.perf_counter() - due))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(beat)
        begin = time.perf_counter()
        await work()
        took = time.perf_counter() - begin
        tasks.cancel_scope.cancel()
    return late, took


async def started(executor: LocalExecutor, root: Path, count: int, grace: float) -> list[Path]:
    """Runs that ignore TERM, each with a child in a session of its own that does too."""
    copy_programs(root / "programs")
    mark = root / "mark"
    actions = ("ignore-term", "spawn:stealth", f"mark:{mark}", "forever")
    argv = (sys.executable, "-I", "-S", str(FAKE_CLI), *actions)
    spec = LaunchSpec("run", argv, root, {}, grace_seconds=grace)
    directories = [root / str(number) for number in range(count)]
    shim = root / "programs" / "shim.py"
    async with anyio.create_task_group() as tasks:
        for directory in directories:
            tasks.start_soon(executor.hold, directory, replace(spec), shim)
    with anyio.fail_after(60):
        while not mark.exists() or len(mark.read_text().splitlines()) < count:  # noqa: ASYNC110 - a file of other processes
            await anyio.sleep(0.05)
    return directories


async def stop(executor: LocalExecutor, directory: Path) -> None:
    await executor.signal(directory, "T")
    await executor.wait(directory)


async def stop_all(executor: LocalExecutor, directories: list[Path]) -> None:
    async with anyio.create_task_group() as tasks:
        for directory in directories:
            tasks.start_soon(stop, executor, directory)


async def stop_each(executor: LocalExecutor, directories: list[Path]) -> None:
    for directory in directories:
        await stop(executor, directory)


async def measure(runs: int, grace: float) -> dict[str, float]:
    executor = LocalExecutor()
    with tempfile.TemporaryDirectory(prefix="aac-") as name:
        root = Path(name)
        directories = await started(executor, root / "all", runs, grace)
        idle, _ = await stalls(partial(anyio.sleep, IDLE_SECONDS))
        late, total = await stalls(partial(stop_all, executor, directories))
        few = await started(executor, root / "few", ONE_BY_ONE, grace)
        _, each = await stalls(partial(stop_each, executor, few))
    return {
        "idle_p99_ms": p99(idle) * 1000,
        "stall_p99_ms": p99(late) * 1000,
        "stall_max_ms": max(late) * 1000,
        "grace_s": grace,
        "total_s": total,
        "over_grace_s": total - grace,
        "one_by_one_s": each / ONE_BY_ONE * runs,
    }


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--grace", type=float, default=2.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = anyio.run(measure, options.runs, options.grace)
    if options.json:
        print(json.dumps(found))
        return
    print(f"{options.runs} runs that ignore TERM, load {os.getloadavg()[0]:.1f}")
    print(
        f"stall of the loop  p99 {found['stall_p99_ms']:6.1f} ms (goal 25), max {found['stall_max_ms']:.1f} ms;"
        f" idle p99 {found['idle_p99_ms']:.1f} ms"
    )
    print(
        f"all gone after     {found['total_s']:6.2f} s: the grace and {found['over_grace_s']:.2f} s (goal 0.3);"
        f" one by one {found['one_by_one_s']:.0f} s"
    )


if __name__ == "__main__":
    main()
