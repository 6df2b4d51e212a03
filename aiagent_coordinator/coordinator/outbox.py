"""Reports leave through here: journaled first, sent until taken, counted once.

At least once on the wire, exactly once in effect: the server keeps the answer under (run, seq).
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from aiagent_coordinator import failpoints
from aiagent_coordinator.clock import Clock, iso
from aiagent_coordinator.coordinator import entries
from aiagent_coordinator.coordinator.journal import Journal
from aiagent_coordinator.coordinator.keeping import keep
from aiagent_coordinator.coordinator.link import Link
from aiagent_coordinator.errors import CoordinatorError, UnavailableError, from_code
from aiagent_coordinator.pipeline.run import RunRecord
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: Waits between attempts at a report while the server is up but does not take it.
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
#: Answers that another attempt cannot change.
FINAL_CODES = frozenset(
    {"VALIDATION", "NOT_FOUND", "CONFLICT", "STALE_RUN", "FORBIDDEN", "TRANSITION"}
)


class Outbox:
    """The way of a run's facts to the journal and to the server."""

    def __init__(self, journal: Journal, link: Link, clock: Clock, runs: Path) -> None:
        self._runs = runs
        self._journal = journal
        self._link = link
        self._clock = clock
        self._sending = 0
        self._idle = anyio.Event()

    async def save(self, record: RunRecord) -> None:
        """Journal the record; returns when it is on the disk."""
        now = iso(self._clock.now()) or ""
        await keep(self._journal, self._runs, [record], now)

    async def deliver(
        self, run_id: str, seq: int, tool: str, arguments: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Deliver a report; see `pipeline.context.Reporter`."""
        text = json.dumps(arguments, ensure_ascii=False)
        enqueue = partial(entries.enqueue_report, run_id=run_id, seq=seq, tool=tool, arguments=text)
        stored, answer = await self._journal.write(enqueue)
        if answer is None:
            failpoints.hit("outbox.queued", tool)
            answer = await self._send(run_id, seq, tool, json.loads(stored))
        return _unwrap(json.loads(answer))

    async def _send(self, run_id: str, seq: int, tool: str, arguments: dict[str, Any]) -> str:
        self._sending += 1
        try:
            answer = json.dumps(await self._until_taken(run_id, tool, arguments))
            failpoints.hit("outbox.answered", tool)
            now = iso(self._clock.now()) or ""
            await self._journal.write(
                partial(entries.ack_report, run_id=run_id, seq=seq, answer=answer, now=now)
            )
            return answer
        finally:
            self._sending -= 1
            if not self._sending:
                self._idle.set()
                self._idle = anyio.Event()

    async def _until_taken(
        self, run_id: str, tool: str, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        attempt = 0
        while True:
            await self._link.wait_up()
            try:
                return {"ok": await self._link.call(tool, arguments)}
            except CoordinatorError as error:
                if error.code in FINAL_CODES:
                    log_event(
                        logger,
                        logging.WARNING,
                        "report.refused",
                        "the server refused a report",
                        error=error.message,
                        run_id=run_id,
                        tool=tool,
                        code=error.code,
                    )
                    return {"error": {"code": error.code, "message": error.message}}
                if not isinstance(error, UnavailableError) or self._link.is_up:
                    log_event(
                        logger,
                        logging.WARNING,
                        "report.retry",
                        "a report was not taken",
                        error=error.message,
                        run_id=run_id,
                        tool=tool,
                    )
                wait = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
                # Jitter, so that many runs do not come back in step after an outage.
                await anyio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
                attempt += 1

    async def drain(self, at_most_seconds: float) -> bool:
        """Wait until nothing is being sent; False when time ran out (the rest stays journaled)."""
        with anyio.move_on_after(at_most_seconds):
            while self._sending:
                await self._idle.wait()
        return not self._sending


def _unwrap(answer: dict[str, Any]) -> dict[str, Any]:
    error = answer.get("error")
    if error is not None:
        raise from_code(error["code"], error["message"])
    return answer["ok"]
