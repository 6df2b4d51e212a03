"""The command `aiagent`, for what a running agent types."""

from __future__ import annotations

import os

import click

from aiagent_coordinator import __version__
from aiagent_coordinator.cli import output
from aiagent_coordinator.cli.main import run_command
from aiagent_coordinator.errors import EXIT_CODES, UnauthorizedError
from aiagent_coordinator.messages import text

#: What every run gives its program; without them nobody knows whose word a command is.
NEEDED = ("AIAGENT_SOCKET", "AIAGENT_TOKEN_FILE", "AIAGENT_TASK_ID", "AIAGENT_RUN_ID")


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("words", nargs=-1)
def agent(words: tuple[str, ...]) -> int:
    """Say what there is: nothing but the version by now."""
    asked = not words or words in {("--help",), ("-h",), ("help",)}
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing and not asked:
        raise UnauthorizedError(
            text("agent.outside", names=", ".join(missing)), hint=text("agent.outside.hint")
        )
    output.talk(text("agent.help", version=__version__))
    return 0 if asked else EXIT_CODES["VALIDATION"]


def run(arguments: list[str]) -> int:
    """Run `aiagent` with these arguments."""
    return run_command(agent, "aiagent", arguments)
