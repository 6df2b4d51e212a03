"""`serve`, `coordinate` and the default command: one process in the foreground."""

from __future__ import annotations

import gc

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


def run_both(given: options.Options, *, until_done: bool, project: str | None) -> int:
    """Run server and loop until they end, and give the exit status.

    Args:
        given: The options.
        until_done: End when no task goes on by itself any more; 0 only if all succeeded.
        project: With `until_done`: only the tasks of this project count.

    Raises:
        CoordinatorError: they cannot start, or there is no such project.
    """
    roles = frozenset({"server", "coordinator"})
    if not until_done:
        return run_roles(given, roles)
    from aiagent_coordinator.cli.until_done import Follower

    follower = Follower(given, project)
    follower.start()
    return follower.conclude(run_roles(given, roles))


def run_roles(given: options.Options, roles: frozenset[str]) -> int:
    """Run these roles until they end, and give the exit status.

    Raises:
        CoordinatorError: they cannot start.
    """
    config = find_config(given.config)
    if config is None:
        output.talk(text("daemon.no_config"))
    # a start makes much and drops nothing: the daemon lets the collector in again when it has settled
    gc.disable()
    from aiagent_coordinator.daemon import run_daemon

    return run_daemon(
        config,
        roles=roles,
        log_format=given.log_format,
        overrides=given.overrides,
    )
