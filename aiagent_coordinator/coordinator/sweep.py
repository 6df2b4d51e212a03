"""The sweep: ends what runs left behind and nobody saw to, regularly and when a life begins.

A shim ends its own tree; this is for what a killed shim, a crash or a system without subreapers left.
"""

from __future__ import annotations

import logging
from functools import partial

import anyio
import anyio.to_thread

from aiagent_coordinator.coordinator.supervisor import Supervisor
from aiagent_coordinator.executors import cgroup, children, processes, strays
from aiagent_coordinator.executors.processes import Seen
from aiagent_coordinator.executors.strays import Stray
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: Between two sweeps. What is left has no run any more, so there is no hurry.
SWEEP_SECONDS = 30.0
#: Between two looks for shims that ended; one costs microseconds.
REAP_SECONDS = 1.0
#: So much of a command line is told.
COMMAND_CHARS = 200


class Sweep:
    """Looks for strays of this state directory's runs and ends them."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._folders = strays.Folders(supervisor.context.state.runs)

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            for stray in await self.sweep():
                log_event(
                    logger,
                    logging.WARNING,
                    "run.leftovers",
                    "ended a process of a run that is over",
                    run_id=stray.run_id,
                    leftovers=[self._masked(stray.process.command)],
                    ended=True,
                )
            await anyio.to_thread.run_sync(cgroup.tidy)
            again = anyio.current_time() + SWEEP_SECONDS
            while anyio.current_time() < again:
                # of a run that waits for the server nobody else looks at the shim
                children.reap()
                await anyio.sleep(REAP_SECONDS)

    async def sweep(self) -> list[Stray]:
        """Sweep once; returns what was ended."""
        found = await anyio.to_thread.run_sync(self._find)
        if not found:
            return []
        mine = {(one.process.pid, one.process.started): one for one in found}
        ended = await anyio.to_thread.run_sync(
            partial(processes.end_all, lambda: [one.process for one in self._find()])
        )
        mine |= {(one.pid, one.started): Stray(one, one.tag or "") for one in ended if one.tag}
        return list(mine.values())

    def _masked(self, command: str) -> str:
        return self._supervisor.context.masker.mask_text(command)[:COMMAND_CHARS]

    def _find(self) -> list[Stray]:
        """Look at everything. Whose run is in hand is asked after the look: ids are never reused."""
        seen = list(processes.look())
        runs = dict(self._supervisor.runs)
        names = {one.tag for one in seen if one.tag} - set(runs)
        over = {name: run for name in names if (run := self._folders.over(name)) is not None}
        return strays.tagged(seen, over) + self._abandoned(seen, set(runs))

    def _abandoned(self, seen: list[Seen], live: set[str]) -> list[Stray]:
        state = self._supervisor.context.state
        roots = [str(state.worktrees.resolve()), str((state.root / "scratch").resolve())]
        candidates = strays.in_workspaces(seen, roots)
        if not candidates:
            return []
        working = {
            run.record.workspace_path
            for run in list(self._supervisor.runs.values())
            if run.record.workspace_path
        }
        return strays.abandoned(
            candidates, self._folders.all_over(live), working, processes.orphanages()
        )
