"""One-shot or live: which mode an agent's CLI is driven in, and what its definition is then."""

from __future__ import annotations

import dataclasses

from aiagent_coordinator.errors import ProviderError
from aiagent_coordinator.providers.shape import Definition, Driver, Mode, PromptVia
from aiagent_coordinator.providers.substitution import names_in
from aiagent_coordinator.tells import Listens

#: Drivers that pass on what their CLI asks.
_ASKING = frozenset({Driver.ACP, Driver.CODEX, Driver.OPENCODE})


def mode_of(definition: Definition, wanted: str | None) -> Mode:
    """The mode of a run.

    Args:
        definition: Its provider's.
        wanted: What the agent's settings say; None: nothing.

    Raises:
        ProviderError: this CLI has no such mode.
    """
    mode = definition.mode if wanted is None else Mode(wanted)
    has_live = definition.live.driver is not Driver.NONE
    if mode is Mode.LIVE and not has_live:
        raise ProviderError(
            f"{definition.name} has no live mode: it takes nothing in while it works",
            hint="leave the setting out; what is told to it goes with its next call or its next start",
            provider=definition.name,
        )
    if mode is Mode.ONE_SHOT and has_live and not definition.launch.args:
        raise ProviderError(
            f"{definition.name} is driven live alone",
            hint="leave the setting out",
            provider=definition.name,
        )
    return mode


def can_ask(definition: Definition, mode: Mode) -> bool:
    """Whether this CLI, or its driver, asks our server for what its approval does not allow."""
    if mode is Mode.LIVE and definition.live.driver in _ASKING:
        return True
    return bool(definition.asked.ask or definition.asked.edits)


def in_mode(definition: Definition, *, is_live: bool) -> Definition:
    """The definition as it counts for a run: what the live mode changes is put in its place."""
    live = definition.live
    if not is_live:
        return definition
    launch = dataclasses.replace(definition.launch, prompt=PromptVia.FILE)
    if live.args:
        # its driver is told of the session
        launch = dataclasses.replace(launch, args=live.args, resume=(), own_session_id=())
    else:
        launch = dataclasses.replace(launch, args=(*launch.args, *live.more))
    return dataclasses.replace(
        definition,
        launch=launch,
        output=dataclasses.replace(
            definition.output, dialect=live.dialect or definition.output.dialect
        ),
    )


def listens_of(definition: Definition, *, is_live: bool) -> Listens | None:
    """What a run's program takes in while it works."""
    return definition.live.listens if is_live else None


def takes_session(definition: Definition, *, is_live: bool) -> bool:
    """Whether the CLI, or its driver, goes on with the session of a run before."""
    options = definition.live.options if is_live else ()
    named = {name for group in options for word in group for name in names_in(word)}
    return bool(definition.launch.resume) or "provider_session_id" in named
