"""A task's own budget, as a person gives it."""

from __future__ import annotations

from collections.abc import Sequence

from aiagent_coordinator.config.quota import parse_amount, unwatched
from aiagent_coordinator.config.values import BadValueError
from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.quota import Amount
from aiagent_coordinator.store import projects, terms
from aiagent_coordinator.store.unit import Unit


def of_task(
    unit: Unit, given: Sequence[str], project_id: str, agent_id: str | None
) -> dict[str, float] | None:
    """Read what all runs of a task may use: unit → amount.

    Raises:
        ValidationError: it is no amount, or nobody could watch it, so that it would stop nothing.
    """
    if not given:
        return None
    try:
        amounts = [parse_amount(one) for one in given]
    except BadValueError as error:
        raise ValidationError(f"budget: {error}", key="budget") from None
    for amount in amounts:
        _refuse_inert(unit, amount, project_id, agent_id)
    return {one.unit: one.most for one in amounts}


def _refuse_inert(unit: Unit, amount: Amount, project_id: str, agent_id: str | None) -> None:
    said = terms.current(unit)
    for agent, project in projects.assignments(unit):
        if project.id != project_id or agent_id not in (None, agent.id):
            continue
        for lane in said.lanes_of(agent.id, agent.provider, agent.model):
            reason = unwatched(amount, lane, said)
            if reason is not None:
                raise ValidationError(f"budget: {reason} (agent {agent.id})", key="budget")
