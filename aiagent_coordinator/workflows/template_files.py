"""A template file as a `Template`: every mistake with its file, line and key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from aiagent_coordinator.config.source import read_source
from aiagent_coordinator.templates import (
    MAX_VALUE_CHARS,
    VARIABLE,
    TaskDraft,
    Template,
    Variable,
    variables_in,
)
from aiagent_coordinator.workflows.drafts import ASSIGNEE, DraftReader, digest_of

_TOP: Final = ("schema", "title", "variables", "tasks", *ASSIGNEE)
_VARIABLE: Final = ("about", "default")
MAX_VARIABLES: Final = 50
_MAX_TITLE_CHARS: Final = 200


def load_template(file: Path) -> Template:
    """Read a template; its name is its file's.

    Raises:
        ConfigError: it cannot be used; the message says where and why, `problems` lists all.
    """
    digest = digest_of(file)
    reader = _Reader(read_source(file))
    template = reader.read(file.stem, digest)
    error = reader.refusal()
    if error is not None:
        raise error
    return template


class _Reader(DraftReader):
    """Reads one template."""

    def read(self, name: str, digest: str) -> Template:
        data = self._head(name, _TOP)
        variables = self._variables(data.get("variables", {}))
        agent_id, role = self._assignee((), data)
        default = TaskDraft(0, "", agent_id=agent_id, role=role)
        tasks = self._drafts(("tasks",), data.get("tasks"), variables, default)
        used = {one for task in tasks for text in task.texts() for one in variables_in(text)}
        for one in variables:
            if one not in used and not self.problems:
                self._wrong(("variables", one), "no task names it; remove it")
        title = self._text(("title",), data.get("title"), _MAX_TITLE_CHARS)
        return Template(name, title, variables, tasks, self.source.file, digest)

    def _variables(self, value: object) -> Mapping[str, Variable]:
        given = self._mapping(("variables",), value)
        if len(given) > MAX_VARIABLES:
            self._wrong(("variables",), f"has more than {MAX_VARIABLES}")
            return {}
        return {name: self._variable(name, given[name]) for name in given}

    def _variable(self, name: str, value: object) -> Variable:
        at = ("variables", name)
        if not VARIABLE.fullmatch(name):
            self._wrong(at, "is no name of a variable: lower-case letters, digits and `_`")
        told = self._mapping(at, {} if value is None else value)
        self._known(at, told, _VARIABLE)
        about, default = told.get("about"), told.get("default")
        if default is not None and (not isinstance(default, str) or len(default) > MAX_VALUE_CHARS):
            self._wrong((*at, "default"), "must be text; put it in quotes")
            default = None
        about = "" if about is None else self._text((*at, "about"), about, _MAX_TITLE_CHARS)
        return Variable(name, about, default)
