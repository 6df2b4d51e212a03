"""The one place that prints: results on stdout, talk on stderr, errors as one line and a hint."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

from aiagent_coordinator.characters import visible
from aiagent_coordinator.errors import CoordinatorError
from aiagent_coordinator.messages import text

#: Between a name and its value.
_GAP = "  "
#: Help is never wider: longer lines read badly.
_HELP_COLUMNS = 80


def prepare() -> None:
    """Let no character stop a print: what the terminal cannot show is written as its number."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def result(line: str) -> None:
    """Print one line of the result."""
    print(visible(line))


def json_result(value: Mapping[str, Any]) -> None:
    """Print the result as JSON, indented for people when they look at it."""
    import json

    indent = 2 if sys.stdout.isatty() else None
    print(json.dumps(value, ensure_ascii=False, indent=indent))


def json_line(value: Mapping[str, Any]) -> None:
    """Print one of many results as one line of JSON."""
    import json

    print(json.dumps(value, ensure_ascii=False))


def coloured(line: str) -> None:
    """Print a line whose colours the caller has let through, and nothing else of a terminal's."""
    print(line)


def talk(line: str) -> None:
    """Print one line beside the result."""
    print(visible(line), file=sys.stderr)


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows in columns: on a terminal fitted to its width, elsewhere whole and aligned."""
    from aiagent_coordinator.cli import columns

    cells = [list(headings), *([_cell(value) for value in row] for row in rows)]
    if not sys.stdout.isatty():
        lines = list(columns.whole(cells))
    elif (fitted := columns.fitted(cells, room := _terminal_columns())) is None:
        lines = list(columns.blocks(cells[1:], room))
    else:
        lines = fitted
        if "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb":
            lines[0] = f"\x1b[1m{lines[0]}\x1b[0m"
    print("\n".join(lines))


def local(instant: str, zone: str) -> str:
    """An instant as people of a time zone read it; in UTC as the server wrote it."""
    if zone == "UTC":
        return instant
    from aiagent_coordinator import clock

    return clock.local(instant, zone)


def doing(run: Mapping[str, Any]) -> str:
    """What a run does, and how much its model has before it."""
    told = str(run.get("activity") or "")
    context: Mapping[str, Any] = run.get("context") or {}
    used, limit = context.get("used"), context.get("limit")
    if not used:
        return told
    size = f"{used / limit:.0%} of its context" if limit else f"{used} tokens of context"
    return f"{told} ({size})" if told else size


def localized(known: Mapping[str, Any], zone: str) -> list[tuple[str, object]]:
    """What is known of one thing, as pairs for `facts`, its instants in a time zone."""
    return [
        (name, local(value, zone) if isinstance(value, str) and _is_instant(name) else value)
        for name, value in known.items()
    ]


def _is_instant(name: str) -> bool:
    return name.endswith(("_at", "_until")) or name == "not_before"


def facts(pairs: Sequence[tuple[str, object]]) -> None:
    """Print what is known of one thing, a line each; several lines of text stay several lines."""
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        first, *rest = _lines(value)
        print(f"{name:<{width}}{_GAP}{first}".rstrip())
        for line in rest:
            print(f"{'':<{width}}{_GAP}{line}".rstrip())


def failure(error: CoordinatorError) -> None:
    """Print an error: what happened, every further problem, what to do."""
    first, *rest = _lines(error.message)
    talk(text("error.prefix", message=" ".join([first, *rest])))
    # only errors of configuration files have several, as lines
    problems = cast("list[str]", error.details.get("problems", []))
    for problem in problems[1:]:
        talk(text("error.prefix", message=problem))
    if error.hint:
        talk(text("error.hint", hint=error.hint))


def show_traceback() -> None:
    """Print where the error being handled came from."""
    import traceback

    for line in traceback.format_exc().splitlines():
        talk(line)


def help_width() -> int:
    """Columns of help, as click would choose them; its own way is slow to import."""
    return max(min(_terminal_columns(), _HELP_COLUMNS) - 2, 50)


def flush() -> None:
    """Send out what is still held back, while a failure can still be told.

    Raises:
        OSError: nobody takes it any more.
    """
    sys.stdout.flush()


def discard_rest() -> None:
    """Throw away what nobody took, else the interpreter tries again at its end and complains."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _terminal_columns() -> int:
    try:
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(1).columns) or _HELP_COLUMNS
    except (OSError, ValueError):
        return _HELP_COLUMNS


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else visible(str(value))


def _lines(value: object) -> list[str]:
    if value is None or value == "":
        return ["-"]
    if isinstance(value, (list, dict)):
        import json

        return [visible(json.dumps(value, ensure_ascii=False))]
    return [visible(line) for line in str(value).splitlines()] or ["-"]
