"""Which sandbox a run gets: the strictest of what the settings say. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from pathlib import Path


class Kind(StrEnum):
    """What shuts a CLI in, from nothing to most."""

    NONE = "none"
    SANDBOX_EXEC = "sandbox-exec"
    LANDLOCK = "landlock"
    BWRAP = "bwrap"


class Network(StrEnum):
    """What is left of the network: all, or the way to our server alone."""

    INHERIT = "inherit"
    NONE = "none"


_STRICTNESS = tuple(Kind)


@dataclass(frozen=True)
class Choice:
    """One wish, or what follows from several. `read` and `write` are opened in addition."""

    kind: Kind = Kind.NONE
    network: Network = Network.INHERIT
    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()


# asked for every line of work in every pass, and there are few
@lru_cache(maxsize=256)
def strictest(*wishes: Choice) -> Choice:
    """The strictest sandbox that anybody wishes for; what they open adds up."""
    return Choice(
        max((wish.kind for wish in wishes), key=_STRICTNESS.index, default=Kind.NONE),
        Network.NONE if any(w.network is Network.NONE for w in wishes) else Network.INHERIT,
        tuple(dict.fromkeys(path for wish in wishes for path in wish.read)),
        tuple(dict.fromkeys(path for wish in wishes for path in wish.write)),
    )


@dataclass(frozen=True)
class Wishes:
    """What the settings say: for all, for agents and for projects, by id."""

    everywhere: Choice = Choice()
    agents: Mapping[str, Choice] = field(default_factory=dict[str, Choice])
    projects: Mapping[str, Choice] = field(default_factory=dict[str, Choice])
    #: Whether a CLI that asks nobody may run without a sandbox.
    allows_unsandboxed: bool = False

    def choice(self, agent_id: str, project_id: str) -> Choice:
        """What a run of this agent in this project gets."""
        own = (one for one in (self.agents.get(agent_id), self.projects.get(project_id)) if one)
        return strictest(self.everywhere, *own)

    def kinds(self) -> frozenset[tuple[Kind, Network]]:
        """Every sandbox that a run may come to get."""
        agents = [Choice(), *self.agents.values()]
        projects = [Choice(), *self.projects.values()]
        found = [strictest(self.everywhere, a, p) for a in agents for p in projects]
        return frozenset((one.kind, one.network) for one in found if one.kind is not Kind.NONE)
