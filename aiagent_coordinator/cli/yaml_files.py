"""What commands do with the files that people write for a project: find them, and check them as the server would."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.errors import ConfigError, NotFoundError
from aiagent_coordinator.messages import text

if TYPE_CHECKING:
    from aiagent_coordinator.workflows.finding import Found, Kind

T = TypeVar("T")


def found(kind: Kind[T], project: str | None) -> list[Found[T]]:
    """Every file of a kind that a declared project sees; without one, those of the user and those that ship."""
    from aiagent_coordinator.workflows.finding import Finder

    return Finder(kind).list(None if project is None else _folders().get(project, Path()))


def show(kind: Kind[Any], name: str, project: str | None) -> None:
    """Print a file as it is written.

    Raises:
        NotFoundError: there is none of that name.
    """
    known = {one.name: one for one in found(kind, project)}
    if name not in known:
        listed = ", ".join(known)
        raise NotFoundError(text("file.none", noun=kind.noun, name=name, known=listed))
    output.talk(str(known[name].file))
    output.result(known[name].file.read_text("utf-8").rstrip("\n"))


def validate(
    kind: Kind[T],
    files: Iterable[Path],
    *,
    as_json: bool,
    line: Callable[[Found[T]], dict[str, Any]],
) -> None:
    """Read files as the server would, or all there are; one that cannot be used is told with its line.

    Raises:
        ConfigError: one cannot be used.
    """
    from aiagent_coordinator.workflows.finding import named
    from aiagent_coordinator.workflows.values import problems_of

    known = [named(kind, file) for file in files] or _everywhere(kind)
    bad = [one for one in known if one.problem is not None]
    problems = [told for one in bad if one.problem for told in problems_of(one.problem)]
    if as_json:
        listed = [with_problems(one, line(one)) for one in known]
        output.json_result({"valid": not bad, kind.folder: listed})
    elif not bad:
        output.result(text("file.valid", count=len(known), nouns=kind.folder))
    if problems:
        first, *rest = problems
        for told in rest:
            output.talk(text("error.prefix", message=told))
        raise ConfigError(first, problems=problems)


def with_problems(one: Found[Any], line: dict[str, Any]) -> dict[str, Any]:
    """A file in a list: where it is, what it says, and what is wrong with it."""
    from aiagent_coordinator.workflows.values import problems_of

    return {
        "name": one.name,
        "origin": one.origin,
        "file": str(one.file),
        **line,
        "problems": [] if one.problem is None else problems_of(one.problem),
    }


def _everywhere(kind: Kind[T]) -> list[Found[T]]:
    """Every file once: those of all projects, the user's and those that ship."""
    from aiagent_coordinator.workflows.finding import Finder

    finder = Finder(kind)
    known = {one.file: one for one in finder.list(None)}
    for folder in _folders().values():
        known |= {one.file: one for one in finder.list(folder)}
    return list(known.values())


def _folders() -> dict[str, Path]:
    """The folders of the projects that the configuration declares, by id."""
    from aiagent_coordinator.config import load_settings
    from aiagent_coordinator.config.find import find_config

    given = options.current()
    loaded = load_settings(find_config(given.config), overrides=given.overrides)
    return {one.id: one.path for one in loaded.settings.projects if one.path is not None}
