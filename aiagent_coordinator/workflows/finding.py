"""Where files of a kind are found: in the project, then the user's own, then those that ship."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from aiagent_coordinator.errors import ConfigError, NotFoundError
from aiagent_coordinator.ids import CHOSEN_ID
from aiagent_coordinator.paths import user_config_dir

T = TypeVar("T")
SUFFIX: Final = ".yaml"


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What sort of file: what people call it, its folder, and how it is read."""

    noun: str
    #: Below `.aiagent` of a project, and below the user's configuration folder.
    folder: str
    shipped: Path
    #: Raises ConfigError, with file, line and key of what is wrong.
    load: Callable[[Path], T]

    @property
    def in_project(self) -> Path:
        """Below a project's folder."""
        return Path(".aiagent", self.folder)


@dataclass(frozen=True)
class Found(Generic[T]):
    """A file, and what is wrong with it, if anything is."""

    name: str
    #: `project`, `user` or `built-in`; `file` for one that was named.
    origin: str
    file: Path
    value: T | None
    problem: ConfigError | None = None


class Finder(Generic[T]):
    """Finds files of a kind. A file is read again only when it changed; a bad one concerns nobody else."""

    def __init__(self, kind: Kind[T], user: Path | None = None) -> None:
        self.kind = kind
        self._user = user or user_config_dir() / kind.folder
        self._read: dict[Path, tuple[tuple[int, int], T | ConfigError]] = {}

    def find(self, name: str, project: Path | None) -> T:
        """The one of a name, for a project whose folder that is. Reads a small file when it changed.

        Raises:
            NotFoundError: there is none; the message lists those there are.
            ConfigError: its file cannot be used; the message says where and why.
        """
        for origin, folder in self._folders(project):
            file = folder / f"{name}{SUFFIX}"
            if CHOSEN_ID.match(name) and file.is_file():
                return self._load(file, origin, project)
        noun = self.kind.noun
        known = ", ".join(sorted({one.name for one in self.list(project)}))
        raise NotFoundError(
            f"{noun.upper()}_NOT_FOUND: there is no {noun} {name[:100]!r}; there are: {known}",
            hint=f"write {self.kind.in_project / f'{name[:100]}{SUFFIX}'} in the project, or name another",
        )

    def list(self, project: Path | None) -> list[Found[T]]:
        """Every file, those that are shadowed by another of their name left out."""
        found: dict[str, Found[T]] = {}
        for origin, folder in self._folders(project):
            for file in sorted(folder.glob(f"*{SUFFIX}")):
                if file.stem not in found:
                    found[file.stem] = self._look(file, origin, project)
        return [found[name] for name in sorted(found)]

    def _look(self, file: Path, origin: str, project: Path | None) -> Found[T]:
        try:
            return Found(file.stem, origin, file, self._load(file, origin, project))
        except ConfigError as error:
            return Found(file.stem, origin, file, None, error)

    def _folders(self, project: Path | None) -> Iterator[tuple[str, Path]]:
        if project is not None:
            yield "project", project / self.kind.in_project
        yield "user", self._user
        yield "built-in", self.kind.shipped

    def _load(self, file: Path, origin: str, project: Path | None) -> T:
        if origin == "project" and project is not None and self._leads_out(file, project):
            # agents may write there: what is told of a file must not be told of any other
            raise ConfigError(f"{file}: leads out of its project; write the file itself")
        stamp = _stamp(file)
        known = self._read.get(file)
        if known is None or known[0] != stamp:
            known = (stamp, self._try(file))
            self._read[file] = known
        kept = known[1]
        if isinstance(kept, ConfigError):
            # a new one each time: an error carries the way it went
            raise ConfigError(kept.message, hint=kept.hint, **kept.details)
        return kept

    def _try(self, file: Path) -> T | ConfigError:
        try:
            return self.kind.load(file)
        except ConfigError as error:
            return error

    def _leads_out(self, file: Path, project: Path) -> bool:
        return file.resolve() != project.resolve() / self.kind.in_project / file.name


def named(kind: Kind[T], file: Path) -> Found[T]:
    """A file that somebody named, wherever it lies."""
    try:
        return Found(file.stem, "file", file, kind.load(file))
    except ConfigError as error:
        return Found(file.stem, "file", file, None, error)


def _stamp(file: Path) -> tuple[int, int]:
    try:
        seen = file.stat()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    return seen.st_mtime_ns, seen.st_size
