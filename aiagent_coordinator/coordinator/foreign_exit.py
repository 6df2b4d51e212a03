"""The end of a run, told to a server of another make in the words that it knows.

What may be told twice without harm is told until it is taken. What may not (an error becomes a message
in a chat) is told at most once, also when nobody knows whether the first time arrived.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from aiagent_coordinator.coordinator.upload import send
from aiagent_coordinator.errors import CoordinatorError, UnavailableError
from aiagent_coordinator.runs import RunOutcome
from aiagent_coordinator.telemetry import log_event

if TYPE_CHECKING:
    from aiagent_coordinator.coordinator.foreign import ForeignLink
    from aiagent_coordinator.paths import StateDir
    from aiagent_coordinator.pipeline.run import RunRecord

logger = logging.getLogger(__name__)

#: In the run's folder: its error was told, or may have been.
TOLD = "error-told"
#: Of an error that becomes a message in a chat.
MAX_ERROR_CHARS = 1000


class Exits:
    """Tells ends of runs."""

    def __init__(self, link: ForeignLink, state: StateDir) -> None:
        self._link = link
        self._state = state
        #: How this server wants to hear of an exit; found out at the first.
        self._tools = ("report_process_exit", "invalidate_session")

    async def tell(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Tell that a run is over, with its log and its error.

        Raises:
            UnavailableError: not all was taken; the whole is told again.
        """
        record = self._link.record_of(str(report["run_id"]))
        if record is None:
            return {}
        pair = (record.agent_id, record.project_id)
        diagnosis: Mapping[str, Any] = report.get("diagnosis") or {}
        has_failed = report["outcome"] in {RunOutcome.FAILED, RunOutcome.NOT_STARTED}
        error = str(diagnosis.get("text") or "") or f"it ended without success ({report['reason']})"
        log_id = await self._log(record)
        if has_failed:
            await self._error(record, error)
        await self._exit(record)
        self._link.stops.pop(pair, None)
        if has_failed:
            self._link.cooldowns.failed(pair, error)
        else:
            self._link.cooldowns.worked(pair)
        if log_id is not None and self._link.terms.upload is not None and record.log_path:
            upload, path = self._link.terms.upload, Path(record.log_path)
            about = {
                "execution_log_id": log_id,
                "agent_id": record.agent_id,
                "task_id": str(record.task["id"]),
                "project_id": record.project_id,
            }
            deliver = partial(send, upload, self._link.terms.token, path, about)
            await anyio.to_thread.run_sync(deliver, abandon_on_cancel=True)
        return {}

    async def _log(self, record: RunRecord) -> str | None:
        """Say where the log lies; the server's id of it, where it gives one."""
        if not record.task.get("is_named") or not record.log_path:
            return None
        arguments = {
            "agent_id": record.agent_id,
            "task_id": record.task["id"],
            "log_file_path": record.log_path,
        }
        answer = await self._say("register_execution_log_file", arguments)
        ident = (answer or {}).get("execution_log_id")
        return ident if isinstance(ident, str) else None

    async def _error(self, record: RunRecord, text: str) -> None:
        marker = self._state.run(record.run_id) / TOLD
        if await anyio.to_thread.run_sync(_is_marked, marker):
            return
        arguments = {
            "agent_id": record.agent_id,
            "project_id": record.project_id,
            "error_message": text[:MAX_ERROR_CHARS],
        }
        try:
            await self._say("report_agent_error", arguments)
        except UnavailableError as error:
            # perhaps it arrived: never twice
            _note("report_agent_error", record, error)

    async def _exit(self, record: RunRecord) -> None:
        others = self._link.others_of(record)
        pair: dict[str, Any] = {"agent_id": record.agent_id, "project_id": record.project_id}
        for tool in self._tools:
            more = {"remaining_processes": others} if tool == "report_process_exit" else {}
            try:
                await self._link.ask(tool, {**pair, **more})
            except UnavailableError:
                raise
            except CoordinatorError as error:
                _note(tool, record, error)
                continue
            self._tools = (tool,)
            return

    async def _say(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        """Tell something; a refusal is noted, and changes nothing.

        Raises:
            UnavailableError: it may not have arrived.
        """
        try:
            return await self._link.ask(tool, arguments)
        except UnavailableError:
            raise
        except CoordinatorError as error:
            log_event(
                logger,
                logging.INFO,
                "report.refused",
                "the server did not take it",
                tool=tool,
                error=error.message[:500],
            )
            return None


def _note(tool: str, record: RunRecord, error: CoordinatorError) -> None:
    log_event(
        logger,
        logging.INFO,
        "report.refused",
        "the server did not take it",
        tool=tool,
        run_id=record.run_id,
        error=error.message[:500],
    )


def _is_marked(marker: Path) -> bool:
    """Mark it as told before it is; True when an earlier try, or life, has marked it."""
    try:
        os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return True
    except OSError:
        return False
    return False
