"""What of a repository an agent in a sandbox may touch: it reads all, and writes what its commits need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aiagent_coordinator.tasks import WorkspaceKind
from aiagent_coordinator.workspaces import admin as admins
from aiagent_coordinator.workspaces.base import Prepared
from aiagent_coordinator.workspaces.naming import BRANCH_PREFIX, make_folder
from aiagent_coordinator.workspaces.owngit import recall

MOST_BORROWED = 16


@dataclass(frozen=True)
class Reach:
    """Folders outside of the workspace."""

    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()


def reach_of(prepared: Prepared) -> Reach:
    """Find the folders that git needs in a prepared workspace; makes those of the branch.

    Configuration and hooks of the repository can be read and never be written: they are code that
    runs as whoever uses git there. A branch outside of `aiagent/` lies among the user's own, so the
    agent cannot move it; its work is committed when the run is sealed.
    """
    own = None if prepared.git_dir is None else recall(prepared.git_dir)
    if own is None:
        return Reach()
    common = Path(own.record.common_dir)
    read = (common, *_borrowed(common))
    if prepared.kind is WorkspaceKind.DIRECTORY:
        return Reach(read=(*read, Path(own.record.git_dir)))
    write = [common / "objects"]
    admin = admins.locate(own)
    if admin is not None:
        write.append(admin)
    folder, _, _ = (prepared.branch or "").rpartition("/")
    if folder.partition("/")[0] == BRANCH_PREFIX:
        places = (f"refs/heads/{folder}", f"logs/refs/heads/{folder}")
        write += [make_folder(common, place) for place in places]
    return Reach(read=read, write=tuple(write))


def _borrowed(common: Path) -> list[Path]:
    """The object folders that a repository borrows from (`git clone --shared`)."""
    found: list[Path] = []
    places = [common / "objects"]
    for place in places:
        try:
            lines = (place / "info" / "alternates").read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        new = [place / line for line in lines if line and not line.startswith("#")]
        found += new
        # a borrowed folder may borrow itself; more than a few would be a circle
        places += new if len(places) < MOST_BORROWED else []
    return found
