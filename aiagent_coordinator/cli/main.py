"""The command `aiagent-coordinator`: its sub-commands, and how every one of them ends."""

from __future__ import annotations

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.later import Later
from aiagent_coordinator.errors import EXIT_CODES, CoordinatorError, ValidationError
from aiagent_coordinator.messages import text

PROGRAM = "aiagent-coordinator"


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from aiagent_coordinator import __version__

        output.result(f"{PROGRAM} {__version__}")
        context.exit()


@click.group(
    invoke_without_command=True,
    help=text("help.main"),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help=text("help.option.version"),
)
@click.option(
    "--coordinator", is_flag=True, expose_value=False, help=text("help.option.coordinator")
)
@click.option("--until-done", is_flag=True, help=text("help.option.until_done"))
@click.option("--project", metavar="ID", help=text("help.option.until_project"))
@click.option("--until-stdin-closes", is_flag=True, help=text("help.option.until_stdin"))
@options.daemon
@click.pass_context
def main(
    context: click.Context, until_done: bool, project: str | None, until_stdin_closes: bool
) -> int:
    """Run server and loop when no command is named."""
    if context.invoked_subcommand is None:
        from aiagent_coordinator.cli import lifeline, serve

        if project is not None and not until_done:
            raise ValidationError(text("until_done.project"))
        if until_stdin_closes:
            lifeline.hold()
        return serve.run_both(options.current(), until_done=until_done, project=project)
    for given, name in (
        (until_done, "--until-done"),
        (project, "--project"),
        (until_stdin_closes, "--until-stdin-closes"),
    ):
        if given:
            raise ValidationError(
                text("until_done.alone", option=name, command=context.invoked_subcommand)
            )
    return 0


for name, module in (
    ("serve", "serve"),
    ("coordinate", "serve"),
    ("demo", "demo"),
    ("task", "task"),
    ("run", "run"),
    ("chat", "chat"),
    ("tell", "tell"),
    ("status", "status"),
    ("stop", "stop"),
    ("project", "project"),
    ("agent", "agent"),
    ("logs", "logs"),
    ("usage", "usage"),
    ("provider", "provider"),
    ("quota", "quota"),
    ("explain", "explain"),
    ("config", "config"),
    ("init", "init"),
    ("doctor", "doctor"),
    ("gc", "gc"),
    ("service", "service"),
    ("workflow", "workflow"),
    ("skill", "skill"),
    ("handoff", "handoff"),
    ("template", "template"),
    ("audit", "audit"),
):
    main.add_command(Later(name, module, name))


def run_command(command: click.Command, program: str, arguments: list[str]) -> int:
    """Run a command and give its exit status: every error becomes one line and a hint here."""
    output.prepare()
    debug = "--debug" in arguments
    try:
        status_code = _invoke(command, program, arguments)
        output.flush()
    except BrokenPipeError:
        # the reader has seen what it wanted
        status_code = 0
    except KeyboardInterrupt:
        output.talk(text("error.prefix", message=text("error.interrupted")))
        status_code = EXIT_CODES["INTERRUPTED"]
    except CoordinatorError as error:
        if debug:
            output.show_traceback()
        output.failure(error)
        status_code = error.exit_code
    except Exception as error:  # noqa: BLE001 - the last border before the person
        if debug:
            output.show_traceback()
        output.talk(
            text(
                "error.prefix",
                message=text("error.internal", kind=type(error).__name__, message=error),
            )
        )
        output.talk(text("error.hint", hint=text("error.internal_hint")))
        status_code = 1
    output.discard_rest()
    return status_code


def _invoke(command: click.Command, program: str, arguments: list[str]) -> int:
    # not click's own `main`: it has its own ways with interrupts and closed pipes
    try:
        width = output.help_width()
        with command.make_context(program, list(arguments), terminal_width=width) as context:
            answer: object = command.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        where = getattr(error, "ctx", None)
        path = where.command_path if isinstance(where, click.Context) else program
        raise ValidationError(
            error.format_message().replace("\n", " "), hint=text("error.usage_hint", command=path)
        ) from error
    return answer if isinstance(answer, int) else 0


def run(arguments: list[str]) -> int:
    """Run `aiagent-coordinator` with these arguments."""
    return run_command(main, PROGRAM, arguments)
