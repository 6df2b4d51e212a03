"""Leases: says regularly what this coordinator holds, and hears what the server knows about it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import anyio

from aiagent_coordinator.coordinator.link import Link
from aiagent_coordinator.coordinator.supervisor import LiveRun, Supervisor
from aiagent_coordinator.errors import CoordinatorError, OvertakenError, StaleRunError
from aiagent_coordinator.executors.base import HoldState
from aiagent_coordinator.pipeline.run import Stage
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: A third of the lease: two renewals may be lost before it ends.
RENEW_SECONDS = 30.0
#: The least time between two renewals that only tell what programs say of themselves.
LIVE_SECONDS = 5.0
#: The wire's word for each stage.
PHASES = {
    Stage.CLAIM: "starting",
    Stage.PREPARE: "starting",
    Stage.LAUNCH: "starting",
    Stage.WATCH: "running",
}

#: What a run learns from the answer to a renewal.
_LEARNT = ("report", "question", "hello_at", "authenticated_at", "tells", "tell_at")


class Renewal:
    """Renews all leases in one call, every so many seconds and whenever the server has news."""

    def __init__(self, supervisor: Supervisor, link: Link, seconds: float = RENEW_SECONDS) -> None:
        self._seconds = seconds
        self._supervisor = supervisor
        self._link = link
        self._news = anyio.Event()
        self._urgent = anyio.Event()

    def wake(self) -> None:
        """The server has something to say about our runs, or must hear something: ask now."""
        self._urgent.set()
        self._news.set()

    def wake_soon(self) -> None:
        """There is something to tell that may wait a little: renew soon."""
        self._news.set()

    async def run(self) -> None:
        """Renew until cancelled; a server that is away is asked again when it is back.

        Raises:
            OvertakenError: the server knows a later life of this coordinator.
        """
        while True:
            await self._link.wait_up()
            try:
                await self.renew()
            except OvertakenError:
                raise
            except CoordinatorError as error:
                log_event(
                    logger,
                    logging.WARNING,
                    "report.retry",
                    "a renewal was not taken",
                    error=error.message,
                )
                await anyio.sleep(1)
            await self._rest()
            self._news, self._urgent = anyio.Event(), anyio.Event()

    async def _rest(self) -> None:
        """Return when the next renewal is due."""
        began = anyio.current_time()
        with anyio.move_on_after(self._seconds):
            await self._news.wait()
            with anyio.move_on_after(LIVE_SECONDS - (anyio.current_time() - began)):
                await self._urgent.wait()

    async def renew(self) -> None:
        """One renewal: the complete list of what we hold, and what follows from the answer."""
        runs = self._supervisor.runs.values()
        held = [live for live in runs if live.record.claim]
        news = [live.control.news() for live in held]
        answer = await self._call(
            {
                "coordinator_id": self._supervisor.tenure.coordinator_id,
                "epoch": self._supervisor.tenure.epoch,
                "runs": [_describe(*one) for one in zip(held, news, strict=True)],
            }
        )
        for live, told in zip(held, news, strict=True):
            live.control.has_told(told)
        for item in answer.get("runs", []):
            live = self._supervisor.runs.get(item["run_id"])
            if live is not None:
                _tell(live, item)
        for run_id in answer.get("unlisted", []):
            if run_id not in self._supervisor.runs:
                await self._account_for(run_id)

    async def _call(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await self._link.call("renew_runs", arguments)
        except StaleRunError as error:
            # Only a later life of this coordinator gets this answer to a renewal.
            raise OvertakenError(error.message, hint=error.hint) from error

    async def _account_for(self, run_id: str) -> None:
        """Say what became of a run that the server believes we hold and our journal does not know.

        That happens when the journal was lost or rebuilt. Its folder tells whether it ever ran.
        """
        context, tenure = self._supervisor.context, self._supervisor.tenure
        held = await anyio.to_thread.run_sync(context.executor.inspect, context.state.run(run_id))
        if held.state is HoldState.FOREIGN_FORMAT:
            return  # reported when it was found, and left to the program that made it
        if held.state is HoldState.HELD:
            # Nobody can drive it without its record: its tree must not outlive what we say of it.
            await context.executor.signal(context.state.run(run_id), "T")
            await context.executor.wait(context.state.run(run_id))
        outcome = "lost" if held.started else "not_started"
        log_event(
            logger,
            logging.ERROR,
            "run.lost",
            "a run of ours is not in the journal",
            outcome=outcome,
            run_id=run_id,
        )
        await self._link.call(
            "disown_run",
            {
                "run_id": run_id,
                "coordinator_id": tenure.coordinator_id,
                "epoch": tenure.epoch,
                "outcome": outcome,
            },
        )


def _describe(live: LiveRun, news: Mapping[str, Any]) -> dict[str, Any]:
    record = live.record
    line = {
        "run_id": record.run_id,
        "fence": record.fence,
        "phase": PHASES.get(record.stage, "finishing"),
        "warnings": {**record.warnings, **live.control.warnings},
        "heard": list(live.control.heard),
    }
    return {**line, "live": news} if news else line


def _tell(live: LiveRun, item: Mapping[str, Any]) -> None:
    if item.get("stop"):
        live.control.stop(str(item["stop"].get("reason") or "stopped"))
    live.control.learn({key: item.get(key) for key in _LEARNT})
