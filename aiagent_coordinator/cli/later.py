"""Commands that are imported when they run: listing them, or running another, costs nothing of them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from aiagent_coordinator.messages import text


class Later(click.Command):
    """Stands for a command in the list of its group.

    Args:
        name: What people type; `help.NAME` of the catalogue is its help.
        module: Where the command is, a module of this package.
        attribute: Its name there.
        group: The words before it, where it stands below another: part of its key in the catalogue.
    """

    def __init__(self, name: str, module: str, attribute: str, group: str = "") -> None:
        super().__init__(name, help=text(f"help.{group}{name}"))
        self._module = module
        self._attribute = attribute

    def load(self) -> click.Command:
        """Import the command itself."""
        module = import_module(f"aiagent_coordinator.cli.{self._module}")
        command: click.Command = getattr(module, self._attribute)
        return command

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,  # noqa: ANN401 - click's own
    ) -> click.Context:
        """Parse the arguments of the command itself; from here on only that one is used."""
        return self.load().make_context(info_name, args, parent, **extra)
