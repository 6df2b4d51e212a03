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
            live.update(_table(scenes), refresh=True)

        yield show


def _table(scenes: list[Scene]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in text("demo.live.headings").split("|"):
        table.add_column(Text(heading), no_wrap=True, overflow="ellipsis")
    for scene in scenes:
        status = str(scene.task["status"])
        why = str(scene.task.get("status_reason") or "")
        table.add_row(
            Text(visible(str(scene.task["title"]))),
            Text(status, style=_COLOURS.get(status, "")),
            Text(visible(str(scene.task["agent_id"]))),
            Text(str(scene.task["attempt"])),
            Text(f"{scene.task['progress']} %"),
            Text("" if status == "succeeded" else visible(why)),
        )
    return table
