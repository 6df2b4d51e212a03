"""What runs used of their models."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.tools import Arguments, Context, table, tool
from aiagent_coordinator.store import projects, usage
from aiagent_coordinator.store.unit import Unit


class GetUsage(Arguments):
    """Arguments of `get_usage`."""

    by: Literal["agent", "project", "provider", "account", "model", "task", "day"] = "agent"
    """What sums are made by."""
    days: Annotated[int | None, Field(ge=1, le=36_500)] = None
    """Only runs that ended in the last so many days."""
    project_id: str | None = None


async def get_usage(context: Context, arguments: GetUsage) -> Json:
    """Add up tokens and money of the runs that ended."""

    def work(unit: Unit) -> Json:
        days = arguments.days
        since = None if days is None else unit.now - timedelta(days=days)
        if arguments.project_id is not None:
            projects.get_project(unit, arguments.project_id)
        found = usage.total(unit, arguments.by, since, arguments.project_id)
        sums = [
            {
                "key": one.key,
                "runs": one.runs,
                "silent": one.silent,
                "in": one.fresh,
                "out": one.out,
                "cache": one.cache,
                "cost": None if one.cost is None else round(one.cost, 6),
                "estimated": round(one.estimated, 6),
            }
            for one in found
        ]
        return {"by": arguments.by, "usage": sums}

    return await context.board.store.read(work)


TOOLS = table((tool(GetUsage, get_usage, "Add up what runs used of their models.", Role.PERSON),))
