"""What the stages of a run are given: places, programs, limits, and the way to the board.

Stages never speak to the server: what they report goes through `Reporter`, which the coordinator
implements over its outbox.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import anyio

from aiagent_coordinator.clock import Clock
from aiagent_coordinator.errors import NotFoundError
from aiagent_coordinator.executors.base import Executor
from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.pipeline.limits import Finding, LimitOverrides, RunLimits
from aiagent_coordinator.pipeline.run import RunRecord
from aiagent_coordinator.pipeline.stream import Stream
from aiagent_coordinator.providers.catalog import Catalog
from aiagent_coordinator.providers.modes import in_mode
from aiagent_coordinator.providers.shape import Definition
from aiagent_coordinator.redaction import Masker
from aiagent_coordinator.sandbox.keeper import Sandboxes


class Reporter(Protocol):
    """Where facts go: into the journal first, then to the server."""

    async def save(self, record: RunRecord) -> None:
        """Journal the record; returns when it is on the disk."""
        ...

    async def deliver(
        self, run_id: str, seq: int, tool: str, arguments: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Deliver a report: journaled, sent until the server takes it, once in effect.

        Returns the server's answer, also when an earlier life of ours got it.

        Raises:
            StaleRunError: the run was taken over.
            CoordinatorError: the server refused it for good.
        """
        ...


class SkillSource(Protocol):
    """Where the archives of skills come from."""

    async def fetch(self, sha256: str) -> bytes:
        """Give the archive with this digest.

        Raises:
            CoordinatorError: it is not to be had.
        """
        ...


class NoSkills:
    """There are none."""

    async def fetch(self, sha256: str) -> bytes:
        """Say so."""
        raise NotFoundError(f"no skill has the content {sha256[:64]}")


@dataclass(frozen=True)
class Context:
    """Everything a stage may use. One per coordinator, shared by its runs."""

    state: StateDir
    socket: Path
    executor: Executor
    catalog: Catalog
    clock: Clock
    environ: Mapping[str, str]
    masker: Masker
    reporter: Reporter
    limits: RunLimits = field(default_factory=RunLimits)
    overrides: LimitOverrides = field(default_factory=LimitOverrides)
    #: Where readable logs go instead of the state directory.
    log_directory: Path | None = None
    sandboxes: Sandboxes = field(default_factory=Sandboxes)
    #: What agents show a server of another make, by their ids; never journaled.
    passkeys: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    skills: SkillSource = field(default_factory=NoSkills)
    #: Accounts of providers: provider → account → variables of its program; never journaled.
    accounts: Mapping[str, Mapping[str, Mapping[str, str]]] = field(
        default_factory=dict[str, Mapping[str, Mapping[str, str]]], repr=False
    )

    def definition_of(self, record: RunRecord) -> Definition:
        """The definition of a run's CLI, in the run's mode."""
        return in_mode(self.catalog.get(record.provider), is_live=record.is_live)

    def limits_of(self, record: RunRecord) -> RunLimits:
        """The limits of one run."""
        return self.overrides.of(
            self.limits, project_id=record.project_id, agent_id=record.agent_id
        )


__all__ = ["Context", "Control", "Reporter", "RunLimits"]


class Control:
    """What reaches a run from outside while it runs: a stop, and what its agent said."""

    def __init__(self) -> None:
        self.stop_reason: str | None = None
        self.kill = False
        self.facts: dict[str, Any] = {}
        #: What a person should know of the run, by what it is about.
        self.warnings: dict[str, str] = {}
        #: Called when there is a new one.
        self.on_warning: Callable[[], None] = _nobody
        #: The output of its program, while somebody follows it.
        self.stream: Stream | None = None
        #: What its program said of itself, as it goes over the wire, and what of it the server has.
        self.live: dict[str, Any] = {}
        self._told: dict[str, Any] = {}
        #: Called when there is more of it; with whether the server should hear of it at once.
        self.on_live: Callable[[bool], None] = _nobody_hears
        #: Questions whose answers were given to the CLI by this life of ours.
        self.delivered: set[str] = set()
        #: Messages of people that were given to its program by this life of ours, and those it took up.
        self.said: set[str] = set()
        self.heard: dict[str, None] = {}
        self._changed = anyio.Event()

    def warn(self, finding: Finding) -> None:
        """Keep a warning; it goes to the server with the next renewal."""
        self.warnings[finding.kind] = finding.text
        self.on_warning()

    def hear(self, idents: Iterable[str]) -> None:
        """Its program took messages up; the server is to know soon."""
        new = [one for one in idents if one not in self.heard]
        self.heard |= dict.fromkeys(new)
        if new:
            self.on_warning()

    def say(self, live: dict[str, Any]) -> None:
        """Take what its program said of itself by now; it goes to the server with a renewal soon."""
        before, self.live = self.live, live
        if live == before:
            return
        is_new = live.get("limits") != before.get("limits")
        self.on_live(is_new or self._is_over(live.get("usage"), before.get("usage")))

    def news(self) -> dict[str, Any]:
        """Of that, what the server does not have yet."""
        news = {key: value for key, value in self.live.items() if self._told.get(key) != value}
        if "compactions" in news:
            news["compacted"] = self.live.get("compacted", [])
        return news

    def has_told(self, news: Mapping[str, Any]) -> None:
        """The server has this now."""
        self._told.update(news)

    def _is_over(self, used: dict[str, Any] | None, before: dict[str, Any] | None) -> bool:
        """Whether it used so much that the server wants to know at once."""
        tell_at: dict[str, float] = self.facts.get("tell_at") or {}
        if not used or used == before:
            return False
        tokens = sum(used.get(key) or 0 for key in ("in", "out", "cache"))
        sums = {"tokens": tokens, "cost": used.get("cost") or 0.0}
        return any(sums.get(key, 0) >= most for key, most in tell_at.items())

    def stop(self, reason: str, *, kill: bool = False) -> None:
        """Ask for the tree to be ended; the first reason stands, a kill may come later."""
        self.stop_reason = self.stop_reason or reason
        self.kill = self.kill or kill
        self._wake()

    def learn(self, facts: Mapping[str, Any]) -> None:
        """Take what the server says about the run's agent."""
        self.facts.update({key: value for key, value in facts.items() if value is not None})
        self._wake()

    def _wake(self) -> None:
        self._changed.set()

    async def wait_changed(self, at_most_seconds: float) -> None:
        """Return when something changed, or after the given time."""
        with anyio.move_on_after(at_most_seconds):
            await self._changed.wait()
        if self._changed.is_set():
            self._changed = anyio.Event()


def _nobody() -> None:
    """Nobody wants to know."""


def _nobody_hears(_is_urgent: bool) -> None:
    """Nobody wants to know."""
