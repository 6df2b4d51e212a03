"""The server in this process: bound, opened, declared and found, from birth to death."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from aiagent_coordinator import __version__
from aiagent_coordinator.clock import SystemClock
from aiagent_coordinator.config import Loaded
from aiagent_coordinator.errors import ConfigError
from aiagent_coordinator.house import House, passkeys
from aiagent_coordinator.paths import make_private, runtime_dir
from aiagent_coordinator.tasks import AskPolicy
from aiagent_coordinator.telemetry import log_event

if TYPE_CHECKING:
    from pydantic import SecretStr

    from aiagent_coordinator.config.http import JwtSettings
    from aiagent_coordinator.quota import Terms
    from aiagent_coordinator.server.http.settings import HttpSettings, JwtTerms, OwnFile
    from aiagent_coordinator.store.engine import Store

logger = logging.getLogger(__name__)


@asynccontextmanager
async def serving(house: House, roles: frozenset[str]) -> AsyncGenerator[Store]:
    """Bind, open the store, serve; the pointer files stand while the socket answers."""
    from aiagent_coordinator.server.sockets import bind_socket, open_door

    http = _http(house.loaded)
    if house.socket.parent == runtime_dir():
        make_private(house.socket.parent)
    listener = bind_socket(house.socket)
    http_listener: socket.socket | None = None
    try:
        if http is not None:
            from aiagent_coordinator.server.http.listen import bind_http

            http_listener = bind_http(http)
        try:
            open_door(house.socket)
        except (OSError, ConfigError) as error:
            log_event(
                logger,
                logging.WARNING,
                "server.no_door",
                "the socket has no second name: agents in bwrap lose the server when it restarts",
                error=str(error),
            )
        # The socket is bound and holds who comes; what is slow to import comes in a thread.
        await anyio.to_thread.run_sync(_import_server)
        from aiagent_coordinator.server.app import Server, ServerSettings
        from aiagent_coordinator.store.engine import open_store
        from aiagent_coordinator.store.sqlite_file import sqlite_url

        async with open_store(sqlite_url(house.state.store), clock=SystemClock()) as store:
            await declare(store, house.loaded)
            await _keep_passkeys(store, house.loaded)
            server = Server(
                store,
                ServerSettings(
                    operator_key=house.operator_key,
                    coordinator_key=house.coordinator_token,
                    retry=house.loaded.settings.retry.policy(),
                    ask=_ask_policy(house.loaded),
                    subtasks=house.loaded.settings.subtasks.policy(),
                    max_concurrent=house.loaded.settings.max_concurrent,
                    unsandboxed=house.loaded.settings.i_understand_unsandboxed,
                    pause_stops_runs=house.loaded.settings.when_paused == "stop",
                    lease_seconds=house.loaded.settings.lease.seconds,
                    takeover_grace_seconds=house.loaded.settings.lease.takeover_grace,
                    state=house.state,
                    mask=house.masker.mask_text,
                    http=http,
                ),
                clock=SystemClock(),
            )
            async with anyio.create_task_group() as tasks:
                await tasks.start(server.run, listener, http_listener)
                with _pointers(house):
                    log_event(
                        logger,
                        logging.INFO,
                        "daemon.ready",
                        "ready",
                        socket=str(house.socket),
                        **_place_of(http_listener),
                        state_dir=str(house.state.root),
                        roles=sorted(roles),
                    )
                    yield store
                tasks.cancel_scope.cancel()
    finally:
        listener.close()
        if http_listener is not None:
            http_listener.close()


def _http(loaded: Loaded) -> HttpSettings | None:
    """Where HTTP is served, as the server wants to be told; None for nowhere."""
    said = loaded.settings.http
    place = said.place()
    if place is None:
        return None
    from aiagent_coordinator.server.http.settings import HttpLimits, HttpSettings

    return HttpSettings(
        host=place[0],
        port=place[1],
        hosts=said.hosts,
        origins=said.origins,
        certificate=said.certificate,
        certificate_key=said.certificate_key,
        trusted_proxies=said.trusted_proxies,
        person_token=_shown(said.person_token),
        coordinator_token=_shown(said.coordinator_token),
        resource=said.resource,
        authorization_servers=said.authorization_servers,
        jwt=_jwt(said.jwt, said.resource),
        own=_own(loaded),
        limits=HttpLimits(
            body_bytes=said.max_body,
            requests_per_second=said.requests_per_second,
            burst=2 * said.requests_per_second,
            connections=said.max_connections,
        ),
    )


def _jwt(said: JwtSettings, resource: str | None) -> JwtTerms | None:
    """Which tokens of the user's own provider count; None: none."""
    audience = said.audience or resource
    if said.issuer is None or audience is None:
        return None
    from aiagent_coordinator.server.http.settings import JwtTerms

    return JwtTerms(
        issuer=said.issuer,
        audience=audience,
        jwks_file=said.jwks_file,
        jwks_url=said.jwks_url,
        role_claim=said.role_claim,
        person=said.person,
        coordinator=said.coordinator,
        skew_seconds=said.clock_skew,
    )


def _own(loaded: Loaded) -> OwnFile:
    """What coordinators of another make are told of the file."""
    from aiagent_coordinator.server.http.settings import OwnFile

    settings = loaded.settings
    return OwnFile(
        passkeys={agent: key for agent, key in passkeys(loaded).items() if key},
        programs={
            name: (provider.cli_command, *provider.cli_args)
            for name, provider in settings.ai_providers.items()
            if provider.cli_command
        },
        polling_seconds=settings.polling_interval,
        max_concurrent=settings.max_concurrent,
    )


def _shown(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _place_of(listener: socket.socket | None) -> dict[str, str]:
    """Where HTTP is served, for the log."""
    if listener is None:
        return {}
    host, port = listener.getsockname()[:2]
    return {"http": f"[{host}]:{port}" if ":" in host else f"{host}:{port}"}


def _import_server() -> None:
    import_module("aiagent_coordinator.server.app")
    import_module("aiagent_coordinator.store.engine")


async def declare(store: Store, loaded: Loaded) -> None:
    """Tell the board what the configuration declares; what vanished starts nothing new."""
    from aiagent_coordinator.config.skills import declared_skills
    from aiagent_coordinator.store import people, projects, skills, terms
    from aiagent_coordinator.store.unit import Unit

    settings = loaded.settings
    said = await anyio.to_thread.run_sync(terms_in, loaded)
    given = await anyio.to_thread.run_sync(declared_skills, settings)
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
        people.declare(
            unit,
            [person.person(person_id) for person_id, person in settings.people.items()],
            {
                (person_id, project_id): path
                for person_id, person in settings.people.items()
                for project_id, path in person.directories.items()
            },
        )
        projects.keep_only(
            unit,
            project_ids=[project.id for project in settings.projects],
            agent_ids=[*settings.agents, *settings.people],
            pairs=pairs,
        )
        for agent_id, project_id in sorted(pairs):
            projects.assign(unit, agent_id, project_id)
        skills.declare(unit, given)
        terms.declare(unit, said)

    await store.write(unit)


def terms_in(loaded: Loaded) -> Terms:
    """What the settings say of accounts, budgets and prices.

    Raises:
        ConfigError: a budget could not be watched, so it would never stop anything.
    """
    from aiagent_coordinator.config.quota import inert, terms_of
    from aiagent_coordinator.providers.tells import teller

    settings = loaded.settings
    said = terms_of(settings, teller(settings.ai_providers))
    pairs = [
        (agent_id, settings.agents[agent_id].provider, settings.agents[agent_id].model, project.id)
        for project in settings.projects
        for agent_id in settings.agents_of(project)
    ]
    found = inert(said, pairs)
    if found:
        lines = [f"{loaded.file or 'settings'}: {key}: {reason}" for key, reason in found]
        raise ConfigError(
            lines[0],
            hint="take the budget away, or give the price of the model in the settings",
            problems=lines,
        )
    return said


async def _keep_passkeys(store: Store, loaded: Loaded) -> None:
    """Keep the hashes of the agents' passkeys. Only at a start: the masker knows what it began with."""
    from aiagent_coordinator.store import passkeys as hashes
    from aiagent_coordinator.store.unit import Unit

    kept = await store.read(hashes.hashes)
    changed = await anyio.to_thread.run_sync(hashes.changes, passkeys(loaded), kept)
    if not changed:
        return

    def unit(unit: Unit) -> None:
        for agent_id, hashed in changed.items():
            hashes.keep(unit, agent_id, hashed)

    await store.write(unit)


def _ask_policy(loaded: Loaded) -> AskPolicy:
    ask = loaded.settings.ask
    return AskPolicy(ask.hold_seconds, ask.max_per_task, ask.timeout)


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
            "api_timeout": str(house.loaded.settings.api_timeout),
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
