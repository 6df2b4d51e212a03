"""Which AI CLIs this machine has: found on PATH, asked for their version, never started otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiagent_coordinator.messages import text
from aiagent_coordinator.providers.options import Chosen
from aiagent_coordinator.providers.probing import Probe, Prober
from aiagent_coordinator.providers.versions import Standing

if TYPE_CHECKING:
    from aiagent_coordinator.providers.definition import Definition

#: Definitions that are no program of their own to look for.
NOT_LOOKED_FOR = frozenset({"command", "rehearsal", "acp"})

Installed = Probe


def look(definitions: Iterable[Definition]) -> list[Installed]:
    """Look for each definition's program and ask those that are there for their version."""
    return Prober().look((definition, Chosen()) for definition in definitions)


def standing_text(one: Installed) -> str:
    """What a person should know of its version; empty when it is the one that was looked at."""
    versions = one.definition.can.versions
    if one.standing not in {Standing.OLDER, Standing.NEWER, Standing.UNVERIFIED}:
        return ""
    return text(f"provider.{one.standing.value}", version=one.version, versions=versions)
