"""Where workflows are found: in the project, then the user's own, then those that ship."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from aiagent_coordinator.errors import ConfigError, NotFoundError
from aiagent_coordinator.ids import CHOSEN_ID
from aiagent_coordinator.paths import user_config_dir
from aiagent_coordinator.tasks import Duty
from aiagent_coordinator.workflows.definition import Workflow
from aiagent_coordinator.workflows.reading import load_workflow

#: Below a project's folder.
PROJECT_FOLDER: Final = Path(".aiagent", "workflows")
SHIPPED_FOLDER: Final = Path(__file__).parent / "builtin"
SUFFIX: Final = ".yaml"
#: What agents are told when nobody named a workflow.
DEFAULTS: Final = {Duty.WORKER: "worker", Duty.MANAGER: "manager", Duty.REVIEWER: "reviewer"}


@dataclass(frozen=True)
class Found:
    """A workflow file, and what is wrong with it, if anything is."""

    name: str
    #: `project`, `user` or `built-in`.
    origin: str
    file: Path
    workflow: Workflow | None
    problem: ConfigError | None = None


class Library:
    """Finds workflows. A file is read again only when it changed; a bad one concerns nobody else."""

    def __init__(self, user: Path | None = None) -> None:
        self._user = user or user_config_dir() / "workflows"
        self._read: dict[Path, tuple[tuple[int, int], Workflow | ConfigError]] = {}

    def find(self, name: str, project: Path | None) -> Workflow:
        """The workflow of a name, for a project whose folder that is. Reads a small file when it changed.

        Raises:
            NotFoundError: there is none; the message lists those there are.
            ConfigError: its file cannot be used; the message says where and why.
        """
        for origin, folder in self._folders(project):
            file = folder / f"{name}{SUFFIX}"
            if CHOSEN_ID.match(name) and file.is_file():
                return self._load(file, origin, project)
        known = ", ".join(sorted({one.name for one in self.list(project)}))
        raise NotFoundError(
            f"WORKFLOW_NOT_FOUND: there is no workflow {name[:100]!r}; there are: {known}",
            hint=f"write {PROJECT_FOLDER / f'{name[:100]}{SUFFIX}'} in the project, or name another",
        )

    def list(self, project: Path | None) -> list[Found]:
        """Every file, those that are shadowed by another of their name left out."""
        found: dict[str, Found] = {}
        for origin, folder in self._folders(project):
            for file in sorted(folder.glob(f"*{SUFFIX}")):
                if file.stem not in found:
                    found[file.stem] = self._look(file, origin, project)
        return [found[name] for name in sorted(found)]

    def _look(self, file: Path, origin: str, project: Path | None) -> Found:
        try:
            return Found(file.stem, origin, file, self._load(file, origin, project))
        except ConfigError as error:
            return Found(file.stem, origin, file, None, error)

    def _folders(self, project: Path | None) -> Iterator[tuple[str, Path]]:
        if project is not None:
            yield "project", project / PROJECT_FOLDER
        yield "user", self._user
        yield "built-in", SHIPPED_FOLDER

    def _load(self, file: Path, origin: str, project: Path | None) -> Workflow:
        if origin == "project" and project is not None and _leads_out(file, project):
            # agents may write there: what is told of a file must not be told of any other
            raise ConfigError(f"{file}: leads out of its project; write the file itself")
        stamp = _stamp(file)
        known = self._read.get(file)
        if known is None or known[0] != stamp:
            known = (stamp, _read(file))
            self._read[file] = known
        kept = known[1]
        if isinstance(kept, ConfigError):
            # a new one each time: an error carries the way it went
            raise ConfigError(kept.message, hint=kept.hint, **kept.details)
        return kept


def _leads_out(file: Path, project: Path) -> bool:
    return file.resolve() != project.resolve() / PROJECT_FOLDER / file.name


def _stamp(file: Path) -> tuple[int, int]:
    try:
        seen = file.stat()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    return seen.st_mtime_ns, seen.st_size


def _read(file: Path) -> Workflow | ConfigError:
    try:
        return load_workflow(file)
    except ConfigError as error:
        return error


@cache
def shipped(name: str) -> Workflow:
    """A workflow as it ships."""
    return load_workflow(SHIPPED_FOLDER / f"{name}{SUFFIX}")
