"""Drives every run from its claim to its end, one task per run, stage by stage.

A run found in the journal is driven on from the stage it had reached: there is no second code path
for recovery. Cancelling a driver leaves its run as it is, journaled, with its CLI running.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import anyio
from anyio.abc import TaskGroup

from aiagent_coordinator import failpoints
from aiagent_coordinator.clock import iso
from aiagent_coordinator.coordinator import entries
from aiagent_coordinator.coordinator.journal import Journal
from aiagent_coordinator.coordinator.keeping import keep
from aiagent_coordinator.coordinator.link import Link
from aiagent_coordinator.coordinator.plan import Action, Live, Start
from aiagent_coordinator.errors import (
    CoordinatorError,
    OvertakenError,
    StoreError,
    UnavailableError,
)
from aiagent_coordinator.ids import new_run_id
from aiagent_coordinator.pipeline import STAGES, give_up
from aiagent_coordinator.pipeline.context import Context, Control
from aiagent_coordinator.pipeline.run import RunRecord, Stage
from aiagent_coordinator.runs import Assignment
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: Waits before a stage that failed unexpectedly is entered again.
STAGE_RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
#: Unexpected failures of one stage before the run is ended without it.
STAGE_ATTEMPTS = 5
#: The wait in place of these while the disk is full; such a failure is not counted.
FULL_SECONDS = 2.0
#: Stages that use the machine (git, checks): at most `max_finishing` runs are in them at once.
FINISHING = frozenset({Stage.SEAL, Stage.VERIFY, Stage.COLLECT})
#: Stages in which the run's tree may be alive and holds a place under the limits.
HOLDING = frozenset({Stage.CLAIM, Stage.PREPARE, Stage.LAUNCH, Stage.WATCH})


@dataclass
class LiveRun:
    """One run in the hands of its driver."""

    record: RunRecord
    control: Control = field(default_factory=Control)

    @property
    def as_live(self) -> Live:
        """What the plan needs to know of it."""
        record = self.record
        return Live(
            record.run_id,
            record.assignment,
            record.provider,
            record.slot,
            holds_place=record.stage in HOLDING,
        )


@dataclass(frozen=True)
class Tenure:
    """Whose runs these are: a coordinator, and which of its lives. A later life fences an earlier."""

    coordinator_id: str
    epoch: int
    #: The person whose agents they all are; None: anybody's.
    root_agent_id: str | None = None

    @property
    def root(self) -> dict[str, str]:
        """What calls that look for work say of that person."""
        return {} if self.root_agent_id is None else {"root_agent_id": self.root_agent_id}


class Notices(Protocol):
    """Who wants to know what the drivers see."""

    def changed(self) -> None:
        """A place or a slot is free."""
        ...

    def started(self, record: RunRecord) -> None:
        """A run begins."""
        ...

    def ended(self, record: RunRecord) -> None:
        """A run is over, or its intent came to nothing."""
        ...

    def warned(self) -> None:
        """A run is warned of something that the server should know soon."""
        ...

    def heard(self, is_urgent: bool) -> None:
        """A run's program says something new of itself."""
        ...

    def refused(self, assignment: Assignment, reason: str) -> None:
        """The server had nothing for this line of work."""
        ...


class Supervisor:
    """All runs of this coordinator. Owned by one task group; other tasks only read `runs`."""

    def __init__(
        self,
        context: Context,
        journal: Journal,
        link: Link,
        *,
        tenure: Tenure,
        max_finishing: int,
        notices: Notices,
    ) -> None:
        self.context = context
        self.tenure = tenure
        self.runs: dict[str, LiveRun] = {}
        self._journal = journal
        self._link = link
        self._finishing = anyio.CapacityLimiter(max_finishing)
        self._notices = notices
        self._emptied = anyio.Event()

    async def start(self, starts: Iterable[Start], tasks: TaskGroup) -> None:
        """Make run ids and tokens, journal the intents in one commit, and drive the runs.

        The token lies in the run's folder before the intent is journaled: a claim that is sent
        again after a crash must carry the same token.
        """
        records = [
            RunRecord(
                run_id=new_run_id(),
                agent_id=start.action.assignment.agent_id,
                project_id=start.action.assignment.project_id,
                purpose=start.action.assignment.purpose,
                slot=start.slot,
                provider=start.action.provider,
                lane=_lane(start.action),
            )
            for start in starts
        ]
        if not records:
            return
        folders = [self.context.state.run(record.run_id) for record in records]
        await anyio.to_thread.run_sync(_make_folders, folders)
        failpoints.hit("intent.folder")
        await self._save_all(records)
        failpoints.hit("intent.journaled")
        for record in records:
            self._notices.started(record)
            self.adopt(record, tasks)

    async def _save_all(self, records: list[RunRecord]) -> None:
        now = iso(self.context.clock.now()) or ""
        await keep(self._journal, self.context.state.runs, records, now)

    def adopt(self, record: RunRecord, tasks: TaskGroup) -> None:
        """Drive a run on from where its record stands."""
        live = LiveRun(record)
        live.control.on_warning = self._notices.warned
        live.control.on_live = self._notices.heard
        if not self.runs:
            # one event for all who wait: it is made anew only when nobody can be waiting
            self._emptied = anyio.Event()
        self.runs[record.run_id] = live
        if record.stop_reason:
            live.control.stop(record.stop_reason)
        tasks.start_soon(self._drive, live, name=record.run_id)

    async def wait_empty(self) -> None:
        """Return when no run is in hand."""
        while self.runs:
            await self._emptied.wait()

    async def _drive(self, live: LiveRun) -> None:
        failures = 0
        while live.record.stage is not Stage.DONE:
            stage = live.record.stage
            try:
                moved = await self._step(live)
            except OvertakenError:
                raise  # a later life looks after our runs: this one ends
            except Exception as error:  # noqa: BLE001 - the border of a run: logged, and tried again
                self._log_failure(live.record)
                if await anyio.to_thread.run_sync(self.context.state.is_full):
                    # no fault of the run's: what it did waits until there is room for it
                    await anyio.sleep(FULL_SECONDS)
                    continue
                failures += 1
                moved = await self._after_failure(live, error, failures)
            if moved is None:
                break
            if moved.stage is not stage:
                failures = 0
            live.record = moved
            if (stage in HOLDING) != (moved.stage in HOLDING):
                self._notices.changed()
        self.runs.pop(live.record.run_id, None)
        self._notices.ended(live.record)
        if not self.runs:
            self._emptied.set()
        self._notices.changed()

    async def _step(self, live: LiveRun) -> RunRecord | None:
        """Do one stage and journal what came of it; None when the intent came to nothing."""
        record = live.record
        began = self.context.clock.monotonic()
        failpoints.hit(f"stage.{record.stage.value}.begin")
        if record.stage is Stage.CLAIM:
            moved = await self._claim(record)
        elif record.stage in FINISHING:
            async with self._finishing:
                moved = await STAGES[record.stage](record, self.context, live.control)
        else:
            moved = await STAGES[record.stage](record, self.context, live.control)
        if moved is None:
            return None
        seconds = round(self.context.clock.monotonic() - began, 4)
        log_event(
            logger,
            logging.DEBUG,
            "run.stage",
            "stage done",
            run_id=record.run_id,
            stage=record.stage.value,
            seconds=seconds,
        )
        moved = replace(moved, stage_seconds={**moved.stage_seconds, record.stage.value: seconds})
        failpoints.hit(f"stage.{record.stage.value}.end")
        await self.context.reporter.save(moved)
        return moved

    async def _claim(self, record: RunRecord) -> RunRecord | None:
        token = await anyio.to_thread.run_sync(_read_token, self.context.state.run(record.run_id))
        arguments = {
            "run_id": record.run_id,
            "coordinator_id": self.tenure.coordinator_id,
            "epoch": self.tenure.epoch,
            "agent_id": record.agent_id,
            "project_id": record.project_id,
            "purpose": record.purpose,
            "slot": record.slot,
            "token_sha256": hashlib.sha256(token.encode()).hexdigest(),
            **self.tenure.root,
            **({"lane": record.lane} if record.lane else {}),
        }
        answer = await self._until_answered("claim_run", arguments)
        failpoints.hit("claim.answered")
        if answer.get("claimed"):
            log_event(logger, logging.DEBUG, "run.intent", "claimed", run_id=record.run_id)
            provider = str(answer["agent"].get("provider") or record.provider)
            return record.at(Stage.PREPARE, claim=answer, provider=provider)
        await self._journal.write(partial(entries.forget_run, run_id=record.run_id))
        await anyio.to_thread.run_sync(_remove_folder, self.context.state.run(record.run_id))
        self._notices.refused(
            record.assignment, str(answer.get("reason") or "nothing to do any more")
        )
        return None

    async def _until_answered(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call an idempotent tool until there is an answer; refusals count as `claimed: false`."""
        while True:
            await self._link.wait_up()
            try:
                return await self._link.call(tool, arguments)
            except UnavailableError:
                # The line went down in mid-call: the claim may or may not stand. Asking again
                # under the same run id finds out.
                await anyio.sleep(0.05)
            except CoordinatorError as error:
                return {"claimed": False, "reason": error.message}

    async def _after_failure(
        self, live: LiveRun, error: Exception, failures: int
    ) -> RunRecord | None:
        """Rest, then enter the stage again; after too many failures end the run without it."""
        record = live.record
        if failures >= STAGE_ATTEMPTS and not isinstance(error, StoreError):
            moved = give_up(record, f"{type(error).__name__}: {error}")
            try:
                if moved is not None:
                    await self.context.reporter.save(moved)
                    return moved
            except StoreError:
                self._log_failure(record)  # and tried again, as the stage is
        await anyio.sleep(STAGE_RETRY_SECONDS[min(failures, len(STAGE_RETRY_SECONDS)) - 1])
        return record

    def _log_failure(self, record: RunRecord) -> None:
        log_event(
            logger,
            logging.ERROR,
            "run.failed",
            "a stage failed unexpectedly",
            run_id=record.run_id,
            task_id=record.claim.get("task", {}).get("id"),
            stage=record.stage.value,
        )


def _lane(action: Action) -> dict[str, Any] | None:
    """What a run of this is to work on, where the board offers more than one thing."""
    if not action.lanes:
        return None
    lane = action.lanes[0]
    return {name: value for name, value in vars(lane).items() if value is not None}


def _make_folders(folders: list[Path]) -> None:
    for folder in folders:
        folder.mkdir(mode=0o700)
        token = folder / "token"
        # Written whole before it has its name: a torn token would be claimed and never work.
        draft = folder / "token.tmp"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, f"sess_{secrets.token_hex(16)}".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        draft.rename(token)


def _read_token(folder: Path) -> str:
    return (folder / "token").read_text(encoding="ascii")


def _remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
