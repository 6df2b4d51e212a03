"""Which lane an agent's next run takes, and why none is open. Only reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiagent_coordinator.quota import Lane, Terms
from aiagent_coordinator.store import ledger, terms
from aiagent_coordinator.store.ledger import Window
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent


@dataclass(frozen=True)
class Gate:
    """What the configuration allows, and what is closed now; the same for a whole unit."""

    terms: Terms
    shut: Sequence[Window]

    @classmethod
    def of(cls, unit: Unit) -> Gate:
        """As it stands now."""
        return cls(terms.current(unit), ledger.closed(unit))

    def lanes_of(self, agent: Agent) -> tuple[Lane, ...]:
        """What the agent may work on, open or not."""
        return self.terms.lanes_of(agent.id, agent.provider, agent.model)

    def open_to(self, agent: Agent) -> tuple[Lane, ...]:
        """What the agent may work on now, what it should take first."""
        return tuple(
            lane for lane in self.lanes_of(agent) if ledger.closing(self.shut, lane) is None
        )

    def closed_to(self, agent: Agent) -> Window | None:
        """Why the agent cannot start; what opens first, of all its lanes. None: it can."""
        found = [ledger.closing(self.shut, lane) for lane in self.lanes_of(agent)]
        if not all(found):
            return None
        timed = [one for one in found if one is not None and one.until is not None]
        if timed:
            return min(timed, key=lambda one: one.until or one.seen_at)
        return found[0]

    def refusal(self, agent: Agent) -> str | None:
        """The same in words."""
        window = self.closed_to(agent)
        return None if window is None else window.why

    def choose(self, agent: Agent, wanted: Lane | None) -> Lane | None:
        """The lane for a run: the wanted one if it is open, else the first that is."""
        open_lanes = self.open_to(agent)
        if wanted in open_lanes:
            return wanted
        return next(iter(open_lanes), None)
