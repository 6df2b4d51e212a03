"""What a run may use, and when it is over it. Pure: readings in, what follows out.

Two readings in a row above a limit count; one alone may be a moment. Silence ends with output, with a
new process, and with more processor time than waiting takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from aiagent_coordinator.executors.base import Caps, Sample

Action = Literal["warn", "kill"]

#: Above this share of one core a run is at work; programs that wait for an answer use less.
LIFE_CPU_SHARE = 0.05
#: Readings in a row above a limit before it counts.
READINGS = 2
_MIB = 1024 * 1024


@dataclass(frozen=True)
class RunLimits:
    """Limits of one run. Seconds and bytes; None: no limit."""

    #: Between TERM and KILL when a tree is stopped.
    stop_grace_seconds: float = 5.0
    #: Without a sign of life before a run counts as stalled; a warning comes at half.
    silence_seconds: float = 1800.0
    silence_action: Action = "kill"
    #: A program that does nothing but ask its provider again may do so for so long, or say so.
    retry_seconds: float = 120.0
    #: For one run as a whole.
    run_seconds: float | None = None
    #: For one check; then it is killed and counts as failed.
    check_seconds: float = 1800.0
    #: A CLI may live this long after its report was taken; then it is ended without harm to it.
    linger_seconds: float = 30.0
    #: A CLI may live this long after it was told that its question has no answer yet.
    asked_linger_seconds: float = 120.0
    #: How long the shim waits for the go before it gives up.
    gate_seconds: float = 120.0
    #: Both output streams together.
    log_warn_bytes: int | None = 1024 * _MIB
    log_max_bytes: int | None = 10 * 1024 * _MIB
    #: All processes of the run together.
    memory_bytes: int | None = None
    memory_action: Action = "kill"
    #: Per cent of one core.
    cpu_percent: float | None = None
    cpu_action: Action = "kill"
    processes: int | None = None
    processes_action: Action = "kill"
    #: Of each process.
    open_files: int | None = None
    #: Whether what the CLI leaves behind is ended with it.
    kill_leftovers: bool = True

    @property
    def watches_tree(self) -> bool:
        """Whether something here can only be seen by looking at the processes."""
        return (self.memory_bytes, self.cpu_percent, self.processes) != (None, None, None)

    def caps(self) -> Caps:
        """What the system itself can be asked to hold; where only a warning is wanted, nothing."""
        return Caps(
            open_files=self.open_files,
            processes=self.processes if self.processes_action == "kill" else None,
            memory_bytes=self.memory_bytes if self.memory_action == "kill" else None,
            cpu_percent=self.cpu_percent if self.cpu_action == "kill" else None,
        )


@dataclass(frozen=True)
class LimitOverrides:
    """What projects and agents set differently: fields of `RunLimits` by project id and agent id."""

    by_project: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Any])
    by_agent: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Any])

    def of(self, base: RunLimits, *, project_id: str, agent_id: str) -> RunLimits:
        """The limits of an agent's run in a project: the agent's word goes first."""
        changes = {**self.by_project.get(project_id, {}), **self.by_agent.get(agent_id, {})}
        return replace(base, **changes) if changes else base


@dataclass(frozen=True)
class Reading:
    """What is known of a run at one moment."""

    #: Seconds of a clock that never goes back.
    now: float
    log_bytes: int
    #: The last look at its processes; None while they cannot be seen.
    sample: Sample | None = None
    #: The CLI waits for a person: its silence means nothing.
    awaits_person: bool = False


@dataclass(frozen=True)
class Finding:
    """Something a person should know; with a reason, the run is to be stopped for it."""

    #: One word for what it is about, the same every time.
    kind: str
    text: str
    reason: str | None = None


class Judge:
    """Follows one run's readings. Owned by the task that looks after the run."""

    def __init__(self, limits: RunLimits, now: float) -> None:
        self._limits = limits
        self._life_at = now
        self._log_bytes = -1
        self._sample: Sample | None = None
        self._over: dict[str, int] = {}
        self._said: set[str] = set()
        self.peak_memory_bytes = 0
        self.peak_processes = 0
        self.cpu_seconds = 0.0

    def judge(self, reading: Reading) -> list[Finding]:
        """What follows from a reading: each warning once, a reason to stop every time."""
        found = self._log(reading)
        if reading.awaits_person:
            self._live(reading.now)
        sample = reading.sample
        if sample is not None and sample is not self._sample:
            found += self._tree(sample)
        found += self._silence(reading)
        new = [one for one in found if one.reason or one.kind not in self._said]
        self._said.update(one.kind for one in found)
        return new

    def _log(self, reading: Reading) -> list[Finding]:
        if reading.log_bytes != self._log_bytes:
            self._live(reading.now)
        self._log_bytes = reading.log_bytes
        warn, most = self._limits.log_warn_bytes, self._limits.log_max_bytes
        if most is not None and reading.log_bytes > most:
            text = f"its output has {_mib(reading.log_bytes)}, at most {_mib(most)} are allowed"
            return [Finding("log_limit", text, "log_limit")]
        if warn is not None and reading.log_bytes > warn:
            return [Finding("log_size", f"its output has {_mib(reading.log_bytes)}")]
        return []

    def _tree(self, sample: Sample) -> list[Finding]:
        last, self._sample = self._sample, sample
        self.peak_memory_bytes = max(self.peak_memory_bytes, sample.memory_bytes)
        self.peak_processes = max(self.peak_processes, sample.processes)
        self.cpu_seconds = max(self.cpu_seconds, sample.cpu_seconds)
        share = _cpu_share(last, sample)
        if last is None or share > LIFE_CPU_SHARE or sample.newest_start != last.newest_start:
            self._live(sample.at)
        limits = self._limits
        checks = (
            (
                "memory",
                limits.memory_bytes,
                sample.memory_bytes,
                f"its processes use {_mib(sample.memory_bytes)} of memory",
                limits.memory_action,
            ),
            (
                "cpu",
                limits.cpu_percent,
                share * 100,
                f"its processes use {share * 100:.0f} % of a core",
                limits.cpu_action,
            ),
            (
                "processes",
                limits.processes,
                sample.processes,
                f"it has {sample.processes} processes",
                limits.processes_action,
            ),
        )
        found: list[Finding] = []
        for kind, most, value, text, action in checks:
            if self._is_over(kind, most, value):
                found.append(Finding(kind, text, REASONS[kind] if action == "kill" else None))
        return found

    def _is_over(self, kind: str, most: float | None, value: float) -> bool:
        is_above = most is not None and value > most
        self._over[kind] = self._over.get(kind, 0) + 1 if is_above else 0
        return self._over[kind] >= READINGS

    def _silence(self, reading: Reading) -> list[Finding]:
        quiet, most = reading.now - self._life_at, self._limits.silence_seconds
        text = f"silent for {quiet:.0f} s"
        if quiet > most:
            return [Finding("silent", text, "stalled" if self._kills_silence else None)]
        return [Finding("silence", text)] if quiet > most / 2 else []

    @property
    def _kills_silence(self) -> bool:
        return self._limits.silence_action == "kill"

    def _live(self, now: float) -> None:
        """A sign of life: silence begins anew, and is worth a new warning."""
        self._life_at = max(self._life_at, now)
        self._said -= {"silence", "silent"}


#: The reason with which a run is stopped that is over a limit.
REASONS = {"memory": "memory_limit", "cpu": "cpu_limit", "processes": "process_limit"}


def _cpu_share(last: Sample | None, sample: Sample) -> float:
    """How much of one core was used between two looks."""
    if last is None or sample.at <= last.at:
        return 0.0
    return max(0.0, sample.cpu_seconds - last.cpu_seconds) / (sample.at - last.at)


def _mib(size_bytes: float) -> str:
    return f"{size_bytes / _MIB:.0f} MiB"
