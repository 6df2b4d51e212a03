"""The demo's board while it lives: one table on the terminal, drawn again at every look."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aiagent_coordinator.characters import visible
from aiagent_coordinator.messages import text

if TYPE_CHECKING:
    from aiagent_coordinator.cli.demo_play import Scene

#: Below that only title and status are shown.
NARROW_COLUMNS = 72
#: What this box puts between two columns.
_GAP = 3
_COLOURS = {
    "succeeded": "green",
    "running": "cyan",
    "waiting": "yellow",
    "failed": "red",
    "cancelled": "red",
}


@contextmanager
def live_board() -> Generator[Callable[[list[Scene]], None]]:
    """Show the board on the terminal for as long as the block runs; it is gone afterwards."""
    console = Console(stderr=True, highlight=False)
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def show(scenes: list[Scene]) -> None:
            live.update(_table(scenes, console.width), refresh=True)

        yield show


def _table(scenes: list[Scene], columns: int) -> Table:
    headings = text("demo.live.headings").split("|")
    if columns < NARROW_COLUMNS:
        headings = headings[:2]
    rows = [_cells(scene)[: len(headings)] for scene in scenes]
    least = [
        max(len(heading), *(row[index].cell_len for row in rows))
        for index, heading in enumerate(headings)
    ]
    # what is cut is the title and the reason, never the news; rich would cut everything a little
    cut = (0,) if len(headings) == 2 else (0, len(headings) - 1)
    others = sum(has for index, has in enumerate(least) if index not in cut)
    room = (columns - others - _GAP * len(headings)) // len(cut)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, heading in enumerate(headings):
        most = room if index in cut else None
        table.add_column(Text(heading), no_wrap=True, overflow="ellipsis", max_width=most)
    for row in rows:
        table.add_row(*row)
    return table


def _cells(scene: Scene) -> list[Text]:
    status = str(scene.task["status"])
    why = str(scene.task.get("status_reason") or "")
    return [
        Text(visible(str(scene.task["title"]))),
        Text(status, style=_COLOURS.get(status, "")),
        Text(visible(str(scene.task["agent_id"]))),
        Text(str(scene.task["attempt"])),
        Text(f"{scene.task['progress']} %"),
        Text("" if status == "succeeded" else visible(why)),
    ]
