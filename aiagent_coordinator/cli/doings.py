"""`logs --steps` and `logs --activity`: what a run did, as its folder tells; masked when it was written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiagent_coordinator.cli import output
from aiagent_coordinator.errors import NotFoundError
from aiagent_coordinator.messages import text
from aiagent_coordinator.redaction import Masker, printable

#: Of each, in a run's folder.
FILES = {"steps": "steps.jsonl", "activity": "activity.log"}
#: Shown of arguments and results in a table.
PREVIEW_CHARS = 60


def show(what: str, run: dict[str, Any], folder: Path, masker: Masker, zone: str | None) -> None:
    """Print it for people of a time zone; None: as JSON.

    Raises:
        NotFoundError: there is nothing of the kind here.
    """
    path = folder / FILES[what]
    if not path.is_file():
        raise NotFoundError(
            text("logs.no_steps", run=run["id"]), hint=text("logs.no_steps_hint", run=run["id"])
        )
    lines = _lines(path, masker)
    if what == "activity":
        for line in lines:
            stamp, space, rest = line.partition(" ")
            if zone is None:
                output.json_line({"at": stamp, "text": rest})
            else:
                output.result(f"{output.local(stamp, zone)}{space}{rest}")
        return
    steps = [json.loads(line) for line in lines]
    if zone is None:
        for step in steps:
            output.json_line(step)
        return
    _print_steps(steps, zone)


def _lines(path: Path, masker: Masker) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for line in file:
            yield printable(masker.mask_text(line.rstrip("\n")))


def _print_steps(steps: list[dict[str, Any]], zone: str) -> None:
    names = ("number", "at", "tool", "state", "ms", "arguments", "result")
    rows = [
        (
            step["number"],
            output.local(step["at"], zone),
            step["tool"],
            _state(step),
            step["duration_ms"],
            _short(step["arguments"]),
            _short(step["result"] or ""),
        )
        for step in steps
        if "number" in step
    ]
    output.table([text(f"table.{name}") for name in names], rows)
    if len(rows) < len(steps):
        output.talk(text("logs.cut"))


def _state(step: dict[str, Any]) -> str:
    if step["is_error"] is None:
        return "open"
    return "failed" if step["is_error"] else "ok"


def _short(told: str) -> str:
    line = " ".join(told.split())
    return line if len(line) <= PREVIEW_CHARS else f"{line[:PREVIEW_CHARS]}…"
