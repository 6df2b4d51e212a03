"""The coordinator as the settings want it: each value of theirs where the parts expect it."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from aiagent_coordinator.clock import SystemClock
from aiagent_coordinator.config import Loaded
from aiagent_coordinator.coordinator.admission import Watermarks
from aiagent_coordinator.coordinator.breaker import BreakerPolicy
from aiagent_coordinator.coordinator.cooldown import ErrorProtection
from aiagent_coordinator.coordinator.foreign_terms import ForeignTerms, Upload
from aiagent_coordinator.coordinator.loop import Pulse
from aiagent_coordinator.coordinator.needs import Wanted
from aiagent_coordinator.coordinator.plan import Limits
from aiagent_coordinator.coordinator.renewal import RENEW_SECONDS
from aiagent_coordinator.coordinator.retention import Retention
from aiagent_coordinator.coordinator.service import CoordinatorService, CoordinatorSettings
from aiagent_coordinator.executors.local import LocalExecutor
from aiagent_coordinator.house import House
from aiagent_coordinator.pipeline.limits import LimitOverrides, RunLimits
from aiagent_coordinator.providers.configured import configured_catalog
from aiagent_coordinator.sandbox.keeper import Sandboxes, wishes_of
from aiagent_coordinator.tasks import WorkspaceKind


def make_service(
    house: House, pulse: Pulse | None = None, relay: socket.socket | None = None
) -> CoordinatorService:
    """The coordinator of these settings.

    Args:
        house: What it works with.
        pulse: Told that it makes progress.
        relay: Listens for agents whose server is reached over HTTP.
    """
    settings = house.loaded.settings
    return CoordinatorService(
        CoordinatorSettings(
            state=house.state,
            socket=house.socket,
            token=house.coordinator_token,
            limits=limits_of(house.loaded),
            polling_seconds=settings.polling_interval,
            call_seconds=settings.api_timeout,
            max_finishing=settings.max_finishing,
            run_limits=_run_limits(house.loaded),
            overrides=_overrides(house.loaded),
            log_directory=settings.log_directory,
            breaker=BreakerPolicy(
                settings.breaker.failures,
                settings.breaker.quick,
                settings.breaker.first,
                settings.breaker.longest,
            ),
            watermarks=Watermarks(settings.watermarks.memory, settings.watermarks.disk),
            renew_seconds=min(RENEW_SECONDS, settings.lease.seconds / 3),
            retention=Retention(settings.retention.run_age, settings.retention.run_size),
            sandboxes=Sandboxes(wishes_of(settings)),
            pulse=pulse or Pulse(),
            root_agent_id=settings.root_agent_id,
            foreign=_foreign(house),
            accounts=accounts_in(house.loaded),
            requires=requires_in(house.loaded),
            relay=relay,
        ),
        executor=LocalExecutor(),
        catalog=configured_catalog(house.loaded),
        clock=SystemClock(),
        environ=dict(os.environ),
        masker=house.masker,
    )


def requires_in(loaded: Loaded) -> dict[str, Wanted]:
    """What agents need before anything is started for them."""
    return {
        name: Wanted(agent.requires.mcp_servers, agent.requires.secrets)
        for name, agent in loaded.settings.agents.items()
        if agent.requires.mcp_servers or agent.requires.secrets
    }


def accounts_in(loaded: Loaded) -> dict[str, dict[str, dict[str, str]]]:
    """The accounts that are declared: provider → account → variables of its program."""
    return {
        name: {
            account: {
                **{key: value.get_secret_value() for key, value in said.env.items()},
                **({} if said.home is None else {"HOME": str(said.home)}),
            }
            for account, said in provider.accounts.items()
        }
        for name, provider in loaded.settings.ai_providers.items()
        if provider.accounts
    }


def _foreign(house: House) -> ForeignTerms | None:
    """How a server of another make is driven; None: the server is one of ours."""
    runner = house.loaded.runner
    if runner is None:
        return None
    told: dict[str, Any] = dict(runner.protection)
    upload: dict[str, Any] | None = None if runner.upload is None else dict(runner.upload)
    return ForeignTerms(
        token=house.coordinator_token,
        passkeys=runner.passkeys,
        url=runner.url,
        root_agent_id=runner.root_agent_id,
        protection=ErrorProtection(**told),
        upload=None if upload is None else _upload(upload),
        call_seconds=house.loaded.settings.api_timeout,
    )


def _upload(told: Mapping[str, Any]) -> Upload:
    return Upload(
        str(told["url"]),
        int(told.get("max_file_size_mb", 10) * 1024 * 1024),
        int(told.get("retry_count", 3)),
        float(told.get("retry_delay_seconds", 1.0)),
    )


def limits_of(loaded: Loaded) -> Limits:
    """How much may run at a time: in all, per agent and per project."""
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


def _run_limits(loaded: Loaded) -> RunLimits:
    settings = loaded.settings
    general: dict[str, Any] = {
        "stop_grace_seconds": settings.stop_grace_seconds,
        "silence_seconds": settings.silence_timeout,
        "run_seconds": settings.run_timeout,
    }
    return RunLimits(**general | settings.limits.given())


def _overrides(loaded: Loaded) -> LimitOverrides:
    settings = loaded.settings
    by_agent = {
        name: {**agent.limits.given(), "kill_leftovers": agent.kill_leftovers}
        for name, agent in settings.agents.items()
    }
    return LimitOverrides(
        by_project={project.id: project.limits.given() for project in settings.projects},
        by_agent=by_agent,
    )
