"""Readers of what programs print: one module a dialect, all to the events of `providers.events`. Pure.

Tolerant on purpose: programs change weekly, so what is not understood is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from aiagent_coordinator.providers.dialects.base import Plain, Reader
from aiagent_coordinator.providers.dialects.claude import Claude, Qwen
from aiagent_coordinator.providers.dialects.cline import Cline
from aiagent_coordinator.providers.dialects.codex import Codex
from aiagent_coordinator.providers.dialects.copilot import Copilot
from aiagent_coordinator.providers.dialects.gemini import Gemini
from aiagent_coordinator.providers.dialects.opencode import Opencode
from aiagent_coordinator.providers.dialects.ours import Ours
from aiagent_coordinator.providers.dialects.vibe import Vibe
from aiagent_coordinator.providers.events import PLAIN, Event

_READERS: dict[str, Callable[[], Reader]] = {
    PLAIN: Plain,
    "claude-stream": Claude,
    "codex-json": Codex,
    "gemini-stream": Gemini,
    "opencode-json": Opencode,
    "qwen-stream": Qwen,
    "copilot-json": Copilot,
    "cline-json": Cline,
    "vibe-stream": Vibe,
    "events": Ours,
}


def reader_of(dialect: str) -> Reader:
    """A reader for the output of one run; one that reads nothing for a dialect that nobody knows."""
    return _READERS.get(dialect, Plain)()


def read_all(dialect: str, pieces: Iterable[bytes]) -> Iterator[Event]:
    """The events of output that is complete; its last line needs no end."""
    reader = reader_of(dialect)
    for piece in pieces:
        yield from reader.feed(piece)
    yield from reader.finish()
