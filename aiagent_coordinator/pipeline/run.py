"""The record of one run: every fact gathered so far and the stage that comes next.

The coordinator journals the record after each stage as JSON. A stage takes a record and returns
one; entering a stage twice is safe, so a record found in the journal is simply driven on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self

from aiagent_coordinator.runs import Assignment, Purpose, ShimIdentity
from aiagent_coordinator.tasks import WorkspaceKind
from aiagent_coordinator.workspaces.base import Prepared


class Stage(StrEnum):
    """What a run does next, in this order."""

    CLAIM = "claim"
    PREPARE = "prepare"
    LAUNCH = "launch"
    WATCH = "watch"
    EXIT = "exit"
    SEAL = "seal"
    VERIFY = "verify"
    COLLECT = "collect"
    RESULT = "result"
    CLEAN = "clean"
    DONE = "done"


@dataclass(frozen=True)
class CheckResult:
    """How one check ended. `exit_code` is None when it did not exit by itself; `tail` is masked text."""

    argv: tuple[str, ...]
    exit_code: int | None
    seconds: float
    tail: str = ""


@dataclass(frozen=True)
class RunRecord:
    """One run, as far as it has come. Instants are ISO-8601 text in UTC, as they go over the wire."""

    run_id: str
    agent_id: str
    project_id: str
    purpose: str
    slot: int
    provider: str
    stage: Stage = Stage.CLAIM
    #: What it is to work on, where there was a choice: provider, account, model.
    lane: dict[str, Any] | None = None
    #: The server's answer to the claim: fence, task, project, agent.
    claim: dict[str, Any] = field(default_factory=dict[str, Any])
    workspace_path: str | None = None
    workspace_kind: str | None = None
    workspace_git_dir: str | None = None
    branch: str | None = None
    base_commit: str | None = None
    argv: tuple[str, ...] = ()
    argv_masked: tuple[str, ...] = ()
    #: Whether a driver of ours drives the CLI, which can then be told more while it works.
    is_live: bool = False
    #: What the CLI reads: `prompt`, `answers`, `words` (of people, for its driver) or `null`.
    stdin: Literal["prompt", "null", "answers", "words"] = "null"
    #: The id we give the CLI's new session, the session it goes on with, and the one it then had.
    new_session_id: str | None = None
    resumed_session_id: str | None = None
    provider_session_id: str | None = None
    temp_dir: str | None = None
    #: Names of the skills that were unpacked for it.
    skills: tuple[str, ...] = ()
    #: What shuts the CLI and the checks in; settled when the run is prepared.
    sandbox: str = "none"
    log_path: str | None = None
    shim: ShimIdentity | None = None
    launched_at: str | None = None
    #: The same on the clock that nobody sets and that stands still while the machine sleeps; it counts
    #: from the machine's start, so it means the same to a later life of ours.
    launched_monotonic: float | None = None
    #: Why we are stopping it, if we are; decided before the signal is sent.
    stop_reason: str | None = None
    #: How the tree was found when it was gone: a `HoldState`.
    found: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    exit_reason: str | None = None
    error: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    cpu_seconds: float | None = None
    #: Bytes: of the largest process, or of all together where they were looked at.
    peak_rss: int | None = None
    peak_processes: int | None = None
    #: Commands of processes that outlived the CLI; secrets masked.
    leftovers: tuple[str, ...] = ()
    #: What went over a limit or nearly did: what it is about → a sentence.
    warnings: dict[str, str] = field(default_factory=dict[str, str])
    #: Messages of people that its program took up.
    heard: tuple[str, ...] = ()
    #: What the server knows of the agent: report, hello, authenticated.
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    sealed_commit: str | None = None
    sealed_changed: bool = False
    #: Files that differ from the run's base, and lines of text added and deleted; None: not counted.
    sealed_files: int | None = None
    lines_added: int | None = None
    lines_deleted: int | None = None
    seal_error: str | None = None
    checks: tuple[CheckResult, ...] = ()
    checks_done: bool = False
    #: Files the checks made that were taken away again.
    left_by_checks: int = 0
    tree_changed_by_checks: bool = False
    outcome: str | None = None
    reason: str | None = None
    verification: str = "not_verified"
    diagnosis: dict[str, Any] | None = None
    handoff: str | None = None
    summary: dict[str, Any] | None = None
    #: What its provider said of the limit that ended it; as the result report carries it.
    limit: dict[str, Any] | None = None
    #: What its CLI says that it used: `in`, `out`, `cache` (tokens), `cost` (US dollars, may be null).
    usage: dict[str, Any] | None = None
    #: What its program said of itself; see `pipeline.stated`. None: it says nothing, or is not read yet.
    stated: dict[str, Any] | None = None
    #: What its program ended with in place of a report, and a person is to answer.
    asks: str | None = None
    superseded: bool = False
    stage_seconds: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def assignment(self) -> Assignment:
        """The line of work this run belongs to."""
        return Assignment(self.agent_id, self.project_id, Purpose(self.purpose))

    @property
    def fence(self) -> int:
        """The number that goes with every write about this run."""
        return int(self.claim["fence"])

    @property
    def task(self) -> dict[str, Any]:
        """The task as the claim described it."""
        return self.claim["task"]

    @property
    def project(self) -> dict[str, Any]:
        """The project as the claim described it."""
        return self.claim["project"]

    @property
    def is_guest(self) -> bool:
        """Whether another make's server gave the folder: nothing there is locked, sealed or committed."""
        return bool(self.project.get("guest"))

    @property
    def agent(self) -> dict[str, Any]:
        """The agent as the claim described it."""
        return self.claim["agent"]

    @property
    def report(self) -> dict[str, Any] | None:
        """What the agent reported, or None."""
        return self.facts.get("report")

    @property
    def workspace(self) -> Path:
        """Where the CLI works; only after prepare."""
        return Path(self.workspace_path or "")

    @property
    def program(self) -> str:
        """The CLI's own program: behind its driver's words where it is driven. Its start is settled."""
        return self.argv[self.argv.index("--") + 1] if self.is_live else self.argv[0]

    def at(self, stage: Stage, **changes: Any) -> Self:  # noqa: ANN401 - forwards to replace()
        """A copy with new facts, to go on at the given stage."""
        return replace(self, stage=stage, **changes)

    def to_json(self) -> str:
        """The journal's form. It holds no secret: neither token nor environment is part of a record."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the journal's form; keys of a newer program are ignored.

        Raises:
            ValueError: the text is no record.
        """
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("a run record is an object")  # noqa: TRY004 - bad content, not a bad call
        return cls._from_mapping(data)  # pyright: ignore[reportUnknownArgumentType] - JSON

    @classmethod
    def _from_mapping(cls, data: Mapping[str, Any]) -> Self:
        known = {item.name for item in fields(cls)}
        values = {key: value for key, value in data.items() if key in known}
        values["stage"] = Stage(values["stage"])
        values["argv"] = tuple(values.get("argv", ()))
        values["argv_masked"] = tuple(values.get("argv_masked", ()))
        values["leftovers"] = tuple(values.get("leftovers", ()))
        values["skills"] = tuple(values.get("skills", ()))
        values["heard"] = tuple(values.get("heard", ()))
        if values.get("shim"):
            values["shim"] = ShimIdentity(**values["shim"])
        values["checks"] = tuple(
            CheckResult(tuple(item["argv"]), item["exit_code"], item["seconds"], item["tail"])
            for item in values.get("checks", ())
        )
        return cls(**values)


def prepared_of(record: RunRecord) -> Prepared:
    """The workspace as prepare left it."""
    return Prepared(
        path=record.workspace,
        kind=WorkspaceKind(record.workspace_kind or "worktree"),
        branch=record.branch,
        base_commit=record.base_commit,
        git_dir=Path(record.workspace_git_dir) if record.workspace_git_dir else None,
    )
