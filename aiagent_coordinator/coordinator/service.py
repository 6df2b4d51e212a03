"""The coordinator as one component: journal, line to the server, drivers, leases and loop.

`async with` is not needed: `run` lives until it is told to stop, and leaves the agents running
unless told otherwise.
"""

from __future__ import annotations

import logging
import random
import socket
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup, TaskStatus

from aiagent_coordinator import once
from aiagent_coordinator.clock import Clock, iso
from aiagent_coordinator.coordinator import entries
from aiagent_coordinator.coordinator.admission import Admission, Watermarks
from aiagent_coordinator.coordinator.breaker import BreakerPolicy, Breakers
from aiagent_coordinator.coordinator.client import connect
from aiagent_coordinator.coordinator.drift import Drifts
from aiagent_coordinator.coordinator.fetching import SkillFetch
from aiagent_coordinator.coordinator.fitness import Fitness
from aiagent_coordinator.coordinator.foreign_terms import ForeignTerms
from aiagent_coordinator.coordinator.journal import Journal
from aiagent_coordinator.coordinator.line import Speaker
from aiagent_coordinator.coordinator.link import CALL_SECONDS, Link, ServerLink
from aiagent_coordinator.coordinator.logins import Logins
from aiagent_coordinator.coordinator.loop import Loop, Pulse
from aiagent_coordinator.coordinator.needs import Needs, Wanted
from aiagent_coordinator.coordinator.outbox import Outbox
from aiagent_coordinator.coordinator.plan import Limits
from aiagent_coordinator.coordinator.programs import Programs
from aiagent_coordinator.coordinator.recover import Recovery
from aiagent_coordinator.coordinator.renewal import RENEW_SECONDS, Renewal
from aiagent_coordinator.coordinator.retention import Retention, keep_tidy
from aiagent_coordinator.coordinator.supervisor import Supervisor, Tenure
from aiagent_coordinator.coordinator.sweep import Sweep
from aiagent_coordinator.executors.base import Executor
from aiagent_coordinator.ids import new_id
from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.pipeline.context import Context
from aiagent_coordinator.pipeline.limits import LimitOverrides, RunLimits
from aiagent_coordinator.pipeline.run import RunRecord
from aiagent_coordinator.providers.catalog import Catalog
from aiagent_coordinator.redaction import Masker
from aiagent_coordinator.runs import Assignment
from aiagent_coordinator.sandbox.keeper import Sandboxes
from aiagent_coordinator.wire import protocol

if TYPE_CHECKING:
    from aiagent_coordinator.coordinator.foreign import ForeignLink

logger = logging.getLogger(__name__)

#: At the end of a life reports in flight get this long; what is left stays journaled.
DRAIN_SECONDS = 5.0
#: Beyond the grace of the slowest tree, when agents are stopped at the end of a life.
STOP_MARGIN_SECONDS = 10.0


@dataclass(frozen=True)
class CoordinatorSettings:
    """What the coordinator needs to know; made from the configuration by whoever starts it."""

    state: StateDir
    socket: Path
    token: str
    limits: Limits
    polling_seconds: float = 10.0
    call_seconds: float = CALL_SECONDS
    max_finishing: int = 2
    run_limits: RunLimits = field(default_factory=RunLimits)
    overrides: LimitOverrides = field(default_factory=LimitOverrides)
    log_directory: Path | None = None
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    watermarks: Watermarks = field(default_factory=Watermarks)
    renew_seconds: float = RENEW_SECONDS
    retention: Retention = field(default_factory=Retention)
    sandboxes: Sandboxes = field(default_factory=Sandboxes)
    pulse: Pulse = field(default_factory=Pulse)
    #: Only agents that belong to this person, in that person's folders; None: all.
    root_agent_id: str | None = None
    #: How a server of another make is driven; None: the server is one of ours.
    foreign: ForeignTerms | None = None
    #: Accounts of providers: provider → account → variables of its program.
    accounts: Mapping[str, Mapping[str, Mapping[str, str]]] = field(
        default_factory=dict[str, Mapping[str, Mapping[str, str]]], repr=False
    )
    #: What agents need before anything is started for them.
    requires: Mapping[str, Wanted] = field(default_factory=dict[str, Wanted])
    #: Listens where `socket` is, for the agents of such a server over HTTP.
    relay: socket.socket | None = None


class CoordinatorService:
    """One life of the coordinator."""

    def __init__(
        self,
        settings: CoordinatorSettings,
        *,
        executor: Executor,
        catalog: Catalog,
        clock: Clock,
        environ: Mapping[str, str],
        masker: Masker,
    ) -> None:
        self.settings = settings
        self._executor = executor
        self._catalog = catalog
        self._clock = clock
        self._environ = environ
        self._masker = masker
        self._stopping = anyio.Event()
        self._holding = anyio.Event()
        self._stop_agents = False
        self.supervisor: Supervisor | None = None
        self._loop: Loop | None = None

    def retune(self, limits: Limits, polling_seconds: float) -> None:
        """Obey other limits from the next pass on, which comes at once; what runs goes on."""
        self.settings = replace(self.settings, limits=limits, polling_seconds=polling_seconds)
        if self._loop is not None:
            self._loop.limits, self._loop.polling_seconds = limits, polling_seconds
            self._loop.wake()

    def stop(self, *, agents: bool) -> None:
        """End this life: start nothing more, and with `agents` end the runs' trees too.

        Asked for the agents' end a second time, it no longer waits for them to end by themselves.
        """
        if agents and self._stop_agents and self.supervisor:
            for live in list(self.supervisor.runs.values()):
                live.control.stop("stopped", kill=True)
        self._stop_agents = self._stop_agents or agents
        self._stopping.set()

    def hold_starts(self) -> None:
        """Start nothing more from now on; what runs is looked after until `stop`."""
        self._holding.set()

    @property
    def running(self) -> int:
        """How many runs are in hand."""
        return len(self.supervisor.runs) if self.supervisor else 0

    async def wait_idle(self) -> None:
        """Return when no run is in hand."""
        if self.supervisor is not None:
            await self.supervisor.wait_empty()

    async def run(
        self, journal: Journal, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Take up what earlier lives left, then loop until told to stop."""
        epoch = await journal.begin_life(self.settings.state.epoch, self._least_epoch())
        coordinator_id = await anyio.to_thread.run_sync(_own_id, self.settings.state.coordinator_id)
        updates = _Updates(coordinator_id)
        foreign = self._foreign_link(updates)
        link: Link = foreign or ServerLink(
            self.settings.socket,
            self.settings.token,
            coordinator_id,
            updates.received,
            call_seconds=self.settings.call_seconds,
        )
        outbox = Outbox(journal, link, self._clock, self.settings.state.runs)
        context = Context(
            state=self.settings.state,
            socket=self.settings.socket,
            executor=self._executor,
            catalog=self._catalog,
            clock=self._clock,
            environ=self._environ,
            masker=self._masker,
            reporter=outbox,
            limits=self.settings.run_limits,
            overrides=self.settings.overrides,
            log_directory=self.settings.log_directory,
            sandboxes=self.settings.sandboxes,
            passkeys=self.settings.foreign.passkeys if self.settings.foreign else {},
            skills=SkillFetch(link),
            accounts=self.settings.accounts,
        )
        supervisor = Supervisor(
            context,
            journal,
            link,
            tenure=Tenure(coordinator_id, epoch, self.settings.root_agent_id),
            max_finishing=self.settings.max_finishing,
            notices=updates,
        )
        self.supervisor = supervisor
        settings = self.settings
        recovery = Recovery(journal, supervisor)
        drifts = updates.drifts = Drifts(self._environ)
        fitness = Fitness(
            self._catalog,
            settings.sandboxes,
            drifts,
            Programs(self._environ, self._clock),
            Needs(settings.requires, self._catalog, self._environ),
        )
        breakers = Breakers(settings.breaker, random.SystemRandom().random)
        admission = updates.admission = Admission(breakers, settings.watermarks, self._clock)
        loop = self._loop = updates.loop = self._make_loop(
            (supervisor, link, recovery, fitness, admission), foreign
        )
        renewal = updates.renewal = Renewal(supervisor, link, self.settings.renew_seconds)
        updates.logins = Logins(self._catalog, self._environ, settings.accounts, link)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(link.run)
            await self._begin_relay(tasks)
            # What an earlier life left goes first, before anything new is planned.
            await self._prune(journal)
            await recovery.look(tasks)
            tasks.start_soon(renewal.run)
            tasks.start_soon(
                keep_tidy, self.settings.state.runs, self.settings.retention, self._clock
            )
            tasks.start_soon(Sweep(supervisor).run)
            if foreign is None:
                tasks.start_soon(updates.logins.run)
            async with anyio.create_task_group() as starting:
                starting.start_soon(loop.run, tasks)
                task_status.started()
                starting.start_soon(self._stop_holds)
                await self._holding.wait()
                starting.cancel_scope.cancel()
            await self.settings.pulse.until(self._stopping.wait)
            if self._stop_agents:
                await self._end_agents(supervisor)
            await outbox.drain(DRAIN_SECONDS)
            tasks.cancel_scope.cancel()

    def _make_loop(
        self,
        made: tuple[Supervisor, Link, Recovery, Fitness, Admission],
        foreign: ForeignLink | None,
    ) -> Loop:
        settings = self.settings
        told = (settings.limits, settings.polling_seconds, settings.pulse)
        if foreign is None:
            return Loop(*made, *told)
        # most drive no such server, and none of its modules is loaded then
        from aiagent_coordinator.coordinator.foreign_loop import ForeignLoop  # noqa: PLC0415

        foreign.drives(made[0].runs)
        return ForeignLoop(*made, *told, foreign=foreign)

    def _foreign_link(self, updates: _Updates) -> ForeignLink | None:
        """The line to a server of another make, where the settings name one."""
        settings = self.settings
        if settings.foreign is None:
            return None
        from aiagent_coordinator.coordinator.foreign import ForeignLink  # noqa: PLC0415 - see above

        return ForeignLink(
            _dialling(settings.socket, settings.foreign),
            settings.foreign,
            settings.state,
            self._clock.monotonic,
            updates.received,
        )

    async def _begin_relay(self, tasks: TaskGroup) -> None:
        """Let agents reach a server that is reached over HTTP."""
        terms, sock = self.settings.foreign, self.settings.relay
        if terms is None or terms.url is None or sock is None:
            return
        from aiagent_coordinator.coordinator.relay import relay  # noqa: PLC0415 - as above

        tasks.start_soon(relay, sock, terms.url, terms.token)

    async def _stop_holds(self) -> None:
        await self._stopping.wait()
        self._holding.set()

    def _least_epoch(self) -> int:
        """For a journal that is new although this coordinator is not, and nothing says which life it is.

        Seconds since 1970 are more than any number of lives.
        """
        state = self.settings.state
        if state.epoch.exists() or not state.coordinator_id.exists():
            return 1
        return int(self._clock.now().timestamp())

    async def _prune(self, journal: Journal) -> None:
        before = self._clock.now() - timedelta(hours=entries.OUTBOX_KEEP_HOURS)
        await journal.write(partial(entries.prune, before=iso(before) or ""))

    async def _end_agents(self, supervisor: Supervisor) -> None:
        """Stop every tree and let the runs come to their end; bounded."""
        for live in list(supervisor.runs.values()):
            live.control.stop("stopped")
        with anyio.move_on_after(self.settings.run_limits.stop_grace_seconds + STOP_MARGIN_SECONDS):
            await supervisor.wait_empty()


class _Updates:
    """Where news from the server and from the drivers go; exists before loop and renewal do."""

    def __init__(self, coordinator_id: str) -> None:
        self._runs_uri = protocol.runs_uri(coordinator_id)
        self.loop: Loop | None = None
        self.renewal: Renewal | None = None
        self.admission: Admission | None = None
        self.drifts: Drifts | None = None
        self.logins: Logins | None = None

    def received(self, uri: str) -> None:
        if uri == self._runs_uri and self.renewal is not None:
            self.renewal.wake()
        elif self.loop is not None:
            self.loop.wake()

    def changed(self) -> None:
        if self.loop is not None:
            self.loop.wake()

    def started(self, record: RunRecord) -> None:
        if self.admission is not None:
            self.admission.started(record)

    def ended(self, record: RunRecord) -> None:
        if self.admission is not None:
            self.admission.ended(record)
        if self.drifts is not None:
            self.drifts.ended(record)
        if self.logins is not None:
            self.logins.ended(record)

    def warned(self) -> None:
        if self.renewal is not None:
            self.renewal.wake()

    def heard(self, is_urgent: bool) -> None:
        if self.renewal is None:
            return
        if is_urgent:
            self.renewal.wake()
        else:
            self.renewal.wake_soon()

    def refused(self, assignment: Assignment, reason: str) -> None:
        if self.loop is not None:
            self.loop.rest(assignment, reason)


def _dialling(
    socket_path: Path, terms: ForeignTerms
) -> Callable[[], AbstractAsyncContextManager[Speaker]]:
    """How a connection to such a server is made."""
    if terms.url is None:
        return partial(connect, socket_path, forgives=True)
    from aiagent_coordinator.coordinator import web  # noqa: PLC0415 - most need no HTTP client

    return partial(web.connect, terms.url, terms.token)


def _own_id(path: Path) -> str:
    """This coordinator's id, made once per state directory."""
    return once.read(path, lambda: new_id("crd"))
