"""The demo's hand on the board: puts the tasks there, answers questions, and watches to the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from aiagent_coordinator.cli.demo_world import STORIES, Story
from aiagent_coordinator.clock import parse_iso
from aiagent_coordinator.errors import CoordinatorError
from aiagent_coordinator.messages import text
from aiagent_coordinator.tasks import TERMINAL, TaskStatus

if TYPE_CHECKING:
    from aiagent_coordinator.wire.client import BlockingClient

#: All tasks together take about fifteen seconds.
PLAY_SECONDS = 120.0
POLL_SECONDS = 0.1


@dataclass
class Scene:
    """One task of the demo as it stands."""

    story: Story
    task: dict[str, Any]
    runs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def is_over(self) -> bool:
        """Whether it can change no more."""
        return self.task["status"] in TERMINAL

    @property
    def run(self) -> dict[str, Any]:
        """Its last run; empty before the first. Ids sort by age."""
        return max(self.runs, key=_run_id) if self.runs else {}

    @property
    def seconds(self) -> float:
        """From its first start to its end."""
        begun, ended = (_instant(self.task, key) for key in ("started_at", "ended_at"))
        return (ended - begun).total_seconds() if begun and ended else 0.0

    def entry(self, *, kept: bool) -> dict[str, Any]:
        """The task as `--json` prints it; paths only of what is still there."""
        run = self.run
        return {
            "id": self.task["id"],
            "title": self.task["title"],
            "status": self.task["status"],
            "agent": self.task["agent_id"],
            "provider": run.get("provider"),
            "attempts": self.task["attempt"],
            "exit_code": run.get("exit_code"),
            "branch": run.get("branch"),
            "commit": run.get("commit"),
            "log_path": run.get("log_path") if kept else None,
            "seconds": round(self.seconds, 3),
        }


def add_tasks(client: BlockingClient) -> list[Scene]:
    """Put every task on the board."""
    known: dict[str, str] = {}
    scenes: list[Scene] = []
    for story in STORIES:
        task: dict[str, Any] = client.call(
            "create_task",
            {
                "project_id": story.project,
                "agent_id": story.agent,
                "title": story.title,
                "description": story.description,
                "priority": story.priority,
                "checks": [{"argv": list(argv)} for argv in story.checks],
                "depends_on": [known[title] for title in story.after],
            },
        )["task"]
        known[story.title] = task["id"]
        scenes.append(Scene(story, task))
    return scenes


def play(
    client: BlockingClient,
    scenes: list[Scene],
    say: Callable[[str], None],
    show: Callable[[list[Scene]], None],
) -> None:
    """Answer what is asked and watch until every task is over.

    Args:
        client: The person's connection.
        scenes: The tasks; they are kept up to date.
        say: Told of every change, one line each.
        show: Shown the board after every look.

    Raises:
        CoordinatorError: it took too long.
    """
    deadline = time.monotonic() + PLAY_SECONDS
    while True:
        _look(client, scenes, say)
        _answer(client, scenes, say)
        show(scenes)
        if all(scene.is_over for scene in scenes):
            return
        if time.monotonic() > deadline:
            open_ones = [scene.task["title"] for scene in scenes if not scene.is_over]
            seconds = f"{PLAY_SECONDS:g}"
            raise CoordinatorError(
                text("demo.timeout", seconds=seconds, tasks=", ".join(open_ones))
            )
        time.sleep(POLL_SECONDS)


def _look(client: BlockingClient, scenes: list[Scene], say: Callable[[str], None]) -> None:
    tasks = {task["id"]: task for task in client.call("list_tasks", {})["tasks"]}
    runs: list[dict[str, Any]] = client.call("list_runs", {})["runs"]
    for scene in scenes:
        now = tasks[scene.task["id"]]
        shown, before = _status(now), _status(scene.task)
        scene.task = now
        scene.runs = [run for run in runs if run["task_id"] == now["id"]]
        if shown != before:
            say(text("demo.status", title=now["title"], status=shown))


def _status(task: dict[str, Any]) -> str:
    if task["status"] == TaskStatus.QUEUED and task["attempt"] > 1:
        return text("demo.again", attempt=task["attempt"])
    if task["status"] == TaskStatus.WAITING:
        return text("demo.waiting")
    return str(task["status"])


def _answer(client: BlockingClient, scenes: list[Scene], say: Callable[[str], None]) -> None:
    """Answer at once, or when the run that asked is over, as the story says."""
    waiting = [scene for scene in scenes if scene.task["status"] == TaskStatus.WAITING]
    if not waiting:
        return
    asked = {one["task_id"]: one for one in client.call("list_questions", {})["questions"]}
    for scene in waiting:
        question = asked.get(scene.task["id"])
        is_run_over = all(run["phase"] == "ended" for run in scene.runs)
        if question is None or (scene.story.is_answered_late and not is_run_over):
            continue
        answer = scene.story.answer or ""
        client.call("answer_question", {"question_id": question["id"], "answer": answer})
        say(text("demo.answered", question=question["text"], answer=answer))


def _instant(task: dict[str, Any], key: str) -> datetime | None:
    return parse_iso(task[key])


def _run_id(run: dict[str, Any]) -> str:
    return str(run["id"])
