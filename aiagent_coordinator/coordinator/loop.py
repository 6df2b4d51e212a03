"""The loop: one pass after another, woken by news, with a poll as the safety net.

A pass checks the server's health, learns what should run, plans, and starts. What already runs is
looked after beside it, by one driver per run, so a slow run never delays a pass.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from aiagent_coordinator import failpoints
from aiagent_coordinator.coordinator.admission import Admission
from aiagent_coordinator.coordinator.fitness import Fitness
from aiagent_coordinator.coordinator.link import Link
from aiagent_coordinator.coordinator.listing import Listing
from aiagent_coordinator.coordinator.machine import Machine, look
from aiagent_coordinator.coordinator.plan import Limits, Plan, plan
from aiagent_coordinator.coordinator.recover import Recovery
from aiagent_coordinator.coordinator.supervisor import Supervisor
from aiagent_coordinator.errors import CoordinatorError, OvertakenError
from aiagent_coordinator.paths import LEAST_FREE_BYTES
from aiagent_coordinator.runs import Assignment
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: Passes begin at least this far apart: news that comes in a burst is one pass, not one each, and
#: the starts that the last pass decided have the processor.
APART_SECONDS = 0.05
#: A server that said it is well is not asked again so soon; the next call would show it anyway.
HEALTHY_SECONDS = 1.0
#: A line of work whose claim was refused rests this long, unless the board changes before.
REST_SECONDS = 1.0


@dataclass
class _Rest:
    """Why a line of work is left alone, until when, and for which state of the board."""

    reason: str
    until: float
    version: int


def _nobody() -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class Pulse:
    """Who is told that the loop makes progress, and how far apart that may be while it waits."""

    beat: Callable[[], None] = _nobody
    seconds: float = math.inf

    async def until(
        self, event: Callable[[], Awaitable[object]], seconds: float = math.inf
    ) -> None:
        """Wait for something, at most so long, and beat meanwhile: waiting is no standstill."""
        deadline = anyio.current_time() + seconds
        while True:
            left = deadline - anyio.current_time()
            with anyio.move_on_after(min(left, self.seconds)) as waited:
                await event()
            self.beat()
            if not waited.cancelled_caught or left <= self.seconds:
                return


@dataclass
class Loop:
    """The state of the loop between passes. Owned by the task that runs it."""

    supervisor: Supervisor
    link: Link
    recovery: Recovery
    fitness: Fitness
    admission: Admission
    limits: Limits
    polling_seconds: float
    pulse: Pulse = field(default_factory=Pulse)
    _wake: anyio.Event = field(default_factory=anyio.Event)
    _resting: dict[Assignment, _Rest] = field(default_factory=dict[Assignment, _Rest])
    #: What the server last said that should run.
    _listed: Listing = field(default_factory=Listing)
    _last_started: dict[str, int] = field(default_factory=dict[str, int])
    _starts: int = 0
    #: Agents that cannot be started here, with the reason; told to the server with each look.
    _unfit: dict[str, str] = field(default_factory=dict[str, str])
    #: What waits and why, as the server is told with the next look.
    _waits: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    _degraded: bool = False
    _healthy_until: float = 0.0
    _told: frozenset[tuple[Assignment, str]] = frozenset()

    def wake(self) -> None:
        """Something changed: make a pass soon."""
        self._wake.set()

    def rest(self, assignment: Assignment, reason: str) -> None:
        """The server had nothing for this line of work after all: leave it alone for a moment."""
        until = self.supervisor.context.clock.monotonic() + REST_SECONDS
        self._resting[assignment] = _Rest(reason, until, self._listed.version)

    async def run(self, tasks: TaskGroup) -> None:
        """Make passes until cancelled; runs are started in `tasks`."""
        while True:
            await self.pulse.until(self.link.wait_up)
            self._wake = anyio.Event()
            next_at = anyio.current_time() + APART_SECONDS
            try:
                await self.run_pass(tasks)
            except OvertakenError:
                raise
            except CoordinatorError as error:
                log_event(
                    logger,
                    logging.WARNING,
                    "loop.failed",
                    "a pass came to nothing",
                    error=error.message,
                )
                await anyio.sleep(REST_SECONDS)
            except Exception:  # noqa: BLE001 - the border of a pass: logged, and the loop goes on
                log_event(logger, logging.ERROR, "loop.failed", "a pass failed unexpectedly")
                await anyio.sleep(REST_SECONDS)
            await self.pulse.until(self._wake.wait, self._seconds_to_next())
            await anyio.sleep_until(next_at)

    async def run_pass(self, tasks: TaskGroup) -> Plan:
        """One pass; returns what was decided. What runs already comes first."""
        failpoints.hit("loop.pass")
        # first of all: what follows may fail for want of room
        machine = await anyio.to_thread.run_sync(look, self.supervisor.context.state.root)
        self._note_disk(machine)
        await self.recovery.look(tasks)
        await self._check_health()
        decided = await self._decide(machine)
        for start in decided.starts:
            self._starts += 1
            self._last_started[start.action.assignment.project_id] = self._starts
        await self.supervisor.start(decided.starts, tasks)
        self._tell_waits(decided)
        return decided

    async def _decide(self, machine: Machine) -> Plan:
        """Ask what should run, and plan."""
        now = self.supervisor.context.clock.monotonic()
        answer = await self.link.call(
            "list_agent_actions",
            {
                "coordinator_id": self.supervisor.tenure.coordinator_id,
                "unfit": self._unfit,
                "waits": self._waits,
                "circuits": list(self.admission.shown()),
                **self._listed.known(now),
                **self.supervisor.tenure.root,
            },
        )
        self._listed = self._listed.after(answer, now)
        actions = self.fitness.fitting(self._listed.actions)
        unfit = self.fitness.judge(actions)
        self._note_unfit(unfit.agents)
        live = [run.as_live for run in self.supervisor.runs.values()]
        return plan(
            actions,
            live,
            self.limits,
            gate=self.admission.gate(machine, is_busy=any(run.holds_place for run in live)),
            resting={**self._rests(), **self._unfit_lines(unfit.lines)},
            last_started=self._last_started,
        )

    async def _check_health(self) -> None:
        """See that the server is well, unless it has just said so.

        Raises:
            UnavailableError: it does not answer.
        """
        now = self.supervisor.context.clock.monotonic()
        if now < self._healthy_until:
            return
        await self.link.call("health_check", {})
        self._healthy_until = now + HEALTHY_SECONDS

    def _note_unfit(self, found: dict[str, str]) -> None:
        """Log who cannot be started here; news of it makes another pass, which tells the server."""
        for agent_id, reason in found.items():
            if self._unfit.get(agent_id) != reason:
                log_event(
                    logger,
                    logging.WARNING,
                    "loop.unschedulable",
                    "an agent cannot be started here; its tasks stay queued",
                    agent_id=agent_id,
                    reason=reason,
                )
        if found != self._unfit:
            self._unfit = found
            self.wake()

    def _unfit_lines(self, lines: Mapping[Assignment, str]) -> Mapping[Assignment, str]:
        """What cannot be started here; with the word of whose agent is unfit, the server says it so."""
        return {
            line: f"unschedulable: {reason}" if line.agent_id in self._unfit else reason
            for line, reason in lines.items()
        }

    def _note_disk(self, machine: Machine) -> None:
        """Say once when the disk has no room left for what must be written, and when it has again."""
        is_full = machine.disk_free is not None and machine.disk_free < LEAST_FREE_BYTES
        if is_full and not self._degraded:
            log_event(
                logger,
                logging.ERROR,
                "daemon.degraded",
                "the disk of the state directory is full: nothing starts",
                reason="disk",
            )
        elif self._degraded and not is_full:
            log_event(logger, logging.INFO, "daemon.recovered", "there is room again")
        self._degraded = is_full

    def _rests(self) -> Mapping[Assignment, str]:
        now = self.supervisor.context.clock.monotonic()
        self._resting = {
            assignment: rest
            for assignment, rest in self._resting.items()
            if rest.until > now and rest.version == self._listed.version
        }
        return {assignment: rest.reason for assignment, rest in self._resting.items()}

    def _seconds_to_next(self) -> float:
        now = self.supervisor.context.clock.monotonic()
        ends = [rest.until - now for rest in self._resting.values()]
        tried = self.admission.seconds_to_next()
        ends += [] if tried is None else [tried]
        return max(0.0, min([self.polling_seconds, *ends]))

    def _tell_waits(self, decided: Plan) -> None:
        """Log a reason to wait once, when it begins."""
        waits = frozenset((wait.assignment, wait.reason) for wait in decided.waits)
        for assignment, reason in waits - self._told:
            log_event(
                logger,
                logging.DEBUG,
                "loop.waiting",
                "waiting",
                reason=reason,
                agent_id=assignment.agent_id,
                project_id=assignment.project_id,
            )
        self._told = waits
        self._note_waits(decided)

    def _note_waits(self, decided: Plan) -> None:
        """Keep what waits for the next look, which tells the server; news is told at once."""
        before = {(each["agent_id"], each["project_id"]) for each in self._waits}
        self._waits = [
            {
                "agent_id": wait.assignment.agent_id,
                "project_id": wait.assignment.project_id,
                "purpose": wait.assignment.purpose.value,
                "reason": wait.reason,
            }
            for wait in decided.waits
        ]
        if before != {(each["agent_id"], each["project_id"]) for each in self._waits}:
            self.wake()
