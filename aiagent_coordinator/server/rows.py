"""How tasks, runs and the rest look in answers: plain JSON, absent values as null."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic_core import to_jsonable_python

from aiagent_coordinator.clock import iso
from aiagent_coordinator.store import dependencies, questions
from aiagent_coordinator.store.tasks import LONG_FIELDS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from aiagent_coordinator.runs import Run
    from aiagent_coordinator.server.calls import Json
    from aiagent_coordinator.store.unit import Unit
    from aiagent_coordinator.tasks import Task

#: Of a long text in a list.
_LONG_RUN_FIELDS = frozenset({"leftovers", "warnings", "summary", "limits"})
_LINE_CHARS = 500
_PLAIN = frozenset({str, int, float, bool})


def plain(value: DataclassInstance) -> Json:
    """Write a value of ours as JSON values: instants as ISO-8601, words as they are."""
    return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}


def _plain(value: object) -> object:
    # most are one of these, and lists are long
    if value is None or type(value) in _PLAIN:
        return value
    return iso(value) if isinstance(value, datetime) else to_jsonable_python(value)


def instant(at: datetime) -> str | None:
    """Write an instant."""
    return iso(at)


def task(one: Task) -> Json:
    """A task with all its texts."""
    return plain(one)


def task_with(unit: Unit, one: Task) -> Json:
    """A task with all its texts, what it depends on, and its open question."""
    asked = next((each for each in questions.of_task(unit, one.id) if each.is_open), None)
    return {
        **plain(one),
        "depends_on": [needed.id for needed in dependencies.needed_by(unit, one.id)],
        "question": None if asked is None else plain(asked),
    }


def task_line(one: Task) -> Json:
    """A task in a list."""
    return {key: item for key, item in plain(one).items() if key not in LONG_FIELDS}


def run(one: Run) -> Json:
    """A run."""
    return plain(one)


def run_line(one: Run) -> Json:
    """A run in a list: long texts are cut, and diagnostics left out."""
    return {
        key: item[:_LINE_CHARS] if isinstance(item, str) else item
        for key, item in plain(one).items()
        if key not in _LONG_RUN_FIELDS
    }


def page(name: str, lines: Sequence[Json], limit: int) -> Json:
    """A page of a list, asked for with one line more than wanted; `next` begins the next one."""
    kept = list(lines[:limit])
    more = kept[-1]["id"] if len(lines) > limit else None
    return {name: kept, "next": more}
