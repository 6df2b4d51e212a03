"""Which providers there are: what ships, what the user added, what the configuration says inline."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import platformdirs

import aiagent_coordinator
from aiagent_coordinator.errors import ProviderError
from aiagent_coordinator.paths import APP
from aiagent_coordinator.providers.definition import Definition, load_definition
from aiagent_coordinator.providers.substitution import nearest


class InlineProvider(Protocol):
    """An entry of `ai_providers` in the configuration."""

    @property
    def cli_command(self) -> str | None:
        """One program: its name, or its absolute path (which may hold spaces, or begin with `~`)."""
        ...

    @property
    def cli_args(self) -> Sequence[str] | None:
        """Words that follow the program, before those of the definition; taken literally."""
        ...

    @property
    def like(self) -> str | None:
        """The definition this one is made from; by default the one of the same name."""
        ...


class Catalog:
    """The definitions by name."""

    def __init__(self, definitions: Mapping[str, Definition]) -> None:
        self._definitions = dict(definitions)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._definitions))

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
    return Path(platformdirs.user_config_dir(APP)) / "providers"


def _inline(name: str, entry: InlineProvider, known: Mapping[str, Definition]) -> Definition:
    key = f"ai_providers.{name}"
    origin = entry.like or name
    base = known.get(origin)
    if base is None and entry.like:
        raise ProviderError(
            f"{key}.like: unknown provider {origin!r}; {nearest(origin, known)}", key=f"{key}.like"
        )
    if base is None:
        raise ProviderError(
            f"{key}: no definition has this name",
            hint=f"say what it is like: {', '.join(sorted(known))}",
            key=key,
        )
    command = tuple(entry.cli_args or ())
    if entry.cli_command is None:
        executable = base.detect.executable
        command = base.launch.command + command
    else:
        executable = _executable(entry.cli_command, f"{key}.cli_command")
    return dataclasses.replace(
        base,
        name=name,
        title=base.title if name == base.name else name,
        detect=dataclasses.replace(base.detect, executable=executable),
        launch=dataclasses.replace(base.launch, command=command),
    )


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
