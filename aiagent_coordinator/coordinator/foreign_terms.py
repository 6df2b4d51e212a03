"""How a server of another make is driven: what the settings say, and what is passed around. Values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from aiagent_coordinator.coordinator.cooldown import ErrorProtection
from aiagent_coordinator.coordinator.foreign_read import Place, Said
from aiagent_coordinator.coordinator.link import CALL_SECONDS
from aiagent_coordinator.pipeline.run import RunRecord


@dataclass(frozen=True)
class Upload:
    """Sending logs to the server; the keys of `log_upload`."""

    url: str
    max_file_bytes: int = 10 * 1024 * 1024
    retry_count: int = 3
    retry_delay_seconds: float = 1.0


@dataclass(frozen=True)
class ForeignTerms:
    """How such a server is driven."""

    token: str = field(repr=False)
    #: Agents that are ours to start: those with a passkey.
    passkeys: Mapping[str, str] = field(repr=False)
    #: Of its MCP endpoint; None: it listens on a socket.
    url: str | None = None
    root_agent_id: str | None = None
    protection: ErrorProtection = field(default_factory=ErrorProtection)
    #: Where finished logs are sent, if anywhere.
    upload: Upload | None = None
    #: So long one call may take.
    call_seconds: float = CALL_SECONDS


@dataclass(frozen=True)
class Offer:
    """A start that the server has said, until the run asks for its claim."""

    place: Place
    said: Said
    provider: str


class HasRecord(Protocol):
    """A run in the hands of its driver."""

    @property
    def record(self) -> RunRecord:
        """As far as it has come."""
        ...
