"""Ends the runs of coordinators of another make when nothing is heard of them any more."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio

from aiagent_coordinator.server.tools_legacy import cause_of
from aiagent_coordinator.store import legacy

if TYPE_CHECKING:
    from aiagent_coordinator.runs import Run
    from aiagent_coordinator.server.boards import Boards
    from aiagent_coordinator.store.unit import Unit

#: How often it is looked; only while there are such runs.
SWEEP_SECONDS = 1.0


async def sweep(board: Boards) -> None:
    """End what lapsed, until cancelled."""
    while True:
        await anyio.sleep(SWEEP_SECONDS)
        live = await board.auth.live.all()
        if not any(legacy.is_legacy(run) for run in live.values()):
            continue
        for run in await board.store.read(legacy.lapsed):
            await board.store.write(partial(_end, board=board, run=run))


def _end(unit: Unit, *, board: Boards, run: Run) -> None:
    # Its agent may have called since the look.
    if any(one.id == run.id for one in legacy.lapsed(unit)):
        cause = cause_of(run, unit.now, has_exited=run.stop_reason is not None)
        legacy.end(unit, run, cause, board.terms.retry)
