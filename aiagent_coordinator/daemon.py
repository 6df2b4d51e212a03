"""Both roles in one process: what the default command runs.

Birth: locks, journal, bound socket, store, server, then the coordinator, which first takes up what
earlier lives left. Death is the other way round. The coordinator speaks to the server over the same
socket as everybody else.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from aiagent_coordinator import __version__
from aiagent_coordinator.clock import SystemClock, iso, zone_named
from aiagent_coordinator.config import Loaded, load_settings
from aiagent_coordinator.config.watch import Origin, changes, watch
from aiagent_coordinator.coordinator.journal import Journal, open_journal
from aiagent_coordinator.coordinator.plan import Limits
from aiagent_coordinator.coordinator.service import CoordinatorService, CoordinatorSettings
from aiagent_coordinator.errors import EXIT_CODES, ConfigError, CoordinatorError
from aiagent_coordinator.executors.local import LocalExecutor
from aiagent_coordinator.paths import StateDir, make_private, runtime_dir
from aiagent_coordinator.pipeline.context import RunLimits
from aiagent_coordinator.providers.catalog import load_catalog
from aiagent_coordinator.redaction import Masker
from aiagent_coordinator.tasks import AskPolicy, WorkspaceKind
from aiagent_coordinator.telemetry import LogFormat, configure, log_event, set_level
from aiagent_coordinator.wire import lockfile

if TYPE_CHECKING:
    from aiagent_coordinator.store.engine import Store

logger = logging.getLogger(__name__)

BOTH = frozenset({"server", "coordinator"})
#: Raised when the layout of the state directory changes.
STATE_VERSION = 1
#: A second Ctrl-C within this time ends the agents too.
SECOND_INTERRUPT_SECONDS = 5.0
#: How often a draining process looks whether its last run is over.
DRAIN_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class House:
    """What one life works with: settings, places and keys."""

    loaded: Loaded
    state: StateDir
    socket: Path
    coordinator_token: str
    operator_key: str
    masker: Masker


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
    origin = Origin(overrides, tuple(load_catalog()))
    loaded = load_settings(config_file, overrides=overrides, known_providers=origin.known_providers)
    house, locks = enter(loaded, roles)
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
        return anyio.run(_Life(house, roles, origin).run)


def enter(loaded: Loaded, roles: frozenset[str]) -> tuple[House, ExitStack]:
    """Take the state directory for ourselves and read its keys."""
    state = loaded.state_dir
    socket_path = loaded.socket
    state.create()
    _check_version(state)
    with ExitStack() as stack:
        stack.enter_context(_locks(state, roles, socket_path))
        token, operator_key = _coordinator_token(loaded, state), _key(state.operator_key)
        masker = Masker((token, operator_key, *filter(None, _passkeys(loaded).values())))
        house = House(loaded, state, socket_path, token, operator_key, masker)
        return house, stack.pop_all()


class _Life:
    """One life of the process, from ready to gone."""

    def __init__(self, house: House, roles: frozenset[str], origin: Origin) -> None:
        self._house = house
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
        try:
            async with anyio.create_task_group() as outer:
                # Signals are ours before anything answers: who stops us early is heard.
                await outer.start(self._obey_signals)
                async with AsyncExitStack() as inside:
                    journal: Journal | None = None
                    if "coordinator" in self._roles:
                        journal = await inside.enter_async_context(
                            open_journal(self._house.state.journal)
                        )
                    store: Store | None = None
                    if "server" in self._roles:
                        store = await inside.enter_async_context(serving(self._house, self._roles))
                    beside = await inside.enter_async_context(anyio.create_task_group())
                    inside.callback(beside.cancel_scope.cancel)
                    beside.start_soon(self._follow_file, store)
                    if journal is not None:
                        await self._coordinate(journal)
                    else:
                        await self._stop.wait()
                # From here on a signal changes nothing; it must not cut the way out short either.
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
                    signal.signal(number, signal.SIG_IGN)
                outer.cancel_scope.cancel()
        except* CoordinatorError as errors:
            raise _first(errors) from None
        log_event(logger, logging.INFO, "daemon.stopped", "stopped")
        return self._exit_status

    async def _coordinate(self, journal: Journal) -> None:
        self._coordinator = make_service(self._house)
        if self._stop.is_set():
            self._coordinator.stop(agents=False)
        await self._coordinator.run(journal)

    async def _follow_file(self, store: Store | None) -> None:
        """Take up what the configuration file says from now on; what is wrong changes nothing."""
        in_force = self._house.loaded
        async for found in watch(in_force, self._origin):
            try:
                if isinstance(found, ConfigError):
                    raise found
                if store is not None:
                    await _declare(store, found)
            except CoordinatorError as error:
                log_event(
                    logger,
                    logging.WARNING,
                    "config.refused",
                    "the configuration file cannot be used; the last good one stays in force",
                    reason=error.message,
                )
                continue
            set_level(found.settings.log_level)
            if self._coordinator is not None:
                polling_seconds = found.settings.polling_interval
                self._coordinator.retune(_limits(found), polling_seconds)
            counts = changes(in_force.settings, found.settings)
            in_force = found
            log_event(
                logger,
                logging.INFO,
                "config.changed",
                "the configuration file changed",
                **{when.replace(" ", "_"): keys for when, keys in counts.items()},
            )

    async def _obey_signals(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Turn signals into ends: TERM leaves agents running, USR1 ends them, USR2 waits, INT asks."""
        kinds = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
        with anyio.open_signal_receiver(*kinds) as received:
            async with anyio.create_task_group() as tasks:
                task_status.started()
                async for number in received:
                    if number == signal.SIGHUP:
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
            while coordinator.running:  # noqa: ASYNC110 - runs end one by one, and seconds are early enough
                await anyio.sleep(DRAIN_POLL_SECONDS)
        self._begin_end(agents=False)

    def _begin_end(self, *, agents: bool) -> None:
        if self._stop.is_set() and not agents:
            return
        running = self._coordinator.running if self._coordinator else 0
        mode = "agents are ended" if agents else "agents keep running"
        log_event(logger, logging.INFO, "daemon.stopping", "stopping", running=running, mode=mode)
        self._stop.set()
        if self._coordinator is not None:
            self._coordinator.stop(agents=agents)


def make_service(house: House) -> CoordinatorService:
    """The coordinator of these settings."""
    settings = house.loaded.settings
    return CoordinatorService(
        CoordinatorSettings(
            state=house.state,
            socket=house.socket,
            token=house.coordinator_token,
            limits=_limits(house.loaded),
            polling_seconds=settings.polling_interval,
            max_finishing=settings.max_finishing,
            run_limits=RunLimits(
                stop_grace_seconds=settings.stop_grace_seconds,
                silence_seconds=settings.silence_timeout,
                run_seconds=settings.run_timeout,
            ),
            log_directory=settings.log_directory,
            unsandboxed=settings.i_understand_unsandboxed,
        ),
        executor=LocalExecutor(),
        catalog=load_catalog(settings.ai_providers),
        clock=SystemClock(),
        environ=dict(os.environ),
        masker=house.masker,
    )


@asynccontextmanager
async def serving(house: House, roles: frozenset[str]) -> AsyncGenerator[Store]:
    """Bind, open the store, serve; the pointer files stand while the socket answers."""
    from aiagent_coordinator.server.sockets import bind_socket

    if house.socket.parent == runtime_dir():
        make_private(house.socket.parent)
    listener = bind_socket(house.socket)
    try:
        # The socket is bound and holds who comes; what is slow to import comes in a thread.
        await anyio.to_thread.run_sync(_import_server)
        from aiagent_coordinator.server.app import Server, ServerSettings
        from aiagent_coordinator.store.engine import open_store
        from aiagent_coordinator.store.sqlite import sqlite_url

        async with open_store(sqlite_url(house.state.store), clock=SystemClock()) as store:
            await _declare(store, house.loaded)
            await _keep_passkeys(store, house.loaded)
            server = Server(
                store,
                ServerSettings(
                    operator_key=house.operator_key,
                    coordinator_key=house.coordinator_token,
                    retry=house.loaded.settings.retry.policy(),
                    ask=_ask_policy(house.loaded),
                    max_concurrent=house.loaded.settings.max_concurrent,
                    unsandboxed=house.loaded.settings.i_understand_unsandboxed,
                ),
                clock=SystemClock(),
            )
            async with anyio.create_task_group() as tasks:
                await tasks.start(server.run, listener)
                with _pointers(house):
                    log_event(
                        logger,
                        logging.INFO,
                        "daemon.ready",
                        "ready",
                        socket=str(house.socket),
                        state_dir=str(house.state.root),
                        roles=sorted(roles),
                    )
                    yield store
                tasks.cancel_scope.cancel()
    finally:
        listener.close()


def _import_server() -> None:
    import_module("aiagent_coordinator.server.app")
    import_module("aiagent_coordinator.store.engine")


async def _declare(store: Store, loaded: Loaded) -> None:
    """Tell the board what the configuration declares; what vanished starts nothing new."""
    from aiagent_coordinator.store import projects
    from aiagent_coordinator.store.unit import Unit

    settings = loaded.settings
    pairs = {
        (agent_id, project.id)
        for project in settings.projects
        for agent_id in settings.agents_of(project)
    }

    def unit(unit: Unit) -> None:
        for agent_id, agent in settings.agents.items():
            projects.declare_agent(unit, agent.agent(agent_id))
        for project in settings.projects:
            projects.declare_project(unit, project.project())
        projects.keep_only(
            unit,
            project_ids=[project.id for project in settings.projects],
            agent_ids=list(settings.agents),
            pairs=pairs,
        )
        for agent_id, project_id in sorted(pairs):
            projects.assign(unit, agent_id, project_id)

    await store.write(unit)


def _passkeys(loaded: Loaded) -> dict[str, str | None]:
    agents = loaded.settings.agents.items()
    return {
        agent_id: agent.passkey.get_secret_value() if agent.passkey else None
        for agent_id, agent in agents
    }


async def _keep_passkeys(store: Store, loaded: Loaded) -> None:
    """Keep the hashes of the agents' passkeys. Only at a start: the masker knows what it began with."""
    from aiagent_coordinator.store import passkeys
    from aiagent_coordinator.store.unit import Unit

    kept = await store.read(passkeys.hashes)
    changed = await anyio.to_thread.run_sync(passkeys.changes, _passkeys(loaded), kept)
    if not changed:
        return

    def unit(unit: Unit) -> None:
        for agent_id, hashed in changed.items():
            passkeys.keep(unit, agent_id, hashed)

    await store.write(unit)


def _ask_policy(loaded: Loaded) -> AskPolicy:
    ask = loaded.settings.ask
    return AskPolicy(ask.hold_seconds, ask.max_per_task, ask.timeout)


def _limits(loaded: Loaded) -> Limits:
    settings = loaded.settings
    per_project: dict[str, int] = {}
    for project in settings.projects:
        if project.max_concurrent is not None:
            per_project[project.id] = project.max_concurrent
        if project.project().workspace is WorkspaceKind.DIRECTORY:
            # One checkout, one run: two would seal each other's work.
            per_project[project.id] = 1
    return Limits(
        total=settings.max_concurrent,
        per_agent={name: agent.max_concurrent for name, agent in settings.agents.items()},
        per_project=per_project,
    )


@contextmanager
def _locks(state: StateDir, roles: frozenset[str], socket_path: Path) -> Generator[None]:
    """Hold the state directory for the roles of this process."""
    files = {"server": state.server_lock, "coordinator": state.coordinator_lock}
    held: list[int] = []
    try:
        for role in sorted(roles):
            descriptor = lockfile.take(
                str(files[role]),
                role=role,
                version=__version__,
                socket=str(socket_path),
                started_at=iso(SystemClock().now()),
            )
            held.append(descriptor)
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)


@contextmanager
def _pointers(house: House) -> Generator[None]:
    """Tell quick commands where the server is, in both places they look."""
    note = json.dumps(
        {
            "socket": str(house.socket),
            "pid": os.getpid(),
            "state_dir": str(house.state.root),
            "version": __version__,
            "timezone": house.loaded.settings.timezone,
        }
    )
    files = house.loaded.pointer_files
    for file in files:
        make_private(file.parent)
        draft = file.with_name(f"{file.name}.{os.getpid()}.tmp")
        draft.write_text(note + "\n", encoding="utf-8")
        draft.rename(file)
    try:
        yield
    finally:
        for file in files:
            # A later server may have written its own by now.
            if _names_us(file):
                file.unlink(missing_ok=True)


def _names_us(file: Path) -> bool:
    try:
        return json.loads(file.read_text(encoding="utf-8")).get("pid") == os.getpid()
    except (OSError, ValueError):
        return False


def _check_version(state: StateDir) -> None:
    """Refuse a state directory that another version laid out.

    Raises:
        ConfigError: it is not ours to use; nothing was changed.
    """
    try:
        found = state.version_file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        state.version_file.write_text(f"{STATE_VERSION}\n", encoding="ascii")
        return
    if found != str(STATE_VERSION):
        raise ConfigError(
            f"{state.root} has layout {found!r}, this program knows {STATE_VERSION}",
            hint="use the program that made it, or another state_dir",
        )


def _coordinator_token(loaded: Loaded, state: StateDir) -> str:
    """What a coordinator shows: as configured, else the state directory's own key."""
    configured = loaded.settings.coordinator_token
    return configured.get_secret_value() if configured else _key(state.coordinator_key)


def _key(path: Path) -> str:
    """Read a key of the state directory, made at first start, readable by the owner alone."""
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        key = secrets.token_hex(32)
        draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor
            file.write(key + "\n")
        draft.rename(path)
        return key


def _first(errors: BaseExceptionGroup[CoordinatorError]) -> CoordinatorError:
    """The first plain error in a group of groups: one line is what a person can use."""
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    message = "a group is never empty"
    raise AssertionError(message)
