"""Whether the machine bears one more run, and whether what failed before is resting. Pure.

A run that was just started has not taken its memory yet: what its provider is known to need is set
aside for it until it has had time to grow. Where nothing of ours runs, one run may start as long as the
watermark itself holds: a machine that is too small for what was learned would otherwise never work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiagent_coordinator.coordinator.breaker import Circuit
from aiagent_coordinator.coordinator.plan import Action, Live
from aiagent_coordinator.runs import Assignment

_MIB = 1024 * 1024
#: What a CLI takes before anything was learned of its provider.
UNKNOWN_PEAK_BYTES = 300 * _MIB


@dataclass(frozen=True)
class Machine:
    """What the machine has left, in bytes; None: not known, and then no reason to wait."""

    memory_free: int | None = None
    disk_free: int | None = None


@dataclass(frozen=True)
class Watermarks:
    """Bytes that stay free; 0 switches a watermark off."""

    memory: int = 512 * _MIB
    disk: int = 256 * _MIB


def circuits_of(assignment: Assignment, provider: str) -> tuple[Circuit, ...]:
    """The circuits a run belongs to."""
    line = f"{assignment.agent_id}/{assignment.project_id}/{assignment.purpose.value}"
    return ("provider", provider), ("line", line)


@dataclass
class Gate:
    """What one plan may still start; each start takes its part."""

    machine: Machine
    marks: Watermarks
    #: Learned peak memory by provider, in bytes.
    peaks: Mapping[str, int]
    #: Why a line of work of a provider rests; None when it does not.
    resting: Callable[[tuple[Circuit, ...]], str | None]
    #: Circuits in which one run may try.
    trying: frozenset[Circuit] = frozenset()
    #: Providers of runs that have not had time to take their memory.
    young: tuple[str, ...] = ()
    #: Whether any run of ours is under way.
    is_busy: bool = False
    _reserved: int = 0
    _tried: set[Circuit] = field(default_factory=set[Circuit])

    def __post_init__(self) -> None:
        self._reserved = sum(self._peak(provider) for provider in self.young)

    def closed(self, action: Action) -> str | None:
        """Why this may not start now, in words for people; None when it may."""
        circuits = circuits_of(action.assignment, action.provider)
        reason = self.resting(circuits)
        if reason is not None:
            return reason
        if any(circuit in self._tried for circuit in circuits):
            return "one run tries first whether it works again"
        return self._no_disk() or self._no_memory(action.provider)

    def take(self, action: Action) -> None:
        """A run of this starts."""
        self._tried.update(self.trying.intersection(circuits_of(action.assignment, action.provider)))
        self._reserved += self._peak(action.provider)
        self.is_busy = True

    def _no_disk(self) -> str | None:
        free, mark = self.machine.disk_free, self.marks.disk
        if free is None or not mark or free >= mark:
            return None
        return f"disk: {_mib(free)} are free, {_mib(mark)} stay free"

    def _no_memory(self, provider: str) -> str | None:
        free, mark = self.machine.memory_free, self.marks.memory
        if free is None or not mark:
            return None
        left = free - self._reserved
        wanted = self._peak(provider) if self.is_busy else 0
        if left - wanted >= mark:
            return None
        wants = f", a run of {provider} takes {_mib(self._peak(provider))}" if wanted else ""
        held = f", {_mib(self._reserved)} of it for runs just started" if self._reserved else ""
        return f"memory: {_mib(free)} are free{held}{wants}, {_mib(mark)} stay free"

    def _peak(self, provider: str) -> int:
        return self.peaks.get(provider, UNKNOWN_PEAK_BYTES)


def providers_of_young(live: Mapping[str, tuple[Live, float]], now: float) -> tuple[str, ...]:
    """The providers of runs that began less than `WARM_SECONDS` ago, by when each began."""
    return tuple(run.provider for run, began in live.values() if now - began < WARM_SECONDS)


#: A CLI has taken most of its memory by then.
WARM_SECONDS = 60.0


def _mib(size: int) -> str:
    return f"{max(size, 0) // _MIB} MiB"
