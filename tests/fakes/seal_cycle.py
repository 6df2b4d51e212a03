"""A run in small: prepares a worktree, works, seals. Started again, it goes on from its journal.

Usage: python seal_cycle.py REPOSITORY STATE JOURNAL RUN_ID; it prints `ready` before it begins.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anyio

from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.tasks import Project, WorkspaceKind
from aiagent_coordinator.workspaces import Prepared, SealRequest, get_workspace


def _recall(journal: Path) -> Prepared | None:
    return Prepared.from_json(json.loads(journal.read_text())) if journal.exists() else None


def _note(journal: Path, prepared: Prepared) -> None:
    draft = journal.with_suffix(".tmp")
    draft.write_text(json.dumps(prepared.to_json()))
    draft.replace(journal)


async def cycle(repository: str, state: str, journal: str, run_id: str) -> None:
    workspace = get_workspace(WorkspaceKind.WORKTREE)
    prepared = _recall(Path(journal))
    if prepared is None:
        prepared = await workspace.prepare(
            Project("proj", "Project", repository),
            task_id="tsk_1",
            title="Do it, now!",
            branch=None,
            run_id=run_id,
            state=StateDir(Path(state)),
        )
        _note(Path(journal), prepared)
    (prepared.path / "new").write_text(run_id)
    (prepared.path / run_id).write_text(run_id)
    sealed = await workspace.seal(prepared, SealRequest(run_id, "tsk_1", "Do it"))
    if not sealed.changed:
        raise SystemExit(f"{run_id} sealed nothing: {sealed}")


if __name__ == "__main__":
    print("ready", flush=True)
    repository, state, journal, run_id = sys.argv[1:]
    anyio.run(cycle, repository, state, journal, run_id)
