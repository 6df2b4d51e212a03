"""Why a task waits that an audit holds, or whose agents it holds, and what lets it go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aiagent_coordinator.audits import LockSubject
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.store import locks
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Task

#: Tasks named in a reason; more are counted.
_NAMED = 3


def of_task(unit: Unit, task: Task) -> Iterator[Json]:
    """The reason of a task that is held, first of all: nothing else moves it before."""
    held = locks.of(unit, LockSubject.TASK, task.id) if task.is_locked else []
    if held:
        text = f"it is locked by {_by(unit, held)}"
        yield {"code": "locked", "text": text, "do": f"task unlock {task.id}"}


def of_agents(unit: Unit, agents: Sequence[Agent]) -> Iterator[Json]:
    """The reason why nobody of these takes anything new: audits hold them all."""
    held = [locks.of(unit, LockSubject.AGENT, agent.id) for agent in agents]
    if not all(held):
        return
    for agent, one in zip(agents, held, strict=True):
        text = f"agent {agent.id} is locked by {_by(unit, one)}"
        yield {"code": "agent_locked", "text": text, "do": f"agent unlock {agent.id}"}


def _by(unit: Unit, held: Sequence[locks.Held]) -> str:
    return "; ".join(f"audit {one.audit} {_until(unit, one)}" for one in held)


def _until(unit: Unit, one: locks.Held) -> str:
    left = locks.open_tasks_of(unit, one.firing_id)
    if not left:
        return f"because of {one.task_id}, until a person unlocks it"
    more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
    return f"because of {one.task_id}, until these succeed: {', '.join(left[:_NAMED])}{more}"
