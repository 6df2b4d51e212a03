"""What agents, killed programs and people do to worktrees: named, survived, and no work is thrown away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.house import house, living, script, until
from support.repo import git, make_repo

REPORT = {"report": {"result": "success", "summary": "done"}}


def sh(command: str) -> dict[str, Any]:
    return {"run": {"argv": ["sh", "-c", command]}}


def write(name: str) -> dict[str, Any]:
    return {"write": {"path": f"{name}.txt", "text": f"{name}\n"}}


INDEX_LOCK = sh('touch "$(git rev-parse --git-dir)/index.lock"')
BRANCH_LOCK = sh('touch "$(git rev-parse --git-common-dir)/$(git symbolic-ref HEAD).lock"')
COMMIT = {"commit": {"message": "mine"}}
#: name → what its agent does, how the task ends, and which files its branch has in the end.
CASES: dict[str, tuple[str, str, set[str]]] = {
    "good": (script(write("good"), REPORT), "succeeded", {"good.txt"}),
    "detaches": (
        script(sh("git checkout -q --detach"), write("one"), COMMIT, write("two"), REPORT),
        "succeeded",
        {"one.txt", "two.txt"},
    ),
    "leaves": (
        script(sh("git checkout -q -b mine"), write("one"), COMMIT, write("two"), REPORT),
        "succeeded",
        {"one.txt", "two.txt"},
    ),
    "locks its index": (script(INDEX_LOCK, write("one"), REPORT), "succeeded", {"one.txt"}),
    "dies in git": (
        script(
            attempts=[
                [INDEX_LOCK, write("one"), {"kill_self": {"signal": 9}}],
                [write("two"), REPORT],
            ]
        ),
        "succeeded",
        {"one.txt", "two.txt"},
    ),
    "cuts its link": (script(write("one"), sh("rm .git"), REPORT), "succeeded", {"one.txt"}),
    "merges badly": (
        script(
            *(write("one"), COMMIT, sh("git checkout -q -b side HEAD~1; echo x > one.txt")),
            *(COMMIT, sh("git merge -q - ; true"), write("two"), REPORT),
        ),
        "succeeded",
        {"one.txt", "two.txt"},
    ),
    "removes its folder": (
        script(write("one"), COMMIT, sh('rm -rf "$PWD"'), REPORT),
        "failed",
        {"one.txt"},
    ),
    "locks its branch": (
        script(attempts=[[write("one"), BRANCH_LOCK, REPORT], [write("two"), REPORT]]),
        "failed",
        set(),
    ),
    "continues": (script(write("one"), REPORT), "succeeded", {"before.txt", "one.txt"}),
}
#: What is said of those that fail, among other words.
CAUSES = {"removes its folder": "is gone", "locks its branch": ".lock': File exists"}


def test_whatever_becomes_of_a_worktree_it_is_named_and_no_work_is_lost(short_dir: Path):
    """Each agent does its own harm, all at once; the person's checkout and each other's work stay."""
    with house(short_dir) as home:
        library = make_repo(short_dir / "library")
        git(
            home.repo,
            *("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), "lib"),
        )
        git(home.repo, "commit", "-q", "-m", "a library")
        (home.repo / "README.md").write_text("in the midst of it\n")
        (home.repo / ".git" / "index.lock").touch()
        before = git(home.repo, "rev-parse", "main")
        theirs = make_branch(home.repo, "theirs", "before.txt")
        names = {name: f"w{number}" for number, name in enumerate(CASES)}
        home.write(
            agents={agent: {"provider": "rehearsal"} for agent in names.values()},
            projects=[{"id": "app", "path": str(home.repo)}],
            max_concurrent=len(CASES),
            retry={"max_attempts": 2, "backoff_seconds": [0.1]},
        )
        home.ready()
        on_branch = {"continues": {"branch": "theirs"}}
        tasks = {
            name: home.add(name, text, agent=names[name], **on_branch.get(name, {}))["id"]
            for name, (text, _, _) in CASES.items()
        }
        for name, (_, status, files) in CASES.items():
            done = home.finished(tasks[name])
            run = home.runs(tasks[name])[-1]
            assert done["status"] == status, (name, done, run)
            assert CAUSES.get(name, "") in (run["error"] or ""), (name, run)
            changed = git(home.repo, "diff", "--name-only", f"main...{run['branch']}").split()
            assert set(changed) == files, (name, changed)
        git(home.repo, "merge-base", "--is-ancestor", theirs, "theirs")
        # what left the branch without being in its history is kept beside it
        assert git(home.repo, "for-each-ref", "refs/aiagent/rescue")

        # what could not be sealed waits in its place for somebody who mends the cause
        stuck = tasks["locks its branch"]
        assert (home.state / "worktrees" / "app" / stuck / "one.txt").read_text() == "one\n"
        branch = home.runs(stuck)[-1]["branch"]
        (home.repo / ".git" / "refs" / "heads" / f"{branch}.lock").unlink()
        home.run("task", "retry", stuck)
        until("it begins again", lambda: len(home.runs(stuck)) == 2)
        assert home.last(stuck, 2)["outcome"] == "succeeded"
        changed = git(home.repo, "diff", "--name-only", f"main...{branch}").split()
        assert set(changed) == {"one.txt", "two.txt"}

        assert git(home.repo, "rev-parse", "main") == before
        assert (home.repo / "README.md").read_text() == "in the midst of it\n"
        assert (home.repo / ".git" / "index.lock").exists()
        git(home.repo, "fsck", "--no-dangling")
        home.run("stop")
        until("no process is left", lambda: not living(home))


def make_branch(repo: Path, name: str, file: str) -> str:
    """A commit on a branch of somebody's, made beside the checkout; returns it."""
    side = repo.parent / "side"
    git(repo, "worktree", "add", "-q", "-b", name, str(side), "main")
    (side / file).write_text("before\n")
    git(side, "add", "-A")
    git(side, "commit", "-q", "-m", "theirs")
    commit = git(side, "rev-parse", "HEAD")
    git(repo, "worktree", "remove", str(side), "--force")
    return commit
