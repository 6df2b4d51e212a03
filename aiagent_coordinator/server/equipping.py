"""Which servers and skills of its agent a task is given, as a person says it."""

from __future__ import annotations

from collections.abc import Sequence

from aiagent_coordinator.store import skills
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.task_options import TaskOptions, options_of


def of_task(
    unit: Unit, mcp_servers: Sequence[str] | None, skill_names: Sequence[str] | None
) -> TaskOptions | None:
    """Read what a task is to be given; skills may be named by the beginning of an id.

    Which servers there are its coordinator knows: a name that is none there ends the run before it begins.

    Raises:
        NotFoundError: there is no such skill.
        ConflictError: a beginning fits several.
    """
    found = (
        None
        if skill_names is None
        else [skills.find(unit, name).directory_name for name in skill_names]
    )
    return options_of(mcp_servers, found)
