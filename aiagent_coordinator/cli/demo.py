"""`demo`: six tasks through everything, offline, through the same doors as any other."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from aiagent_coordinator import paths
from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import Place, board
from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.messages import text
from aiagent_coordinator.tasks import TaskStatus

if TYPE_CHECKING:
    from aiagent_coordinator.cli.demo_play import Scene

#: Characters of a commit that people are shown.
_SHORT_COMMIT = 12


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
            scenes = _play(root, quiet=as_json)
        except KeyboardInterrupt:
            if not keep:
                shutil.rmtree(root, ignore_errors=True)
            raise
        except BaseException:
            output.talk(text("demo.kept", path=root))
            raise
    succeeded = all(scene.task["status"] == TaskStatus.SUCCEEDED for scene in scenes)
    if succeeded and not keep:
        shutil.rmtree(root, ignore_errors=True)
    kept = root.exists()
    if as_json:
        seconds = round(time.monotonic() - begun, 3)
        entries = [scene.entry(kept=kept) for scene in scenes]
        output.json_result({"tasks": entries, "seconds": seconds})
    else:
        _tell(scenes, root, kept=kept)
    if not succeeded:
        output.talk(text("demo.kept", path=root))
    return 0 if succeeded else 1


def _play(root: Path, *, quiet: bool) -> list[Scene]:
    from aiagent_coordinator.cli import demo_process
    from aiagent_coordinator.cli.demo_play import add_tasks, play
    from aiagent_coordinator.cli.demo_world import make_world

    say = _silent if quiet else output.talk
    world = make_world(root)
    place = Place(world.config, paths.StateDir(world.state), paths.default_socket(world.config))
    say(text("demo.repository"))
    daemon = demo_process.start(world.config, world.log)
    finished = False
    try:
        demo_process.wait_ready(daemon, place, world.log)
        say(text("demo.started"))
        with board(place) as client:
            scenes = add_tasks(client)
            say(text("demo.added", count=len(scenes)))
            with _screen(quiet=quiet) as (tell, show):
                play(client, scenes, tell, show)
        finished = all(scene.task["status"] == TaskStatus.SUCCEEDED for scene in scenes)
    finally:
        demo_process.stop(daemon, place, kill=not finished)
    say(text("demo.stopped"))
    return scenes


@contextmanager
def _screen(
    *, quiet: bool
) -> Generator[tuple[Callable[[str], None], Callable[[list[Scene]], None]]]:
    """Where changes are told and the board is shown: live on a terminal, else line by line."""
    if quiet:
        yield _silent, _unseen
    elif not (sys.stdout.isatty() and sys.stderr.isatty()):
        yield output.talk, _unseen
    else:
        from aiagent_coordinator.cli.demo_screen import live_board

        with live_board() as show:
            # The table says it all; lines would tear it.
            yield _silent, show


def _silent(_: str) -> None:
    pass


def _unseen(_: list[Scene]) -> None:
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


def _tell(scenes: list[Scene], root: Path, *, kept: bool) -> None:
    from aiagent_coordinator.cli.demo_world import World

    headings = text("demo.headings").split("|")
    rows = [_row(scene, kept=kept) for scene in scenes]
    output.table(headings if kept else headings[:-1], rows)
    world = World(root)
    lines: list[str] = []
    for scene in scenes:
        if scene.task["status"] != TaskStatus.SUCCEEDED:
            reason = scene.task.get("status_reason")
            lines.append(text("demo.failed", title=scene.task["title"], reason=reason))
    if kept:
        first = scenes[0].entry(kept=True)
        repository = world.repository(scenes[0].story.project)
        lines += [
            text("demo.where", root=root, state=world.state, log=world.log),
            text("demo.next.look"),
            text("demo.next.diff", repository=repository, branch=first["branch"]),
            text("demo.next.rerun", config=world.config),
        ]
    else:
        lines.append(text("demo.removed"))
    lines += [
        text("demo.next"),
        text("demo.next.config"),
        text("demo.next.start"),
        text("demo.next.add"),
    ]
    for line in lines:
        output.result(line)


def _row(scene: Scene, *, kept: bool) -> list[object]:
    entry, run = scene.entry(kept=kept), scene.run
    commit = str(entry["commit"] or "")[:_SHORT_COMMIT]
    row: list[object] = [
        entry["title"],
        entry["status"],
        entry["agent"],
        entry["attempts"],
        f"{scene.seconds:.1f} s",
        entry["branch"],
        commit,
        run.get("verification"),
    ]
    return [*row, entry["log_path"]] if kept else row
