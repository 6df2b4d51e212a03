"""Verify: the checks run on the sealed state; only they turn a report into a proof."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import anyio

from aiagent_coordinator import failpoints
from aiagent_coordinator.executors.base import ExitRecord, Hold, HoldState, LaunchSpec
from aiagent_coordinator.logs.tail import read_tail
from aiagent_coordinator.pipeline.confinement import step_command, trouble_of
from aiagent_coordinator.pipeline.context import Context, Control
from aiagent_coordinator.pipeline.launching import check_env
from aiagent_coordinator.pipeline.outcome import claims_success
from aiagent_coordinator.pipeline.prepare import checks_of
from aiagent_coordinator.pipeline.run import CheckResult, RunRecord, Stage, prepared_of
from aiagent_coordinator.redaction import OVERLAP_BYTES
from aiagent_coordinator.tasks import Check, WorkspaceKind
from aiagent_coordinator.telemetry import log_event
from aiagent_coordinator.workspaces import get_workspace
from aiagent_coordinator.workspaces.base import Sealed

logger = logging.getLogger(__name__)

#: What is kept of a check's output: enough to see the failing assertion.
TAIL_BYTES = 1200
#: After KILL a tree is gone at once; this bounds the wait for a machine that is not.
KILLED_SECONDS = 30.0
#: What a shell answers when there is no such program.
NOT_FOUND = 127


async def run(record: RunRecord, context: Context, control: Control) -> RunRecord:
    """Run every check in order until one fails, then take away what they left."""
    definition = context.catalog.get(record.provider)
    checks = checks_of(record)
    if not checks or not claims_success(
        record, exit0_is_success=definition.outcome.exit0_is_success
    ):
        return record.at(Stage.COLLECT)
    results: list[CheckResult] = []
    for number, check in enumerate(checks, start=1):
        result = await _run_check(record, context, control, number, check)
        results.append(result)
        failpoints.hit("verify.checked")
        if result.exit_code != 0:
            break
    record = record.at(Stage.VERIFY, checks=tuple(results), checks_done=True)
    return (await _clean(record)).at(Stage.COLLECT)


async def _run_check(
    record: RunRecord, context: Context, control: Control, number: int, check: Check
) -> CheckResult:
    folder = context.state.run(record.run_id) / "steps" / str(number)
    env = check_env(record, context)
    program = _program(check.argv[0], record.workspace, env)
    if program is None:
        tail = f"{check.argv[0]}: not found on the PATH of checks"
        return CheckResult(check.argv, NOT_FOUND, 0.0, tail)
    spec = LaunchSpec(
        run_id=record.run_id,
        argv=step_command(record, context, folder, (program, *check.argv[1:])),
        cwd=record.workspace,
        env=env,
        grace_seconds=context.limits.stop_grace_seconds,
    )
    hold = await context.executor.hold(folder, spec, context.state.run(record.run_id) / "shim.py")
    if hold.state is HoldState.HELD:
        hold = await _wait(folder, context, control)
    trouble = await anyio.to_thread.run_sync(trouble_of, record, folder)
    result = await anyio.to_thread.run_sync(_result, check, hold, folder, context)
    return result if trouble is None else replace(result, tail=f"{result.tail}\n{trouble}".strip())


def _program(name: str, workspace: Path, env: Mapping[str, str]) -> str | None:
    """Where a check's program is: a path counts from the workspace, a name is looked up on PATH."""
    if "/" in name:
        return str(workspace / name)
    return shutil.which(name, path=env.get("PATH"))


async def _wait(folder: Path, context: Context, control: Control) -> Hold:
    """Wait for a check; one that takes too long, or whose run is stopped, is killed."""
    with anyio.move_on_after(context.limits.check_seconds):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_kill_when_stopped, folder, context, control)
            await context.executor.wait(folder)
            tasks.cancel_scope.cancel()
    found = await anyio.to_thread.run_sync(context.executor.inspect, folder)
    if found.state is HoldState.HELD:
        await context.executor.signal(folder, "K")
        with anyio.fail_after(KILLED_SECONDS):
            found = await context.executor.wait(folder)
    return found


async def _kill_when_stopped(folder: Path, context: Context, control: Control) -> None:
    while control.stop_reason not in {"stopped", "killed", "cancelled"}:
        await control.wait_changed(60)
    await context.executor.signal(folder, "K")


def _result(check: Check, hold: Hold, folder: Path, context: Context) -> CheckResult:
    found = hold.record
    if found is None:
        tail = "the check was lost: its supervisor is gone and left no record"
        return CheckResult(check.argv, None, 0.0, tail)
    tail = _tail(folder, context)
    if found.error:
        tail = f"{tail}\n{found.error}".strip()
    return CheckResult(check.argv, found.exit_code, _seconds(found), tail)


def _seconds(found: ExitRecord) -> float:
    if found.started_at is None or found.ended_at is None:
        return 0.0
    return round((found.ended_at - found.started_at).total_seconds(), 3)


def _tail(folder: Path, context: Context) -> str:
    """The end of both streams, masked before it is cut: half a secret would not be known as one."""
    parts: list[str] = []
    for name in ("out", "err"):
        data = context.masker.mask_bytes(read_tail(folder / name, TAIL_BYTES + OVERLAP_BYTES))
        parts.append(data[-TAIL_BYTES:].decode("utf-8", "replace").strip())
    return "\n".join(part for part in parts if part)[-TAIL_BYTES:]


async def _clean(record: RunRecord) -> RunRecord:
    """Bring the worktree back to the sealed state; a shared checkout is only compared with it."""
    if record.sealed_commit is None:
        return record
    prepared = prepared_of(record)
    sealed = Sealed(
        commit=record.sealed_commit, branch=record.branch, changed=False, files=0, rescued_ref=None
    )
    workspace = get_workspace(prepared.kind)
    if prepared.kind is WorkspaceKind.DIRECTORY:
        same = await workspace.verify_unchanged(prepared, sealed)
        return record.at(Stage.VERIFY, tree_changed_by_checks=not same)
    removed = await workspace.clean_after_checks(prepared, sealed)
    if removed:
        log_event(
            logger,
            logging.INFO,
            "run.cleaned",
            "what the checks left was taken away",
            run_id=record.run_id,
            task_id=record.task["id"],
            files=removed,
        )
    return record.at(Stage.VERIFY, left_by_checks=removed)
