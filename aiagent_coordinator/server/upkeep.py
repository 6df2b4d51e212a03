"""What falls due without anybody asking: questions without an answer, and talks that nobody goes on with."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio

from aiagent_coordinator.store import asks, questions, wanting
from aiagent_coordinator.store.tasks import lock_task

if TYPE_CHECKING:
    from aiagent_coordinator.store.engine import Store
    from aiagent_coordinator.store.unit import Unit
    from aiagent_coordinator.tasks import Question

#: How often it is looked.
UPKEEP_SECONDS = 30.0


async def keep_up(store: Store) -> None:
    """Look again and again, until cancelled."""
    while True:
        for question in await store.read(questions.expired):
            await store.write(partial(_expire, question=question))
        for question in await store.read(asks.moot):
            await store.write(partial(_let_go, question=question))
        if await store.read(wanting.is_hopeless):
            await store.write(wanting.give_up)
        await anyio.sleep(UPKEEP_SECONDS)


def _expire(unit: Unit, question: Question) -> None:
    questions.expire(unit, question, lock_task(unit, question.task_id))


def _let_go(unit: Unit, question: Question) -> None:
    """The limit that was asked about is over."""
    task = lock_task(unit, question.task_id)
    if questions.find(unit, question.id).is_open:
        questions.answer(unit, question.id, task, asks.WAIT, actor="server")
