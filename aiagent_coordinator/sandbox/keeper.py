"""The sandboxes of one coordinator: what the settings wish for now, and what could be made here."""

from __future__ import annotations

from aiagent_coordinator.config.models import SandboxSettings, Settings
from aiagent_coordinator.errors import SpawnError
from aiagent_coordinator.sandbox.policy import Choice, Kind, Network, Wishes
from aiagent_coordinator.sandbox.probe import Prober
from aiagent_coordinator.tasks import Approval


def wishes_of(settings: Settings) -> Wishes:
    """The sandboxes that the settings wish for."""
    return Wishes(
        everywhere=_choice(settings),
        agents={name: _choice(agent) for name, agent in settings.agents.items()},
        projects={project.id: _choice(project) for project in settings.projects},
        allows_unsandboxed=settings.i_understand_unsandboxed,
    )


def _choice(given: SandboxSettings) -> Choice:
    network = Network(given.sandbox_network)
    return Choice(Kind(given.sandbox), network, given.sandbox_read, given.sandbox_write)


class Sandboxes:
    """Says which sandbox a run gets. Wishes may change while runs go on; a run keeps what it got."""

    def __init__(self, wishes: Wishes | None = None) -> None:
        self._wishes = wishes or Wishes()
        self._prober = Prober()

    def use(self, wishes: Wishes) -> None:
        """Obey other wishes from the next run on."""
        self._wishes = wishes

    def missing(self) -> dict[str, str]:
        """Sandboxes that a run may come to get and that cannot be made: name → why. Blocks."""
        found = {
            f"{kind.value}, sandbox_network {network.value}": self._prober.trouble(kind, network)
            for kind, network in sorted(self._wishes.kinds())
        }
        return {name: trouble for name, trouble in found.items() if trouble}

    def refusal(self, agent_id: str, project_id: str, approval: str) -> str | None:
        """Why such a run would not be started, as far as is known; nothing is tried."""
        choice = self._wishes.choice(agent_id, project_id)
        if choice.kind is Kind.NONE:
            is_refused = approval == Approval.BYPASS and not self._wishes.allows_unsandboxed
            return _BARE if is_refused else None
        trouble = self._prober.known_trouble(choice.kind, choice.network)
        return trouble and f"the sandbox {choice.kind.value} cannot be made here: {trouble}"

    def choose(self, agent_id: str, project_id: str, approval: str) -> Choice:
        """Choose the sandbox of a run, and make sure that it can be made. Blocks when first asked.

        Raises:
            SpawnError: it cannot be made here, or a CLI that asks nobody would run without one.
        """
        choice = self._wishes.choice(agent_id, project_id)
        self._prober.trouble(choice.kind, choice.network)
        refusal = self.refusal(agent_id, project_id, approval)
        if refusal:
            raise SpawnError(refusal, hint="`doctor` says what this machine offers")
        return choice


_BARE = "approval bypass needs a sandbox, or i_understand_unsandboxed: true"
