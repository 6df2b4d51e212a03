"""Messages of people to the agents of tasks: kept until one run of the task has heard them, once.

Which way a message goes is settled when it is sent, and again whenever another run of the task starts
before it was heard.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from sqlalchemy import ColumnElement, RowMapping, func, insert, select, update

from aiagent_coordinator import ids
from aiagent_coordinator.errors import ConflictError, LimitError
from aiagent_coordinator.runs import Run, RunPhase
from aiagent_coordinator.store import notifications
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.tell_tables import tell as _tell
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import TERMINAL, Task
from aiagent_coordinator.tells import Listens, Tell, Way

#: Of one message.
MAX_BYTES: Final = 16 * 1024
#: Messages of a task that nobody has heard yet.
MAX_WAITING: Final = 20
#: What a notice is about that tells of one.
ACTION: Final = "person_says"
_HEED: Final = "It comes from the person you work for: heed it, and go on with your task."


def send(unit: Unit, task: Task, body: str, *, interrupts: bool, actor: str) -> Tell:
    """Keep a message for the agent of a task, and choose its way.

    Args:
        unit: The unit of work.
        task: The task, locked.
        body: The text, clean.
        interrupts: Whether what the agent does is broken off first.
        actor: Who says it.

    Raises:
        ConflictError: the task is over, or what runs cannot be interrupted.
        LimitError: too many messages wait to be heard.
    """
    if task.status in TERMINAL:
        raise ConflictError(
            f"task {task.id} is {task.status.value}: nobody works on it",
            hint=f"put it back with `task retry {task.id}`, or make a new task",
            task_id=task.id,
        )
    waiting = unit.conn.scalar(select(func.count()).select_from(_tell).where(_unheard(task.id)))
    if (waiting or 0) >= MAX_WAITING:
        raise LimitError(f"{waiting} messages to task {task.id} have not been heard yet")
    run = run_store.live_run_of(unit, task.id)
    if interrupts and (run is None or not _hears(run)):
        raise _not_to_be_interrupted(task, run)
    sent = Tell(ids.new_id("tel"), task.id, actor, body, interrupts, unit.now)
    unit.conn.execute(insert(_tell).values(vars(sent)))
    _emit(unit, "tell.sent", sent, task.project_id, actor=actor, interrupts=interrupts)
    return sent if run is None else _pass_on(unit, sent, run)


def _not_to_be_interrupted(task: Task, run: Run | None) -> ConflictError:
    if run is None:
        return ConflictError(f"task {task.id} has no run to interrupt", task_id=task.id)
    return ConflictError(
        f"run {run.id} cannot be interrupted: its program takes nothing in while it works",
        hint="tell it without --interrupt, cancel the task, or set its agent's mode to live",
        run_id=run.id,
    )


def _hears(run: Run) -> bool:
    return (
        run.phase is RunPhase.RUNNING
        and run.listens is not None
        and run.stop_reason is None
        and run.reported_at is None
    )


def _pass_on(unit: Unit, one: Tell, run: Run) -> Tell:
    """Send a message on its way to a run; one that is on its way out leaves it to the next."""
    if run.phase is not RunPhase.RUNNING or run.stop_reason or run.reported_at:
        return one
    if run.listens == Listens.TURN or (run.listens and one.interrupts):
        passed = _change(unit, one, run_id=run.id, way=Way.TURN)
    else:
        notice = notifications.interrupt(run, ACTION, (one.body, _HEED))
        notifications.send(unit, notice, actor=one.author)
        passed = _change(unit, one, run_id=run.id, way=Way.CALL, notice_id=notice.id)
    _emit(
        unit,
        "tell.passed",
        passed,
        run.project_id,
        actor=one.author,
        agent_id=run.agent_id,
        way=str(passed.way),
    )
    return passed


def to_say(unit: Unit, run: Run) -> list[Tell]:
    """What a run's coordinator is to give to its program, oldest first."""
    return _found(unit, _unheard() & (_tell.c.run_id == run.id) & (_tell.c.way == Way.TURN))


def for_start(unit: Unit, task: Task, run_id: str, *, is_resumed: bool) -> list[Tell]:
    """What stands in the prompt of a run: what nobody heard; in a new session, everything.

    Asked again, it gives the same.
    """
    unit.conn.execute(
        update(_tell).where(_unheard(task.id)).values(run_id=run_id, way=Way.START, notice_id=None)
    )
    which = _tell.c.task_id == task.id
    if is_resumed:
        which &= (_tell.c.run_id == run_id) & (_tell.c.way == Way.START)
    return _found(unit, which)


def started(unit: Unit, run: Run) -> None:
    """A run's program is about to start with what its prompt says; the rest goes another way."""
    if run.task_id is None:
        return
    for one in _found(unit, _unheard(run.task_id)):
        if one.way is Way.START and one.run_id == run.id:
            _deliver(unit, one, run)
        else:
            _pass_on(unit, one, run)


def heard(unit: Unit, run: Run, heard_ids: Collection[str]) -> None:
    """The program of a run took these up; again changes nothing."""
    if heard_ids:
        _deliver_all(unit, run, (_tell.c.run_id == run.id) & _tell.c.id.in_(list(heard_ids)))


def noticed(unit: Unit, run: Run, notice_ids: Iterable[str]) -> None:
    """The agent of a run read these notices."""
    read = list(notice_ids)
    if read:
        _deliver_all(unit, run, _tell.c.notice_id.in_(read))


def of_task(unit: Unit, task_id: str) -> list[Tell]:
    """Everything that people told the agents of a task, oldest first."""
    return _found(unit, _tell.c.task_id == task_id)


def count_waiting(unit: Unit, task_id: str) -> int:
    """How many messages to a task nobody has heard yet."""
    return unit.conn.scalar(select(func.count()).select_from(_tell).where(_unheard(task_id))) or 0


def _deliver_all(unit: Unit, run: Run, which: ColumnElement[bool]) -> None:
    for one in _found(unit, _unheard() & which):
        _deliver(unit, one, run)


def _deliver(unit: Unit, one: Tell, run: Run) -> None:
    done = _change(unit, one, delivered_at=unit.now, run_id=run.id)
    _emit(
        unit,
        "tell.delivered",
        done,
        run.project_id,
        actor=f"coordinator:{run.coordinator_id}",
        agent_id=run.agent_id,
        way=str(done.way),
    )


def _unheard(task_id: str | None = None) -> ColumnElement[bool]:
    waits = _tell.c.delivered_at.is_(None)
    return waits if task_id is None else waits & (_tell.c.task_id == task_id)


def _found(unit: Unit, which: ColumnElement[bool]) -> list[Tell]:
    query = select(_tell).where(which).order_by(_tell.c.created_at, _tell.c.id)
    return [_tell_of(row) for row in unit.conn.execute(query).mappings()]


def _tell_of(row: RowMapping) -> Tell:
    way = row["way"]
    columns: dict[str, Any] = {**row, "way": Way(way) if way else None}
    return Tell(**columns)


def _change(unit: Unit, one: Tell, **columns: object) -> Tell:
    # once heard, a message stays as it was heard
    unit.conn.execute(update(_tell).where(_tell.c.id == one.id, _unheard()).values(**columns))
    return _found(unit, _tell.c.id == one.id)[0]


def _emit(
    unit: Unit,
    action: str,
    one: Tell,
    project_id: str,
    *,
    actor: str,
    agent_id: str | None = None,
    **data: Any,  # noqa: ANN401 - facts of an event
) -> None:
    unit.emit(
        action,
        actor=actor,
        project_id=project_id,
        task_id=one.task_id,
        run_id=one.run_id,
        agent_id=agent_id,
        tell_id=one.id,
        **data,
    )
