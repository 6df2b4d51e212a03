"""Both roles in one process: what the default command runs.

Birth: locks, journal, bound socket, store, server, then the coordinator, which first takes up what
earlier lives left. Death is the other way round. The coordinator speaks to the server over the same
socket as everybody else.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from aiagent_coordinator import signals
from aiagent_coordinator.assembly import limits_of, make_service
from aiagent_coordinator.clock import zone_named
from aiagent_coordinator.config import Loaded, load_settings
from aiagent_coordinator.config.watch import Nudge, Origin, changes, watch
from aiagent_coordinator.coordinator.journal import Journal, open_journal
from aiagent_coordinator.coordinator.loop import Pulse
from aiagent_coordinator.coordinator.service import CoordinatorService
from aiagent_coordinator.errors import EXIT_CODES, ConfigError, CoordinatorError
from aiagent_coordinator.house import BOTH, House, enter
from aiagent_coordinator.paths import make_private, runtime_dir
from aiagent_coordinator.providers.catalog import load_catalog
from aiagent_coordinator.sandbox.keeper import Sandboxes, wishes_of
from aiagent_coordinator.sandbox.probe import AGAIN_SECONDS
from aiagent_coordinator.serving import declare, serving
from aiagent_coordinator.telemetry import LogFormat, configure, log_event, set_level
from aiagent_coordinator.wire.notify import Notifier
from aiagent_coordinator.wire.shim import set_title

if TYPE_CHECKING:
    from aiagent_coordinator.store.engine import Store

logger = logging.getLogger(__name__)

#: What `ps`, `pkill` and `killall` see: no CLI has such a name, and agents kill by name.
TITLES = {
    BOTH: "aac-coordinator",
    frozenset({"coordinator"}): "aac-coordinator",
    frozenset({"server"}): "aac-server",
}
#: After so long a start and the first pass have made what they make.
SETTLE_SECONDS = 3.0
#: A second Ctrl-C within this time ends the agents too.
SECOND_INTERRUPT_SECONDS = 5.0


def run_daemon(
    config_file: Path | None,
    *,
    roles: frozenset[str] = BOTH,
    log_format: LogFormat = "text",
    overrides: Mapping[str, str] | None = None,
) -> int:
    """Run server, coordinator or both in the foreground until told to stop.

    Returns:
        0 after SIGTERM, 130 after Ctrl-C.

    Raises:
        CoordinatorError: it could not begin; nothing was started.
    """
    # who says early that the file changed must not end us by it: it is not read yet
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    notifier = Notifier.from_environment(os.environ)
    origin = Origin(overrides, tuple(load_catalog()))
    loaded = load_settings(config_file, overrides=overrides, known_providers=origin.known_providers)
    roles = _roles_for(loaded, roles)
    house, locks = enter(loaded, roles)
    set_title(TITLES[roles], str(house.state.root))
    level = loaded.settings.log_level
    with (
        locks,
        configure(
            log_format,
            level,
            mask=house.masker.mask_text,
            zone=zone_named(loaded.settings.timezone),
        ),
    ):
        if notifier.is_watched:
            # a watchdog ends us by SIGABRT: say where we stood
            faulthandler.enable()
        return anyio.run(_Life(house, roles, origin, notifier).run)


def _roles_for(loaded: Loaded, roles: frozenset[str]) -> frozenset[str]:
    """What is run: a file of aiagent-runner names a server of another make, so it has no server here.

    Raises:
        ConfigError: only a server was asked for.
    """
    if loaded.runner is None:
        return roles
    if "coordinator" not in roles:
        raise ConfigError(
            f"{loaded.file}: is a file for a coordinator of AI Agent PM; it describes no server",
            hint="start it without `serve`",
        )
    return frozenset({"coordinator"})


class _Life:
    """One life of the process, from ready to gone."""

    def __init__(
        self, house: House, roles: frozenset[str], origin: Origin, notifier: Notifier
    ) -> None:
        self._house = house
        self._notifier = notifier
        self._nudge = Nudge()
        self._origin = origin
        self._roles = roles
        self._coordinator: CoordinatorService | None = None
        self._exit_status = 0
        self._interrupted = False
        self._stop = anyio.Event()

    async def run(self) -> int:
        """Be born, live, and die in order; returns the exit status."""
        if os.geteuid() == 0:
            log_event(
                logger,
                logging.WARNING,
                "daemon.root",
                "running as root: agents run as root too, and no limit of the system holds them",
            )
        for notice in self._house.loaded.runner.notices if self._house.loaded.runner else ():
            log_event(logger, logging.WARNING, "config.notice", "of the file", notice=notice)
        failed: CoordinatorError | None = None
        try:
            async with anyio.create_task_group() as outer:
                # Signals are ours before anything answers: who stops us early is heard.
                await outer.start(self._obey_signals)
                async with AsyncExitStack() as inside:
                    journal: Journal | None = None
                    if "coordinator" in self._roles:
                        journal = await inside.enter_async_context(
                            open_journal(self._house.state.journal, self._house.state.quarantine)
                        )
                    store: Store | None = None
                    if "server" in self._roles:
                        store = await inside.enter_async_context(serving(self._house, self._roles))
                    beside = await inside.enter_async_context(anyio.create_task_group())
                    inside.callback(beside.cancel_scope.cancel)
                    beside.start_soon(self._follow_file, store)
                    beside.start_soon(_settle)
                    self._notifier.ready()
                    if journal is not None:
                        await self._coordinate(journal, beside)
                    elif store is not None:
                        await self._serve_alone(store)
                signals.deafen()
                outer.cancel_scope.cancel()
        except* CoordinatorError as errors:
            # raised outside: before Python 3.11.4 what is raised in here becomes a group of its own
            failed = _first(errors)
        if failed is not None:
            raise failed from None
        log_event(logger, logging.INFO, "daemon.stopped", "stopped")
        return self._exit_status

    async def _coordinate(self, journal: Journal, beside: TaskGroup) -> None:
        pulse = Pulse(self._notifier.sign_of_life, self._notifier.sign_seconds)
        runner = self._house.loaded.runner
        relay: socket.socket | None = None
        if runner is not None and runner.url is not None:
            relay = _bind_relay(self._house.socket)
        self._coordinator = make_service(self._house, pulse, relay)
        beside.start_soon(_try_sandboxes, self._coordinator.settings.sandboxes)
        if self._stop.is_set():
            self._coordinator.stop(agents=False)
        await self._coordinator.run(journal)

    async def _serve_alone(self, store: Store) -> None:
        """Let the server work until we are told to stop; it lives while its store answers."""
        while not self._stop.is_set():
            await store.read(lambda _: None)
            self._notifier.sign_of_life()
            with anyio.move_on_after(self._notifier.sign_seconds):
                await self._stop.wait()

    async def _follow_file(self, store: Store | None) -> None:
        """Take up what the configuration file says from now on; what is wrong changes nothing."""
        in_force = self._house.loaded
        async for found in watch(in_force, self._origin, nudge=self._nudge):
            self._notifier.reloading()
            in_force = await self._take_up(found, in_force, store)
            self._notifier.ready()

    async def _take_up(
        self, found: Loaded | ConfigError, in_force: Loaded, store: Store | None
    ) -> Loaded:
        """Obey the settings that were found; returns those that are in force then."""
        try:
            if isinstance(found, ConfigError):
                raise found
            if store is not None:
                await declare(store, found)
        except CoordinatorError as error:
            log_event(
                logger,
                logging.WARNING,
                "config.refused",
                "the configuration file cannot be used; the last good one stays in force",
                reason=error.message,
            )
            return in_force
        set_level(found.settings.log_level)
        if self._coordinator is not None:
            polling_seconds = found.settings.polling_interval
            self._coordinator.retune(limits_of(found), polling_seconds)
            self._coordinator.settings.sandboxes.use(wishes_of(found.settings))
        counts = changes(in_force.settings, found.settings)
        if counts:
            event, message = "config.changed", "the configuration file changed"
        else:
            event, message = "config.same", "the configuration was read again and says the same"
        keys = {when.replace(" ", "_"): names for when, names in counts.items()}
        log_event(logger, logging.INFO, event, message, **keys)
        return found

    async def _obey_signals(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Turn signals into deeds.

        TERM ends us and leaves agents running, USR1 ends them too, USR2 waits for them, INT asks; HUP
        reads the configuration again.
        """
        with signals.listening() as received:
            async with anyio.create_task_group() as tasks:
                task_status.started()
                async for number in received:
                    if number == signal.SIGHUP:
                        self._nudge.now()
                        continue
                    if number == signal.SIGINT and not self._interrupted:
                        self._interrupted = True
                        self._exit_status = EXIT_CODES["INTERRUPTED"]
                        tasks.start_soon(self._interrupt)
                        continue
                    if number == signal.SIGUSR2:
                        tasks.start_soon(self._drain)
                        continue
                    self._begin_end(agents=number != signal.SIGTERM)

    async def _interrupt(self) -> None:
        """First Ctrl-C: start nothing more; with agents running give the person time for a second."""
        running = self._coordinator.running if self._coordinator else 0
        if running and self._coordinator is not None:
            self._coordinator.hold_starts()
            log_event(
                logger,
                logging.INFO,
                "daemon.stopping",
                "agents keep running; press Ctrl-C again within 5 s to end them too",
                running=running,
            )
            await anyio.sleep(SECOND_INTERRUPT_SECONDS)
        self._begin_end(agents=False)

    async def _drain(self) -> None:
        """Start nothing more, and end when the last run is over."""
        coordinator = self._coordinator
        if coordinator is not None and coordinator.running:
            coordinator.hold_starts()
            log_event(
                logger,
                logging.INFO,
                "daemon.stopping",
                "ends when the last running agent has ended",
                running=coordinator.running,
                mode="drain",
            )
            await coordinator.wait_idle()
        self._begin_end(agents=False)

    def _begin_end(self, *, agents: bool) -> None:
        if self._stop.is_set() and not agents:
            return
        running = self._coordinator.running if self._coordinator else 0
        mode = "agents are ended" if agents else "agents keep running"
        log_event(logger, logging.INFO, "daemon.stopping", "stopping", running=running, mode=mode)
        self._notifier.stopping()
        self._stop.set()
        if self._coordinator is not None:
            self._coordinator.stop(agents=agents)


def _bind_relay(path: Path) -> socket.socket:
    """Listen where agents of a server over HTTP are told that it is."""
    from aiagent_coordinator.server.sockets import bind_socket  # noqa: PLC0415 - rarely needed

    if path.parent == runtime_dir():
        make_private(path.parent)
    return bind_socket(path)


async def _settle() -> None:
    """Take what a start made out of the collector's sight: it stays, and each look at it is a stall."""
    await anyio.sleep(SETTLE_SECONDS)
    gc.freeze()
    gc.enable()


async def _try_sandboxes(sandboxes: Sandboxes) -> None:
    """Make each sandbox that the settings wish for, and say which cannot be had; those are tried again."""
    told: dict[str, str] = {}
    while True:
        # whoever stops us need not wait for it
        missing = await anyio.to_thread.run_sync(sandboxes.missing, abandon_on_cancel=True)
        for name, trouble in missing.items():
            if told.get(name) != trouble:
                log_event(
                    logger,
                    logging.WARNING,
                    "sandbox.missing",
                    "a sandbox cannot be made here; what needs it is not started",
                    sandbox=name,
                    reason=trouble,
                )
        told = missing
        await anyio.sleep(AGAIN_SECONDS)


def _first(errors: BaseExceptionGroup[CoordinatorError]) -> CoordinatorError:
    """The first plain error in a group of groups: one line is what a person can use."""
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    message = "a group is never empty"
    raise AssertionError(message)
