"""`--until-done`: follow the board beside the loop, and end the process when nothing is left to do.

A thread with a connection of its own, like any command: the loop knows nothing of it.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any, cast

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import PAGE_ITEMS, board, locate
from aiagent_coordinator.cli.task import standing
from aiagent_coordinator.errors import CoordinatorError
from aiagent_coordinator.messages import text
from aiagent_coordinator.tasks import TaskStatus
from aiagent_coordinator.wire import lockfile
from aiagent_coordinator.wire.client import BlockingClient

#: How often the board is looked at.
POLL_SECONDS = 0.5
#: A task in one of these goes on by itself. A blocked one does when what it waits for does.
_MOVING = (TaskStatus.QUEUED, TaskStatus.RUNNING)


class Follower:
    """Ends this process with SIGTERM when every task is over or waits for a person."""

    def __init__(self, given: options.Options) -> None:
        self._given = given
        self._stop = threading.Event()
        #: Tasks that did not succeed; None while there is something to do.
        self._left: list[dict[str, Any]] | None = None
        self._thread = threading.Thread(target=self._follow, name="until-done", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def conclude(self, status: int) -> int:
        """Say what is left when the loop has ended with this status; give the status to exit with."""
        self._stop.set()
        if self._left is None:
            if status == 0:
                output.talk(text("until_done.early"))
            return status or 1
        if not self._left:
            output.talk(text("until_done.all"))
            return status
        output.talk(text("until_done.left", count=len(self._left)))
        output.table(
            [text(f"table.{name}") for name in ("id", "status", "reason", "title")],
            [
                (task["id"], standing(task), task.get("status_reason"), task["title"])
                for task in self._left
            ],
        )
        return status or 1

    def _follow(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                left = self._look()
            except (CoordinatorError, OSError):
                continue  # not there yet, or going away
            if left is not None:
                self._left = left
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def _look(self) -> list[dict[str, Any]] | None:
        place = locate(self._given)
        holder = lockfile.read(str(place.state_dir.server_lock)) or {}
        if holder.get("pid") != os.getpid():
            return None  # our own server does not answer yet
        with board(place) as client:
            while not self._stop.is_set():
                answer = client.call("get_status", {})
                counts = cast("dict[str, int]", answer["tasks"])
                if not answer["runs"] and not any(counts.get(status) for status in _MOVING):
                    return _not_succeeded(client)
                self._stop.wait(POLL_SECONDS)
        return None


def _not_succeeded(client: BlockingClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: object = None
    while True:
        start = {} if after is None else {"after": after}
        page = client.call("list_tasks", {**start, "limit": PAGE_ITEMS})
        tasks = cast("list[dict[str, Any]]", page["tasks"])
        found += [task for task in tasks if task["status"] != TaskStatus.SUCCEEDED]
        after = page.get("next")
        if after is None:
            return found
