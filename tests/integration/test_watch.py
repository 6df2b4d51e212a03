"""Watching a run that asked: it may leave by itself, and is ended when it does not."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiagent_coordinator.clock import Clock, ManualClock, SystemClock, iso
from aiagent_coordinator.executors.base import LaunchSpec
from aiagent_coordinator.executors.local import LocalExecutor
from aiagent_coordinator.executors.programs import copy_programs
from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.pipeline.context import Context, Control, RunLimits
from aiagent_coordinator.pipeline.outcome import decide
from aiagent_coordinator.pipeline.run import RunRecord, Stage
from aiagent_coordinator.pipeline.watch import run as watch
from aiagent_coordinator.providers.catalog import load_catalog
from aiagent_coordinator.redaction import Masker

SLEEPER = (sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)")
PATIENCE = 30.0
PENDING = {"id": "qst_1", "at": "t", "answered": False, "pending": True}


class Kept:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.records: list[RunRecord] = []

    async def save(self, record: RunRecord) -> None:
        self.records.append(record)

    async def deliver(
        self, run_id: str, seq: int, tool: str, arguments: Mapping[str, Any]
    ) -> dict[str, Any]:
        raise AssertionError((run_id, seq, tool, arguments))


async def _watch(
    root: Path, limits: RunLimits, control: Control, clock: Clock | None = None
) -> tuple[RunRecord, Kept]:
    clock = clock or SystemClock()
    state = StateDir(root / "state")
    state.create()
    folder, kept = state.run("run_1"), Kept()
    context = Context(
        state=state,
        socket=root / "s",
        executor=LocalExecutor(),
        catalog=load_catalog({}),
        clock=clock,
        environ=dict(os.environ),
        masker=Masker(()),
        reporter=kept,
        limits=limits,
    )
    copy_programs(root / "programs")
    spec = LaunchSpec("run_1", SLEEPER, root, {}, grace_seconds=1.0)
    await context.executor.hold(folder, spec, root / "programs" / "shim.py")
    record = RunRecord(
        "run_1",
        "a",
        "p",
        "task",
        0,
        "rehearsal",
        stage=Stage.WATCH,
        claim={"task": {"id": "tsk_1"}},
        launched_at=iso(clock.now()),
        launched_monotonic=clock.monotonic() or 0.001,
    )
    try:
        with anyio.fail_after(PATIENCE):
            return await watch(record, context, control), kept
    finally:
        with anyio.CancelScope(shield=True):
            await context.executor.signal(folder, "K")


async def test_a_cli_that_stays_after_it_was_told_to_leave_is_ended_and_only_suspended(
    tmp_path: Path,
) -> None:
    control = Control()
    control.learn({"question": PENDING})
    record, kept = await _watch(tmp_path, RunLimits(asked_linger_seconds=0.1), control)
    assert (record.stop_reason, record.exit_reason) == ("asked", "stopped")
    assert [one.stop_reason for one in kept.records] == ["asked"]
    judged = record.at(Stage.COLLECT, facts={"question": PENDING})
    end = decide(judged, exit0_is_success=False, diagnosed=None)
    assert (end.outcome, end.reason) == ("suspended", "asked")


@pytest.mark.parametrize(
    "facts",
    [
        {"question": {**PENDING, "pending": False}},
        {"question": PENDING, "report": {"result": "success"}},
        {},
    ],
)
async def test_a_cli_that_still_waits_or_has_reported_is_left_alone(
    tmp_path: Path, facts: dict[str, Any]
) -> None:
    control = Control()
    control.learn(facts)
    with anyio.move_on_after(2.5) as scope:
        await _watch(tmp_path, RunLimits(asked_linger_seconds=0.1), control)
    assert scope.cancelled_caught


async def test_a_run_that_takes_longer_than_any_may_is_ended(tmp_path: Path) -> None:
    record, _ = await _watch(tmp_path, RunLimits(run_seconds=0.5), Control())
    assert record.stop_reason == "timed_out"
    end = decide(record, exit0_is_success=False, diagnosed=None)
    assert (end.outcome, end.reason) == ("failed", "timed_out")


@pytest.mark.parametrize("seconds", [86400, -86400, 3600])
async def test_a_clock_that_was_set_or_stood_still_in_sleep_ends_no_run(
    tmp_path: Path, seconds: float
) -> None:
    """A day on, a day back, an hour of sleep: limits count the time a run had, and then they hold."""
    clock = ManualClock()
    limits = RunLimits(run_seconds=600, silence_seconds=600, linger_seconds=600)
    control = Control()
    control.learn({"report": {"result": "success"}})
    ended: list[RunRecord] = []

    async def watch_it() -> None:
        ended.append((await _watch(tmp_path, limits, control, clock))[0])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch_it)
        started = tmp_path / "state" / "run" / "run_1" / "started"
        with anyio.fail_after(PATIENCE):
            while not started.exists():  # noqa: ASYNC110 - another process makes it
                await anyio.sleep(0.02)
        clock.jump(seconds)
        for _ in range(5):
            control.learn({})  # each is a look at every limit
            await anyio.sleep(0.05)
        assert control.stop_reason is None
        clock.advance(601)
        control.learn({})
    assert ended[0].stop_reason in {"timed_out", "lingering", "stalled"}
