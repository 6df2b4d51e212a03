"""The settings: frozen models, every field with its meaning and when a change of it counts.

`docs/reference/settings.md` is generated from this module.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from aiagent_coordinator import paths
from aiagent_coordinator.config.fields import (
    Argv,
    Duration,
    Expanded,
    FilePath,
    Model,
    PositiveDuration,
    PositiveSize,
    Secret,
    Size,
    TimeZone,
    setting,
)
from aiagent_coordinator.config.http import HttpSettings
from aiagent_coordinator.config.mcp import (
    OWN_SERVERS_MEANING,
    McpServerSettings,
    OwnServers,
    RequiresSettings,
)
from aiagent_coordinator.config.people import PersonSettings
from aiagent_coordinator.config.permissions import PermissionSettings
from aiagent_coordinator.config.provider import CliOptions, ProviderSettings
from aiagent_coordinator.config.quota import (
    BudgetSettings,
    PriceSettings,
    QuotaSettings,
)
from aiagent_coordinator.runs import RetryPolicy
from aiagent_coordinator.tasks import (
    Agent,
    Approval,
    Check,
    Duty,
    Project,
    SubtaskPolicy,
    WorkspaceKind,
)


class SandboxSettings(Model):
    """What shuts in the programs of runs; everywhere, per project and per agent."""

    sandbox: Literal["none", "sandbox-exec", "landlock", "bwrap"] = setting(
        "none",
        "What shuts in the program and the checks of a run. A run gets the strictest that the top "
        "level, its project and its agent say; where that cannot be made, nothing is started.",
        reload="live",
    )
    sandbox_network: Literal["inherit", "none"] = setting(
        "inherit",
        "What a sandbox leaves of the network: everything, or the way to our server alone. `none` "
        "anywhere counts. Under `landlock` it refuses TCP and nothing else.",
        reload="live",
    )
    sandbox_read: tuple[FilePath, ...] = setting(
        (),
        "Files and folders that may be read in addition; those of all three places add up. `${VAR}` "
        "and `~` are expanded.",
        reload="live",
    )
    sandbox_write: tuple[FilePath, ...] = setting(
        (),
        "Files and folders that may be written in addition; those of all three places add up. "
        "`${VAR}` and `~` are expanded.",
        reload="live",
    )


class RetrySettings(Model):
    """How often and how soon a failed task is tried again."""

    max_attempts: int = setting(3, "Attempts a task has in all.", ge=1, le=100)
    backoff_seconds: tuple[Duration, ...] = setting(
        (30.0, 120.0, 600.0),
        "Wait before the second, third, … attempt; the last value repeats.",
        max_length=100,
    )

    infra_requeues: int = setting(
        5,
        "Failures of the network, of the provider's servers or of the machine that a task may have; "
        "they cost no attempt. Limits and missing logins are not counted: see `quota`.",
        ge=0,
        le=1000,
    )
    infra_backoff_seconds: tuple[Duration, ...] | None = setting(
        None,
        "Wait before the third, fourth, … start after such failures (the second comes at once); as "
        "`backoff_seconds` without.",
        max_length=100,
    )

    def policy(self) -> RetryPolicy:
        """The same as the value that decisions are made with."""
        return RetryPolicy(
            self.max_attempts,
            self.backoff_seconds,
            self.infra_requeues,
            self.infra_backoff_seconds,
        )


class BreakerSettings(Model):
    """When what fails again and again right after its start is left alone, and for how long."""

    failures: int = setting(
        5,
        "Quick failures in a row of an agent, or of a provider's agents, that begin a rest.",
        ge=1,
    )
    quick: PositiveDuration = setting(10.0, "A failure so soon after the start is a quick one.")
    first: PositiveDuration = setting(
        60.0, "The first rest; each further one is twice as long, and chance moves it by a quarter."
    )
    longest: PositiveDuration = setting(900.0, "No rest is longer.")


class AskSettings(Model):
    """What happens when an agent asks a person."""

    hold_seconds: Duration = setting(
        45.0, "How long the asking agent is kept waiting before it is ended and resumed later."
    )
    max_per_task: int = setting(5, "Questions a task may ask in all.", ge=0, le=1000)
    timeout: PositiveDuration = setting(
        604800.0, "A question without an answer for so long fails its task."
    )


class SubtaskSettings(Model):
    """What managers may cut their tasks into."""

    max_depth: int = setting(
        2,
        "Levels of sub-tasks below a task of a person; 0: no agent gives work to another.",
        ge=0,
        le=20,
    )
    max_per_task: int = setting(
        10, "Sub-tasks of one task in all, those that are over too.", ge=0, le=1000
    )

    def policy(self) -> SubtaskPolicy:
        """The same as the value that decisions are made with."""
        return SubtaskPolicy(self.max_depth, self.max_per_task)


class LeaseSettings(Model):
    """How long a run is safe from other coordinators of the same server."""

    seconds: PositiveDuration = setting(
        90.0, "How long a run stays its coordinator's without a sign of life; renewed three times."
    )
    takeover_grace: Duration = setting(
        600.0,
        "How long after that another coordinator of its project still leaves it alone. Only the "
        "server's file counts.",
    )


class WatermarkSettings(Model):
    """What of the machine stays free: no run starts that would take it. 0 switches one off."""

    memory: Size = setting(512 * 1024**2, "Memory that stays free.")
    disk: Size = setting(256 * 1024**2, "Room that stays free on the state directory's disk.")


class RetentionSettings(Model):
    """How long the folders of runs that are over are kept. Unreported and living ones always are."""

    run_age: PositiveDuration = setting(
        2592000.0, "A run that ended longer ago loses its folder; its readable log stays."
    )
    run_size: PositiveSize = setting(
        10_000_000_000,
        "When the folders of all ended runs are larger together, the oldest go until they are not.",
    )


#: What happens when a run goes over a limit.
Action = Literal["warn", "kill"]


class LimitSettings(Model):
    """What a run may use. An agent's limit goes before its project's, that before the whole file's."""

    run_timeout: PositiveDuration | None = setting(
        None, "A run that takes longer is stopped; in place of the `run_timeout` of the file."
    )
    silence_timeout: PositiveDuration | None = setting(
        None, "In place of the `silence_timeout` of the file."
    )
    silence_action: Action | None = setting(
        None,
        "What happens to a run that is silent for so long; `kill` without. A warning comes at half "
        "of the time.",
    )
    retry_timeout: PositiveDuration | None = setting(
        None,
        "A run whose program does nothing for so long but wait for its provider, or says that it "
        "will, is stopped; its account is parked where that is a limit. `2m` without.",
    )
    log_warn: PositiveSize | None = setting(
        None, "Output of a run above which there is a warning; `1GiB` without."
    )
    log_max: PositiveSize | None = setting(
        None, "Output of a run above which it is stopped; `10GiB` without."
    )
    memory: PositiveSize | None = setting(
        None, "Memory of a run's processes together; without, there is no limit."
    )
    memory_action: Action | None = setting(None, "What happens above it; `kill` without.")
    cpu_percent: float | None = setting(
        None,
        "Processor time of a run's processes together in per cent of one core, so it may exceed "
        "100; without, there is no limit.",
        gt=0,
    )
    cpu_action: Action | None = setting(None, "What happens above it; `kill` without.")
    processes: int | None = setting(
        None, "Processes a run may have; without, there is no limit.", ge=1, le=1_000_000
    )
    processes_action: Action | None = setting(None, "What happens above it; `kill` without.")
    open_files: int | None = setting(
        None, "Files each process of a run may have open; the system's own limit without.", ge=16
    )

    def given(self) -> dict[str, Any]:
        """What is set here, by the names that runs know."""
        return {
            _RUN_NAMES.get(name, name): value
            for name in type(self).model_fields
            if (value := getattr(self, name)) is not None
        }


_RUN_NAMES = {
    "run_timeout": "run_seconds",
    "silence_timeout": "silence_seconds",
    "retry_timeout": "retry_seconds",
    "log_warn": "log_warn_bytes",
    "log_max": "log_max_bytes",
    "memory": "memory_bytes",
}


class AgentSettings(SandboxSettings, CliOptions):
    """Who does the work. The key is the agent's id."""

    provider: str = setting(
        ..., "The provider that drives its program.", min_length=1, reload="live"
    )
    model: Expanded | None = setting(
        None,
        "The model to ask for; the program's own default without. `${VAR}` is expanded.",
        reload="live",
    )
    role: str = setting(
        "", "What the agent is told about itself, put before every task.", reload="live"
    )
    approval: Literal["ask", "edits", "bypass"] = setting(
        "edits",
        "What it may do without asking: nothing but our tools, edits of files, or everything. "
        "`bypass` needs a sandbox, or `i_understand_unsandboxed: true`.",
        reload="live",
    )
    mode: Literal["one-shot", "live"] | None = setting(
        None,
        "`live`: it can be told more in the middle of a turn, and interrupted (see `tell`), where its "
        "program can; refused where it cannot. Without, as its provider says.",
        reload="live",
    )
    passkey: Secret | None = setting(
        None,
        "With it a process of the agent outside its run's own tree can authenticate as the run. "
        "Kept as a salted hash; no program of an agent is given it. `${VAR}` is expanded.",
    )
    max_concurrent: int = setting(
        1, "Runs it may have at a time, over all projects.", ge=1, le=1000, reload="live"
    )
    hierarchy: Literal["worker", "manager"] = setting(
        "worker",
        "A worker does its tasks itself; a manager has the agents that name it as `parent` do their "
        "parts.",
        reload="live",
    )
    parent: str | None = setting(
        None,
        "The id of the manager that may give it sub-tasks, or of the person that it works for.",
        min_length=1,
        reload="live",
    )
    workflow: str | None = setting(
        None,
        "What it is told step by step, where the task names no workflow: `worker` or `manager` "
        "without. See `workflow list`.",
        min_length=1,
        reload="live",
    )
    skills: tuple[FilePath, ...] = setting(
        (),
        "Folders or ZIP archives with a SKILL.md that every run of it is given; read at each start, and "
        "when this file changes. `${VAR}` and `~` are expanded. See also `skill assign`.",
        reload="live",
    )
    permissions: PermissionSettings = setting(PermissionSettings(), "See below.")
    fallback: tuple[str, ...] = setting(
        (),
        "What it works with while its own provider, account or model is at a limit or not to be had: "
        "`provider/model` or `provider`, the first that is open. None: it waits.",
        reload="live",
    )
    budgets: BudgetSettings = setting(BudgetSettings(), "See below.", reload="live")
    kill_leftovers: bool = setting(
        True, "Processes that its program leaves behind are ended with it; `false` lets them live."
    )
    mcp_servers: dict[str, McpServerSettings] = setting(
        {},
        "MCP servers that agents have beside ours, by name. Those of all levels are put together: the file's, "
        "then the project's, then the agent's; of one name the innermost counts.",
    )
    requires: RequiresSettings = setting(RequiresSettings(), "See below.")
    limits: LimitSettings = setting(LimitSettings(), "See below.")

    @property
    def asks_leave(self) -> bool:
        """Whether rules or a person say what its program may do beyond its approval."""
        return self.permissions.mode != "off"

    def agent(self, agent_id: str) -> Agent:
        """The agent as the board knows it."""
        return Agent(
            id=agent_id,
            name=agent_id,
            provider=self.provider,
            model=self.model,
            role=self.role,
            approval=Approval(self.approval),
            max_concurrent=self.max_concurrent,
            hierarchy=Duty(self.hierarchy),
            parent_id=self.parent,
            workflow=self.workflow,
            mode=self.mode,
            permissions=self.permissions.rules(),
        )


class ProjectSettings(SandboxSettings):
    """A body of work on one repository or folder."""

    id: str = setting(..., "Its id: lower-case letters, digits, `.`, `_` and `-`.", reload="never")
    path: FilePath | None = setting(
        None,
        "The repository or folder; required unless `workspace: scratch`. `${VAR}` and `~` are "
        "expanded.",
        reload="never",
    )
    base_ref: Expanded | None = setting(
        None,
        "The branch, tag or commit that work starts from; what is checked out without. "
        "`${VAR}` is expanded.",
        reload="live",
    )
    agents: tuple[str, ...] = setting(
        (), "Ids of the agents that work here; none: all of them.", reload="live"
    )
    checks: tuple[Argv, ...] = setting(
        (),
        "Commands that prove a result, each a line or a list of words; run without a shell, "
        "passed when they exit with 0.",
        reload="live",
    )
    workspace: Literal["worktree", "directory", "scratch"] = setting(
        "worktree",
        "Where runs work: each in an own git worktree, in the folder itself, or, without a `path`, "
        "in a fresh repository.",
        reload="live",
    )
    max_concurrent: int | None = setting(
        None,
        "Runs at a time in this project; none: no limit of its own.",
        ge=1,
        le=1000,
        reload="live",
    )
    allow_dirty: bool = setting(
        False,
        "With `workspace: directory`: start although the checkout has uncommitted changes.",
        reload="live",
    )
    shared_path: bool = setting(
        False, "Set on each of several projects that use one path on purpose.", reload="live"
    )
    mcp_servers: dict[str, McpServerSettings] = setting(
        {},
        "MCP servers that agents have beside ours, by name. Those of all levels are put together: the file's, "
        "then the project's, then the agent's; of one name the innermost counts.",
    )
    own_servers: OwnServers | None = setting(None, OWN_SERVERS_MEANING)
    limits: LimitSettings = setting(LimitSettings(), "See below.")
    budgets: BudgetSettings = setting(BudgetSettings(), "See below.", reload="live")

    def project(self) -> Project:
        """The project as the board knows it."""
        return Project(
            id=self.id,
            name=self.id,
            path="" if self.path is None else str(self.path),
            base_ref=self.base_ref,
            workspace=WorkspaceKind(self.workspace),
            allow_dirty=self.allow_dirty,
            checks=tuple(Check(argv) for argv in self.checks),
            max_concurrent=self.max_concurrent,
        )


class Settings(SandboxSettings):
    """Everything a configuration file may say."""

    polling_interval: PositiveDuration = setting(
        10.0, "How often the loop looks although nothing was announced.", reload="live"
    )
    max_concurrent: int = setting(
        3, "Runs at a time over everything.", ge=1, le=1000, reload="live"
    )
    max_finishing: int = setting(
        2, "Runs at a time in sealing, checks and what follows.", ge=1, le=1000
    )
    stop_grace_seconds: Duration = setting(
        5.0, "Between asking a run's processes to end and killing them."
    )
    silence_timeout: PositiveDuration = setting(
        1800.0,
        "A run that prints nothing for so long, starts nothing and hardly uses the processor, is stopped.",
    )
    api_timeout: PositiveDuration = setting(
        30.0, "One call to the server, by the loop and by commands, may take so long."
    )
    run_timeout: PositiveDuration | None = setting(
        None, "A run that takes longer is stopped; without, only silence ends one."
    )
    when_paused: Literal["finish", "stop"] = setting(
        "finish",
        "What becomes of what runs in a project that is paused or archived: its agents are told and "
        "finish, or are told and stopped; a stopped run costs its task no attempt.",
    )
    log_level: Literal["debug", "info", "warn", "error"] = setting(
        "info", "The least level that is logged.", reload="live"
    )
    limits: LimitSettings = setting(LimitSettings(), "See below.")
    retry: RetrySettings = setting(RetrySettings(), "See below.")
    ask: AskSettings = setting(AskSettings(), "See below.")
    quota: QuotaSettings = setting(QuotaSettings(), "See below.", reload="live")
    budgets: BudgetSettings = setting(BudgetSettings(), "See below.", reload="live")
    prices: dict[str, PriceSettings] = setting(
        {},
        "What models cost, by name or `provider/model` with `*`, for programs that tell no money. What "
        "comes of it is marked as an estimate; none are shipped.",
        reload="live",
    )
    subtasks: SubtaskSettings = setting(SubtaskSettings(), "See below.")
    breaker: BreakerSettings = setting(BreakerSettings(), "See below.")
    lease: LeaseSettings = setting(LeaseSettings(), "See below.")
    watermarks: WatermarkSettings = setting(WatermarkSettings(), "See below.")
    retention: RetentionSettings = setting(RetentionSettings(), "See below.")
    timezone: TimeZone = setting(
        "UTC",
        "The time zone of what commands and the log show to people; JSON and files are always UTC.",
    )
    i_understand_unsandboxed: bool = setting(
        False,
        "Allows `approval: bypass` without a sandbox: the agent's program runs anything, as you.",
        reload="live",
    )
    state_dir: FilePath | None = setting(
        None,
        "Everything of ours lies here; by default a folder of the user's state directory named "
        "after this file. `${VAR}` and `~` are expanded.",
        reload="never",
    )
    socket: FilePath | None = setting(
        None,
        "Where the server listens; at most 100 bytes. By default in the user's runtime directory. "
        "`${VAR}` and `~` are expanded.",
    )
    log_directory: FilePath | None = setting(
        None,
        "Where the readable logs of runs are written; `logs` in the state directory without. `${VAR}` and "
        "`~` are expanded.",
    )
    http: HttpSettings = setting(HttpSettings(), "See below.")
    coordinator_token: Secret | None = setting(
        None, "What a coordinator of another process shows the server. `${VAR}` is expanded."
    )
    agents: dict[str, AgentSettings] = setting({}, "The agents, by id.", reload="live")
    people: dict[str, PersonSettings] = setting(
        {}, "Human beings whose agents work on machines of their own, by id.", reload="live"
    )
    root_agent_id: str | None = setting(
        None,
        "The coordinator works only for this person (of the server's `people`), or this agent and those "
        "below it: with that person's agents, in that person's directories.",
        min_length=1,
    )
    projects: tuple[ProjectSettings, ...] = setting((), "The projects.", reload="live")
    mcp_servers: dict[str, McpServerSettings] = setting(
        {},
        "MCP servers that agents have beside ours, by name. Those of all levels are put together: the file's, "
        "then the project's, then the agent's; of one name the innermost counts.",
    )
    ai_providers: dict[str, ProviderSettings] = setting(
        {}, "Changes to shipped providers, and providers of your own, by name."
    )

    def resolved_state_dir(self, file: Path | None) -> paths.StateDir:
        """The state directory in force for these settings read from that file."""
        return paths.StateDir(self.state_dir or paths.default_state_dir(file))

    def resolved_socket(self, file: Path | None) -> Path:
        """The socket in force for these settings read from that file.

        Raises:
            ConfigError: no socket can be bound at such a long path.
        """
        return paths.check_socket_path(self.socket or paths.default_socket(file, self.state_dir))

    def unsandboxed_bypass(self) -> list[str]:
        """Ids of agents that may do everything unasked, with no sandbox in some declared project."""
        if self.i_understand_unsandboxed or self.sandbox != "none":
            return []
        open_to = {
            agent_id
            for project in self.projects
            if project.sandbox == "none"
            for agent_id in self.agents_of(project)
        }
        nowhere = set(self.agents).difference(*(self.agents_of(one) for one in self.projects))
        return [
            agent_id
            for agent_id, agent in self.agents.items()
            if agent.approval == "bypass"
            and agent.sandbox == "none"
            and agent_id in open_to | nowhere
        ]

    def agents_of(self, project: ProjectSettings) -> tuple[str, ...]:
        """Ids of the agents that work in a project of these settings."""
        return project.agents or tuple(self.agents)
