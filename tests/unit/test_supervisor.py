"""What can be seen of the supervisor without a server: who waits for its runs."""

from __future__ import annotations

from pathlib import Path

import anyio
from anyio.lowlevel import checkpoint

from aiagent_coordinator.clock import SystemClock
from aiagent_coordinator.coordinator.journal import open_journal
from aiagent_coordinator.coordinator.link import ServerLink
from aiagent_coordinator.coordinator.outbox import Outbox
from aiagent_coordinator.coordinator.supervisor import LiveRun, Supervisor, Tenure
from aiagent_coordinator.executors.local import LocalExecutor
from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.pipeline.context import Context
from aiagent_coordinator.pipeline.run import RunRecord, Stage
from aiagent_coordinator.providers.catalog import load_catalog
from aiagent_coordinator.redaction import Masker
from aiagent_coordinator.runs import Assignment


class _Unheard:
    """Nobody wants to know."""

    def changed(self) -> None:
        pass

    def started(self, record: RunRecord) -> None:
        pass

    def ended(self, record: RunRecord) -> None:
        pass

    def heard(self, is_urgent: bool) -> None:
        del is_urgent

    def warned(self) -> None:
        pass

    def refused(self, assignment: Assignment, reason: str) -> None:
        pass


async def test_everybody_who_waits_for_the_last_run_hears_of_its_end(tmp_path: Path):
    """A drain may wait while the process is told to end its agents."""
    clock, state = SystemClock(), StateDir(tmp_path)
    done = RunRecord(
        run_id="run_1",
        agent_id="worker",
        project_id="app",
        purpose="task",
        slot=0,
        provider="rehearsal",
        stage=Stage.DONE,
    )
    async with open_journal(state.journal) as journal:
        link = ServerLink(tmp_path / "s.sock", "token", "crd_1", print)
        context = Context(
            state=state,
            socket=tmp_path / "s.sock",
            executor=LocalExecutor(),
            catalog=load_catalog(),
            clock=clock,
            environ={},
            masker=Masker(),
            reporter=Outbox(journal, link, clock, state.runs),
        )
        supervisor = Supervisor(
            context,
            journal,
            link,
            tenure=Tenure("crd_1", 1),
            max_finishing=1,
            notices=_Unheard(),
        )
        supervisor.runs["run_1"] = LiveRun(done)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(supervisor.wait_empty)
                tasks.start_soon(supervisor.wait_empty)
                for _ in range(3):
                    await checkpoint()
                supervisor.adopt(done, tasks)
        assert supervisor.runs == {}
