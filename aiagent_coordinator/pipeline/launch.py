"""Launch, watch and exit: the shim is started and let go, looked after, and its end is told.

The order matters: the shim is alive and known to the server before the CLI is let go, so that
nobody can answer for a run that the board has not heard of.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import anyio

from aiagent_coordinator import failpoints
from aiagent_coordinator.clock import iso, parse_iso
from aiagent_coordinator.errors import ExecutorError, StaleRunError
from aiagent_coordinator.executors.base import Hold, HoldState
from aiagent_coordinator.paths import host_id
from aiagent_coordinator.pipeline.confinement import trouble_of
from aiagent_coordinator.pipeline.context import Context, Control
from aiagent_coordinator.pipeline.launching import spec_for
from aiagent_coordinator.pipeline.run import RunRecord, Stage
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: How often a running run is looked at when nothing else happens.
WATCH_SECONDS = 1.0


async def launch(record: RunRecord, context: Context, control: Control) -> RunRecord:
    """Start the shim, tell the server, open the gate."""
    folder = context.state.run(record.run_id)
    try:
        hold = await context.executor.hold(folder, spec_for(record, context), folder / "shim.py")
    except (ExecutorError, OSError) as error:
        return record.at(
            Stage.EXIT,
            exit_reason="spawn_failed",
            error=str(error),
            ended_at=iso(context.clock.now()),
        )
    if hold.state is not HoldState.HELD:
        return observe(record, hold, context)
    record = record.at(
        Stage.LAUNCH, shim=hold.shim, launched_at=record.launched_at or iso(context.clock.now())
    )
    try:
        failpoints.hit("launch.held")
        await _tell_started(record, context)
        failpoints.hit("launch.told")
    except StaleRunError:
        await context.executor.signal(folder, "K")
        return record.at(Stage.WATCH, superseded=True)
    if control.stop_reason is None:
        try:
            await context.executor.go(folder)
        except ExecutorError:
            # The shim waited too long for us, or is gone: watching finds out how it ended.
            return record.at(Stage.WATCH)
        failpoints.hit("launch.gone")
        log_event(
            logger,
            logging.INFO,
            "run.start",
            "started",
            provider=record.provider,
            run_id=record.run_id,
            task_id=record.task["id"],
            agent_id=record.agent_id,
            project_id=record.project_id,
            attempt=record.task.get("attempt"),
            branch=record.branch,
        )
    return record.at(Stage.WATCH)


async def _tell_started(record: RunRecord, context: Context) -> None:
    shim = record.shim
    if shim is None:
        message = "a held run has a shim"
        raise ExecutorError(message)
    await context.reporter.deliver(
        record.run_id,
        0,
        "report_run_started",
        {
            "run_id": record.run_id,
            "fence": record.fence,
            "seq": 0,
            "host_id": host_id(),
            "shim": {
                "pid": shim.pid,
                "start_ticks": shim.start_ticks,
                "boot_id": shim.boot_id,
            },
            "workspace": record.workspace_path,
            "branch": record.branch,
            "base_commit": record.base_commit,
            "log_path": record.log_path,
            "argv_masked": list(record.argv_masked),
            "tool_timeout_seconds": _tool_timeout(record, context),
            "resumed_session_id": record.resumed_session_id,
        },
    )


def _tool_timeout(record: RunRecord, context: Context) -> float | None:
    """How long the CLI lets a call of ours take; None for one that calls nothing."""
    definition = context.catalog.get(record.provider)
    return definition.mcp.tool_timeout_seconds if definition.can_report else None


async def watch(record: RunRecord, context: Context, control: Control) -> RunRecord:
    """Wait until the run's tree is gone; stop it when it is to be stopped."""
    folder = context.state.run(record.run_id)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_look_after, record, context, control)
        await context.executor.wait(folder)
        tasks.cancel_scope.cancel()
    if control.stop_reason:
        record = record.at(Stage.WATCH, stop_reason=control.stop_reason)
    found = await anyio.to_thread.run_sync(context.executor.inspect, folder)
    record = observe(record, found, context)
    if record.exit_reason is None and record.exit_code:
        trouble = await anyio.to_thread.run_sync(trouble_of, record, folder)
        if trouble is not None:
            return record.at(Stage.EXIT, exit_reason="spawn_failed", error=trouble)
    return record


async def _look_after(record: RunRecord, context: Context, control: Control) -> None:
    """Stop the tree when asked, when it is silent for too long, or when it lingers."""
    folder = context.state.run(record.run_id)
    sent: str | None = None
    quiet = _Quiet(folder, context)
    reported_at: float | None = None
    told_at: float | None = None
    while True:
        await control.wait_changed(WATCH_SECONDS)
        now = context.clock.monotonic()
        if reported_at is None and control.facts.get("report"):
            reported_at = now
        if reported_at is not None and now - reported_at > context.limits.linger_seconds:
            control.stop("lingering")
        if told_at is None and _is_told_to_leave(control):
            told_at = now
        if told_at is not None and now - told_at > context.limits.asked_linger_seconds:
            control.stop("asked")
        if quiet.seconds(now) > context.limits.silence_seconds:
            control.stop("stalled")
        if _is_over_time(record, context):
            control.stop("timed_out")
        wanted = "K" if control.kill else "T"
        if control.stop_reason and sent != wanted:
            # The reason is on the disk before the signal: a life after ours must not take our
            # stop for the CLI's own end.
            await context.reporter.save(record.at(Stage.WATCH, stop_reason=control.stop_reason))
            log_event(
                logger,
                logging.INFO,
                "run.stop",
                "stopping the run's processes",
                run_id=record.run_id,
                task_id=record.task["id"],
                reason=control.stop_reason,
            )
            await context.executor.signal(folder, wanted)
            sent = wanted


def _is_told_to_leave(control: Control) -> bool:
    """Whether the agent asked, had no answer in time, and has reported nothing since."""
    question: dict[str, Any] = control.facts.get("question") or {}
    return bool(question.get("pending")) and not control.facts.get("report")


def _is_over_time(record: RunRecord, context: Context) -> bool:
    """Whether the run takes longer than any may; counted across lives of ours."""
    limit, since = context.limits.run_seconds, parse_iso(record.launched_at)
    if limit is None or since is None:
        return False
    return (context.clock.now() - since).total_seconds() > limit


class _Quiet:
    """For how long a run has said nothing."""

    def __init__(self, folder: Path, context: Context) -> None:
        self._files = (folder / "out", folder / "err")
        self._sizes = (-1, -1)
        self._since = context.clock.monotonic()

    def seconds(self, now: float) -> float:
        sizes = tuple(_size(path) for path in self._files)
        if sizes != self._sizes:
            self._sizes = (sizes[0], sizes[1])
            self._since = now
        return now - self._since


def _size(path: Path) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_size  # noqa: PTH116 - one call a second a run
    except OSError:
        return -1


def observe(record: RunRecord, hold: Hold, context: Context) -> RunRecord:
    """Take over what was found when the tree was gone."""
    now = iso(context.clock.now())
    found = hold.record
    if found is None:
        return record.at(Stage.EXIT, found=hold.state.value, ended_at=now)
    return record.at(
        Stage.EXIT,
        found=hold.state.value,
        exit_code=found.exit_code,
        signal=found.signal,
        exit_reason=found.reason,
        error=found.error,
        started_at=iso(found.started_at),
        ended_at=iso(found.ended_at) or now,
        cpu_seconds=found.cpu_seconds,
        peak_rss=found.peak_rss_kib * 1024 if found.peak_rss_kib is not None else None,
    )


async def tell_exit(record: RunRecord, context: Context, _control: Control) -> RunRecord:
    """Report the exit; from then on the server frees the run's place under its limits."""
    log_event(
        logger,
        logging.INFO,
        "run.exit",
        "exited",
        found=record.found,
        reason=record.exit_reason,
        error=record.error,
        run_id=record.run_id,
        task_id=record.task["id"],
        exit_code=record.exit_code,
        signal=record.signal,
    )
    report = {
        "run_id": record.run_id,
        "fence": record.fence,
        "seq": 1,
        "exit_code": record.exit_code,
        "signal": record.signal,
        "reason": record.exit_reason,
        "started_at": record.started_at,
        "ended_at": record.ended_at or iso(context.clock.now()),
        "cpu_seconds": record.cpu_seconds,
        "peak_rss": record.peak_rss,
    }
    try:
        facts = await context.reporter.deliver(record.run_id, 1, "report_run_exit", report)
    except StaleRunError:
        return record.at(Stage.SEAL, superseded=True)
    kept = {key: facts.get(key) for key in ("report", "question", "hello_at", "authenticated_at")}
    return record.at(Stage.SEAL, facts=kept)
