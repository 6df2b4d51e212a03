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
from aiagent_coordinator.errors import ConflictError, CoordinatorError, NotFoundError
from aiagent_coordinator.messages import text
from aiagent_coordinator.tasks import TaskStatus
from aiagent_coordinator.wire import lockfile
from aiagent_coordinator.wire.client import BlockingClient

#: How often the board is looked at.
POLL_SECONDS = 0.5


class Follower:
    """Ends this process with SIGTERM when no task goes on by itself any more.

    Args:
        given: The options of the command.
        project: Only the tasks of this project count; None: all.
    """

    def __init__(self, given: options.Options, project: str | None) -> None:
        self._given = given
        self._project = project
        #: The project that is named is none, or more than one.
        self._refusal: CoordinatorError | None = None
        self._stop = threading.Event()
        #: Tasks that did not succeed; None while there is something to do.
        self._left: list[dict[str, Any]] | None = None
        self._thread = threading.Thread(target=self._follow, name="until-done", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def conclude(self, status: int) -> int:
        """Say what is left when the loop has ended with this status; give the status to exit with.

        Raises:
            CoordinatorError: the project that is named cannot be followed.
        """
        self._stop.set()
        if self._refusal is not None:
            raise self._refusal
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
                (
                    task["id"],
                    standing(task),
                    task.get("held") or task.get("status_reason"),
                    task["title"],
                )
                for task in self._left
            ],
        )
        return status or 1

    def _follow(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                left = self._look()
            except (NotFoundError, ConflictError) as error:
                self._refusal = error
                left = []
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
                asked = {} if self._project is None else {"project_id": self._project}
                answer = client.call("get_remaining", asked)
                if not answer["is_moving"]:
                    return _not_succeeded(client, answer)
                self._stop.wait(POLL_SECONDS)
        return None


def _not_succeeded(client: BlockingClient, answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Tasks that did not succeed; `held` of one says why nobody takes it."""
    held = {
        (one["project_id"], one["agent_id"]): one["reasons"][0]["text"] for one in answer["held"]
    }
    only = {} if answer["project_id"] is None else {"project_id": answer["project_id"]}
    found: list[dict[str, Any]] = []
    after: object = None
    while True:
        start = {**only} if after is None else {**only, "after": after}
        page = client.call("list_tasks", {**start, "limit": PAGE_ITEMS})
        tasks = cast("list[dict[str, Any]]", page["tasks"])
        for task in tasks:
            if task["status"] == TaskStatus.QUEUED:
                task["held"] = held.get((task["project_id"], task["agent_id"]))
            if task["status"] != TaskStatus.SUCCEEDED:
                found.append(task)
        after = page.get("next")
        if after is None:
            return found
