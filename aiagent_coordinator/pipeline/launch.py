"""Launch and exit: the shim is started and let go, and its end is told.

The order matters: the shim is alive and known to the server before the CLI is let go, so that
nobody can answer for a run that the board has not heard of.
"""

from __future__ import annotations

import logging

from aiagent_coordinator import failpoints
from aiagent_coordinator.clock import iso
from aiagent_coordinator.errors import ExecutorError, StaleRunError
from aiagent_coordinator.executors.base import Hold, HoldState
from aiagent_coordinator.paths import host_id
from aiagent_coordinator.pipeline.context import Context, Control
from aiagent_coordinator.pipeline.launching import spec_for
from aiagent_coordinator.pipeline.run import RunRecord, Stage
from aiagent_coordinator.providers.modes import listens_of
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: What of the answer to the exit decides how the run ended.
_KEPT = ("report", "question", "hello_at", "authenticated_at", "unanswered")


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
        Stage.LAUNCH,
        shim=hold.shim,
        launched_at=record.launched_at or iso(context.clock.now()),
        launched_monotonic=record.launched_monotonic or context.clock.monotonic(),
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
            "answers_on_stdin": record.stdin == "answers",
            "listens": listens_of(context.catalog.get(record.provider), is_live=record.is_live),
        },
    )


def _tool_timeout(record: RunRecord, context: Context) -> float | None:
    """How long the CLI lets a call of ours take; None for one that calls nothing."""
    definition = context.catalog.get(record.provider)
    return definition.mcp.tool_timeout_seconds if definition.can_report else None


def observe(record: RunRecord, hold: Hold, context: Context) -> RunRecord:
    """Take over what was found when the tree was gone."""
    now = iso(context.clock.now())
    found = hold.record
    record = record.at(
        Stage.EXIT, leftovers=tuple(context.masker.mask_text(one) for one in hold.leftovers)
    )
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


def _tell_leftovers(record: RunRecord, context: Context) -> None:
    if not record.leftovers:
        return
    ended = context.limits_of(record).kill_leftovers
    log_event(
        logger,
        logging.INFO,
        "run.leftovers",
        "ended what the CLI left behind" if ended else "the CLI left processes behind",
        run_id=record.run_id,
        task_id=record.task["id"],
        leftovers=list(record.leftovers),
        ended=ended,
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
        "leftovers": list(record.leftovers),
        "leftovers_ended": context.limits_of(record).kill_leftovers,
        "warnings": record.warnings,
        "heard": list(record.heard),
    }
    _tell_leftovers(record, context)
    try:
        facts = await context.reporter.deliver(record.run_id, 1, "report_run_exit", report)
    except StaleRunError:
        return record.at(Stage.SEAL, superseded=True)
    kept = {key: facts.get(key) for key in _KEPT}
    return record.at(Stage.SEAL, facts=kept)
