"""The loop's passes at a server of another make: limits first, then the question, then the start."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import anyio
from anyio.abc import TaskGroup

from aiagent_coordinator.coordinator.cooldown import Pair
from aiagent_coordinator.coordinator.foreign import ForeignLink
from aiagent_coordinator.coordinator.foreign_read import Place, Said
from aiagent_coordinator.coordinator.foreign_terms import Offer
from aiagent_coordinator.coordinator.loop import Loop
from aiagent_coordinator.coordinator.machine import Machine
from aiagent_coordinator.coordinator.plan import Action, Live, Plan, Start, Wait, plan
from aiagent_coordinator.runs import Assignment
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: Between two passes, whatever wakes the loop.
LEAST_SECONDS = 1.0
#: What is started where the server names a provider that nobody here knows; so does its own coordinator.
FALLBACK = "claude"


@dataclass
class ForeignLoop(Loop):
    """Passes over pairs: each is asked about only when it could be started, or runs."""

    foreign: ForeignLink = field(kw_only=True)

    _passed_at: float = -math.inf

    async def run_pass(self, tasks: TaskGroup) -> Plan:
        """One pass; never soon after the last: every question goes over the wire."""
        await anyio.sleep_until(self._passed_at + LEAST_SECONDS)
        self._passed_at = anyio.current_time()
        return await super().run_pass(tasks)

    async def _decide(self, machine: Machine) -> Plan:
        """Ask about what could start, as much as there are places for, until all were asked."""
        places = {place.id: place for place in await self.foreign.places()}
        live = [run.as_live for run in self.supervisor.runs.values()]
        waiting = list(self._candidates(places.values(), live))
        starts = await self._of_running(places, live)
        live += [_as_live(start) for start in starts]
        resting = self._resting_pairs(waiting)
        while True:
            decided = plan(
                waiting,
                live,
                self.limits,
                gate=self.admission.gate(machine, is_busy=any(run.holds_place for run in live)),
                resting=resting,
                last_started=self._last_started,
            )
            if not decided.starts:
                return Plan(tuple(starts), _told(decided.waits, starts))
            accepted = await self._ask(decided.starts, places)
            starts += accepted
            live += [_as_live(start) for start in accepted]
            asked = {start.action.assignment for start in decided.starts}
            waiting = [action for action in waiting if action.assignment not in asked]

    def _candidates(self, places: Iterable[Place], live: Sequence[Live]) -> Iterable[Action]:
        """Pairs without a run: nobody knows yet whether anything is to be done there."""
        busy = {(run.assignment.agent_id, run.assignment.project_id) for run in live}
        for place in places:
            for agent_id in place.agents:
                if (agent_id, place.id) not in busy:
                    yield Action(Assignment(agent_id, place.id), "start", "asked", "")

    def _resting_pairs(self, actions: Iterable[Action]) -> dict[Assignment, str]:
        found = {action.assignment: self._rest_of(action.assignment) for action in actions}
        return {line: reason for line, reason in found.items() if reason} | dict(self._rests())

    def _rest_of(self, line: Assignment) -> str | None:
        return self.foreign.cooldowns.reason((line.agent_id, line.project_id))

    async def _of_running(self, places: dict[str, Place], live: Sequence[Live]) -> list[Start]:
        """Ask about the pairs that run: they may have to stop, or are wanted for a chat as well."""
        lines = {(run.assignment.agent_id, run.assignment.project_id) for run in live}
        pairs = [
            pair
            for pair in sorted(lines)
            if pair[1] in places and self.foreign.cooldowns.reason(pair) is None
        ]
        starts: list[Start] = []
        for pair, said in (await self.foreign.ask_pairs(pairs)).items():
            if said.action == "stop":
                self._stop(pair, said)
            elif said.action == "start":
                line = Assignment(*pair, said.purpose)
                taken = any(run.assignment == line for run in live)
                start = None if taken else self._offer(pair, said, places[pair[1]], 0)
                starts += [start] if start else []
        return starts

    def _stop(self, pair: Pair, said: Said) -> None:
        if pair in self.foreign.stops:
            return
        log_event(
            logger,
            logging.INFO,
            "run.stop",
            "the server wants it stopped",
            agent_id=pair[0],
            project_id=pair[1],
            reason=said.reason,
        )
        self.foreign.stops[pair] = said.reason
        for run in list(self.supervisor.runs.values()):
            if (run.record.agent_id, run.record.project_id) == pair:
                run.control.stop("stopped")

    async def _ask(self, wanted: Sequence[Start], places: dict[str, Place]) -> list[Start]:
        """Ask about pairs that could start now; what the server says to start is offered."""
        slots = {_pair(start.action): start.slot for start in wanted}
        starts: list[Start] = []
        for pair, said in (await self.foreign.ask_pairs(list(slots))).items():
            if said.action == "start":
                start = self._offer(pair, said, places[pair[1]], slots[pair])
                starts += [start] if start else []
        return starts

    def _offer(self, pair: Pair, said: Said, place: Place, slot: int) -> Start | None:
        provider = said.provider if said.provider in set(self.fitness.catalog) else FALLBACK
        action = Action(
            Assignment(*pair, said.purpose),
            "start",
            said.reason,
            provider,
            said.model,
            said.task_id,
        )
        reason = self.fitness.why_not(action)
        if reason is not None:
            log_event(
                logger,
                logging.WARNING,
                "loop.unschedulable",
                "an agent cannot be started here",
                agent_id=pair[0],
                project_id=pair[1],
                reason=reason,
            )
            self.foreign.cooldowns.skipped(pair, reason)
            return None
        self.foreign.offer(pair, Offer(place, said, provider))
        return Start(replace(action, slots_free=1), slot)


def _pair(action: Action) -> Pair:
    return action.assignment.agent_id, action.assignment.project_id


def _as_live(start: Start) -> Live:
    return Live("", start.action.assignment, start.action.provider, start.slot, holds_place=True)


def _told(waits: Sequence[Wait], starts: Sequence[Start]) -> tuple[Wait, ...]:
    """What waits, without what was started although it could not be for another purpose."""
    begun = {start.action.assignment for start in starts}
    return tuple(wait for wait in waits if wait.assignment not in begun)
