"""Rests for what fails again and again as soon as it is started. Pure: time and chance are given.

A circuit belongs to a provider or to a line of work. Quick failures in a row open it, and then nothing
is started there for a while. Then one run may try: its good end closes the circuit, its quick failure
opens it again for longer. One line of work alone never opens its provider's circuit: what is wrong may
be its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

#: What a circuit belongs to: `("provider", name)` or `("line", "agent/project/purpose")`.
Circuit: TypeAlias = tuple[str, str]
#: The two a run belongs to: its provider's, and its line of work's.
Circuits: TypeAlias = tuple[Circuit, Circuit]


@dataclass(frozen=True)
class BreakerPolicy:
    """When circuits open, and for how long. Times in seconds."""

    #: Quick failures in a row that open a circuit.
    failures: int = 5
    #: A failure within this time after the start is a quick one.
    quick_seconds: float = 10.0
    first_seconds: float = 60.0
    #: Each further opening doubles the rest, up to this.
    max_seconds: float = 900.0
    #: How far chance moves a rest, as a part of it: many coordinators do not try at once.
    spread: float = 0.25


class Ending(StrEnum):
    """What the end of a run says about its circuits."""

    #: It failed by itself, at once.
    QUICK_FAILURE = "quick_failure"
    #: It worked for a while, or did what it was to do.
    WORKED = "worked"
    #: It was stopped, lost or never began: that says nothing.
    SILENT = "silent"


@dataclass
class _State:
    failures: int = 0
    #: How often it opened without a good end in between.
    openings: int = 0
    #: When its rest ends, by the monotonic clock; None while it is closed.
    until: float | None = None
    #: The run that tries, once the rest is over.
    trial: str | None = None
    why: str = ""
    #: The lines of work that failed.
    lines: set[str] = field(default_factory=set[str])


@dataclass
class Breakers:
    """All circuits of one coordinator.

    Args:
        policy: When they open.
        chance: Gives numbers from 0 to 1.
    """

    policy: BreakerPolicy
    chance: Callable[[], float]
    _states: dict[Circuit, _State] = field(default_factory=dict[Circuit, _State])

    def started(self, run_id: str, circuits: Circuits) -> None:
        """A run was started: where a rest is over, it is the one that tries."""
        for circuit in circuits:
            state = self._states.get(circuit)
            if state is not None and state.until is not None:
                state.trial = run_id

    def ended(
        self, run_id: str, circuits: Circuits, ending: Ending, why: str, now: float
    ) -> list[Circuit]:
        """A run is over; returns the circuits that this opened."""
        opened: list[Circuit] = []
        line = circuits[1][1]
        for circuit in circuits:
            state = self._states.get(circuit)
            was_trial = state is not None and state.trial == run_id
            if ending is Ending.WORKED:
                self._states.pop(circuit, None)
            elif ending is Ending.SILENT:
                if state is not None and was_trial:
                    state.trial = None  # the next one tries
            else:
                state = self._states.setdefault(circuit, _State())
                state.failures += 1
                state.why = why
                state.lines.add(line)
                if self._opens(circuit, state, was_trial=was_trial):
                    self._open(state, now)
                    opened.append(circuit)
        return opened

    def _opens(self, circuit: Circuit, state: _State, *, was_trial: bool) -> bool:
        if was_trial:
            return True
        if state.until is not None:
            return False  # this run was under way when it opened
        lines = 2 if circuit[0] == "provider" else 1
        return state.failures >= self.policy.failures and len(state.lines) >= lines

    def _open(self, state: _State, now: float) -> None:
        rest = min(self.policy.first_seconds * 2**state.openings, self.policy.max_seconds)
        rest *= 1 + self.policy.spread * (2 * self.chance() - 1)
        state.until = now + min(rest, self.policy.max_seconds)
        state.openings += 1
        state.trial = None

    def closed_for(self, circuits: Circuits, now: float) -> str | None:
        """Why nothing may be started here now; None when something may."""
        for circuit in circuits:
            state = self._states.get(circuit)
            if state is None or state.until is None:
                continue
            about = f"{_name(circuit)} failed {state.failures} times in a row ({state.why})"
            if state.until > now:
                return f"{about}: rests for {state.until - now:.0f} s"
            if state.trial is not None:
                return f"{about}: run {state.trial} tries whether it works again"
        return None

    def trying(self, now: float) -> frozenset[Circuit]:
        """Circuits whose rest is over and which one run may try."""
        return frozenset(
            circuit
            for circuit, state in self._states.items()
            if state.until is not None and state.until <= now and state.trial is None
        )

    def seconds_to_next(self, now: float) -> float | None:
        """Seconds until a rest ends; None when none does."""
        ends = [
            state.until - now
            for state in self._states.values()
            if state.until is not None and state.until > now
        ]
        return min(ends, default=None)

    def shown(self, now: float) -> list[Mapping[str, Any]]:
        """The circuits that are not closed, for people; `seconds` are those left of the rest."""
        return [
            {
                "scope": circuit[0],
                "name": circuit[1],
                "state": "open" if state.until > now else "half-open",
                "failures": state.failures,
                "seconds": max(0.0, round(state.until - now, 1)),
                "reason": state.why,
            }
            for circuit, state in sorted(self._states.items())
            if state.until is not None
        ]


def _name(circuit: Circuit) -> str:
    scope, name = circuit
    return f"provider {name}" if scope == "provider" else f"agent {name.split('/')[0]}"
