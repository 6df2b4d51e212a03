"""Templates of tasks: drafts with an order among them, and `{{variables}}` in their texts. Values, pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError as _Circle
from graphlib import TopologicalSorter
from typing import Final

from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.tasks import Duty

#: What a name of a variable is.
VARIABLE: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
#: Four braces are the two braces themselves; what else begins with two must be a variable.
_PART: Final = re.compile(
    r"(?P<braces>\{\{\{\{)|\{\{[ \t]*(?P<name>" + VARIABLE.pattern + r")[ \t]*\}\}|(?P<stray>\{\{)"
)
#: Longest value of a variable.
MAX_VALUE_CHARS: Final = 16_000


@dataclass(frozen=True)
class TaskDraft:
    """A task that is to be made. Its texts may hold variables."""

    #: Names it among the drafts around it; more than 0.
    order: int
    title: str
    description: str = ""
    #: Who does it; None: see `role`.
    agent_id: str | None = None
    #: Any agent of the project that is this; None: anybody.
    role: Duty | None = None
    #: Orders of those that must succeed first.
    depends_on_orders: tuple[int, ...] = ()
    priority: int = 0
    acceptance: tuple[str, ...] = ()
    #: None: as the settings say.
    max_attempts: int | None = None
    #: It begins only after somebody's word.
    needs_approval: bool = False
    #: Whose word its result needs: `person`, or an agent.
    review_by: str | None = None
    #: Which servers and skills of its agent it is given; None: all.
    mcp_servers: tuple[str, ...] | None = None
    skills: tuple[str, ...] | None = None

    def texts(self) -> tuple[str, ...]:
        """Every text that may hold variables."""
        return (self.title, self.description, *self.acceptance)

    def filled(self, values: Mapping[str, str]) -> TaskDraft:
        """The same with its variables replaced."""
        return replace(
            self,
            title=fill(self.title, values),
            description=fill(self.description, values),
            acceptance=tuple(fill(one, values) for one in self.acceptance),
        )


@dataclass(frozen=True)
class Variable:
    """What a template asks for."""

    name: str
    about: str = ""
    #: None: it must be given.
    default: str | None = None


@dataclass(frozen=True)
class Template:
    """Tasks that are made together."""

    name: str
    title: str
    variables: Mapping[str, Variable]
    #: In the order of the file.
    tasks: tuple[TaskDraft, ...]
    #: Where it was read.
    file: str = ""
    #: What it says, hashed.
    digest: str = field(default="", compare=False)


def variables_in(text: str) -> list[str]:
    """The variables that a text names, in its order, each once."""
    return list(dict.fromkeys(found["name"] for found in _PART.finditer(text) if found["name"]))


def mistake_in(text: str) -> str | None:
    """What is wrong with the braces of a text; None when nothing is."""
    for found in _PART.finditer(text):
        if found["stray"]:
            return (
                f"{text[found.start() : found.start() + 20]!r} is no variable: write {{{{name}}}}, "
                "or four braces for the two themselves"
            )
    return None


def fill(text: str, values: Mapping[str, str]) -> str:
    """Put values in the place of the variables, once: what a value holds stays as it is.

    Raises:
        KeyError: a variable has no value.
    """

    def put(found: re.Match[str]) -> str:
        return "{{" if found["name"] is None else values[found["name"]]

    return _PART.sub(put, text)


def values_of(template: Template, given: Mapping[str, str]) -> dict[str, str]:
    """A value for every variable of a template.

    Raises:
        ValidationError: one is missing, is not known there, or is too long; all are named.
    """
    known = template.variables
    wrong = [f"unknown: {', '.join(sorted(given.keys() - known.keys()))}"]
    missing = [one.name for one in known.values() if one.default is None and one.name not in given]
    wrong.append(f"missing: {', '.join(missing)}")
    long = [name for name, value in given.items() if len(value) > MAX_VALUE_CHARS]
    wrong.append(f"longer than {MAX_VALUE_CHARS} characters: {', '.join(sorted(long))}")
    said = [one for one in wrong if not one.endswith(": ")]
    if said:
        listed = ", ".join(known) or "none"
        raise ValidationError(
            f"template {template.name}: variables {'; '.join(said)}",
            hint=f"it knows: {listed}",
            key="values",
        )
    return {one.name: given.get(one.name, one.default or "") for one in known.values()}


def circle_of(drafts: Sequence[TaskDraft]) -> list[int]:
    """Orders that would wait for each other, the first one again at the end; empty when none do."""
    try:
        TopologicalSorter({one.order: one.depends_on_orders for one in drafts}).prepare()
    except _Circle as circle:
        way: list[int] = circle.args[1]
        # it names who is waited for first
        return way[::-1]
    return []


def in_order(drafts: Sequence[TaskDraft]) -> list[TaskDraft]:
    """Each after those that it waits for, else by order; there is no circle."""
    by_order = {one.order: one for one in sorted(drafts, key=lambda one: one.order)}
    sorter = TopologicalSorter({one.order: one.depends_on_orders for one in by_order.values()})
    return [by_order[order] for order in sorter.static_order()]
