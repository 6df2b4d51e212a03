"""What agents need before anything is started for them: servers beside ours, and variables that hold secrets.

Nothing is started without; the task waits, and it is said what is missing. Values of variables are not read
beyond whether they are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aiagent_coordinator.providers.catalog import Catalog
from aiagent_coordinator.runs import Assignment


@dataclass(frozen=True)
class Wanted:
    """What one agent needs."""

    mcp_servers: tuple[str, ...] = ()
    #: Names of variables of the environment.
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Needs:
    """What agents need, by agent, and where it is looked for."""

    wanted: Mapping[str, Wanted] = field(default_factory=dict[str, Wanted])
    catalog: Catalog | None = None
    environ: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    def why_not(self, line: Assignment) -> str | None:
        """What is missing for an agent in a project; None when nothing is."""
        wanted = self.wanted.get(line.agent_id)
        if wanted is None or self.catalog is None:
            return None
        has = {one.name for one in self.catalog.servers(line.project_id, line.agent_id)}
        servers = [name for name in wanted.mcp_servers if name not in has]
        secrets = [name for name in wanted.secrets if not self.environ.get(name)]
        told: list[str] = []
        if servers:
            told.append(f"has no MCP server {', '.join(servers)} in project {line.project_id}")
        if secrets:
            told.append(f"has no variable {', '.join(secrets)} here")
        return f"agent {line.agent_id} {' and '.join(told)}, which it requires" if told else None
