"""`demo`: one task through everything, offline, through the same doors as any other."""

from __future__ import annotations

import shlex
import shutil
import signal
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import click

from aiagent_coordinator import paths
from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import Place, board
from aiagent_coordinator.errors import CoordinatorError, ValidationError
from aiagent_coordinator.messages import text
from aiagent_coordinator.tasks import TERMINAL, TaskStatus

#: The task itself takes about two seconds.
TASK_SECONDS = 60.0
POLL_SECONDS = 0.1


@dataclass
class Told:
    """What there is to tell at the end."""

    task: dict[str, Any]
    run: dict[str, Any]
    seconds: float

    @property
    def succeeded(self) -> bool:
        """Whether the task came to its good end."""
        return self.task["status"] == TaskStatus.SUCCEEDED

    def entry(self, *, kept: bool) -> dict[str, Any]:
        """The task as `--json` prints it; paths only of what is still there."""
        return {
            "id": self.task["id"],
            "title": self.task["title"],
            "status": self.task["status"],
            "agent": self.task["agent_id"],
            "provider": self.run.get("provider"),
            "attempts": self.task["attempt"],
            "exit_code": self.run.get("exit_code"),
            "branch": self.run.get("branch"),
            "commit": self.run.get("commit"),
            "log_path": self.run.get("log_path") if kept else None,
            "seconds": round(self.seconds, 3),
        }


@click.command(help=text("help.demo"))
@options.as_json
@click.option("--keep", is_flag=True, help=text("help.option.keep"))
@click.option(
    "--state",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help=text("help.option.demo_state"),
)
@options.common
def demo(as_json: bool, keep: bool, state: Path | None) -> int:
    """Run the demo."""
    begun = time.monotonic()
    if state is not None:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(state.iterdir()):
            raise ValidationError(text("demo.not_empty", path=state))
    # the real path: links in it would give other names to the same worktree
    root = Path(state or tempfile.mkdtemp(prefix="aiagent-demo-")).resolve()
    keep = keep or state is not None
    with _terminated_is_interrupted():
        try:
            told = _play(root, quiet=as_json)
        except KeyboardInterrupt:
            if not keep:
                shutil.rmtree(root, ignore_errors=True)
            raise
        except BaseException:
            output.talk(text("demo.kept", path=root))
            raise
    if told.succeeded and not keep:
        shutil.rmtree(root, ignore_errors=True)
    kept = root.exists()
    if as_json:
        seconds = round(time.monotonic() - begun, 3)
        output.json_result({"tasks": [told.entry(kept=kept)], "seconds": seconds})
    else:
        _tell(told, root, kept=kept)
    if not told.succeeded:
        output.talk(text("demo.kept", path=root))
    return 0 if told.succeeded else 1


def _play(root: Path, *, quiet: bool) -> Told:
    from aiagent_coordinator.cli import demo_process
    from aiagent_coordinator.cli.demo_world import AGENT, PROJECT, TITLE, description, make_world

    say = _silent if quiet else output.talk
    world = make_world(root)
    place = Place(world.config, paths.StateDir(world.state), paths.default_socket(world.config))
    say(text("demo.repository"))
    pid = demo_process.start(world.config, world.log)
    finished = False
    try:
        demo_process.wait_ready(pid, place, world.log)
        say(text("demo.started"))
        begun = time.monotonic()
        with board(place) as client:
            task: dict[str, Any] = client.call(
                "create_task",
                {
                    "project_id": PROJECT,
                    "agent_id": AGENT,
                    "title": TITLE,
                    "description": description(),
                },
            )["task"]
            say(text("demo.added", agent=AGENT, title=TITLE))
            shown = ""
            while task["status"] not in TERMINAL:
                if task["status"] != shown:
                    shown = task["status"]
                    say(text("demo.status", status=shown))
                if time.monotonic() - begun > TASK_SECONDS:
                    raise CoordinatorError(
                        text("demo.timeout", seconds=f"{TASK_SECONDS:g}", status=shown)
                    )
                time.sleep(POLL_SECONDS)
                task = client.call("get_task", {"task_id": task["id"]})["task"]
            seconds = time.monotonic() - begun
            runs: list[dict[str, Any]] = client.call("list_runs", {"task_id": task["id"]})["runs"]
        # ids sort by age
        latest = max(runs, key=_run_id) if runs else {}
        told = Told(task, latest, seconds)
        finished = told.succeeded
    finally:
        demo_process.stop(pid, place, kill=not finished)
    say(text("demo.stopped"))
    return told


def _run_id(run: dict[str, Any]) -> str:
    return str(run["id"])


def _silent(_: str) -> None:
    pass


@contextmanager
def _terminated_is_interrupted() -> Generator[None]:
    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(told: Told, root: Path, *, kept: bool) -> None:
    from aiagent_coordinator.cli.demo_world import CHECK, World

    entry, world = told.entry(kept=kept), World(root)
    # the interpreter's own path is no news
    check = shlex.join(["python", *CHECK[1:]])
    lines = [
        text("demo.result", title=entry["title"], status=entry["status"]),
        text("demo.result.agent", **entry),
        text("demo.result.commit", **entry) if entry["commit"] else text("demo.result.nothing"),
        text("demo.result.check", check=check, verification=told.run.get("verification")),
        text("demo.result.exit", exit_code=entry["exit_code"]),
    ]
    if told.task.get("status_reason"):
        lines.append(text("demo.result.reason", reason=told.task["status_reason"]))
    if kept:
        lines += [
            text("demo.result.log", path=entry["log_path"]),
            text("demo.next.look"),
            text("demo.next.diff", repository=world.repository, branch=entry["branch"]),
            text("demo.next.rerun", config=world.config),
        ]
    elif told.succeeded:
        lines.append(text("demo.removed"))
    lines += [
        text("demo.next"),
        text("demo.next.config"),
        text("demo.next.start"),
        text("demo.next.add"),
    ]
    for line in lines:
        output.result(line)
