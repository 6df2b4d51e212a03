"""Whether the machine bears one more run, and whether what failed before is resting.

A run that was just started has not taken its memory yet: what its provider is known to need is set
aside for it until it has had time to grow. Where nothing of ours runs, one run may start as long as the
watermark itself holds: a machine that is too small for what was learned would otherwise never work.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiagent_coordinator.clock import Clock
from aiagent_coordinator.coordinator.breaker import Breakers, Circuit, Circuits, Ending
from aiagent_coordinator.coordinator.machine import Machine
from aiagent_coordinator.coordinator.plan import Action
from aiagent_coordinator.pipeline.run import RunRecord
from aiagent_coordinator.quota import CLOSING
from aiagent_coordinator.runs import Assignment, RunOutcome
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

_MIB = 1024 * 1024
#: What a CLI takes before anything was learned of its provider.
UNKNOWN_PEAK_BYTES = 300 * _MIB
#: The program did what it was to do, whatever came of it.
WORKED = frozenset({RunOutcome.SUCCEEDED, RunOutcome.SUSPENDED, RunOutcome.VERIFY_FAILED})
#: Runs of a provider whose peaks are remembered; the largest of them counts.
PEAKS_KEPT = 20
#: A CLI has taken most of its memory this long after its start.
WARM_SECONDS = 60.0


@dataclass(frozen=True)
class Watermarks:
    """Bytes that stay free; 0 switches a watermark off."""

    memory: int = 512 * _MIB
    disk: int = 256 * _MIB


def circuits_of(assignment: Assignment, provider: str) -> Circuits:
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
    resting: Callable[[Circuits], str | None]
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
        self._tried.update(
            self.trying.intersection(circuits_of(action.assignment, action.provider))
        )
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


class Admission:
    """What the coordinator has learned of its machine and of its providers. Owned by the loop."""

    def __init__(self, breakers: Breakers, marks: Watermarks, clock: Clock) -> None:
        self._breakers = breakers
        self._marks = marks
        self._clock = clock
        self._peaks: dict[str, deque[int]] = {}
        self._began: dict[str, tuple[str, float]] = {}

    def gate(self, machine: Machine, *, is_busy: bool) -> Gate:
        """The gate for one plan."""
        now = self._clock.monotonic()
        young = [provider for provider, at in self._began.values() if now - at < WARM_SECONDS]
        return Gate(
            machine,
            self._marks,
            {provider: max(peaks) for provider, peaks in self._peaks.items()},
            lambda circuits: self._breakers.closed_for(circuits, now),
            self._breakers.trying(now),
            tuple(young),
            is_busy,
        )

    def started(self, record: RunRecord) -> None:
        """A run is started now."""
        self._began[record.run_id] = (record.provider, self._clock.monotonic())
        self._breakers.started(record.run_id, circuits_of(record.assignment, record.provider))

    def ended(self, record: RunRecord) -> None:
        """A run is over, whatever came of it."""
        self._began.pop(record.run_id, None)
        if record.peak_rss:
            known = self._peaks.setdefault(record.provider, deque(maxlen=PEAKS_KEPT))
            known.append(record.peak_rss)
        opened = self._breakers.ended(
            record.run_id,
            circuits_of(record.assignment, record.provider),
            ending_of(record, self._breakers.policy.quick_seconds),
            record.reason or record.exit_reason or f"exit code {record.exit_code}",
            self._clock.monotonic(),
        )
        for scope, name in opened:
            log_event(
                logger,
                logging.WARNING,
                "loop.circuit_opened",
                "it failed too often right after the start: nothing is started there for a while",
                scope=scope,
                name=name,
                reason=record.reason,
            )

    def seconds_to_next(self) -> float | None:
        """Seconds until something that rests may be tried; None when nothing rests."""
        return self._breakers.seconds_to_next(self._clock.monotonic())

    def shown(self) -> list[Mapping[str, Any]]:
        """The circuits that are not closed, for people."""
        return self._breakers.shown(self._clock.monotonic())


def ending_of(record: RunRecord, quick_seconds: float) -> Ending:
    """What the end of a run says about its circuits."""
    if record.outcome in WORKED or record.report:
        return Ending.WORKED
    if record.outcome != RunOutcome.FAILED or record.superseded or record.reason in CLOSING:
        # what a limit ended is held by the board, which knows until when
        return Ending.SILENT
    if record.started_at is None or record.ended_at is None:
        # a workspace that cannot be made says nothing of the program
        return Ending.QUICK_FAILURE if record.reason == "spawn_failed" else Ending.SILENT
    lasted = datetime.fromisoformat(record.ended_at) - datetime.fromisoformat(record.started_at)
    return Ending.QUICK_FAILURE if lasted.total_seconds() < quick_seconds else Ending.WORKED


def _mib(size: int) -> str:
    return f"{max(size, 0) // _MIB} MiB"
