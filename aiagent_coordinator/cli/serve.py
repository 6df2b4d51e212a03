"""`serve`, `coordinate` and the default command: one process in the foreground."""

from __future__ import annotations

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.config.find import find_config
from aiagent_coordinator.messages import text


@click.command(help=text("help.serve"))
@options.daemon
def serve() -> int:
    """Run the server alone."""
    return run_roles(options.current(), frozenset({"server"}))


@click.command(help=text("help.coordinate"))
@options.daemon
def coordinate() -> int:
    """Run the loop alone."""
    return run_roles(options.current(), frozenset({"coordinator"}))


def run_roles(given: options.Options, roles: frozenset[str], *, until_done: bool = False) -> int:
    """Run these roles until they end, and give the exit status.

    Args:
        given: The options.
        roles: What this process is.
        until_done: End when every task is over or waits for a person; 0 only if all succeeded.

    Raises:
        CoordinatorError: they cannot start.
    """
    config = find_config(given.config)
    if config is None:
        output.talk(text("daemon.no_config"))
    from aiagent_coordinator.daemon import run_daemon

    follower = None
    if until_done:
        from aiagent_coordinator.cli.until_done import Follower

        follower = Follower(given)
        follower.start()
    status = run_daemon(
        config,
        roles=roles,
        log_format=given.log_format,
        overrides=given.overrides,
    )
    return status if follower is None else follower.conclude(status)
