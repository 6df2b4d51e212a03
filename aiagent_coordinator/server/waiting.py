"""Why a task still waits for others: for its sub-tasks, and whether it ever will not, or for a review."""

from __future__ import annotations

from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.store import dependencies, reviews, waking
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import TERMINAL, Task, TaskStatus

#: Sub-tasks named in a reason; more are counted.
_NAMED = 5


def for_subtasks(unit: Unit, task: Task) -> Json:
    """The reason of a task that waits for its sub-tasks; `deadlock` when none of them goes on by itself."""
    parts = waking.delegated(unit, task.id)
    words = waking.standing(unit, task, parts)
    left = [one for one in parts if words[one.id] != "over"]
    listed = "; ".join(f"{one.id} {one.title!r} {_why(unit, one, task)}" for one in left[:_NAMED])
    more = f"; and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
    over = len(parts) - len(left)
    if waking.MOVING & set(words.values()):
        text = f"it waits for its sub-tasks, {over} of {len(parts)} are over: {listed}{more}"
        return {"code": "subtasks", "text": text, "do": f"explain {left[0].id}"}
    text = f"deadlock: none of the sub-tasks it waits for goes on by itself: {listed}{more}"
    return {"code": "deadlock", "text": text, "do": f"task cancel {left[0].id}" if left else ""}


def _why(unit: Unit, one: Task, above: Task) -> str:
    if one.status is not TaskStatus.BLOCKED:
        waits = f" ({one.wait_reason})" if one.wait_reason else ""
        return f"is {one.status.value}{waits}"
    needs = [
        need.id
        for need in dependencies.needed_by(unit, one.id)
        if need.status is not TaskStatus.SUCCEEDED
    ]
    circle = ", which waits for it" if above.id in needs else ""
    return f"waits for {', '.join(needs)}{circle}"


def for_review(unit: Unit, task: Task) -> Json:
    """Who judges the result of a task, and what a person can do about it."""
    summary = task.result.get("summary")
    said = f": {summary}" if summary else ""
    do = f"task approve {task.id}"
    if task.review_by == reviews.PERSON:
        again = f", sent back {task.review_rounds} times" if task.review_rounds else ""
        return {"code": "review", "text": f"its result waits for a person{again}{said}", "do": do}
    open_ = [one for one in reviews.reviews_of(unit, task.id) if one.status not in TERMINAL]
    by = f" ({open_[-1].id}, {open_[-1].status.value})" if open_ else ""
    return {
        "code": "review",
        "text": f"its result waits for agent {task.review_by}{by}{said}",
        "do": do,
    }
