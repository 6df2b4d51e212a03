"""A repository's configuration is code: none of it runs, and a kill at any point loses nothing."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from aiagent_coordinator.tasks import WorkspaceKind
from aiagent_coordinator.workspaces import Prepared
from aiagent_coordinator.workspaces.worktree import remove_worktree
from tests.contract.workspace_suite import Bench, git, make_bench
from tests.fakes.seal_cycle import cycle

#: Keys whose value git runs, or that make it run something.
PROGRAM_KEYS = (
    "core.fsmonitor",
    "core.sshCommand",
    "core.editor",
    "core.pager",
    "core.askPass",
    "core.gitProxy",
    "core.alternateRefsCommand",
    "sequence.editor",
    "credential.helper",
    "diff.external",
    "diff.planted.command",
    "diff.planted.textconv",
    "filter.planted.clean",
    "filter.planted.smudge",
    "filter.process.process",
    "merge.planted.driver",
    "merge.default",
    "gpg.program",
    "gpg.ssh.program",
    "interactive.diffFilter",
    "uploadpack.packObjectsHook",
    "remote.origin.uploadpack",
    "remote.origin.receivepack",
    "difftool.planted.cmd",
    "mergetool.planted.cmd",
    "trailer.task-id.command",
    "trailer.run-id.cmd",
    "browser.planted.cmd",
    "pager.status",
    "pager.diff",
)
SWITCHES = (
    ("commit.gpgSign", "true"),
    ("tag.gpgSign", "true"),
    ("filter.planted.required", "true"),
    ("filter.process.required", "true"),
    ("diff.tool", "planted"),
    ("merge.tool", "planted"),
    ("submodule.recurse", "true"),
    ("core.untrackedCache", "true"),
)
HOOKS = (
    "applypatch-msg",
    "pre-applypatch",
    "post-applypatch",
    "pre-commit",
    "pre-merge-commit",
    "prepare-commit-msg",
    "commit-msg",
    "post-commit",
    "pre-rebase",
    "post-checkout",
    "post-merge",
    "pre-push",
    "pre-receive",
    "update",
    "proc-receive",
    "post-receive",
    "post-update",
    "reference-transaction",
    "push-to-checkout",
    "pre-auto-gc",
    "post-rewrite",
    "sendemail-validate",
    "fsmonitor-watchman",
    "post-index-change",
)


@dataclass(frozen=True)
class Trap:
    """Programs that leave a mark when they run."""

    folder: Path

    def program(self, name: str) -> str:
        """A program that notes its name and passes its input on."""
        path = self.folder / name.replace("/", "-")
        path.write_text(f"#!/bin/sh\necho {name} >> {self.folder}/MARKS\nexec cat\n")
        path.chmod(0o755)
        return str(path)

    @property
    def marks(self) -> set[str]:
        marks = self.folder / "MARKS"
        return set(marks.read_text().split()) if marks.exists() else set()

    def plant_config(self, repo: Path) -> None:
        for key in PROGRAM_KEYS:
            git(repo, "config", key, self.program(key))
        for key, value in SWITCHES:
            git(repo, "config", key, value)
        for name in ("status", "add", "commit", "read-tree", "update-ref"):
            git(repo, "config", f"alias.{name}", "!" + self.program(f"alias.{name}"))
        git(repo, "config", "submodule.lib.update", "!" + self.program("submodule.update"))

    def plant_hooks(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for hook in HOOKS:
            shutil.copy(self.program(f"hook-{hook}"), folder / hook)

    def plant(self, repo: Path) -> None:
        """Everything at once; afterwards the user's own git runs nearly all of it."""
        self.plant_hooks(repo / ".git" / "hooks")
        included = repo.parent / "included.gitconfig"
        hooks = repo.parent / "more-hooks"
        self.plant_hooks(hooks)
        included.write_text(f'[filter "included"]\n\tclean = {self.program("included-clean")}\n')
        self.plant_config(repo)
        git(repo, "config", "include.path", str(included))
        git(repo, "config", "core.hooksPath", str(hooks))


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - a fixture
    home = tmp_path / "home"
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".config" / "git" / "ignore").write_text("*.secret\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    (tmp_path / "trap").mkdir()
    return Trap(tmp_path / "trap")


def _make_planted(tmp_path: Path, kind: WorkspaceKind, trap: Trap) -> Bench:
    bench = make_bench(tmp_path, kind)
    repo = bench.repo
    (repo / ".gitattributes").write_text(
        "* diff=planted merge=planted\n*.flt filter=planted\n*.prc filter=process\n"
        "*.inc filter=included\n"
    )
    for name in ("a.flt", "a.prc", "a.inc"):
        (repo / name).write_text("as committed\n")
    git(repo, "add", "-A")
    git(tmp_path, "clone", "-q", "--no-hardlinks", str(repo), "library")
    git(repo, "submodule", "--quiet", "add", str(tmp_path / "library"), "lib")
    git(repo, "commit", "-qm", "attributes")
    (repo / ".git" / "info" / "exclude").write_text(".env\n")
    # A sub-module's own configuration is planted too.
    git(tmp_path, "clone", "-q", "--no-hardlinks", str(tmp_path / "library"), "filled")
    trap.plant_config(tmp_path / "filled")
    trap.plant_hooks(tmp_path / "filled" / ".git" / "hooks")
    (tmp_path / "filled" / ".git" / "info" / "attributes").write_text("* filter=planted\n")
    trap.plant(repo)
    trap.plant_config(Path(git(repo / "lib", "rev-parse", "--absolute-git-dir")))
    (trap.folder / "MARKS").unlink(missing_ok=True)
    return bench


@pytest.fixture(params=[WorkspaceKind.WORKTREE, WorkspaceKind.DIRECTORY])
def planted(request: pytest.FixtureRequest, tmp_path: Path, trap: Trap) -> Bench:
    return _make_planted(tmp_path, request.param, trap)


OURS = (
    ".git/objects",
    ".git/worktrees",
    ".git/refs/heads/aiagent",
    ".git/refs/aiagent",
    ".git/logs/refs/heads/aiagent",
)


def _picture(repo: Path, *, git_only: bool) -> dict[str, tuple[int, bytes, int]]:
    """Every byte, mode and time of the user's repository, but what is ours."""
    seen: dict[str, tuple[int, bytes, int]] = {}
    for path in sorted(repo.rglob("*")):
        name = path.relative_to(repo).as_posix()
        is_ours = any(name == own or name.startswith(f"{own}/") for own in OURS)
        if is_ours or (git_only and not name.startswith(".git/")):
            continue
        info = path.lstat()
        if path.is_symlink():
            seen[name] = (info.st_mode, os.fsencode(path.readlink()), info.st_mtime_ns)
        elif path.is_file():
            seen[name] = (info.st_mode, path.read_bytes(), info.st_mtime_ns)
        else:
            seen[name] = (info.st_mode, b"", 0)
    return seen


def _agent_works(tmp_path: Path, prepared: Prepared, text: str) -> None:
    """Edits, ignored secrets, and traps of the agent's own making."""
    path = prepared.path
    (path / "README").write_text(f"{text}\n")
    (path / f"new-{text}").write_text(text)
    (path / ".env").write_text("KEY=secret")
    (path / "api.secret").write_text("secret")
    if prepared.kind is WorkspaceKind.WORKTREE:
        # A sub-module with a planted configuration, and a `.git` that leads into one.
        shutil.rmtree(path / "lib")
        shutil.copytree(tmp_path / "filled", path / "lib", symlinks=True)
        (path / ".git").write_text(f"gitdir: {tmp_path / 'filled' / '.git'}\n")


async def test_nothing_planted_runs_in_a_whole_cycle_and_the_repository_stays_as_it_was(
    planted: Bench, trap: Trap, tmp_path: Path
) -> None:
    """Protected: no mark at all; the next test shows the same repository fire without."""
    is_worktree = planted.kind is WorkspaceKind.WORKTREE
    before = _picture(planted.repo, git_only=not is_worktree)
    for run_id in ("run_1", "run_2"):
        prepared = await planted.prepare(run_id)
        _agent_works(tmp_path, prepared, run_id)
        sealed = await planted.seal(prepared, run_id)
        assert await planted.workspace.verify_unchanged(prepared, sealed)
        (prepared.path / "left").write_text("by a check")
        assert not await planted.workspace.verify_unchanged(prepared, sealed)
        cleaned = await planted.workspace.clean_after_checks(prepared, sealed)
        assert cleaned == (1 if is_worktree else 0)
        (prepared.path / "left").unlink(missing_ok=True)
    assert trap.marks == set()
    assert _picture(planted.repo, git_only=not is_worktree) == before
    committed = planted.files(sealed.commit)
    assert {"new-run_1", "new-run_2", "a.flt", "a.prc", "lib"} <= committed
    assert not {".env", "api.secret", ".aiagent/.gitignore"} & committed
    if is_worktree:
        await remove_worktree(prepared)
        assert not (planted.repo / ".git" / "worktrees" / "tsk_1").exists()
    assert trap.marks == set()


def test_the_same_repository_fires_without_protection(tmp_path: Path, trap: Trap) -> None:
    repo = _make_planted(tmp_path, WorkspaceKind.WORKTREE, trap).repo
    (repo / "new.flt").write_text("x")
    for name in ("README", "a.prc"):
        (repo / name).write_text("changed by the user\n")
    git(repo, "status", check=False)
    # A monitor that knows of no change and filters that fail would end the story there.
    git(repo, "config", "--unset", "core.fsmonitor")
    git(repo, "add", "-A", check=False)
    for name in ("planted", "process"):
        git(repo, "config", f"filter.{name}.required", "false")
    git(repo, "config", "--unset", "filter.process.process")
    git(repo, "diff", check=False)
    git(repo, "add", "-A", check=False)
    git(repo, "commit", "-m", "x", check=False)
    git(repo, "-c", "commit.gpgSign=false", "commit", "-m", "x", check=False)
    git(repo, "worktree", "add", "-b", "plain", "../plain", check=False)
    assert {
        "core.fsmonitor",
        "diff.planted.command",
        "filter.planted.clean",
        "filter.planted.smudge",
        "filter.process.process",
        "gpg.program",
        "hook-pre-commit",
        "hook-post-index-change",
        "hook-post-checkout",
        "hook-reference-transaction",
    } <= trap.marks


def _nest(tmp_path: Path, path: Path) -> None:
    shutil.copytree(tmp_path / "filled", path / "nested")


def _change_filtered(tmp_path: Path, path: Path) -> None:
    (path / "a.flt").write_text("changed")


def _add_filtered(tmp_path: Path, path: Path) -> None:
    (path / "b.prc").write_text("new")


def _add_attribute(tmp_path: Path, path: Path) -> None:
    (path / ".gitattributes").write_text("* filter=planted\n")


def _replace_repository(tmp_path: Path, path: Path) -> None:
    (path / ".git").unlink()
    shutil.copytree(tmp_path / "filled" / ".git", path / ".git")


@pytest.mark.parametrize(
    ("change", "reason", "names"),
    [
        (_nest, "nested_repository", ["nested"]),
        (_change_filtered, "filtered_changed", ["a.flt"]),
        (_add_filtered, "filtered_changed", ["b.prc"]),
        (_add_attribute, "filtered_changed", [".gitattributes", "README"]),
        (_replace_repository, "nested_repository", [".git"]),
    ],
)
async def test_what_cannot_be_committed_whole_fails_by_name_and_runs_nothing(
    tmp_path: Path,
    trap: Trap,
    change: Callable[[Path, Path], None],
    reason: str,
    names: list[str],
) -> None:
    planted = _make_planted(tmp_path, WorkspaceKind.WORKTREE, trap)
    prepared = await planted.prepare()
    (prepared.path / "README").write_text("work\n")
    change(tmp_path, prepared.path)
    error = await planted.seal_refusal(prepared)
    assert (error.details["reason"], error.details["paths"]) == (reason, names)
    assert trap.marks == set()
    assert (prepared.path / "README").read_text() == "work\n"
    assert git(planted.repo, "rev-parse", prepared.branch or "") == prepared.base_commit


async def test_variables_of_our_own_environment_do_not_reach_git(
    tmp_path: Path, trap: Trap, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(tmp_path, WorkspaceKind.WORKTREE)
    with monkeypatch.context() as patch:
        for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
            patch.setenv(name, str(tmp_path / "elsewhere"))
        patch.setenv("GIT_EXTERNAL_DIFF", trap.program("GIT_EXTERNAL_DIFF"))
        patch.setenv("GIT_CONFIG_PARAMETERS", f"'core.fsmonitor={trap.program('parameters')}'")
        prepared = await bench.prepare()
        (prepared.path / "new").write_text("n")
        sealed = await bench.seal(prepared)
    assert "new" in bench.files(sealed.commit)
    assert trap.marks == set()
    assert not (tmp_path / "elsewhere").exists()


async def test_planted_file_times_and_index_flags_hide_nothing(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, WorkspaceKind.WORKTREE)
    git(bench.repo, "config", "core.trustctime", "false")
    prepared = await bench.prepare()
    readme, source = prepared.path / "README", prepared.path / "src" / "main.c"
    info = readme.stat()
    readme.write_text("TWO\n")
    os.utime(readme, ns=(info.st_atime_ns, info.st_mtime_ns))
    git(prepared.path, "update-index", "--assume-unchanged", "src/main.c")
    source.write_text("hidden\n")
    sealed = await bench.seal(prepared)
    assert sealed.files == 2
    assert git(bench.repo, "show", f"{sealed.commit}:README") == "TWO"


BRANCH = "aiagent/proj/tsk_1-do-it-now"
PROGRAM = Path(__file__).parents[1] / "fakes" / "seal_cycle.py"


@dataclass(frozen=True)
class Killed:
    """Runs of a small program, each killed once and then finished."""

    bench: Bench
    tmp: Path

    def places(self, run_id: str) -> tuple[str, str, str, str]:
        journal = str(self.tmp / f"journal-{run_id}")
        return str(self.bench.repo), str(self.bench.state.root), journal, run_id

    def start(self, run_id: str, path: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), *self.places(run_id)],
            env={**os.environ, "PATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )

    async def finish(self, run_id: str) -> None:
        await cycle(*self.places(run_id))

    def check(self, run_ids: list[str]) -> None:
        """Every run one commit with its files, a clean worktree, nothing set aside."""
        repo = self.bench.repo
        how = "--format=%(trailers:key=Run-Id,valueonly,separator=)"
        assert git(repo, "log", "--reverse", how, f"main..{BRANCH}").split() == run_ids
        assert set(run_ids) <= self.bench.files(BRANCH)
        assert git(repo, "show", f"{BRANCH}:new") == run_ids[-1]
        path = self.bench.state.worktrees / "proj" / "tsk_1"
        assert git(path, "status", "--porcelain", "--branch") == f"## {BRANCH}"
        assert git(repo, "for-each-ref", "refs/aiagent/rescue") == ""
        assert [item.name for item in (repo / ".git" / "worktrees").iterdir()] == ["tsk_1"]

    def reset(self, fresh: Path) -> None:
        """The repository as it was, and no state."""
        for folder in (self.bench.repo, self.bench.state.root):
            shutil.rmtree(folder)
        shutil.copytree(fresh, self.bench.repo, symlinks=True)
        self.bench.state.create()


# A later attempt is sealed as the first is; only its preparation, the first dozen calls, differs.
@pytest.mark.parametrize(
    ("is_first", "rounds"), [(True, 100), (False, 12)], ids=["first attempt", "later attempt"]
)
async def test_a_kill_before_any_call_of_git_loses_nothing(
    tmp_path: Path, *, is_first: bool, rounds: int
) -> None:
    """Each round is killed one call later, until a round gets through."""
    killed = Killed(make_bench(tmp_path, WorkspaceKind.WORKTREE), tmp_path)
    wrapper = tmp_path / "bin" / "git"
    wrapper.parent.mkdir()
    wrapper.write_text(
        f"#!/bin/sh\necho call >> {tmp_path}/calls\n"
        f'[ "$(wc -l < {tmp_path}/calls)" -gt "$(cat {tmp_path}/spared)" ] && kill -9 $PPID && exit 1\n'
        f'exec {shutil.which("git")} "$@"\n'
    )
    wrapper.chmod(0o755)
    fresh = tmp_path / "fresh"
    shutil.copytree(killed.bench.repo, fresh, symlinks=True)
    done: list[str] = []
    statuses: list[int] = []
    if not is_first:
        await killed.finish("run_0")
        done.append("run_0")
    for spared in range(rounds):
        (tmp_path / "spared").write_text(str(spared))
        (tmp_path / "calls").write_text("")
        if is_first:
            killed.reset(fresh)
            done.clear()
        run_id = f"run_after_{spared}"
        with killed.start(run_id, f"{wrapper.parent}:{os.environ['PATH']}") as process:
            process.communicate(timeout=60)
        await killed.finish(run_id)
        done.append(run_id)
        killed.check(done)
        statuses.append(process.returncode)
        if process.returncode == 0:
            break
    assert set(statuses) <= {0, -signal.SIGKILL}
    assert len(statuses) > 10
    assert (0 in statuses) is is_first


async def test_a_kill_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    """As above, with calls of git that live on while the next start is already at work."""
    killed = Killed(make_bench(tmp_path, WorkspaceKind.WORKTREE), tmp_path)
    dice = random.Random(4)
    done: list[str] = []
    for number in range(30):
        run_id = f"run_{number}"
        with killed.start(run_id, os.environ["PATH"]) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            try:
                process.wait(timeout=dice.uniform(0, 0.25))
            except subprocess.TimeoutExpired:
                process.kill()
        await killed.finish(run_id)
        done.append(run_id)
    killed.check(done)
    assert git(killed.bench.repo, "fsck", "--no-dangling", "--connectivity-only") == ""
