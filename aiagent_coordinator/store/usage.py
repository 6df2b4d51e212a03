"""What runs used of their models, added up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import RowMapping, select

from aiagent_coordinator.store import tables
from aiagent_coordinator.store.unit import Unit

_run = tables.run
#: What sums can be made by.
BY = ("agent", "project", "provider", "account", "model", "task", "day")


@dataclass
class Sum:
    """The runs of one agent, project, provider, task or day together."""

    key: str
    runs: int = 0
    #: Runs that did not say what they used.
    silent: int = 0
    fresh: int = 0
    out: int = 0
    cache: int = 0
    #: US dollars; None where no run said it and no price is known.
    cost: float | None = None
    #: Of that, what comes from prices of the settings.
    estimated: float = 0.0

    def add(self, usage: dict[str, Any] | None) -> None:
        """Count one run."""
        self.runs += 1
        if usage is None:
            self.silent += 1
            return
        self.fresh += int(usage.get("in") or 0)
        self.out += int(usage.get("out") or 0)
        self.cache += int(usage.get("cache") or 0)
        if usage.get("cost") is not None:
            self.cost = (self.cost or 0.0) + float(usage["cost"])
        elif usage.get("estimate") is not None:
            self.cost = (self.cost or 0.0) + float(usage["estimate"])
            self.estimated += float(usage["estimate"])


def total(
    unit: Unit, by: str, since: datetime | None = None, project_id: str | None = None
) -> list[Sum]:
    """Add up ended runs.

    Args:
        unit: The transaction.
        by: One of `BY`; a day is a day of UTC.
        since: Only runs that ended then or later.
        project_id: Only runs of this project.

    Returns:
        By key, days in their order.
    """
    query = select(
        _run.c.agent_id,
        _run.c.project_id,
        _run.c.provider,
        _run.c.account,
        _run.c.model,
        _run.c.task_id,
        _run.c.ended_at,
        _run.c.usage,
    ).where(_run.c.ended_at.is_not(None), _run.c.started_at.is_not(None))
    if since is not None:
        query = query.where(_run.c.ended_at >= since)
    if project_id is not None:
        query = query.where(_run.c.project_id == project_id)
    sums: dict[str, Sum] = {}
    for row in unit.conn.execute(query).mappings():
        for key, used in _by_model(row) if by == "model" else [(_KEYS[by](row), row["usage"])]:
            sums.setdefault(key, Sum(key)).add(used)
    return [sums[key] for key in sorted(sums)]


def _by_model(row: RowMapping) -> list[tuple[str, dict[str, Any] | None]]:
    """What a run used by the models that its program named, else by the one that was asked for.

    A run of several models counts as a run of each.
    """
    used: dict[str, Any] = row["usage"] or {}
    models: dict[str, dict[str, Any]] = used.get("models") or {}
    if len(models) > 1:
        return [(f"{row['provider']}/{name}", one) for name, one in models.items()]
    # of one model the whole is said, which may be more
    name = next(iter(models), used.get("model")) or row["model"] or "default"
    return [(f"{row['provider']}/{name}", row["usage"])]


_KEYS: dict[str, Callable[[Any], str]] = {
    "agent": lambda row: str(row["agent_id"]),
    "project": lambda row: str(row["project_id"]),
    "provider": lambda row: str(row["provider"] or ""),
    "account": lambda row: f"{row['provider']}/{row['account']}",
    "task": lambda row: str(row["task_id"] or ""),
    "day": lambda row: row["ended_at"].astimezone(UTC).date().isoformat(),
}
