"""`logs`: what a run printed, in order, masked; of a terminal's commands only colours pass.

The raw files are read where they are on this machine, else the readable log that the run left.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import Place, board, locate
from aiagent_coordinator.errors import ConflictError, CoordinatorError, NotFoundError
from aiagent_coordinator.messages import text
from aiagent_coordinator.redaction import Masker, printable

if TYPE_CHECKING:
    from aiagent_coordinator.logs.follow import Reset
    from aiagent_coordinator.logs.record import Record
    from aiagent_coordinator.wire.client import BlockingClient

#: How often a followed run is looked at again.
FOLLOW_SECONDS = 0.3
#: What is shown of one line; the raw files hold all of it.
SHOWN_CHARS = 100_000
#: Select Graphic Rendition: colour, bold and the like. It moves nothing and asks nothing.
_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,64}m")
_RESET = "\x1b[0m"


@click.command(help=text("help.logs"))
@click.argument("ident", metavar="TASK|RUN")
@click.option("-f", "--follow", is_flag=True, help=text("help.option.follow"))
@click.option("--after", type=click.IntRange(0), default=0, help=text("help.option.after"))
@click.option("--steps", "what", flag_value="steps", help=text("help.option.steps"))
@click.option("--activity", "what", flag_value="activity", help=text("help.option.activity"))
@options.as_json
@options.common
def logs(ident: str, follow: bool, after: int, what: str | None, as_json: bool) -> None:
    """Print what a run printed."""
    from aiagent_coordinator.logs.follow import Reset

    place = locate(options.current())
    with board(place) as client:
        run = find_run(client, ident)
        masker = Masker(_keys(place))
        folder = place.state_dir.run(run["id"])
        if what is not None:
            from aiagent_coordinator.cli import doings

            doings.show(what, run, folder, masker, None if as_json else place.zone)
            return
        if not (folder / "out").exists() and not (folder / "err").exists():
            _print_readable(run, masker, place.zone, follow=follow)
            return
        for record in _records(client, run, folder, follow=follow):
            if isinstance(record, Reset):
                output.talk(text("logs.reset", source=record.source.value))
            elif record.seq > after:
                _print(record, masker, None if as_json else place.zone)


def find_run(client: BlockingClient, ident: str) -> dict[str, Any]:
    """The run that is meant: by its own id, or the last one of the task that is named.

    Raises:
        NotFoundError: nothing begins so, or the task has no run yet.
        ConflictError: several do.
    """
    run = None if ident.startswith("tsk") else _ask(client, "get_run", "run", run_id=ident)
    task = None if ident.startswith("run") else _ask(client, "get_task", "task", task_id=ident)
    if run and task:
        raise ConflictError(
            text("logs.several", ident=ident, task=task["id"], run=run["id"]),
            hint=text("logs.several_hint"),
        )
    if run:
        return run
    if task is None:
        raise NotFoundError(text("logs.nothing", ident=ident))
    runs: list[dict[str, Any]] = client.call("list_runs", {"task_id": task["id"], "limit": 1000})[
        "runs"
    ]
    if not runs:
        raise NotFoundError(
            text("logs.no_run", task=task["id"]), hint=text("logs.no_run_hint", task=task["id"])
        )
    return max(runs, key=_attempt)


def _attempt(run: dict[str, Any]) -> tuple[int, str]:
    return int(run["fence"]), str(run["id"])


def _ask(client: BlockingClient, tool: str, name: str, **arguments: str) -> dict[str, Any] | None:
    try:
        return client.call(tool, arguments)[name]  # pyright: ignore[reportReturnType] - our own server's answer
    except NotFoundError:
        return None


def _keys(place: Place) -> Iterator[str]:
    """The secrets of this installation; what else looks like a token is known by its shape."""
    for file in (place.state_dir.operator_key, place.state_dir.coordinator_key):
        try:
            yield file.read_text("ascii").strip()
        except (OSError, ValueError):
            continue
    yield from _keys_of_programs(place)


def _keys_of_programs(place: Place) -> Iterator[str]:
    """The keys of providers that the configuration holds, as far as it can be read here."""
    from aiagent_coordinator.config import load_settings

    try:
        settings = load_settings(place.config).settings
    except CoordinatorError:
        return
    keys = (one.api_key for one in settings.ai_providers.values())
    yield from (key.get_secret_value() for key in keys if key is not None)


def _records(
    client: BlockingClient, run: dict[str, Any], folder: Path, *, follow: bool
) -> Iterator[Record | Reset]:
    from aiagent_coordinator.logs.follow import Follower

    follower = Follower(folder)
    try:
        while True:
            is_over = run.get("ended_at") is not None or (folder / "exit").exists()
            yield from follower.read(is_ended=is_over)
            if is_over or not follow:
                return
            output.flush()
            time.sleep(FOLLOW_SECONDS)
            run = client.call("get_run", {"run_id": run["id"]})["run"]  # pyright: ignore[reportAssignmentType] - our own server's answer
    finally:
        follower.close()


def _print(record: Record, masker: Masker, zone: str | None) -> None:
    """Print one line for people of a time zone; None: as JSON, in UTC."""
    message = masker.mask_bytes(record.data).decode("utf-8", "replace")
    stamp = record.ts.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if zone is None:
        output.json_line(
            {
                "ts": stamp,
                "seq": record.seq,
                "stream": record.source.value,
                "line": record.line_no,
                "message": printable(message)[:SHOWN_CHARS],
                "truncated": record.is_truncated,
            }
        )
        return
    name = "out" if record.source.value == "stdout" else "err"
    at = output.local(stamp, zone)
    output.coloured(f"{at} {name} {harmless(message[:SHOWN_CHARS])}")


def harmless(line: str) -> str:
    """Drop whatever a terminal obeys but colours; those too where nobody sees them."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return printable(line)
    parts = _COLOUR.split(line)
    if len(parts) == 1:
        return printable(line)
    colours = _COLOUR.findall(line)
    kept = "".join(
        printable(part) + colour for part, colour in zip(parts, [*colours, ""], strict=True)
    )
    return kept + _RESET


def _print_readable(run: dict[str, Any], masker: Masker, zone: str, *, follow: bool) -> None:
    path = run.get("log_path")
    if not path or not Path(path).is_file():
        is_over = run.get("ended_at") is not None
        raise NotFoundError(text("logs.gone" if is_over else "logs.not_begun", run=run["id"]))
    del follow  # it is written at the end: nothing comes after it
    with Path(path).open(encoding="utf-8", errors="replace", newline="\n") as file:
        for line in file:
            stamp, space, rest = line.rstrip("\n").partition(" ")
            shown = masker.mask_text(f"{output.local(stamp, zone)}{space}{rest}")
            output.coloured(harmless(shown[:SHOWN_CHARS]))
