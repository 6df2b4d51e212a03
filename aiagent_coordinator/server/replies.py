"""What the call of a tool answers, before any protocol library gives it its shape."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiagent_coordinator.errors import CoordinatorError, ForbiddenError, StoreError
from aiagent_coordinator.server import notices, removed
from aiagent_coordinator.server.auth import LoudRefusalError
from aiagent_coordinator.server.calls import Board, Call, UnknownToolError
from aiagent_coordinator.telemetry import log_event
from aiagent_coordinator.wire.protocol import CAPABILITY, PROTOCOL_VERSION

logger = logging.getLogger(__name__)

NAME = "aiagent-coordinator"
TITLE = "AI agent coordinator"
ABOUT = "Hands out tasks to AI coding agents, and takes their results."
#: Three tasks on a board, the first of them done; drawn here, so that no host has to fetch it.
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' "
    "stroke='%232563eb' stroke-width='2'%3E%3Cpath d='M3 6l2 2 3-4M11 6h10M3 13h5M11 13h10M3 20h5M11 "
    "20h10'/%3E%3C/svg%3E"
)
INSTRUCTIONS = (
    "Tools of the coordinator that started you. Call authenticate, then get_next_action, and do "
    "what its instruction says, until it says exit."
)
#: What this server has beyond plain MCP; its own clients ask for it by name.
FEATURES = ("actions", "runs")

INVALID_PARAMS, INTERNAL_ERROR = -32602, -32603
_STRUCTURE_SINCE = "2025-06-18"
#: Coordinators that never shake hands read lines of 64 KiB; less, for what stands around the text.
BARE_LINE_BYTES = 64 * 1024 - 1024
#: Programs that ask these read a single text, and refuse an answer with more.
TEXT_ONLY = frozenset({"permission_prompt"})
#: JSON-RPC's range for a server's own errors.
REFUSED = -32001


@dataclass(frozen=True)
class ToolReply:
    """The answer of a tool twice: as data, and as text for clients that only read that."""

    text: str
    data: Mapping[str, Any]
    is_error: bool = False
    #: Texts that follow it: nothing of the answer itself.
    more: tuple[str, ...] = ()
    #: Beside the content, for clients of AI Agent PM: whether something waits to be read.
    notification: str | None = None
    meta: Mapping[str, Any] | None = None


class RpcError(Exception):
    """A request that is answered by a JSON-RPC error instead of a result."""

    def __init__(self, code: int, message: str, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


def title_of(tool: str) -> str:
    """A tool's name for people."""
    return tool.replace("_", " ").capitalize()


def capability(version: str) -> dict[str, Any]:
    """What `initialize` says under `capabilities.experimental`."""
    return {
        CAPABILITY: {"protocol": PROTOCOL_VERSION, "features": list(FEATURES), "version": version}
    }


async def reply_to(board: Board, call: Call) -> ToolReply:
    """Do what a call says.

    Raises:
        RpcError: there is no such tool, or a wrong key was shown.
    """
    try:
        answer = await board.call(call)
    except UnknownToolError as error:
        if call.name in removed.INSTEAD:
            return _removed(call)
        raise RpcError(INVALID_PARAMS, f"unknown tool {call.name!r}") from error
    except LoudRefusalError as error:
        raise loud(error) from error
    except StoreError:
        # its words are the database's own
        return _unexpected(call.name)
    except ForbiddenError as error:
        if call.name in removed.INSTEAD and not has_structure(call.revision):
            return _removed(call)
        return _failure(error.code, error.message, error.hint)
    except CoordinatorError as error:
        return _failure(error.code, error.message, error.hint)
    except Exception:  # noqa: BLE001 - the border of a request: the server goes on
        return _unexpected(call.name)
    text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
    if call.is_bare and "coordinator_token" in call.arguments and is_long_line(text):
        raise RpcError(
            INTERNAL_ERROR, f"the answer to {call.name} is longer than the 64 KiB you can read"
        )
    return _with_aside(ToolReply(text, answer), call)


def _with_aside(reply: ToolReply, call: Call) -> ToolReply:
    """An answer with what its agent is to hear beside it, where its client looks."""
    aside = call.aside
    if aside.has_unread is None:
        return reply
    if not has_structure(call.revision):
        word = notices.UNREAD if aside.has_unread else notices.NONE
        return replace(reply, more=aside.interrupts, notification=word)
    meta = {notices.META_KEY: True} if aside.has_unread else None
    return replace(reply, more=aside.interrupts, meta=meta)


def is_long_line(text: str) -> bool:
    """Whether a text, as JSON in a line of JSON, is longer than old coordinators read."""
    return len(text) > BARE_LINE_BYTES // 8 and len(json.dumps(text)) > BARE_LINE_BYTES


def is_structured(call: Call) -> bool:
    """Whether the answer to a call goes as data beside its text."""
    return call.name not in TEXT_ONLY and has_structure(call.revision)


def has_structure(revision: str | None) -> bool:
    """Whether results of this revision of the protocol have structured content."""
    return revision is not None and revision >= _STRUCTURE_SINCE


def loud(error: CoordinatorError) -> RpcError:
    """A refusal that no client can take for a result."""
    return RpcError(REFUSED, error.message, {"code": error.code, "hint": error.hint})


def _removed(call: Call) -> ToolReply:
    """The answer to a name that another make once had."""
    if not has_structure(call.revision):
        return ToolReply(removed.words(call.name), {}, is_error=True)
    error = removed.refusal(call.name)
    return _failure(error.code, error.message, error.hint)


def _failure(code: str, message: str, hint: str) -> ToolReply:
    text = f"{code}: {message}" + (f" ({hint})" if hint else "")
    error = {"code": code, "message": message, "hint": hint}
    return ToolReply(text, {"error": error}, is_error=True)


def _unexpected(tool: str) -> ToolReply:
    """Log the exception that is being handled, and answer without its words."""
    log_event(
        logger, logging.ERROR, "server.request_failed", "a request failed unexpectedly", tool=tool
    )
    return _failure("INTERNAL", "the server failed at this call", "its log has the details")
