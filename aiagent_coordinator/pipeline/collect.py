"""Collect, result and clean: what happened is decided, written down, told, and tidied up."""

from __future__ import annotations

import json
import logging
import shlex
import shutil
from pathlib import Path
from typing import Any

import anyio

from aiagent_coordinator.errors import StaleRunError
from aiagent_coordinator.logs.merge import write_merged_log
from aiagent_coordinator.logs.tail import read_tail
from aiagent_coordinator.pipeline import sessions, waits
from aiagent_coordinator.pipeline.activity import add_activity
from aiagent_coordinator.pipeline.context import Context, Control
from aiagent_coordinator.pipeline.handoff import HandoffFacts
from aiagent_coordinator.pipeline.handoff import build as build_handoff
from aiagent_coordinator.pipeline.outcome import End, asks_in_the_end, decide
from aiagent_coordinator.pipeline.prepare import log_header, write_private
from aiagent_coordinator.pipeline.run import CheckResult, RunRecord, Stage
from aiagent_coordinator.pipeline.stated import stated_by, stream_of
from aiagent_coordinator.pipeline.summary import summarize
from aiagent_coordinator.pipeline.told_limit import limit_told
from aiagent_coordinator.providers.diagnosis import WINDOW_BYTES, Diagnosis, Output, diagnose
from aiagent_coordinator.providers.probing import Prober
from aiagent_coordinator.quota import CLOSING
from aiagent_coordinator.redaction import printable
from aiagent_coordinator.runs import RunOutcome, Verification
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: Outcomes after which another attempt should know what this one did.
_HANDED_ON = frozenset(
    {RunOutcome.FAILED, RunOutcome.VERIFY_FAILED, RunOutcome.LOST, RunOutcome.STOPPED}
)


async def collect(record: RunRecord, context: Context, _control: Control) -> RunRecord:
    """Read the end of the output, decide the outcome, write hand-off and readable log."""
    return await anyio.to_thread.run_sync(_collect, record, context)


def _collect(record: RunRecord, context: Context) -> RunRecord:
    definition = context.definition_of(record)
    found: Diagnosis | None = None
    if record.shim is not None and record.stated is None:
        # an earlier version of ours watched it
        record = record.at(Stage.COLLECT, stated=stated_by(stream_of(record, context)))
    stated = record.stated or {}
    if record.shim is not None and not record.report:
        folder = context.state.run(record.run_id)
        found = diagnose(
            definition,
            record.exit_code,
            record.signal,
            read_tail(folder / "err", WINDOW_BYTES),
            Output(read_tail(folder / "out", WINDOW_BYTES), tuple(stated.get("faults", ()))),
            masker=context.masker,
        )
    record = record.at(Stage.COLLECT, provider_session_id=_session_id(record, context))
    end = decide(
        record,
        exit0_is_success=definition.outcome.exit0_is_success,
        diagnosed=found.reason if found else None,
    )
    wait = waits.of_record(record, context) if end.reason == "stalled" else None
    if wait is not None:
        end = End(end.outcome, wait.reason)
        found = Diagnosis(wait.reason, wait.text, wait.remedy)
    asked = end.outcome is RunOutcome.SUSPENDED and not record.report and not _has_asked(record)
    record = record.at(
        Stage.COLLECT,
        asks=asks_in_the_end(record) if asked else None,
        outcome=end.outcome.value,
        reason=end.reason,
        verification=_verification(record, end.outcome).value,
        diagnosis=_described(record, found, context),
    )
    if end.reason in CLOSING and found is not None:
        record = record.at(Stage.COLLECT, limit=limit_told(record, found, context))
    if end.outcome in _HANDED_ON:
        record = record.at(Stage.COLLECT, handoff=_handoff(record, context))
    record = record.at(Stage.COLLECT, usage=stated.get("usage"))
    record = record.at(Stage.COLLECT, summary=_summary(record, context))
    _write_log(record, context)
    return record.at(Stage.RESULT)


def _session_id(record: RunRecord, context: Context) -> str | None:
    """What the CLI calls its session: as it says itself, else as we told it to."""
    if record.shim is None:
        return None
    definition = context.definition_of(record)
    ours = record.new_session_id if definition.launch.own_session_id else None
    said: str | None = (record.stated or {}).get("session_id")
    return said or record.resumed_session_id or ours


def _has_asked(record: RunRecord) -> bool:
    """Whether its agent asked by our tool."""
    return bool(record.facts.get("question"))


def _summary(record: RunRecord, context: Context) -> dict[str, Any]:
    """The run's diagnostics, kept in its folder too."""
    folder = context.state.run(record.run_id)
    tail = read_tail(folder / "out", WINDOW_BYTES) or read_tail(folder / "err", WINDOW_BYTES)
    summary = summarize(
        record,
        out_bytes=_size(folder / "out"),
        err_bytes=_size(folder / "err"),
        output=printable(context.masker.mask_bytes(tail).decode("utf-8", "replace")),
    )
    try:
        write_private(folder / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
    except OSError as error:
        # It goes with the result as well; no run ends over its copy.
        log_event(
            logger,
            logging.WARNING,
            "run.failed",
            "the run's summary could not be written",
            run_id=record.run_id,
            stage=Stage.COLLECT.value,
            error=str(error),
        )
    return summary


def _verification(record: RunRecord, outcome: RunOutcome) -> Verification:
    if any(check.exit_code != 0 for check in record.checks):
        return Verification.REFUTED
    proven = record.checks_done and bool(record.checks) and not record.tree_changed_by_checks
    if proven and outcome is RunOutcome.SUCCEEDED:
        return Verification.VERIFIED
    return Verification.NOT_VERIFIED


def _described(
    record: RunRecord, found: Diagnosis | None, context: Context
) -> dict[str, Any] | None:
    text = record.seal_error or record.error or (found.text if found else "")
    if found and found.reason == "bad_flags":
        text = f"{text[:400]}\n{_versions(record, context)}"
    waited = (record.stated or {}).get("waiting")
    if waited and not record.report:
        text = f"it was {waited}\n{text}".strip()
    if not text:
        return None
    return {"text": context.masker.mask_text(text)[:2000], "class": record.reason}


def _versions(record: RunRecord, context: Context) -> str:
    """Which version refused a flag, and which one the definition was looked at with."""
    definition = context.catalog.get(record.provider)
    chosen = context.catalog.chosen(record.provider, record.agent_id)
    (probe,) = Prober(context.environ, forbidden=record.workspace).look([(definition, chosen)])
    checked = f"{definition.can.versions or 'no version'}"
    return (
        f"{definition.title} {probe.version or 'of unknown version'} is installed; its flags were checked "
        f"with {checked}: install such a version (or name it in ai_providers.{definition.name}.cli_command), "
        "update this program, or correct cli_args and extra_args if the flag is yours"
    )


def _handoff(record: RunRecord, context: Context) -> str:
    failed = next((check for check in record.checks if check.exit_code != 0), None)
    diagnosis = record.diagnosis or {}
    return build_handoff(
        HandoffFacts(
            attempt=int(record.task.get("attempt", 1)),
            outcome=record.outcome or "",
            reason=record.reason or "",
            summary=(record.report or {}).get("summary") or "",
            diagnosis=str(diagnosis.get("text", "")),
            failing_argv=failed.argv if failed else (),
            failing_exit_code=failed.exit_code if failed else None,
            failing_output=failed.tail if failed else "",
            branch=record.branch,
            commit=record.sealed_commit,
            compacted=tuple((record.stated or {}).get("compacted", ())),
        ),
        masker=context.masker,
    )


def _write_log(record: RunRecord, context: Context) -> None:
    if record.log_path is None:
        return
    try:
        if record.stated is not None:
            add_activity(
                context.state.run(record.run_id),
                _told_of_stages(record),
                context.masker,
                backend=record.provider,
                at_ns=int(context.clock.now().timestamp() * 1e9),
            )
        write_merged_log(
            context.state.run(record.run_id),
            Path(record.log_path),
            header=log_header(record),
            masker=context.masker,
        )
    except OSError as error:
        # The readable log is derived; the raw files are the truth and stay. No run ends over it.
        log_event(
            logger,
            logging.WARNING,
            "run.failed",
            "the readable log could not be written",
            run_id=record.run_id,
            stage=Stage.COLLECT.value,
            error=str(error),
        )


def _told_of_stages(record: RunRecord) -> list[str]:
    """What the log of a run's doings says at its end."""
    stages = [f"stage   {name} {seconds:.1f} s" for name, seconds in record.stage_seconds.items()]
    checks = [
        f"check   {shlex.join(check.argv)}: exit code {check.exit_code}" for check in record.checks
    ]
    why = f" ({record.reason})" if record.reason else ""
    return [*stages, *checks, f"run     ended: {record.outcome}{why}"]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


async def tell_result(record: RunRecord, context: Context, _control: Control) -> RunRecord:
    """Report the result; the server makes the task's transition."""
    folder = context.state.run(record.run_id)
    report = {
        "run_id": record.run_id,
        "fence": record.fence,
        "seq": 2,
        "outcome": record.outcome,
        "reason": record.reason,
        "verification": record.verification,
        "sealed_commit": record.sealed_commit,
        "branch": record.branch,
        "pushed": False,
        "checks": [_check(check) for check in record.checks],
        "diagnosis": record.diagnosis,
        "log": {
            "path": record.log_path,
            "out_bytes": _size(folder / "out"),
            "err_bytes": _size(folder / "err"),
        },
        "handoff": record.handoff,
        "provider_session_id": record.provider_session_id,
        "summary": record.summary,
        "usage": record.usage,
        "live": (record.stated or {}).get("live"),
        "question": record.asks,
        "limit": record.limit,
    }
    try:
        await context.reporter.deliver(record.run_id, 2, "report_run_result", report)
    except StaleRunError:
        record = record.at(Stage.RESULT, superseded=True, reason="superseded")
    log_event(
        logger,
        logging.INFO,
        "run.end",
        "ended",
        run_id=record.run_id,
        task_id=record.task["id"],
        outcome=record.outcome,
        reason=record.reason,
        verification=record.verification,
        commit=record.sealed_commit,
    )
    return record.at(Stage.CLEAN)


def _check(check: CheckResult) -> dict[str, Any]:
    return {"argv": list(check.argv), "exit_code": check.exit_code, "seconds": check.seconds}


async def clean(record: RunRecord, context: Context, _control: Control) -> RunRecord:
    """Take away what only a living run needs: its token, its CLI's files, its temporary folder."""
    await anyio.to_thread.run_sync(_clean, record, context)
    return record.at(Stage.DONE)


def _clean(record: RunRecord, context: Context) -> None:
    folder = context.state.run(record.run_id)
    (folder / "token").unlink(missing_ok=True)
    (folder / "prompt").unlink(missing_ok=True)
    (folder / "credentials").unlink(missing_ok=True)
    sessions.put_away(record, context)
    shutil.rmtree(folder / "files", ignore_errors=True)
    if record.temp_dir:
        shutil.rmtree(record.temp_dir, ignore_errors=True)
