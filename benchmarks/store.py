"""How many runs a second the SQLite store takes through claim, start, exit and result, durably.

Run: python benchmarks/store.py [FOLDER]; the folder's disk is what is measured.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

import anyio

from aiagent_coordinator.clock import SystemClock
from aiagent_coordinator.runs import Purpose, RetryPolicy, RunOutcome, ShimIdentity, Verification
from aiagent_coordinator.store import claims, projects, reports, tasks
from aiagent_coordinator.store.engine import Store, open_store
from aiagent_coordinator.store.requests import (
    ClaimRequest,
    ExitReport,
    ResultReport,
    StartedReport,
)
from aiagent_coordinator.store.sqlite_file import sqlite_url
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Project

CYCLES = 200
AT_ONCE = 20
_numbers = itertools.count()


def declare(unit: Unit) -> None:
    projects.declare_project(unit, Project("demo", "Demo", "/srv/demo"))
    projects.declare_agent(unit, Agent("writer", "Writer", "rehearsal", max_concurrent=1000))
    projects.assign(unit, "writer", "demo")


async def cycle(store: Store, slot: int, claim_seconds: list[float]) -> None:
    run_id = f"run_{next(_numbers)}"
    claim = ClaimRequest(run_id, "crd_one", 1, "writer", "demo", Purpose.TASK, slot, run_id)
    before = time.perf_counter()
    answer = await store.write(lambda unit: claims.claim_run(unit, claim, 90))
    claim_seconds.append(time.perf_counter() - before)
    fence = answer.fence or 0
    started = StartedReport(run_id, fence, 0, "here", ShimIdentity(1, 1, "b"), "/w", "/l", ("cli",))
    await store.write(lambda unit: reports.record_started(unit, started))
    gone = ExitReport(run_id, fence, 1, SystemClock().now(), exit_code=0)
    await store.write(lambda unit: reports.record_exit(unit, gone))
    result = ResultReport(run_id, fence, 2, RunOutcome.SUCCEEDED, Verification.VERIFIED)
    await store.write(lambda unit: reports.record_result(unit, result, RetryPolicy()))


async def measure(store: Store, at_once: int) -> None:
    for number in range(CYCLES):
        new = tasks.NewTask("demo", f"task {number}")
        await store.write(lambda unit, new=new: tasks.create_task(unit, new, "person"))
    claim_seconds: list[float] = []

    async def worker(slot: int) -> None:
        for _ in range(CYCLES // at_once):
            await cycle(store, slot, claim_seconds)

    before = time.perf_counter()
    async with anyio.create_task_group() as group:
        for slot in range(at_once):
            group.start_soon(worker, slot)
    seconds = time.perf_counter() - before
    middle = sorted(claim_seconds)[len(claim_seconds) // 2]
    print(
        f"{at_once:3} at once: {CYCLES / seconds:7.0f} runs/s "
        f"({4 * CYCLES / seconds:.0f} durable commits/s), claim p50 {middle * 1000:.2f} ms"
    )


def measure_disk(folder: Path) -> None:
    block = os.urandom(4096)
    with (folder / "probe").open("wb", buffering=0) as file:
        before = time.perf_counter()
        for _ in range(200):
            file.write(block)
            os.fdatasync(file.fileno())
        seconds = (time.perf_counter() - before) / 200
    print(f"floor: one 4 KiB write and fdatasync takes {seconds * 1000:.2f} ms here")


async def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as name:
        measure_disk(Path(name))
        async with open_store(sqlite_url(Path(name) / "store.db"), clock=SystemClock()) as store:
            await store.write(declare)
            await measure(store, 1)
            await measure(store, AT_ONCE)


if __name__ == "__main__":
    anyio.run(main)
