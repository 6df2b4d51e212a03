"""One run, in order: prepare, launch, watch, exit, seal, verify, collect, result, clean.

`STAGES` is the order made executable: each takes the record and returns it at the next stage.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiagent_coordinator.pipeline import collect, launch, prepare, seal, verify, watch
from aiagent_coordinator.pipeline.context import Context, Control
from aiagent_coordinator.pipeline.run import CheckResult, RunRecord, Stage

StageFunction = Callable[[RunRecord, Context, Control], Awaitable[RunRecord]]

#: Every stage but the claim, which is the coordinator's own.
STAGES: dict[Stage, StageFunction] = {
    Stage.PREPARE: prepare.run,
    Stage.LAUNCH: launch.launch,
    Stage.WATCH: watch.run,
    Stage.EXIT: launch.tell_exit,
    Stage.SEAL: seal.run,
    Stage.VERIFY: verify.run,
    Stage.COLLECT: collect.collect,
    Stage.RESULT: collect.tell_result,
    Stage.CLEAN: collect.clean,
}


def give_up(record: RunRecord, error: str) -> RunRecord | None:
    """Where a run goes on when a stage keeps failing unexpectedly; None: it must be tried again.

    Watching and telling are never given up: the process and the report are real.
    """
    match record.stage:
        case Stage.PREPARE:
            return record.at(Stage.EXIT, exit_reason="spawn_failed", error=error)
        case Stage.SEAL:
            return record.at(Stage.VERIFY, seal_error=error, error=error)
        case Stage.VERIFY:
            failed = CheckResult(("aiagent-coordinator", "verify"), None, 0.0, error)
            return record.at(Stage.COLLECT, checks=(*record.checks, failed), checks_done=True)
        case Stage.COLLECT:
            return record.at(
                Stage.RESULT, outcome="failed", reason="workspace_invalid", error=error
            )
        case Stage.CLEAN:
            return record.at(Stage.DONE)
        case _:
            return None


__all__ = ["STAGES", "StageFunction", "give_up"]
