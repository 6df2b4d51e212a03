"""What of ours lies on a machine after work was done: all of it is listed, and nothing else is there."""

from __future__ import annotations

import os
from pathlib import Path

from support.house import House, house, script
from support.repo import git


def everything(*roots: Path) -> set[str]:
    found: set[str] = set()
    for root in roots:
        for folder, folders, files in os.walk(root):
            found |= {str(Path(folder, name)) for name in (*folders, *files)}
    return found


def traces(home: House) -> list[dict[str, str]]:
    return home.json("doctor", "--footprint")["traces"]


def test_after_a_run_the_footprint_lists_all_that_is_there(short_dir: Path):
    with house(short_dir) as home:
        refs = set(git(home.repo, "for-each-ref", "--format=%(refname)").split())
        before = everything(short_dir)
        home.ready()
        task = home.add("Write", script({"write": {"path": "a.txt", "text": "a\n"}}))
        assert home.finished(task["id"])["status"] == "succeeded"
        listed = traces(home)
        places = [one["place"] for one in listed]
        made = everything(short_dir) - before
        # the house keeps the daemon's own output beside its settings, and git its objects in the repository
        ours = {
            path
            for path in made
            if path != str(home.log) and not path.startswith(str(home.repo / ".git"))
        }
        hidden = [
            path for path in ours if not any(path == p or path.startswith(f"{p}/") for p in places)
        ]
        # folders on the way to what is listed
        assert [p for p in hidden if not any(one.startswith(f"{p}/") for one in places)] == []
        new_refs = set(git(home.repo, "for-each-ref", "--format=%(refname)").split()) - refs
        told = {place.partition(": ")[2] for place in places if ": refs/" in place}
        assert new_refs == told
        worktrees = git(home.repo, "worktree", "list", "--porcelain").count("worktree ")
        assert sum(one["kind"] == "worktree" for one in listed) == worktrees - 1
        (state,) = [one for one in listed if one["kind"] == "state"]
        assert int(state["size_bytes"]) > 10_000
        assert "branch" in home.run("doctor", "--footprint").stdout
