"""What a provider said of the limit that ended a run: read from the ends of both streams."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC
from typing import Any

from aiagent_coordinator.clock import iso, parse_iso
from aiagent_coordinator.logs.tail import read_tail
from aiagent_coordinator.pipeline.context import Context
from aiagent_coordinator.pipeline.run import RunRecord
from aiagent_coordinator.providers.diagnosis import Diagnosis
from aiagent_coordinator.providers.resets import limit_of
from aiagent_coordinator.providers.transcript import digest_of

#: Of the ends of both streams, where headers and bodies of refusals stand.
LIMIT_BYTES = 64 * 1024
_SPEAKS_OF_LIMITS = re.compile(
    r"retry[-_ ]?after|retryDelay|rate_?limit_?(?:event|info|error)|ratelimit-|resets_(?:at|in)|"
    r"RESOURCE_EXHAUSTED|QuotaFailure|TerminalQuotaError",
    re.IGNORECASE,
)


def limit_told(record: RunRecord, found: Diagnosis, context: Context) -> dict[str, Any]:
    """What its provider said of the limit that ended a run, as the report carries it. Blocks."""
    folder = context.state.run(record.run_id)
    streams = (read_tail(folder / name, LIMIT_BYTES) for name in ("err", "out"))
    beside = [line for stream in streams for line in _of_limits(stream)]
    seen_at = parse_iso(record.ended_at) or context.clock.now()
    zone = seen_at.astimezone().tzinfo or UTC
    dialect = context.definition_of(record).output.dialect
    digest = digest_of(dialect, (read_tail(folder / "out", LIMIT_BYTES),))
    stated = [
        f"limit {one.window or ''} resets at {one.resets_at}"
        for one in digest.limits.values()
        if one.status == "rejected" and one.resets_at
    ]
    if digest.retry is not None and digest.retry.wait_seconds is not None:
        stated.append(f"retry-after: {digest.retry.wait_seconds}")
    stated.append(found.text)
    stated += [
        f"{fault.text}\nretry-after: {fault.retry_after_seconds}"
        for fault in reversed(digest.faults)
        if fault.retry_after_seconds is not None
    ]
    limit = limit_of([*stated, *reversed(beside)], seen_at, zone)
    told = {**asdict(limit), "resets_at": iso(limit.resets_at)}
    return {name: value for name, value in told.items() if value is not None}


def _of_limits(stream: bytes) -> list[str]:
    """The lines of an output that speak of a limit in a field, not in prose."""
    lines = stream.decode("utf-8", "replace").splitlines()
    return [line for line in lines if _SPEAKS_OF_LIMITS.search(line)]
