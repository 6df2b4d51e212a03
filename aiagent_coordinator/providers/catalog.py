"""Which providers there are: what ships, what the user added, what the configuration says inline."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import aiagent_coordinator
from aiagent_coordinator.errors import ProviderError
from aiagent_coordinator.paths import user_config_dir
from aiagent_coordinator.providers.definition import Definition, load_definition
from aiagent_coordinator.providers.mcp_servers import Server
from aiagent_coordinator.providers.options import Chosen
from aiagent_coordinator.providers.shape import Driver, Mode
from aiagent_coordinator.providers.substitution import nearest

#: How a program is started that nothing is known about but its name: as the reference runner does.
CONVENTION = "claude"


class InlineProvider(Protocol):
    """An entry of `ai_providers` in the configuration."""

    @property
    def kick_command(self) -> str | None:
        """Program and arguments in one text, in place of `cli_command` and `cli_args`."""
        ...

    @property
    def cli_command(self) -> str | None:
        """One program: its name, or its absolute path (which may hold spaces, or begin with `~`)."""
        ...

    @property
    def cli_args(self) -> Sequence[str] | None:
        """Words that follow the program, before those of the definition; taken literally."""
        ...

    @property
    def models(self) -> Sequence[str]:
        """The models it can be started with; empty: those of what it is made from."""
        ...

    @property
    def max_turns(self) -> int | None:
        """Turns of its model in one run; None: those of what it is made from."""
        ...

    @property
    def mode(self) -> str | None:
        """`one-shot` or `live`; None: that of what it is made from."""
        ...

    @property
    def like(self) -> str | None:
        """The definition this one is made from; by default the one of the same name."""
        ...


@dataclass(frozen=True)
class Choices:
    """What is wanted of CLIs, by provider and by agent; an agent's goes before its provider's."""

    by_provider: Mapping[str, Chosen] = field(default_factory=dict[str, Chosen])
    by_agent: Mapping[str, Chosen] = field(default_factory=dict[str, Chosen])
    #: Of a project's runs; they go before the provider's, and the agent's before them.
    by_project: Mapping[str, Chosen] = field(default_factory=dict[str, Chosen])
    extra_of_provider: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict[str, tuple[str, ...]]
    )
    extra_of_agent: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict[str, tuple[str, ...]]
    )
    #: Servers beside ours, by project and agent; an empty text stands for any.
    servers: Mapping[tuple[str, str], tuple[Server, ...]] = field(
        default_factory=dict[tuple[str, str], tuple[Server, ...]]
    )


class Catalog:
    """The definitions by name, and what is wanted of each."""

    def __init__(
        self, definitions: Mapping[str, Definition], choices: Choices | None = None
    ) -> None:
        self._definitions = dict(definitions)
        self._choices = choices or Choices()

    def choosing(self, choices: Choices) -> Catalog:
        """The same definitions, with this wanted of them."""
        return Catalog(self._definitions, choices)

    def chosen(
        self, provider: str, agent_id: str | None = None, project_id: str | None = None
    ) -> Chosen:
        """The options of a provider's runs, or of one agent's, in one project."""
        choices = self._choices
        outer = choices.by_project.get(project_id or "", Chosen()).over(
            choices.by_provider.get(provider, Chosen())
        )
        return choices.by_agent.get(agent_id or "", Chosen()).over(outer)

    def servers(self, project_id: str, agent_id: str) -> tuple[Server, ...]:
        """The servers that an agent has in a project, beside ours."""
        known = self._choices.servers
        either = ((project_id, agent_id), ("", agent_id), (project_id, ""), ("", ""))
        return next((known[pair] for pair in either if pair in known), ())

    def extra_args(self, provider: str, agent_id: str | None = None) -> tuple[str, ...]:
        """The words that follow the definition's own."""
        choices = self._choices
        of_provider = choices.extra_of_provider.get(provider, ())
        return of_provider + choices.extra_of_agent.get(agent_id or "", ())

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._definitions))

    def __contains__(self, name: object) -> bool:
        return name in self._definitions

    def get(self, name: str) -> Definition:
        """The definition of that name.

        Raises:
            ProviderError: there is none; the message lists those there are.
        """
        try:
            return self._definitions[name]
        except KeyError:
            raise ProviderError(
                f"unknown provider {name!r}; {nearest(name, self._definitions)}",
                hint=f"known: {', '.join(self)}",
            ) from None


def load_catalog(
    extra: Mapping[str, InlineProvider] | None = None,
    *,
    shipped: Path | None = None,
    user: Path | None = None,
) -> Catalog:
    """Read every definition; what comes later wins: shipped, the user's, inline.

    Args:
        extra: `ai_providers` of the configuration.
        shipped: Folder of the shipped definitions; found beside the package by default.
        user: Folder of the user's; `providers` in the user's configuration folder by default.

    Raises:
        ProviderError: one of them is wrong; the message names file and key.
    """
    definitions: dict[str, Definition] = {}
    for folder in (shipped or shipped_folder(), user or user_folder()):
        for file in sorted(folder.glob("*.toml")):
            definition = load_definition(file)
            if definition.name != file.stem:
                raise ProviderError(
                    f"{file}: name: must be {file.stem!r}, the name of its file",
                    file=str(file),
                    key="name",
                )
            definitions[definition.name] = definition
    for name, entry in (extra or {}).items():
        definitions[name] = _inline(name, entry, definitions)
    return Catalog(definitions)


def shipped_folder() -> Path:
    """Where the shipped definitions lie: in the package, or beside it when it is installed editable."""
    package = Path(aiagent_coordinator.__file__).parent
    installed = package / "_providers"
    return installed if installed.is_dir() else package.parent / "providers"


def user_folder() -> Path:
    """Where the user's own definitions lie."""
    return user_config_dir() / "providers"


def _inline(name: str, entry: InlineProvider, known: Mapping[str, Definition]) -> Definition:
    key = f"ai_providers.{name}"
    program, words = _program(entry, key)
    base = _base(name, entry.like, program, known)
    if program is None:
        executable = base.detect.executable
        command = base.launch.command + words
    else:
        executable = program
        command = words
    return dataclasses.replace(
        base,
        name=name,
        title=base.title if name == base.name else name,
        detect=dataclasses.replace(base.detect, executable=executable),
        launch=dataclasses.replace(base.launch, command=command),
        models=tuple(entry.models) or base.models,
        mode=_mode(base, entry.mode, f"ai_providers.{name}.mode"),
        limits=dataclasses.replace(base.limits, max_turns=entry.max_turns or base.limits.max_turns),
    )


def _mode(base: Definition, wanted: str | None, key: str) -> Mode:
    """The mode of an entry; what its program has no mode for is refused.

    Raises:
        ProviderError: it has no such mode.
    """
    if wanted == Mode.LIVE and base.live.driver is Driver.NONE:
        raise ProviderError(
            f"{key}: {base.name} has no live mode: it takes nothing in while it works",
            hint="leave the setting out; what is told to it goes with its next call or its next start",
            key=key,
        )
    return base.mode if wanted is None else Mode(wanted)


def _base(
    name: str, like: str | None, program: str | None, known: Mapping[str, Definition]
) -> Definition:
    """What an entry is made from: what it is like, the definition of its name, or the convention."""
    key = f"ai_providers.{name}"
    origin = like or name
    if origin in known:
        return known[origin]
    if like:
        raise ProviderError(
            f"{key}.like: unknown provider {origin!r}; {nearest(origin, known)}", key=f"{key}.like"
        )
    if program is None or CONVENTION not in known:
        raise ProviderError(
            f"{key}: no definition has this name, and no program is given; {nearest(name, known)}",
            hint=f"give its cli_command, or say what it is like: {', '.join(sorted(known))}",
            key=key,
        )
    return known[CONVENTION]


def _program(entry: InlineProvider, key: str) -> tuple[str | None, tuple[str, ...]]:
    """The program of an entry, when it names one, and the words after it."""
    kick = entry.kick_command
    words = tuple(entry.cli_args or ())
    if kick is None:
        program = entry.cli_command
        if program is not None:
            program = _executable(program, f"{key}.cli_command")
        return program, words
    if entry.cli_command is not None or words:
        raise ProviderError(
            f"{key}.kick_command: stands in place of cli_command and cli_args; give one or the other",
            key=f"{key}.kick_command",
        )
    program, *rest = split_command(kick, f"{key}.kick_command")
    return _executable(program, f"{key}.kick_command"), tuple(rest)


def split_command(text: str, key: str) -> list[str]:
    """Split a command line into words as a shell would, without ever being one.

    Quotes and backslashes group words; variables, globs, pipes and everything else stay text.

    Raises:
        ProviderError: it holds no word, or a quote is not closed.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        reason = str(error).lower()
        raise ProviderError(
            f"{key}: {text!r} cannot be split into words: {reason}", key=key
        ) from None
    if not words:
        raise ProviderError(f"{key}: {text!r} names no program", key=key)
    return words


def _executable(text: str, key: str) -> str:
    """Take the text as one program, whatever it holds: it is never split."""
    path = Path(text).expanduser()
    if not text or "\0" in text or ("/" in text and not path.is_absolute()):
        raise ProviderError(
            f"{key}: {text!r} is neither a program's name nor an absolute path",
            hint="arguments go into cli_args",
            key=key,
        )
    return str(path) if "/" in text else text
