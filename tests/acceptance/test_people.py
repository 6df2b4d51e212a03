"""One server, people on machines of their own: each coordinator works with its person's agents in its folders."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from support.house import House, house, script
from support.people import TOKEN, peopled

WROTE = ({"write": {"path": "new.txt", "text": "new\n"}}, {"report": {"result": "success"}})


def coordinator_of(home: House, person: str) -> House:
    """A second house on the same server: only a coordinator, for one person."""
    root = home.root / f"c-{person}"
    root.mkdir()
    settings = {
        "state_dir": str(root / "state"),
        "socket": str(home.socket),
        "coordinator_token": TOKEN,
        "root_agent_id": person,
        "polling_interval": "1s",
    }
    (root / "coordinator.yaml").write_text(yaml.safe_dump(settings), "utf-8")
    return House(root, settings, env=home.env)


def test_our_coordinator_works_for_one_person_alone_and_where_that_person_has_the_project(
    short_dir: Path,
) -> None:
    with house(short_dir) as home:
        folders = peopled(home)
        home.ready("serve")
        marias, jos = (coordinator_of(home, person) for person in ("maria", "jo"))
        try:
            marias.start("coordinate")
            mine = home.add("Mine", script(*WROTE), agent="ann")
            theirs = home.add("Theirs", script(*WROTE), agent="bob", max_attempts="1")
            nowhere = home.add("Nowhere", script(*WROTE), agent="ann", project="other")
            assert home.finished(mine["id"])["status"] == "succeeded"
            commit = home.task(mine["id"])["result"]["commit"]
            # it was made in Maria's repository, and the server's has nothing of it
            assert (folders["maria"] / ".git").is_dir()
            assert _has(folders["maria"], commit)
            assert not _has(home.repo, commit)
            assert home.runs(theirs["id"]) == []

            why = {one["code"]: one for one in home.json("explain", nowhere["id"])["reasons"]}
            assert why["no_working_directory"]["text"] == "maria has project other in no directory"
            why = {one["code"]: one for one in home.json("explain", theirs["id"])["reasons"]}
            assert "works for somebody else (maria)" in why["not_below_root"]["text"]
            assert home.runs(nowhere["id"]) == []

            # a folder that is not there is a reason by name; nothing is made in any other
            jos.start("coordinate")
            failed = home.finished(theirs["id"])
            assert (failed["status"], failed["status_reason"]) == ("failed", "workspace_invalid")
            assert not folders["jo"].exists()
            assert str(folders["jo"]) in home.runs(theirs["id"])[0]["error"]
        finally:
            marias.close()
            jos.close()


def _has(repo: Path, commit: str) -> bool:
    found = subprocess.run(
        ["git", "-C", str(repo), "cat-file", "-e", commit], capture_output=True, check=False
    )
    return found.returncode == 0
