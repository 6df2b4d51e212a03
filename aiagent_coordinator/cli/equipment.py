"""Which servers and skills of its agent a task is given, as a person says and reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.messages import text
from aiagent_coordinator.task_options import KINDS

C = TypeVar("C", bound=Callable[..., Any])


def options(command: C) -> C:
    """Give a command `--mcp-servers A,B`, `--no-mcp-servers`, `--skills A,B` and `--no-skills`."""
    for kind in reversed(KINDS):
        words = kind.replace("_", "-")
        command = click.option(f"--no-{words}", is_flag=True, help=text(f"help.option.no_{kind}"))(
            command
        )
        command = click.option(f"--{words}", metavar="NAMES", help=text(f"help.option.{kind}"))(
            command
        )
    return command


def given(said: Mapping[str, Any]) -> dict[str, list[str] | None]:
    """What `options` read, as arguments of a call; None: everything that the agent has.

    Raises:
        ValidationError: both words of a kind were said, or names are missing.
    """
    return {kind: _names(kind, said.get(kind), bool(said.get(f"no_{kind}"))) for kind in KINDS}


def _names(kind: str, listed: str | None, is_off: bool) -> list[str] | None:
    words = kind.replace("_", "-")
    if listed is not None and is_off:
        raise ValidationError(text("input.equipment_twice", option=words))
    if listed is None:
        return [] if is_off else None
    names = [name.strip() for name in listed.split(",")]
    if not all(names):
        raise ValidationError(text("input.equipment_empty", option=words))
    return names


def shown(known: dict[str, Any]) -> dict[str, Any]:
    """The facts of a task, what it is given in words for people."""
    options: Mapping[str, list[str]] | None = known.get("options")
    if options is None:
        return known
    said = [
        f"{kind}: {', '.join(names) or text('task.none_of')}" for kind, names in options.items()
    ]
    return {**known, "options": "; ".join(said)}
