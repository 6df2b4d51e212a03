"""What every kind of workspace on a repository promises; each case takes a `Bench`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from aiagent_coordinator.errors import WorkspaceError
from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.tasks import Project, WorkspaceKind
from aiagent_coordinator.workspaces import (
    Prepared,
    Sealed,
    SealRequest,
    Workspace,
    get_workspace,
)


def git(cwd: Path, *args: str, check: bool = True) -> str:
    """Run the user's (or the agent's) own git, with the configuration of the test's HOME."""
    env = {
        **os.environ,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "U",
        "GIT_AUTHOR_EMAIL": "u@localhost",
        "GIT_COMMITTER_NAME": "U",
        "GIT_COMMITTER_EMAIL": "u@localhost",
    }
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *args],
        cwd=cwd,
        env=env,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert not check or done.returncode == 0, (args, done.stderr)
    return os.fsdecode(done.stdout).rstrip("\n")


@dataclass(frozen=True)
class Bench:
    """A repository with two commits, a project on it, and one kind of workspace."""

    kind: WorkspaceKind
    project: Project
    state: StateDir

    @property
    def repo(self) -> Path:
        return Path(self.project.path)

    @property
    def workspace(self) -> Workspace:
        return get_workspace(self.kind)

    def on(self, **changes: object) -> Bench:
        return replace(self, project=replace(self.project, **changes))  # pyright: ignore[reportArgumentType] - keys of Project

    async def prepare(
        self, run_id: str = "run_1", *, task_id: str = "tsk_1", branch: str | None = None
    ) -> Prepared:
        return await self.workspace.prepare(
            self.project,
            task_id=task_id,
            title="Do it, now!",
            branch=branch,
            run_id=run_id,
            state=self.state,
        )

    async def seal(self, prepared: Prepared, run_id: str = "run_1") -> Sealed:
        return await self.workspace.seal(prepared, SealRequest(run_id, "tsk_1", "Do it, now!"))

    async def refusal(self, **how: str) -> WorkspaceError:
        """The error that preparing ends with."""
        with pytest.raises(WorkspaceError) as caught:
            await self.prepare(**how)
        return caught.value

    async def seal_refusal(self, prepared: Prepared) -> WorkspaceError:
        with pytest.raises(WorkspaceError) as caught:
            await self.seal(prepared)
        return caught.value

    def files(self, commit: str | None) -> set[str]:
        assert commit is not None
        out = git(self.repo, "ls-tree", "-r", "-z", "--name-only", commit)
        return {name for name in out.split("\0") if name}


def make_bench(tmp: Path, kind: WorkspaceKind, *init: str) -> Bench:
    repo = tmp / "repo"
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main", *init)
    (repo / "README").write_text("one\n")
    (repo / "src").mkdir()
    (repo / "src" / "main.c").write_text("int main;\n")
    (repo / "gone").write_text("will go\n")
    (repo / ".gitignore").write_text("*.log\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "first")
    (repo / "README").write_text("two\n")
    git(repo, "commit", "-qam", "second")
    state = StateDir(tmp / "state")
    state.create()
    return Bench(kind, Project("proj", "Project", str(repo), workspace=kind), state)


async def holds_the_project_and_hides_the_tool_folder(bench: Bench) -> None:
    prepared = await bench.prepare()
    assert (prepared.path / "README").read_text() == "two\n"
    folders = {item.name for item in (prepared.path / ".aiagent").iterdir() if item.is_dir()}
    assert folders == {"inputs", "artifacts", "logs", "handoff"}
    (prepared.path / ".aiagent" / "inputs" / "x").write_text("x")
    assert git(prepared.path, "status", "--porcelain") == ""


async def survives_its_journal(bench: Bench) -> None:
    prepared = await bench.prepare()
    assert Prepared.from_json(prepared.to_json()) == prepared


async def seals_every_change_that_is_not_ignored(bench: Bench) -> None:
    prepared = await bench.prepare()
    path = prepared.path
    (path / "src" / "main.c").write_text("int main(void);\n")
    (path / "gone").unlink()
    (path / "README").unlink()
    (path / "README").mkdir()
    odd = ["README/now a folder", "new\nline", "-rf", "ümlaut", ":(top)magic", 'q"uote', "*"]
    for name in odd:
        (path / name).write_text(name)
    (path / "tool").write_text("#!/bin/sh\n")
    (path / "tool").chmod(0o755)
    (path / "link").symlink_to("/etc/passwd")
    (path / "noise.log").write_text("ignored")
    (path / ".aiagent" / "logs" / "l").write_text("ours")
    (path / ".aiagent" / ".gitignore").unlink()
    sealed = await bench.seal(prepared)
    assert sealed.changed
    kept = {"src/main.c", ".gitignore", "tool", "link"}
    assert bench.files(sealed.commit) == {*odd, *kept}
    assert sealed.files == len(odd) + 5
    assert git(bench.repo, "ls-tree", sealed.commit or "", "tool").startswith("100755")
    assert git(bench.repo, "ls-tree", sealed.commit or "", "link").startswith("120000")
    assert git(bench.repo, "show", f"{sealed.commit}:link") == "/etc/passwd"


async def replaces_a_folder_by_a_link(bench: Bench) -> None:
    prepared = await bench.prepare()
    (prepared.path / "src" / "main.c").unlink()
    (prepared.path / "src").rmdir()
    (prepared.path / "src").symlink_to("/etc")
    sealed = await bench.seal(prepared)
    assert bench.files(sealed.commit) == {".gitignore", "README", "gone", "src"}


async def seals_an_emptied_folder(bench: Bench) -> None:
    prepared = await bench.prepare()
    for name in ("README", "gone", ".gitignore", "src/main.c"):
        (prepared.path / name).unlink()
    sealed = await bench.seal(prepared)
    assert sealed.changed
    assert bench.files(sealed.commit) == set()


async def answers_the_same_when_sealed_again(bench: Bench) -> None:
    prepared = await bench.prepare()
    (prepared.path / "new").write_text("n")
    first = await bench.seal(prepared)
    assert await bench.seal(prepared) == first


async def makes_no_commit_when_nothing_changed(bench: Bench) -> None:
    prepared = await bench.prepare()
    sealed = await bench.seal(prepared)
    assert (sealed.commit, sealed.changed, sealed.files) == (prepared.base_commit, False, 0)


async def takes_a_commit_of_the_agent_as_it_is(bench: Bench) -> None:
    prepared = await bench.prepare()
    (prepared.path / "new").write_text("n")
    git(prepared.path, "add", "new")
    git(prepared.path, "commit", "-qm", "mine")
    sealed = await bench.seal(prepared)
    assert sealed.commit == git(prepared.path, "rev-parse", "HEAD")
    assert (sealed.changed, sealed.files) == (False, 1)


async def names_task_and_run_in_trailers(bench: Bench) -> None:
    prepared = await bench.prepare()
    (prepared.path / "new").write_text("n")
    request = SealRequest("run_1", "tsk_1", "Do\nit", body="Why:\n\nRun-Id: forged")
    sealed = await bench.workspace.seal(prepared, request)
    trailers = git(bench.repo, "log", "-1", "--format=%(trailers)", sealed.commit or "")
    assert trailers.strip() == "Task-Id: tsk_1\nRun-Id: run_1"
    who = git(bench.repo, "log", "-1", "--format=%s|%an|%ae|%cn", sealed.commit or "")
    assert who == "Do it|aiagent-coordinator|aiagent@localhost|aiagent-coordinator"


async def commits_nothing_that_the_user_ignores(bench: Bench) -> None:
    (bench.repo / ".git" / "info" / "exclude").write_text(".env\n")
    patterns = Path(os.environ["HOME"]) / "ignored"
    patterns.write_text("secret.*\n")
    (Path(os.environ["HOME"]) / ".gitconfig").write_text("[core]\nexcludesFile = ~/ignored\n")
    prepared = await bench.prepare()
    for name in (".env", "secret.key", "new"):
        (prepared.path / name).write_text("x")
    sealed = await bench.seal(prepared)
    assert bench.files(sealed.commit) == {".gitignore", "README", "gone", "src/main.c", "new"}


async def names_a_repository_made_inside(bench: Bench) -> None:
    prepared = await bench.prepare()
    for made in ("deep/nested", "src"):
        (prepared.path / made).mkdir(parents=True, exist_ok=True)
        git(prepared.path / made, "init", "-q")
    (prepared.path / "deep" / "nested" / "work").write_text("x")
    error = await bench.seal_refusal(prepared)
    assert error.details["reason"] == "nested_repository"
    assert error.details["paths"] == ["deep/nested", "src"]
    assert "deep/nested" in error.message
    assert (prepared.path / "deep" / "nested" / "work").exists()


async def leaves_an_ignored_repository_alone(bench: Bench) -> None:
    prepared = await bench.prepare()
    (prepared.path / ".gitignore").write_text("*.log\nvendor/\n")
    git(prepared.path, "init", "-q", "vendor/lib")
    sealed = await bench.seal(prepared)
    assert sealed.files == 1


async def sees_what_checks_change(bench: Bench) -> None:
    prepared = await bench.prepare()
    (prepared.path / "new").write_text("n")
    sealed = await bench.seal(prepared)
    (prepared.path / "noise.log").write_text("ignored")
    assert await bench.workspace.verify_unchanged(prepared, sealed)
    (prepared.path / "left").write_text("by a check")
    assert not await bench.workspace.verify_unchanged(prepared, sealed)


async def prepares_again_for_the_next_attempt(bench: Bench) -> None:
    prepared = await bench.prepare()
    (prepared.path / "new").write_text("first")
    await bench.seal(prepared)
    again = await bench.prepare("run_2")
    assert again.path == prepared.path
    (again.path / "new").write_text("second")
    sealed = await bench.seal(again, "run_2")
    assert git(bench.repo, "show", f"{sealed.commit}:new") == "second"


async def refuses_a_missing_project_folder(bench: Bench) -> None:
    error = await bench.on(path=str(bench.repo / "nowhere")).refusal()
    assert error.details["reason"] == "path_missing"


async def refuses_a_tool_folder_that_leads_out(bench: Bench) -> None:
    outside = bench.state.root / "outside"
    outside.mkdir()
    (bench.repo / ".aiagent").symlink_to(outside)
    git(bench.repo, "add", "-A")
    git(bench.repo, "commit", "-qm", "link")
    error = await bench.refusal()
    assert error.details["reason"] == "tool_dir"
    assert list(outside.iterdir()) == []


async def keeps_line_ends_as_the_user_set_them(bench: Bench) -> None:
    git(bench.repo, "config", "core.autocrlf", "input")
    prepared = await bench.prepare()
    (prepared.path / "README").write_bytes(b"crlf\r\n")
    sealed = await bench.seal(prepared)
    assert git(bench.repo, "cat-file", "-s", f"{sealed.commit}:README") == "5"


async def seals_a_large_file(bench: Bench) -> None:
    prepared = await bench.prepare()
    with (prepared.path / "large").open("wb") as file:
        file.truncate(40 * 1024 * 1024)
    sealed = await bench.seal(prepared)
    assert git(bench.repo, "cat-file", "-s", f"{sealed.commit}:large") == str(40 * 1024 * 1024)


Case = Callable[[Bench], Awaitable[None]]
SUITE: tuple[Case, ...] = (
    holds_the_project_and_hides_the_tool_folder,
    survives_its_journal,
    seals_every_change_that_is_not_ignored,
    replaces_a_folder_by_a_link,
    seals_an_emptied_folder,
    answers_the_same_when_sealed_again,
    makes_no_commit_when_nothing_changed,
    takes_a_commit_of_the_agent_as_it_is,
    names_task_and_run_in_trailers,
    commits_nothing_that_the_user_ignores,
    names_a_repository_made_inside,
    leaves_an_ignored_repository_alone,
    sees_what_checks_change,
    prepares_again_for_the_next_attempt,
    refuses_a_missing_project_folder,
    refuses_a_tool_folder_that_leads_out,
    keeps_line_ends_as_the_user_set_them,
    seals_a_large_file,
)
