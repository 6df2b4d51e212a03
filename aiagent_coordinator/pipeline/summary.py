"""The diagnostics of one run as one object: in its folder, and with its result. Pure."""

from __future__ import annotations

from typing import Any

from aiagent_coordinator.clock import parse_iso
from aiagent_coordinator.pipeline.run import RunRecord

#: The end of the output that is kept; the logs have all of it.
OUTPUT_CHARS = 600


def summarize(record: RunRecord, *, out_bytes: int, err_bytes: int, output: str) -> dict[str, Any]:
    """What is worth knowing of a run that is decided.

    Args:
        record: The run, with its outcome.
        out_bytes: Size of its standard output.
        err_bytes: Size of its standard error.
        output: The masked end of what it printed; shortened here.

    Returns:
        Plain JSON values; what is not known is null. Seconds and bytes.
    """
    began, ended = parse_iso(record.started_at), parse_iso(record.ended_at)
    report = record.report or {}
    question: dict[str, Any] = record.facts.get("question") or {}
    return {
        "status": record.outcome,
        "reason": record.reason,
        "diagnosis": record.diagnosis,
        "verification": record.verification,
        "reported": report.get("result"),
        "question_id": question.get("id"),
        "exit_code": record.exit_code,
        "signal": record.signal,
        "stopped_for": record.stop_reason,
        "seconds": round((ended - began).total_seconds(), 3) if began and ended else None,
        "cpu_seconds": record.cpu_seconds,
        "peak_rss_bytes": record.peak_rss,
        "peak_processes": record.peak_processes,
        "warnings": record.warnings,
        "leftovers": list(record.leftovers),
        "stages": [
            {"name": name, "seconds": seconds} for name, seconds in record.stage_seconds.items()
        ],
        "checks": [
            {
                "argv": list(check.argv),
                "exit_code": check.exit_code,
                "seconds": check.seconds,
                "output": check.tail[-OUTPUT_CHARS:],
            }
            for check in record.checks
        ],
        "files_left_by_checks": record.left_by_checks,
        "commit": record.sealed_commit,
        "changed": record.sealed_changed,
        "files_changed": record.sealed_files,
        "lines_added": record.lines_added,
        "lines_deleted": record.lines_deleted,
        "usage": record.usage,
        "session": {"id": record.provider_session_id, "resumed": record.resumed_session_id},
        "out_bytes": out_bytes,
        "err_bytes": err_bytes,
        "output": output[-OUTPUT_CHARS:],
    }
