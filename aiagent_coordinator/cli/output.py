"""The one place that prints: results on stdout, talk on stderr, errors as one line and a hint."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO, cast

from aiagent_coordinator.characters import visible
from aiagent_coordinator.errors import CoordinatorError
from aiagent_coordinator.messages import text

#: Between two columns of a table.
_GAP = "  "
#: An id alone takes 30.
NARROW_COLUMNS = 72
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
    cells = [[_cell(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _terminal_table(headings, cells)
    else:
        _plain_table(sys.stdout, [list(headings), *cells])


def local(instant: str, zone: str) -> str:
    """An instant as people of a time zone read it; in UTC as the server wrote it."""
    if zone == "UTC":
        return instant
    from aiagent_coordinator import clock

    return clock.local(instant, zone)


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
    try:
        columns = int(os.environ.get("COLUMNS") or os.get_terminal_size(1).columns)
    except (OSError, ValueError):
        columns = 0
    return max(min(columns or _HELP_COLUMNS, _HELP_COLUMNS) - 2, 50)


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


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else visible(str(value))


def _lines(value: object) -> list[str]:
    if value is None or value == "":
        return ["-"]
    if isinstance(value, (list, dict)):
        import json

        return [visible(json.dumps(value, ensure_ascii=False))]
    return [visible(line) for line in str(value).splitlines()] or ["-"]


def _terminal_table(headings: Sequence[str], rows: list[list[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    # the environment decides about colour: rich knows NO_COLOR and TERM=dumb
    console = Console(highlight=False)
    if console.width < NARROW_COLUMNS:
        # columns of a few characters cannot be read: each row as a small block
        for first, *others in rows:
            console.print(Text(first, overflow="fold"))
            console.print(Padding(Text(_GAP.join(others), overflow="fold"), (0, 0, 0, len(_GAP))))
        return
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in headings:
        shown.add_column(Text(heading), overflow="fold")
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    console.print(shown)


def _plain_table(stream: TextIO, rows: list[list[str]]) -> None:
    widths = [max(_width(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (
            cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)
        )
        print(_GAP.join(padded).rstrip(), file=stream)


def _width(cell: str) -> int:
    """Columns a terminal gives the text: wide characters take two, combining ones none."""
    # only the few characters that may differ are looked up: lists are long
    return len(cell) + sum(_beyond_one(mark) for mark in cell if mark > "\x7f")


def _beyond_one(mark: str) -> int:
    import unicodedata

    if unicodedata.combining(mark):
        return -1
    return 1 if unicodedata.east_asian_width(mark) in "WF" else 0
