"""What to do next: a pure function from what is known to starts and reasons to wait.

Nothing here talks to anybody: rules are tested without a process, and the reasons can be shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aiagent_coordinator.quota import Lane
from aiagent_coordinator.runs import Assignment, Purpose


@dataclass(frozen=True)
class Action:
    """What the server says about one line of work. `slots_free` is what its own limits leave."""

    assignment: Assignment
    action: str
    reason: str
    provider: str
    model: str | None = None
    task_id: str | None = None
    slots_free: int = 1
    #: Runs the agent may have at a time over all its projects, as the board has it; None: not told.
    max_concurrent: int | None = None
    approval: str = "edits"
    #: What it may work on, the first before the others; empty: provider and model, nothing else.
    lanes: tuple[Lane, ...] = ()


@dataclass(frozen=True)
class Live:
    """One run the coordinator holds. `holds_place` ends with the tree, the slot with the result."""

    run_id: str
    assignment: Assignment
    provider: str
    slot: int
    holds_place: bool


@dataclass(frozen=True)
class Limits:
    """How many runs may hold a place at once; absent means no limit of that kind."""

    total: int
    per_agent: Mapping[str, int] = field(default_factory=dict[str, int])
    per_project: Mapping[str, int] = field(default_factory=dict[str, int])
    per_provider: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class Start:
    """Start a run of this line of work in this slot."""

    action: Action
    slot: int


@dataclass(frozen=True)
class Wait:
    """This line of work has something to do and does not get it now, because of `reason`."""

    assignment: Assignment
    reason: str


@dataclass(frozen=True)
class Plan:
    """The decisions of one pass."""

    starts: tuple[Start, ...] = ()
    waits: tuple[Wait, ...] = ()


class Gate(Protocol):
    """What else must let a start through; asked for each one, and told of each that is decided."""

    def closed(self, action: Action) -> str | None:
        """Why it may not start now, in words for people; None when it may."""
        ...

    def take(self, action: Action) -> None:
        """It starts."""
        ...


def plan(
    actions: Sequence[Action],
    live: Sequence[Live],
    limits: Limits,
    *,
    gate: Gate | None = None,
    resting: Mapping[Assignment, str] | None = None,
    last_started: Mapping[str, int] | None = None,
) -> Plan:
    """Decide what to start.

    Args:
        actions: What the server says, in its order.
        live: What runs now; a run keeps its slot until its result is in.
        limits: How many may hold a place.
        gate: What the machine bears and what rests; changed by what is decided.
        resting: Lines of work that must not start now, each with the reason shown to people.
        last_started: When each project last got a start, as a counter; who waited longest is first.

    Returns:
        Starts within the limits, and for everything else that has work the first reason it waits.
    """
    places = _Places.of(live, limits)
    order = sorted(
        (action for action in actions if action.action == "start"),
        key=lambda action: (last_started or {}).get(action.assignment.project_id, 0),
    )
    starts: list[Start] = []
    waits: list[Wait] = []
    queues = _by_project(order)
    # One start per project and round, so that a project with many agents starves nobody.
    while queues:
        for project_id in list(queues):
            action, wanted = queues[project_id][0]
            reason = (resting or {}).get(action.assignment) or places.full(action)
            if reason is None and gate is not None and wanted > 0:
                reason = gate.closed(action)
            if reason is None and wanted > 0:
                if gate is not None:
                    gate.take(action)
                starts.append(Start(action, places.take(action)))
                queues[project_id][0] = (action, wanted - 1)
                continue
            if reason is not None and wanted > 0:
                waits.append(Wait(action.assignment, reason))
            queues[project_id].pop(0)
            if not queues[project_id]:
                del queues[project_id]
    return Plan(tuple(starts), tuple(waits))


def _by_project(actions: Sequence[Action]) -> dict[str, list[tuple[Action, int]]]:
    queues: dict[str, list[tuple[Action, int]]] = {}
    for action in actions:
        wanted = max(action.slots_free, 0)
        queues.setdefault(action.assignment.project_id, []).append((action, wanted))
    return queues


@dataclass
class _Places:
    """Places and slots while a plan is made: counts what runs and what was just decided."""

    limits: Limits
    total: int
    agents: Counter[str]
    projects: Counter[str]
    providers: Counter[str]
    slots: dict[Assignment, set[int]]

    @classmethod
    def of(cls, live: Sequence[Live], limits: Limits) -> _Places:
        holding = [run for run in live if run.holds_place]
        slots: dict[Assignment, set[int]] = {}
        for run in live:
            slots.setdefault(run.assignment, set()).add(run.slot)
        return cls(
            limits,
            len(holding),
            Counter(run.assignment.agent_id for run in holding if not _is_chat(run.assignment)),
            Counter(run.assignment.project_id for run in holding if not _is_chat(run.assignment)),
            Counter(run.provider for run in holding),
            slots,
        )

    def full(self, action: Action) -> str | None:
        """Why nothing of this line of work may start, or None."""
        agent, project = action.assignment.agent_id, action.assignment.project_id
        if self.total >= self.limits.total:
            return f"max_concurrent reached ({self.total}/{self.limits.total})"
        counts = (
            ("agent", agent, self.agents, self._limit_of(action)),
            ("project", project, self.projects, self.limits.per_project.get(project)),
            (
                "provider",
                action.provider,
                self.providers,
                self.limits.per_provider.get(action.provider),
            ),
        )
        if _is_chat(action.assignment):
            # beside its agent's tasks, one at a time
            counts = counts[2:]
        for kind, name, taken, limit in counts:
            if limit is not None and taken[name] >= limit:
                return f"max_concurrent of {kind} {name} reached ({taken[name]}/{limit})"
        # A run that is finishing keeps its slot: its task is not free yet, the agent's next one is.
        most = 1 if _is_chat(action.assignment) else self._limit_of(action) or 1
        if len(self.slots.get(action.assignment, ())) >= most:
            return "the run before is finishing"
        return None

    def take(self, action: Action) -> int:
        """Take a place and the lowest free slot."""
        self.total += 1
        if not _is_chat(action.assignment):
            self.agents[action.assignment.agent_id] += 1
            self.projects[action.assignment.project_id] += 1
        self.providers[action.provider] += 1
        used = self.slots.setdefault(action.assignment, set())
        slot = next(number for number in range(len(used) + 1) if number not in used)
        used.add(slot)
        return slot

    def _limit_of(self, action: Action) -> int | None:
        """Runs of the agent at a time: what the board says and what our settings say both hold."""
        ours = self.limits.per_agent.get(action.assignment.agent_id)
        said = [limit for limit in (ours, action.max_concurrent) if limit is not None]
        return min(said) if said else None


def _is_chat(assignment: Assignment) -> bool:
    return assignment.purpose is Purpose.CHAT
