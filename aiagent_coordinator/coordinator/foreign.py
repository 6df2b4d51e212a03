"""The line to a server of another make, AI Agent PM: our calls, told in its words.

That server knows pairs of agent and project, and no runs. `get_agent_action` is its claim: who is told
to start and does not, blocks the pair there for two minutes. So only what would be started is asked
about, and the answer is kept until the run asks for its claim. Nothing is taken for granted: what cannot
be read skips its pair, with a reason, and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio

from aiagent_coordinator.coordinator.cooldown import Cooldowns, Pair
from aiagent_coordinator.coordinator.foreign_exit import Exits
from aiagent_coordinator.coordinator.foreign_read import Place, Said, read_places, read_said
from aiagent_coordinator.coordinator.foreign_terms import ForeignTerms, HasRecord, Offer
from aiagent_coordinator.coordinator.line import Line, Speaker
from aiagent_coordinator.coordinator.skills import unpack
from aiagent_coordinator.errors import CoordinatorError, ProtocolError, UnavailableError
from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.pipeline.run import RunRecord, Stage
from aiagent_coordinator.telemetry import log_event
from aiagent_coordinator.wire.protocol import ACTIONS_URI

logger = logging.getLogger(__name__)

_WITH_PROCESS = frozenset({Stage.LAUNCH, Stage.WATCH})
#: One question about a pair; a server that is well answers in milliseconds.
ASK_SECONDS = 10.0


class ForeignLink(Line[Speaker]):
    """Keeps one connection, and speaks for our loop, drivers and outbox."""

    def __init__(
        self,
        dial: Callable[[], AbstractAsyncContextManager[Speaker]],
        terms: ForeignTerms,
        state: StateDir,
        monotonic: Callable[[], float],
        on_update: Callable[[str], None],
    ) -> None:
        """Make a line.

        Args:
            dial: Makes one connection, over whatever leads to the server.
            terms: How it is driven.
            state: Where runs have their folders.
            monotonic: The seconds that rests are counted in.
            on_update: Told that there may be something to do.
        """
        super().__init__()
        self.terms = terms
        self.cooldowns = Cooldowns(terms.protection, monotonic)
        #: Runs that the server wants stopped, by pair.
        self.stops: dict[Pair, str] = {}
        self._runs: Mapping[str, HasRecord] = {}
        self._dial = dial
        self._state = state
        self._on_update = on_update
        self._drop_now = anyio.Event()
        self._offers: dict[tuple[str, str, str], Offer] = {}
        self._base_prompt: str | None = None
        self._knows_settings = False
        self._exits = Exits(self, state)

    def drives(self, runs: Mapping[str, HasRecord]) -> None:
        """Know the runs in hand; the mapping stays its owner's."""
        self._runs = runs

    def record_of(self, run_id: str) -> RunRecord | None:
        """The record of a run in hand."""
        live = self._runs.get(run_id)
        return None if live is None else live.record

    def others_of(self, record: RunRecord) -> int:
        """How many other runs of the same pair have a process."""
        pair = (record.agent_id, record.project_id)
        return sum(
            (one.record.agent_id, one.record.project_id) == pair
            and one.record.run_id != record.run_id
            and one.record.shim is not None
            and one.record.stage in _WITH_PROCESS
            for one in self._runs.values()
        )

    # -- the connection --------------------------------------------------------------------------

    async def _hold(self) -> None:
        async with self._dial() as client:
            self._drop_now = anyio.Event()
            self._begin(client)
            self._on_update(ACTIONS_URI)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_until, client.wait_closed, tasks.cancel_scope)
                tasks.start_soon(_until, self._drop_now.wait, tasks.cancel_scope)

    async def ask(
        self, tool: str, arguments: Mapping[str, Any], *, seconds: float | None = None
    ) -> dict[str, Any]:
        """Call a tool of the server.

        Raises:
            UnavailableError: no connection or no answer in time; a connection that gave none is
                made anew, since this server answers one call after the other.
            CoordinatorError: the server refused, in any of its four ways.
        """
        client = self._standing()
        told = {**arguments, "coordinator_token": self.terms.token}
        try:
            return await client.call(
                tool, told, deadline_seconds=self.terms.call_seconds if seconds is None else seconds
            )
        except UnavailableError:
            self._drop_now.set()
            raise

    # -- what the loop asks ------------------------------------------------------------------------

    async def places(self) -> list[Place]:
        """The projects, with the agents that are ours to start."""
        arguments: dict[str, Any] = {}
        if self.terms.root_agent_id:
            arguments["root_agent_id"] = self.terms.root_agent_id
        found, troubles = read_places(await self.ask("list_active_projects_with_agents", arguments))
        for trouble in troubles:
            log_event(
                logger, logging.WARNING, "loop.failed", "a project was skipped", reason=trouble
            )
        ours = self.terms.passkeys
        return [
            Place(
                one.id, one.name, one.path, tuple(agent for agent in one.agents if ours.get(agent))
            )
            for one in found
        ]

    async def ask_pairs(self, pairs: Sequence[Pair]) -> dict[Pair, Said]:
        """Ask what should happen with each; all in flight together. What fails is left out.

        One bad answer, or none, may take the connection and all behind it: those are asked again,
        each on a connection of its own, so that one pair never speaks for another.
        """
        answered: dict[Pair, Said] = {}
        lost: list[Pair] = []

        async def one(pair: Pair) -> None:
            try:
                answered[pair] = read_said(await self._ask_pair(self._client, pair))
            except UnavailableError:
                lost.append(pair)
            except CoordinatorError as error:
                self._skip(pair, error)

        async with anyio.create_task_group() as tasks:
            for pair in pairs:
                tasks.start_soon(one, pair)
        if lost:
            self._drop_now.set()
            await self._ask_alone(lost, answered)
        return answered

    async def _ask_alone(self, pairs: Iterable[Pair], answered: dict[Pair, Said]) -> None:
        async def one(pair: Pair) -> None:
            try:
                async with self._dial() as client:
                    answered[pair] = read_said(await self._ask_pair(client, pair))
            except CoordinatorError as error:
                self._skip(pair, error)

        async with anyio.create_task_group() as tasks:
            for pair in pairs:
                tasks.start_soon(one, pair)

    async def _ask_pair(self, client: Speaker | None, pair: Pair) -> dict[str, Any]:
        if client is None:
            raise UnavailableError("the server is not connected")
        arguments = {
            "agent_id": pair[0],
            "project_id": pair[1],
            "coordinator_token": self.terms.token,
        }
        return await client.call("get_agent_action", arguments, deadline_seconds=ASK_SECONDS)

    def _skip(self, pair: Pair, error: CoordinatorError) -> None:
        log_event(
            logger,
            logging.WARNING,
            "loop.failed",
            "a pair was skipped",
            agent_id=pair[0],
            project_id=pair[1],
            reason=error.message[:500],
        )
        self.cooldowns.skipped(pair, f"skipped ({error.message[:200]})")

    def offer(self, pair: Pair, offer: Offer) -> None:
        """Keep a start that the server has said."""
        self._offers[(*pair, offer.said.purpose.value)] = offer

    # -- our own calls, in its words ---------------------------------------------------------------

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        deadline_seconds: float | None = None,
    ) -> dict[str, Any]:
        """Do what one of our own calls means there.

        Raises:
            UnavailableError: no connection, or no answer in time.
            CoordinatorError: the server refused.
        """
        match tool:
            case "health_check":
                health = await self.ask(tool, {}, seconds=deadline_seconds)
                if health.get("status") != "ok":
                    raise ProtocolError(f"the server is not well: {str(health)[:200]}")
                return health
            case "claim_run":
                return await self._claim(arguments)
            case "renew_runs":
                return {"runs": [self._renewed(line) for line in arguments["runs"]]}
            case "report_run_exit":
                return _word_of_exit(arguments)
            case "report_run_result":
                return await self._exits.tell(arguments)
            case _:
                return {}

    def _renewed(self, line: Mapping[str, Any]) -> dict[str, Any]:
        record = self.record_of(str(line["run_id"]))
        held: dict[str, Any] = {"run_id": line["run_id"], "state": "held"}
        if record is not None and (record.agent_id, record.project_id) in self.stops:
            held["stop"] = {"reason": "stopped"}
        return held

    async def _claim(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        pair = (str(arguments["agent_id"]), str(arguments["project_id"]))
        offer = self._offers.pop((*pair, str(arguments["purpose"])), None)
        if offer is None:
            # said to an earlier life of ours: the server offers it again when its own lease lapses
            return {"claimed": False, "reason": "the server is asked again"}
        profile = await self._profile(pair[0])
        folder = self._state.run(str(arguments["run_id"])) / "skills"
        skills = await anyio.to_thread.run_sync(unpack, profile.get("skills"), folder)
        prompts = (self._base_prompt, profile.get("system_prompt"))
        task_id = offer.said.task_id or offer.said.purpose.value
        return {
            "claimed": True,
            "fence": 1,
            "task": {
                "id": task_id,
                "title": f"{offer.said.purpose.value} of {pair[0]} in {offer.place.name}",
                "is_named": offer.said.task_id is not None,
            },
            "project": {
                "id": pair[1],
                "name": offer.place.name,
                "path": offer.place.path,
                "workspace": "directory",
                "guest": True,
            },
            "agent": {
                "id": pair[0],
                "provider": offer.provider,
                "model": offer.said.model,
                "role": "\n\n".join(one for one in prompts if isinstance(one, str) and one),
                "skills": skills,
            },
        }

    async def _profile(self, agent_id: str) -> dict[str, Any]:
        """What the server offers with an agent; nothing where it offers nothing."""
        if not self._knows_settings:
            settings = await self._offered("get_app_settings", {})
            prompt = settings.get("agent_base_prompt")
            self._base_prompt = prompt if isinstance(prompt, str) else None
            self._knows_settings = True
        return await self._offered("get_subordinate_profile", {"agent_id": agent_id})

    async def _offered(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await self.ask(tool, arguments)
        except CoordinatorError as error:
            log_event(
                logger,
                logging.DEBUG,
                "loop.failed",
                "the server offers nothing here",
                tool=tool,
                error=error.message,
            )
            return {}


async def _until(event: Callable[[], Any], scope: anyio.CancelScope) -> None:
    await event()
    scope.cancel()


def _word_of_exit(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """That server alone knows what its agent reported; an exit with 0 is all that we can say."""
    if arguments.get("exit_code") != 0:
        return {}
    return {"report": {"result": "success", "at": arguments.get("ended_at")}}
