"""Which processes belong to a run that is over: decided from what they show, never for a stranger.

Pure but for `Folders`, which reads run directories. A process counts as a run's own when its
environment names the run and it is younger than the run. One that hides its environment counts only
when everything else speaks for it: an orphan without a terminal, working in a workspace of ours that
nobody works in, and begun while a run worked there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiagent_coordinator.executors import inspection
from aiagent_coordinator.executors.processes import Seen


@dataclass(frozen=True)
class Over:
    """A run that is over, as far as the sweep cares."""

    run_id: str
    #: In start ticks; 0: nobody knows.
    since: int
    cwd: str | None
    #: False: what it leaves may live.
    kills_leftovers: bool


@dataclass(frozen=True)
class Stray:
    """A process to be ended, and the run it is from."""

    process: Seen
    run_id: str


class Folders:
    """What the run directories say of their runs; each ended one is read once."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._known: dict[str, Over] = {}

    def over(self, run_id: str) -> Over | None:
        """A run of ours that is over: nothing of it, step or CLI, holds a lock. None: any other."""
        known = self._known.get(run_id)
        if known is not None:
            return known
        folder = self._runs / run_id
        if "/" in run_id or run_id.startswith(".") or not folder.is_dir():
            return None
        steps = folder / "steps"
        places = [folder, *(steps.iterdir() if steps.is_dir() else ())]
        if any(inspection.is_held(place) for place in places):
            return None
        spec = _spec(folder)
        cwd, kills = spec.get("cwd"), spec.get("kill_leftovers") is True
        found = Over(
            run_id,
            inspection.started_ticks(folder),
            cwd if isinstance(cwd, str) else None,
            kills_leftovers=kills,
        )
        self._known[run_id] = found
        return found

    def all_over(self, live: Collection[str]) -> list[Over]:
        """Every run that is over but those named."""
        try:
            names = [entry.name for entry in os.scandir(self._runs)]
        except OSError:
            return []
        found = [self.over(name) for name in names if name not in live]
        return [one for one in found if one is not None]


def _spec(folder: Path) -> Mapping[str, object]:
    try:
        spec = json.loads(inspection.read_plain(folder / "spec.json", inspection.SPEC_BYTES) or b"")
    except (ValueError, RecursionError):
        return {}
    return spec if isinstance(spec, dict) else {}  # pyright: ignore[reportUnknownVariableType] - JSON


def tagged(seen: Iterable[Seen], over: Mapping[str, Over]) -> list[Stray]:
    """Those whose environment names a run that is over and ends what it leaves."""
    found: list[Stray] = []
    for one in seen:
        run = over.get(one.tag or "")
        # Where the system does not say when the run began, its unique name has to do.
        if run is not None and run.kills_leftovers and one.started >= run.since:
            found.append(Stray(one, run.run_id))
    return found


def in_workspaces(seen: Iterable[Seen], roots: Sequence[str]) -> list[Seen]:
    """Those without a tag of any run that work below our workspaces, without a terminal."""
    return [
        one
        for one in seen
        if one.tag is None
        and not one.has_terminal
        and any(_is_below(one.cwd, root) for root in roots)
    ]


def abandoned(
    candidates: Sequence[Seen],
    over: Iterable[Over],
    live_workspaces: Collection[str],
    orphanages: Collection[int],
) -> list[Stray]:
    """Of those, the ones that a run which is over must have left.

    Args:
        candidates: As `in_workspaces` gives them.
        over: Runs that are over.
        live_workspaces: Where runs work now.
        orphanages: Processes that take in orphans.
    """
    orphans = {one.pid for one in candidates if one.parent in orphanages}
    left = [one for one in candidates if one.pid in orphans]
    # Children of an orphan are of the same litter.
    while grown := [one for one in candidates if one.parent in orphans and one.pid not in orphans]:
        left += grown
        orphans |= {one.pid for one in grown}
    runs = [run for run in over if run.cwd is not None]
    found: list[Stray] = []
    for one in left:
        if any(_is_below(one.cwd, live) for live in live_workspaces):
            continue
        mine = [run for run in runs if _is_below(one.cwd, run.cwd) and one.started >= run.since > 0]
        if mine and all(run.kills_leftovers for run in mine):
            last = max(mine, key=lambda run: run.since)
            found.append(Stray(one, last.run_id))
    return found


def _is_below(path: str | None, root: str | None) -> bool:
    return bool(path and root) and (path == root or str(path).startswith(f"{root}/"))
