"""Options that many commands share: collected in one object, before or after the sub-command."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aiagent_coordinator.messages import text

if TYPE_CHECKING:
    from pathlib import Path

    from aiagent_coordinator.telemetry import LogFormat

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Options:
    """What the shared options say."""

    def __init__(self) -> None:
        self.config: Path | None = None
        self.debug = False
        self.log_format: LogFormat = "text"
        #: Top-level settings given as flags, as text.
        self.overrides: dict[str, str] = {}


def current() -> Options:
    """The options of the command that runs."""
    return click.get_current_context().ensure_object(Options)


def _keep(context: click.Context, parameter: click.Parameter, value: object) -> None:
    # not given here: what stands before the sub-command stays
    if value is None or value is False:
        return
    options = context.ensure_object(Options)
    if parameter.name == "verbose":
        options.overrides["log_level"] = "debug"
    elif parameter.name == "config":
        from pathlib import Path

        options.config = Path(str(value))
    elif hasattr(options, parameter.name):
        setattr(options, parameter.name, value)
    else:
        options.overrides[parameter.name] = str(value)


def _shared(*names: str, **attributes: Any) -> Callable[[_Command], _Command]:  # noqa: ANN401 - click's own
    return click.option(*names, expose_value=False, callback=_keep, **attributes)


def common(command: _Command) -> _Command:
    """Add the options that every command has."""
    for option in (
        _shared("--debug", is_flag=True, help=text("help.option.debug")),
        _shared("--state-dir", "state_dir", metavar="DIR", help=text("help.option.state_dir")),
        _shared(
            "-c",
            "--config",
            metavar="FILE",
            type=click.Path(),
            help=text("help.option.config"),
        ),
    ):
        command = option(command)
    return command


def daemon(command: _Command) -> _Command:
    """Add the options of commands that run server or loop."""
    for option in (
        _shared("-v", "--verbose", is_flag=True, help=text("help.option.verbose")),
        _shared(
            "--log-level",
            type=click.Choice(["debug", "info", "warn", "error"]),
            help=text("help.option.log_level"),
        ),
        _shared(
            "--log-format", type=click.Choice(["text", "json"]), help=text("help.option.log_format")
        ),
        _shared("--socket", metavar="PATH", help=text("help.option.socket")),
        _shared("--max-concurrent", metavar="N", help=text("help.option.max_concurrent")),
        _shared("--polling-interval", metavar="TIME", help=text("help.option.polling_interval")),
        _shared("--log-directory", metavar="DIR", help=text("help.option.log_directory")),
    ):
        command = option(command)
    return common(file_format(command))


def file_format(command: _Command) -> _Command:
    """Add `--format`: which shape the configuration file has, where nobody should guess."""
    return _shared(
        "--format", type=click.Choice(["runner", "native"]), help=text("help.option.format")
    )(command)


def as_json(command: _Command) -> _Command:
    """Add `--json`, given to the command as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=text("help.option.json"))(command)
