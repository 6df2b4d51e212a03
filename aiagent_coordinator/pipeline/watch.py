"""Watch: a running run is looked after until its tree is gone.

It is ended when somebody asks, when it is over a limit, or when it stays after its work is done.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import anyio

from aiagent_coordinator.clock import parse_iso
from aiagent_coordinator.executors.base import Sample
from aiagent_coordinator.pipeline.confinement import trouble_of
from aiagent_coordinator.pipeline.context import Context, Control
from aiagent_coordinator.pipeline.launch import observe
from aiagent_coordinator.pipeline.limits import Finding, Judge, Reading, RunLimits
from aiagent_coordinator.pipeline.run import RunRecord, Stage
from aiagent_coordinator.pipeline.stated import lacks_our_tools, stated_by, stream_of
from aiagent_coordinator.pipeline.telling import Telling
from aiagent_coordinator.pipeline.waits import WAITS, Patience
from aiagent_coordinator.providers.digest import Digest
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: How often a running run is looked at when nothing else happens.
WATCH_SECONDS = 1.0
#: How often its processes are looked at when no limit needs it sooner.
LOOK_SECONDS = 5.0

Number = TypeVar("Number", int, float)


async def run(record: RunRecord, context: Context, control: Control) -> RunRecord:
    """Wait until the run's tree is gone; stop it when it is to be stopped."""
    folder = context.state.run(record.run_id)
    judge = Judge(context.limits_of(record), context.clock.monotonic())
    telling = Telling(record, context, control)
    if control.stream is None and record.shim is not None:
        control.stream = await anyio.to_thread.run_sync(stream_of, record, context)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_look_after, record, context, control, judge, telling)
        await context.executor.wait(folder)
        tasks.cancel_scope.cancel()
    await telling.listen()
    if control.stop_reason:
        record = record.at(Stage.WATCH, stop_reason=control.stop_reason)
    found = await anyio.to_thread.run_sync(context.executor.inspect, folder)
    record = observe(record, found, context)
    if record.exit_reason is None and record.exit_code:
        trouble = await anyio.to_thread.run_sync(trouble_of, record, folder)
        if trouble is not None:
            record = record.at(Stage.EXIT, exit_reason="spawn_failed", error=trouble)
    if control.stream is not None:
        stated = await anyio.to_thread.run_sync(stated_by, control.stream)
        record = record.at(Stage.EXIT, stated=stated)
        control.say((stated or {}).get("live", {}))
    return record.at(
        Stage.EXIT,
        warnings={**record.warnings, **control.warnings},
        heard=tuple(control.heard),
        cpu_seconds=_most(record.cpu_seconds, judge.cpu_seconds),
        peak_rss=_most(record.peak_rss, judge.peak_memory_bytes),
        peak_processes=judge.peak_processes or None,
    )


def _most(told: Number | None, seen: Number) -> Number | None:
    """The larger of what the system told at the end and what was seen meanwhile."""
    return max(told or seen, seen) or told


async def _look_after(
    record: RunRecord, context: Context, control: Control, judge: Judge, telling: Telling
) -> None:
    """Stop the tree when asked, when it is over a limit, or when it lingers."""
    folder = context.state.run(record.run_id)
    limits = context.limits_of(record)
    sent: str | None = None
    reading = _Readings(folder, context, limits)
    definition = context.definition_of(record)
    patience = Patience(folder, definition, context.masker, limits.retry_seconds)
    reported_at: float | None = None
    told_at: float | None = None
    while True:
        await control.wait_changed(WATCH_SECONDS)
        now = context.clock.monotonic()
        if reported_at is None and control.facts.get("report"):
            reported_at = now
        if reported_at is not None and now - reported_at > limits.linger_seconds:
            control.stop("lingering")
        if told_at is None and _is_told_to_leave(control):
            told_at = now
        if told_at is not None and now - told_at > limits.asked_linger_seconds:
            control.stop("asked")
        if _is_over_time(record, context, limits):
            control.stop("timed_out")
        await _deliver_answer(record, context, control)
        await telling.go_on()
        await _listen(control)
        await _see_whether_it_waits(patience, record, context, control)
        taken = await reading.take(now)
        for finding in judge.judge(replace(taken, awaits_person=_awaits_person(record, control))):
            _heed(finding, record, control)
            wait = patience.wait_of(_digest_of(control)) if finding.reason == "stalled" else None
            if wait is not None:
                control.warn(Finding(WAITS, wait.text))
        wanted = "K" if control.kill else "T"
        if control.stop_reason and sent != wanted:
            # The reason is on the disk before the signal: a life after ours must not take our
            # stop for the CLI's own end.
            stopping = record.at(Stage.WATCH, stop_reason=control.stop_reason)
            await context.reporter.save(
                stopping.at(Stage.WATCH, warnings={**record.warnings, **control.warnings})
            )
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


async def _listen(control: Control) -> None:
    """Read what the program printed since the last look, and take what it says of itself."""
    stream = control.stream
    if stream is None or not await stream.look():
        return
    control.say(stream.live())
    if lacks_our_tools(stream.digest) and "tools_absent" not in control.warnings:
        text = "its program says that it could not reach our server: our tools are absent"
        control.warn(Finding("tools_absent", text))


async def _see_whether_it_waits(
    patience: Patience, record: RunRecord, context: Context, control: Control
) -> None:
    """End a run whose program does nothing but ask its provider again."""
    if patience.has_more():
        await anyio.to_thread.run_sync(patience.read, context.clock.now())
    finding = patience.judge(context.clock.monotonic(), _digest_of(control))
    if finding is not None and control.stop_reason is None:
        _heed(finding, record, control)


def _digest_of(control: Control) -> Digest | None:
    return None if control.stream is None else control.stream.digest


def _heed(finding: Finding, record: RunRecord, control: Control) -> None:
    """Tell of a limit that was reached, once, and stop the run if that is what it means."""
    if finding.kind not in control.warnings or finding.reason is None:
        control.warn(finding)
        log_event(
            logger,
            logging.WARNING,
            "run.warning",
            finding.text,
            run_id=record.run_id,
            task_id=record.task["id"],
            kind=finding.kind,
        )
    if finding.reason is not None:
        control.stop(finding.reason)


async def _deliver_answer(record: RunRecord, context: Context, control: Control) -> None:
    """Give an answer to the CLI's standard input; the question's id makes it once."""
    question: dict[str, Any] = control.facts.get("question") or {}
    answer = question.get("answer")
    if record.stdin != "answers" or answer is None or question["id"] in control.delivered:
        return
    folder = context.state.run(record.run_id)
    if await context.executor.answer(folder, str(question["id"]), str(answer)):
        control.delivered.add(question["id"])


def _awaits_person(record: RunRecord, control: Control) -> bool:
    """Whether the CLI sits there until a person answers."""
    question: dict[str, Any] = control.facts.get("question") or {}
    return record.stdin == "answers" and question.get("answered") is False


def _is_told_to_leave(control: Control) -> bool:
    """Whether the agent asked, had no answer in time, and has reported nothing since."""
    question: dict[str, Any] = control.facts.get("question") or {}
    return bool(question.get("pending")) and not control.facts.get("report")


def _is_over_time(record: RunRecord, context: Context, limits: RunLimits) -> bool:
    """Whether the run takes longer than any may; counted across lives of ours."""
    limit, since = limits.run_seconds, parse_iso(record.launched_at)
    if limit is None or since is None:
        return False
    if record.launched_monotonic is not None:
        return context.clock.monotonic() - record.launched_monotonic > limit
    # an older version's record has only the time of day
    return (context.clock.now() - since).total_seconds() > limit


class _Readings:
    """Takes readings of one run; looks at its processes as often as its limits need."""

    def __init__(self, folder: Path, context: Context, limits: RunLimits) -> None:
        self._folder = folder
        self._executor = context.executor
        self._limits = limits
        self._sample: Sample | None = None
        self._due = context.clock.monotonic()
        # Twice before half of the silence: a look must be able to see life in time.
        seldom = max(WATCH_SECONDS, min(LOOK_SECONDS, limits.silence_seconds / 4))
        self._pause = WATCH_SECONDS if limits.watches_tree else seldom

    async def take(self, now: float) -> Reading:
        if now >= self._due:
            self._due = now + self._pause
            self._sample = await self._executor.sample(
                self._folder, exact_above=self._limits.memory_bytes
            )
        log_bytes = sum(max(0, _size(self._folder / name)) for name in ("out", "err"))
        return Reading(now, log_bytes, self._sample)


def _size(path: Path) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_size  # noqa: PTH116 - one call a second a run
    except OSError:
        return -1
