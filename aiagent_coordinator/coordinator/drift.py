"""CLIs that moved on: one that refuses a flag of its definition starts nothing until it is another.

Every further run would end the same way, whatever its task: so nothing fails for it, and what waits goes
on by itself once the program is updated, or another one is found. In memory: a new life tries once more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiagent_coordinator.pipeline.run import RunRecord
from aiagent_coordinator.providers.detect import resolve
from aiagent_coordinator.providers.probing import identity
from aiagent_coordinator.providers.shape import Definition

#: How a run ends whose program does not know one of its words.
REASON = "bad_flags"
_MOST_CHARS = 300


@dataclass(frozen=True)
class _Refusal:
    program: str
    told: str


@dataclass
class Drifts:
    """Which providers' programs refused a flag, as long as they are the same programs.

    Args:
        environ: What runs are started with; its `PATH` says where programs are.
        identify: Says what a program's file is.
    """

    environ: Mapping[str, str] = field(default_factory=dict[str, str])
    identify: Callable[[Path], str] = identity
    _refusals: dict[str, _Refusal] = field(default_factory=dict[str, "_Refusal"])

    def ended(self, record: RunRecord) -> None:
        """A run is over."""
        if record.reason != REASON or not record.argv:
            return
        told = str((record.diagnosis or {}).get("text", ""))[:_MOST_CHARS]
        program = self.identify(Path(record.program))
        self._refusals[record.provider] = _Refusal(program, told)

    def why_not(self, definition: Definition) -> str | None:
        """Why nothing of this provider is started; None when nothing is known against it."""
        refusal = self._refusals.get(definition.name)
        if refusal is None:
            return None
        path = resolve(
            definition, self.environ.get("PATH"), Path("/dev/null"), self.environ.get("HOME")
        )
        if path is None or self.identify(path) != refusal.program:
            del self._refusals[definition.name]
            return None
        return f"{definition.name} refuses how it is started: {refusal.told}"
