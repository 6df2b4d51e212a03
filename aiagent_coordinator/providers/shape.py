"""What one AI CLI is, as data: how it is found, started, told about our server, and understood.

Shapes only; `definition` reads and checks them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from pydantic import ConfigDict, JsonValue

from aiagent_coordinator.tells import Listens

#: The format this program reads; raised when a file of the old kind no longer means the same.
SCHEMA = 1
#: Our own interpreter, as an executable: what ships with us must not depend on PATH.
PYTHON_EXECUTABLE = "{python}"

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\Z")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
Groups = tuple[tuple[str, ...], ...]
_STRICT = ConfigDict(extra="forbid", strict=True)


class PromptVia(StrEnum):
    """How the prompt reaches the CLI; an argument holds 128 KiB at most and shows in `ps`."""

    STDIN = "stdin"
    FILE = "file"
    ARGUMENT = "argument"


class AnswersVia(StrEnum):
    """How an answer of a person reaches the CLI: by the call that asked, or on standard input."""

    CALL = "call"
    STDIN = "stdin"


class McpStyle(StrEnum):
    """How the CLI is told about our server; `none` cannot speak MCP."""

    NONE = "none"
    FILE = "file"
    INLINE = "inline"
    ENVIRONMENT = "environment"


@dataclass(frozen=True)
class Checked:
    """The version of the CLI the file was last compared with, and when."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    version: str
    on: str


@dataclass(frozen=True)
class Detect:
    """How the CLI is found and how its version is read."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    executable: str
    version_args: tuple[str, ...] = ()
    version_pattern: str = ""
    supported: str = ""


@dataclass(frozen=True)
class Launch:
    """The words after the executable, and the environment.

    `command` belongs to the executable and is never substituted. A group of `args` vanishes when a
    placeholder in it is empty; a variable of `env` does too. The words about session and approval
    come first, unless `args` say where by `{session_args}` and `{approval_args}`.
    `runs_unasked` are globs of files of a project that this CLI executes whatever it is told.
    `system_prompt_file`, below the run's `files/`, is where the agent's role is written instead of into
    the prompt, for a CLI that reads it there or is told so by `{system_prompt_file}`.
    `session_files` are globs below the run's `files/` where a CLI keeps its session, if it keeps it there:
    the run that goes on with it is given them.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    command: tuple[str, ...] = ()
    args: Groups = ()
    prompt: PromptVia = PromptVia.STDIN
    answers: AnswersVia = AnswersVia.CALL
    resume: Groups = ()
    own_session_id: Groups = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    pass_env: tuple[str, ...] = ()
    runs_unasked: tuple[str, ...] = ()
    system_prompt_file: str = ""
    session_files: tuple[str, ...] = ()


class Mode(StrEnum):
    """Whether a CLI gets its prompt and is left alone, or can be told more while it works."""

    ONE_SHOT = "one-shot"
    LIVE = "live"


class Driver(StrEnum):
    """The program of ours that drives a CLI in its live mode; `none`: it has no such mode."""

    NONE = "none"
    CLAUDE = "claude"
    ACP = "acp"
    CODEX = "codex"
    OPENCODE = "opencode"


@dataclass(frozen=True)
class Live:
    """How a CLI is driven that can be told more while it works.

    `options` are words for the driver. `args` stand in place of those of `launch`, sessions included, or
    `more` follows them. `dialect` is what the driver prints, where that is not what the CLI prints. `listens`: a message
    reaches the `turn` that it is in, or only an `interrupt` does.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    driver: Driver = Driver.NONE
    options: Groups = ()
    args: Groups = ()
    more: Groups = ()
    dialect: str = ""
    listens: Listens = Listens.TURN


@dataclass(frozen=True)
class ApprovalArgs:
    """What each approval mode means for this CLI."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    ask: tuple[str, ...] = ()
    edits: tuple[str, ...] = ()
    bypass: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mcp:
    """How our server is written into the CLI's configuration.

    `file` is a path under the run's `files/`; `stdio` and `http` are the server's entry; `settings`
    is what else stands in the same file. Other servers get the same entries without the keys `ours_only`
    and their names by `rule` in `{mcp_rules}`; `more_args` are the words for each where they are arguments,
    with `{name}` and `{entry_toml}`. `listed`: servers stand in a list, each with its `name`, in
    place of a table.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    style: McpStyle = McpStyle.NONE
    file: str = "mcp.json"
    root_key: str = "mcpServers"
    listed: bool = False
    ours_only: tuple[str, ...] = ()
    rule: str = "{server}"
    more_args: tuple[str, ...] = ()
    stdio: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    http: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    settings: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    tool_name: str = "{tool}"
    tool_timeout: str = "60s"

    @property
    def tool_timeout_seconds(self) -> float:
        """How long one call may take before this CLI gives it up."""
        return duration_seconds(self.tool_timeout)


@dataclass(frozen=True)
class Words:
    """What is added to a launch: groups of words, variables, and settings beside our server's entry."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    args: Groups = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    settings: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])


@dataclass(frozen=True)
class Option(Words):
    """How one option of the configuration reaches this CLI; see `options` for those there are.

    Its words are added when it is set. `values` have words of their own and are the only ones it then
    takes, with `choices`; `default` is the one in force when nobody set it. A word `{each}` repeats its
    group for every item of a list.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    values: Mapping[str, Words] = field(default_factory=dict[str, Words])
    choices: tuple[str, ...] = ()
    default: str = ""
    #: Of `base_url`: what follows the address of a server that speaks several protocols, like /v1.
    path: str = ""
    #: What a person should know of it.
    note: str = ""
    #: Options that would leave it without effect: refused together.
    not_with: tuple[str, ...] = ()

    @property
    def allowed(self) -> tuple[str, ...]:
        """The only values it takes; empty: any."""
        return (*self.values, *self.choices)


@dataclass(frozen=True)
class Capabilities:
    """What the CLI can do, and for which versions of it that was looked at.

    `mcp` names the ways in which it takes servers. `approval` are the modes it can be held to.
    `steering`: a message reaches it while it works. `permission_requests`: it asks somebody else
    whether it may.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    #: Like `>=2.1.197, <2.2`; empty: not looked at.
    versions: str = ""
    resume: bool = False
    usage: bool = False
    cost: bool = False
    turn_limit: bool = False
    budget_flag: bool = False
    system_prompt: bool = False
    mcp: tuple[str, ...] = ()
    http: bool = False
    json_stream: bool = False
    rate_limit_events: bool = False
    steering: bool = False
    permission_requests: bool = False
    approval: tuple[str, ...] = ("ask", "edits", "bypass")


@dataclass(frozen=True)
class Auth:
    """How the CLI is asked, without a model, whether it is logged in.

    What it then prints holds `logged_in` or `logged_out`; `key_env` are variables that stand for a
    login. `login` says in words what a person does.

    A CLI that has a home of its own for each run is given the user's login by links: `files` says, for each path
    below the run's `files/`, which file of the user's home (`~/…`) it leads to. The first is the login, when it
    holds `logged_in`. They count when no variable of `key_env` is set, and `settings` are then laid over those
    beside our server's entry.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    status_args: tuple[str, ...] = ()
    logged_in: str = ""
    logged_out: str = ""
    key_env: tuple[str, ...] = ()
    login: str = ""
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    settings: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])


@dataclass(frozen=True)
class Output:
    """What its standard output is written in."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    dialect: str = "plain"


@dataclass(frozen=True)
class Outcome:
    """What its exit status says. `exit0_is_success`: the CLI cannot report, so 0 stands for it."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    exit0_is_success: bool = False


@dataclass(frozen=True)
class Limits:
    """How long it is normally silent, how many turns it may take, and what the bare CLI writes in the user's home anyway."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    silence: str = "30m"
    state_paths: tuple[str, ...] = ()
    #: Turns of its model in one run, where the CLI can count them; None: as many as it takes.
    max_turns: int | None = None

    @property
    def silence_seconds(self) -> float:
        """Seconds without output that are normal."""
        return duration_seconds(self.silence)


@dataclass(frozen=True)
class SandboxNeeds:
    """What the CLI needs inside a sandbox of ours, beside `limits.state_paths`, which it writes.

    `state_env` are variables that put its state elsewhere, `readable` what else it reads of the home
    (`~/…`); `files_writable`: it writes below the run's `files/`. `approval` replaces words of an
    approval mode where the CLI's own sandbox cannot work inside ours: landlock and sandbox-exec.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    state_env: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    files_writable: bool = False
    approval: ApprovalArgs = ApprovalArgs()


@dataclass(frozen=True)
class SkillPlace:
    """Where the run's skills are unpacked, below its `files/`.

    `{skills_dir}` stands for `dir`; the folders of the skills lie in `below` of it, where the CLI looks.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    dir: str = "skills"
    below: str = ""


@dataclass(frozen=True)
class ErrorRule:
    """A text on standard error, or in an error of the dialect, that says why; and what helps."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    pattern: str
    reason: str
    remedy: str = ""


@dataclass(frozen=True)
class Definition:
    """One provider."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    schema: int
    name: str
    title: str
    detect: Detect
    launch: Launch
    source: str = ""
    checked: Checked | None = None
    #: False: written from the program's documentation, and never seen to work.
    verified: bool = True
    approval: ApprovalArgs = ApprovalArgs()
    #: Its words where our server is asked for what the approval does not allow (`{permission_tool}`);
    #: without, it cannot ask.
    asked: ApprovalArgs = ApprovalArgs()
    mcp: Mcp = Mcp()
    output: Output = Output()
    outcome: Outcome = Outcome()
    #: None in a definition of one's own that says nothing: then what follows from the rest counts.
    capabilities: Capabilities | None = None
    auth: Auth = Auth()
    options: Mapping[str, Option] = field(default_factory=dict[str, Option])
    limits: Limits = Limits()
    #: Models it can be started with; empty: any, and its own default.
    models: tuple[str, ...] = ()
    #: How it is driven unless a setting says otherwise.
    mode: Mode = Mode.ONE_SHOT
    live: Live = Live()
    sandbox: SandboxNeeds = SandboxNeeds()
    skills: SkillPlace = SkillPlace()
    exit_codes: Mapping[str, str] = field(default_factory=dict[str, str])
    errors: tuple[ErrorRule, ...] = ()
    #: Lines of standard error that say that it waits for its provider, where its output does not say so.
    waits: tuple[ErrorRule, ...] = ()

    @property
    def exit0_is_success(self) -> bool:
        """Whether exit status 0 stands for a reported success."""
        return self.outcome.exit0_is_success

    @property
    def can(self) -> Capabilities:
        """What it can do: as it says, else as far as its words show."""
        if self.capabilities is not None:
            return self.capabilities
        return Capabilities(
            resume=bool(self.launch.resume),
            usage=self.output.dialect != "plain",
            turn_limit="max_turns" in self.options,
            budget_flag="max_budget" in self.options,
            system_prompt=bool(self.launch.system_prompt_file),
            mcp=() if self.mcp.style is McpStyle.NONE else (self.mcp.style.value,),
            http=bool(self.mcp.http),
            json_stream=self.output.dialect != "plain",
        )

    @property
    def can_report(self) -> bool:
        """Whether this CLI can call our tools at all."""
        return self.mcp.style is not McpStyle.NONE


def duration_seconds(text: str) -> float:
    """Read `90s`, `10m`, `1.5h`.

    Raises:
        ValueError: it is no duration.
    """
    match = _DURATION.match(text)
    if not match:
        message = f"{text!r} is no duration; write it like 90s, 10m, 1.5h"
        raise ValueError(message)
    return float(match[1]) * _UNIT_SECONDS[match[2]]
