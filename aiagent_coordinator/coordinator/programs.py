"""Programs that are not installed: their agents' tasks stay queued, and start once the program is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiagent_coordinator.clock import Clock, SystemClock
from aiagent_coordinator.providers.detect import resolve
from aiagent_coordinator.providers.shape import Definition

#: How long what was seen is believed: a pass over many agents looks once.
SEEN_SECONDS = 2.0


@dataclass
class Programs:
    """Looks whether programs are where runs would find them. Starts nothing.

    Args:
        environ: What runs are started with; its `PATH` says where programs are.
        clock: Says how old what was seen is.
    """

    environ: Mapping[str, str]
    clock: Clock = field(default_factory=SystemClock)
    _seen: dict[str, tuple[float, bool]] = field(default_factory=dict[str, tuple[float, bool]])

    def why_not(self, definition: Definition) -> str | None:
        """Why nothing of this provider can be started; None when its program is there."""
        now = self.clock.monotonic()
        at, is_there = self._seen.get(definition.name, (-SEEN_SECONDS, False))
        if now - at >= SEEN_SECONDS:
            is_there = self._is_there(definition)
            self._seen[definition.name] = (now, is_there)
        if is_there:
            return None
        return (
            f"the program {definition.detect.executable!r} of provider {definition.name} was not found here; "
            f"install it, or set ai_providers.{definition.name}.cli_command"
        )

    def _is_there(self, definition: Definition) -> bool:
        path, home = self.environ.get("PATH"), self.environ.get("HOME")
        return resolve(definition, path, Path("/dev/null"), home) is not None
