from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from aiagent_coordinator.errors import WorkspaceError
from aiagent_coordinator.ids import new_id
from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.tasks import Project, WorkspaceKind
from aiagent_coordinator.workspaces import Author, SealRequest, get_workspace
from aiagent_coordinator.workspaces.worktree import remove_worktree
from tests.contract.workspace_suite import SUITE, Bench, Case, git, make_bench


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - a fixture
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.fixture(params=[WorkspaceKind.WORKTREE, WorkspaceKind.DIRECTORY])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return make_bench(tmp_path, request.param)


@pytest.mark.parametrize("case", SUITE, ids=lambda case: case.__name__)
async def test_a_workspace(bench: Bench, case: Case) -> None:
    await case(bench)


@pytest.fixture
def tree(tmp_path: Path) -> Bench:
    return make_bench(tmp_path, WorkspaceKind.WORKTREE)


@pytest.fixture
def checkout(tmp_path: Path) -> Bench:
    return make_bench(tmp_path, WorkspaceKind.DIRECTORY)


BRANCH = "aiagent/proj/tsk_1-do-it-now"


def reason(error: WorkspaceError) -> str:
    return str(error.details["reason"])


def test_a_kind_that_does_not_exist_yet_says_so() -> None:
    with pytest.raises(WorkspaceError, match="not available yet") as caught:
        get_workspace(WorkspaceKind.CLONE)
    assert reason(caught.value) == "unavailable_kind"


# scratch: a repository for who has none


async def test_a_task_without_a_repository_gets_an_empty_one_that_keeps_its_commits(
    tmp_path: Path,
) -> None:
    state = StateDir(tmp_path / "state")
    state.create()
    bench = Bench(WorkspaceKind.SCRATCH, Project("notes", "Notes", ""), state)
    first = await bench.prepare()
    assert (first.kind, first.branch) == (WorkspaceKind.SCRATCH, "aiagent/notes/tsk_1-do-it-now")
    assert git(first.path, "ls-files") == ""
    (first.path / "haiku.txt").write_text("Old pond.\n")
    sealed = await bench.seal(first)
    assert sealed.commit is not None
    assert git(first.path, "show", "--stat", "--format=", sealed.commit).startswith(" haiku.txt")
    again = await bench.prepare("run_2")
    assert (again.path, again.base_commit) == (first.path, sealed.commit)
    other = await bench.prepare("run_3", task_id="tsk_2")
    assert git(other.path, "ls-files") == ""


async def test_a_scratch_task_works_on_the_branch_it_names(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    state.create()
    bench = Bench(WorkspaceKind.SCRATCH, Project("notes", "Notes", ""), state)
    assert (await bench.prepare(branch="main")).branch == "main"


# worktree: many at once


async def test_many_tasks_of_one_repository_begin_at_the_same_time(tree: Bench) -> None:
    """git fails on the half-made entry of another worktree; nobody's task may end over that."""
    made: list[str] = []

    async def begin(number: int) -> None:
        prepared = await tree.prepare(f"run_{number}", task_id=f"tsk_{number}")
        made.append(git(prepared.path, "rev-parse", "--abbrev-ref", "HEAD"))

    async with anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(begin, number)
    assert sorted(made) == sorted(f"aiagent/proj/tsk_{number}-do-it-now" for number in range(12))


async def test_a_worktree_that_another_program_is_just_making_is_waited_for(tree: Bench) -> None:
    half_made = tree.repo / ".git" / "worktrees" / "theirs"
    half_made.mkdir(parents=True)
    (half_made / "gitdir").write_text(f"{tree.repo.parent}/theirs/.git\n")
    (half_made / "commondir").write_text("")

    async def finish() -> None:
        await anyio.sleep(0.3)
        (half_made / "commondir").write_text("../..\n")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(finish)
        assert (await tree.prepare()).path.is_dir()


# worktree: what it needs of the repository


async def test_a_folder_without_a_repository_is_refused(tree: Bench, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    error = await tree.on(path=str(tmp_path / "plain")).refusal()
    assert reason(error) == "not_a_repository"


async def test_a_folder_inside_a_repository_is_refused(tree: Bench) -> None:
    error = await tree.on(path=str(tree.repo / "src")).refusal()
    assert reason(error) == "not_a_repository"


async def test_a_bare_repository_is_refused(tree: Bench, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "bare")
    assert reason(await tree.on(path=str(tmp_path / "bare")).refusal()) == "bare"


async def test_a_repository_without_commits_is_refused(tree: Bench, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "empty")
    assert reason(await tree.on(path=str(tmp_path / "empty")).refusal()) == "no_commits"


@pytest.mark.parametrize("base_ref", ["nowhere", "-q", "HEAD:README", "x\ny"])
async def test_an_unknown_base_is_refused(tree: Bench, base_ref: str) -> None:
    assert reason(await tree.on(base_ref=base_ref).refusal()) == "no_base"


@pytest.mark.parametrize("branch", ["a..b", "-x", "HEAD", "x.lock", "a\0b", "a b"])
async def test_a_name_that_is_no_branch_is_refused(tree: Bench, branch: str) -> None:
    assert reason(await tree.refusal(branch=branch)) == "bad_branch"


async def test_a_branch_checked_out_elsewhere_is_refused_with_the_place(tree: Bench) -> None:
    git(tree.repo, "checkout", "-q", "-b", "mine")
    error = await tree.refusal(branch="mine")
    assert reason(error) == "branch_checked_out"
    assert str(tree.repo) in error.message


async def test_a_damaged_repository_fails_with_git_s_words(tree: Bench) -> None:
    (tree.repo / ".git" / "config").write_text("[core\n")
    error = await tree.refusal()
    assert reason(error) == "git_failed"
    assert "bad config" in error.message


async def test_a_dirty_and_detached_checkout_is_fine(tree: Bench) -> None:
    git(tree.repo, "checkout", "-q", "--detach", "HEAD~1")
    (tree.repo / "README").write_text("dirty\n")
    prepared = await tree.prepare()
    assert prepared.base_commit == git(tree.repo, "rev-parse", "HEAD")
    assert (prepared.path / "README").read_text() == "one\n"
    assert (tree.repo / "README").read_text() == "dirty\n"


async def test_the_base_ref_is_where_the_branch_starts(tree: Bench) -> None:
    git(tree.repo, "tag", "v1", "HEAD~1")
    prepared = await tree.on(base_ref="v1").prepare()
    assert prepared.base_commit == git(tree.repo, "rev-parse", "HEAD~1")


async def test_a_project_that_is_itself_a_linked_worktree_works(tree: Bench) -> None:
    git(tree.repo, "worktree", "add", "-q", "-b", "side", "../side")
    prepared = await tree.on(path=str(tree.repo.parent / "side")).prepare()
    (prepared.path / "new").write_text("n")
    assert (await tree.seal(prepared)).changed
    assert git(tree.repo, "log", "-1", "--format=%s", BRANCH) == "Do it, now!"


async def test_objects_named_by_sha256_work(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, WorkspaceKind.WORKTREE, "--object-format=sha256")
    prepared = await bench.prepare()
    (prepared.path / "new").write_text("n")
    sealed = await bench.seal(prepared)
    assert len(sealed.commit or "") == 64
    assert "new" in bench.files(sealed.commit)


async def test_a_shallow_clone_works(tree: Bench, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--depth=1", tree.repo.as_uri(), "shallow")
    bench = tree.on(path=str(tmp_path / "shallow"))
    prepared = await bench.prepare()
    git(prepared.path, "checkout", "-q", "--detach")
    git(prepared.path, "commit", "-q", "--allow-empty", "-m", "mine")
    mine = git(prepared.path, "rev-parse", "HEAD")
    (prepared.path / "new").write_text("n")
    sealed = await bench.seal(prepared)
    # Some versions of git cope with the missing parents by chance; without it others do not.
    ours = (prepared.git_dir or Path()) / "shallow"
    assert ours.read_bytes() == (bench.repo / ".git" / "shallow").read_bytes()
    assert git(bench.repo, "rev-parse", f"{BRANCH}~1") == mine
    assert (sealed.files, sealed.rescued_ref) == (1, None)


async def test_no_setting_of_the_branch_is_written(tree: Bench) -> None:
    git(tree.repo, "config", "branch.autoSetupMerge", "always")
    before = (tree.repo / ".git" / "config").read_bytes()
    await tree.on(base_ref="main").prepare()
    assert (tree.repo / ".git" / "config").read_bytes() == before


async def test_pruning_worktrees_spares_ours(tree: Bench) -> None:
    prepared = await tree.prepare()
    moved = prepared.path.rename(prepared.path.with_name("unmounted"))
    git(tree.repo, "worktree", "prune", "--expire=now")
    moved.rename(prepared.path)
    assert git(prepared.path, "rev-parse", "--abbrev-ref", "HEAD") == BRANCH


# worktree: the second attempt and what a kill left


async def test_a_second_attempt_has_the_commits_and_the_leftovers_of_the_first(tree: Bench) -> None:
    prepared = await tree.prepare()
    (prepared.path / "sealed").write_text("1")
    sealed = await tree.seal(prepared)
    (prepared.path / "README").write_text("left\n")
    (prepared.path / "untracked").write_text("left\n")
    again = await tree.prepare("run_2")
    assert (again.branch, again.base_commit) == (prepared.branch, sealed.commit)
    assert git(again.path, "status", "--porcelain") == " M README\n?? untracked"


async def test_another_title_keeps_the_branch(tree: Bench) -> None:
    prepared = await tree.prepare()
    again = await tree.workspace.prepare(
        tree.project, task_id="tsk_1", title="Other", branch=None, run_id="r", state=tree.state
    )
    assert again.branch == prepared.branch
    assert reason(await tree.refusal(branch="other")) == "branch_differs"


def _no_admin(bench: Bench, path: Path) -> None:
    git(bench.repo, "worktree", "unlock", str(path))
    (path / ".git").unlink()
    git(bench.repo, "worktree", "prune", "--expire=now")


def _no_folder(bench: Bench, path: Path) -> None:
    path.rename(bench.state.root / "away")


def _half_registered(bench: Bench, path: Path) -> None:
    for name in ("HEAD", "commondir"):
        (bench.repo / ".git" / "worktrees" / "tsk_1" / name).unlink()
    (path / ".git").unlink()


def _locks(bench: Bench, path: Path) -> None:
    for name in ("index.lock", "HEAD.lock"):
        (bench.repo / ".git" / "worktrees" / "tsk_1" / name).write_text("")


def _pointers_rewritten(bench: Bench, path: Path) -> None:
    (path / ".git").write_text("gitdir: /nonexistent\n")
    (bench.repo / ".git" / "worktrees" / "tsk_1" / "gitdir").write_text("/nonexistent/.git\n")


def _interrupted_merge(bench: Bench, path: Path) -> None:
    head = git(path, "rev-parse", "HEAD")
    git(path, "checkout", "-q", "-b", "other", "HEAD~1")
    (path / "new").write_text("other\n")
    git(path, "add", "new")
    git(path, "commit", "-qm", "other")
    git(path, "checkout", "-q", BRANCH)
    git(path, "merge", "-q", "other", check=False)
    assert git(path, "rev-parse", "HEAD") == head


@pytest.mark.parametrize(
    "damage",
    [_no_admin, _no_folder, _half_registered, _locks, _pointers_rewritten, _interrupted_merge],
    ids=lambda damage: damage.__name__.strip("_"),
)
@pytest.mark.parametrize("when", ["before the second attempt", "before the seal"])
async def test_a_damaged_worktree_is_mended(
    tree: Bench, damage: Callable[[Bench, Path], None], when: str
) -> None:
    prepared = await tree.prepare()
    (prepared.path / "new").write_text("1")
    sealed = await tree.seal(prepared)
    damage(tree, prepared.path)
    if when == "before the seal" and damage is _no_folder:
        assert reason(await tree.seal_refusal(prepared)) == "workspace_missing"
        return
    if when == "before the second attempt":
        prepared = await tree.prepare("run_2")
    (prepared.path / "new").write_text("2")
    again = await tree.seal(prepared, "run_2")
    assert git(tree.repo, "show", f"{BRANCH}:new") == "2"
    assert git(tree.repo, "rev-parse", f"{BRANCH}~1") == sealed.commit
    assert git(prepared.path, "status", "--porcelain", "--branch") == f"## {BRANCH}"
    assert git(tree.repo, "rev-parse", BRANCH) == again.commit
    admins = list((tree.repo / ".git" / "worktrees").iterdir())
    assert [item.name for item in admins] == ["tsk_1"]
    assert list(admins[0].glob("*.lock")) == []


async def test_a_checkout_that_was_cut_short_is_done_again(tree: Bench) -> None:
    prepared = await tree.prepare()
    assert prepared.git_dir is not None
    record = prepared.git_dir / "workspace.json"
    record.write_text(record.read_text().replace('"ready": true', '"ready": false'))
    (prepared.path / "gone").unlink()
    (prepared.path / "README").write_text("hal")
    again = await tree.prepare()
    assert git(again.path, "status", "--porcelain") == ""
    assert (again.path / "README").read_text() == "two\n"


async def test_the_work_of_an_unsealed_attempt_on_no_branch_gets_a_rescue_ref(tree: Bench) -> None:
    prepared = await tree.prepare()
    git(prepared.path, "checkout", "-q", "--detach")
    (prepared.path / "new").write_text("n")
    git(prepared.path, "add", "new")
    git(prepared.path, "commit", "-qm", "adrift")
    adrift = git(prepared.path, "rev-parse", "HEAD")
    again = await tree.prepare("run_2")
    assert git(tree.repo, "rev-parse", "refs/aiagent/rescue/run_2-before") == adrift
    assert git(again.path, "status", "--porcelain", "--branch") == f"## {BRANCH}\n?? new"


# worktree: where the sealed commit goes


async def test_a_detached_head_that_descends_is_the_parent(tree: Bench) -> None:
    prepared = await tree.prepare()
    git(prepared.path, "checkout", "-q", "--detach")
    git(prepared.path, "commit", "-q", "--allow-empty", "-m", "mine")
    mine = git(prepared.path, "rev-parse", "HEAD")
    (prepared.path / "new").write_text("n")
    sealed = await tree.seal(prepared)
    assert git(tree.repo, "rev-parse", f"{BRANCH}~1") == mine
    assert sealed.rescued_ref is None
    assert git(prepared.path, "status", "--porcelain", "--branch") == f"## {BRANCH}"


async def test_a_head_that_does_not_descend_is_rescued_and_its_files_are_sealed(
    tree: Bench,
) -> None:
    prepared = await tree.prepare()
    git(prepared.path, "checkout", "-q", "--orphan", "fresh")
    git(prepared.path, "commit", "-qm", "orphan")
    orphan = git(prepared.path, "rev-parse", "HEAD")
    git(prepared.path, "checkout", "-q", "--detach")
    git(prepared.path, "branch", "-qD", "fresh")
    (prepared.path / "new").write_text("n")
    sealed = await tree.seal(prepared)
    assert git(tree.repo, "rev-parse", f"{BRANCH}~1") == prepared.base_commit
    assert git(tree.repo, "rev-parse", sealed.rescued_ref or "") == orphan
    assert "new" in tree.files(BRANCH)
    assert await tree.seal(prepared) == sealed


async def test_a_tip_that_is_no_ancestor_is_rescued(tree: Bench) -> None:
    prepared = await tree.prepare()
    git(prepared.path, "commit", "-q", "--allow-empty", "-m", "on the branch")
    tip = git(prepared.path, "rev-parse", "HEAD")
    git(prepared.path, "checkout", "-q", "--detach", "HEAD~1")
    (prepared.path / "new").write_text("n")
    sealed = await tree.seal(prepared)
    assert sealed.rescued_ref == "refs/aiagent/rescue/run_1"
    assert git(tree.repo, "rev-parse", sealed.rescued_ref) == tip
    assert git(tree.repo, "rev-parse", f"{BRANCH}~1") == prepared.base_commit


async def test_a_deleted_branch_comes_back_with_the_work(tree: Bench) -> None:
    prepared = await tree.prepare()
    (prepared.path / "new").write_text("n")
    git(tree.repo, "update-ref", "-d", f"refs/heads/{BRANCH}")
    sealed = await tree.seal(prepared)
    assert git(tree.repo, "rev-parse", BRANCH) == sealed.commit
    assert git(tree.repo, "rev-parse", f"{BRANCH}~1") == prepared.base_commit


async def test_a_commit_sealed_before_a_kill_is_recognised_from_a_detached_head(
    tree: Bench,
) -> None:
    """The kill came between moving the branch and putting HEAD on it."""
    prepared = await tree.prepare()
    (prepared.path / "new").write_text("n")
    git(prepared.path, "checkout", "-q", "--detach")
    sealed = await tree.seal(prepared)
    git(prepared.path, "update-ref", "--no-deref", "HEAD", prepared.base_commit or "")
    # Another author: a commit made anew would be another one even within the same second.
    request = SealRequest("run_1", "tsk_1", "Do it, now!", author=Author("Other", "o@localhost"))
    assert await tree.workspace.seal(prepared, request) == sealed
    assert sealed.rescued_ref is None


async def test_a_branch_turned_into_a_link_does_not_move_the_user_s_branch(tree: Bench) -> None:
    prepared = await tree.prepare()
    before = git(tree.repo, "rev-parse", "main")
    git(tree.repo, "symbolic-ref", f"refs/heads/{BRANCH}", "refs/heads/main")
    (prepared.path / "new").write_text("n")
    sealed = await tree.seal(prepared)
    assert git(tree.repo, "rev-parse", "main") == before
    assert git(tree.repo, "rev-parse", BRANCH) == sealed.commit


async def test_a_branch_checked_out_meanwhile_is_not_moved_and_the_work_is_kept(
    tree: Bench,
) -> None:
    prepared = await tree.prepare()
    git(prepared.path, "checkout", "-q", "--detach")
    git(tree.repo, "checkout", "-q", BRANCH)
    (prepared.path / "new").write_text("n")
    error = await tree.seal_refusal(prepared)
    assert reason(error) == "branch_checked_out"
    assert git(tree.repo, "status", "--porcelain") == ""
    assert "new" in tree.files(str(error.details["rescued_ref"]))


async def test_an_interrupted_rebase_keeps_what_it_was_about(tree: Bench) -> None:
    prepared = await tree.prepare()
    (prepared.path / "README").write_text("mine\n")
    git(prepared.path, "commit", "-qam", "mine")
    mine = git(prepared.path, "rev-parse", "HEAD")
    (tree.repo / "README").write_text("theirs\n")
    git(tree.repo, "commit", "-qam", "theirs")
    git(prepared.path, "rebase", "main", check=False)
    sealed = await tree.seal(prepared)
    kept = git(tree.repo, "rev-parse", sealed.rescued_ref or "")
    assert kept == mine
    status = git(prepared.path, "status")
    assert "rebase" not in status
    assert f"On branch {BRANCH}" in status


async def test_an_ordinary_commit_after_the_seal_keeps_the_sealed_work(tree: Bench) -> None:
    prepared = await tree.prepare()
    (prepared.path / "new").write_text("n")
    await tree.seal(prepared)
    (prepared.path / "README").write_text("by hand\n")
    git(prepared.path, "commit", "-qam", "by hand")
    assert "new" in tree.files(BRANCH)


async def test_the_work_tree_as_a_link_is_refused(tree: Bench) -> None:
    prepared = await tree.prepare()
    prepared.path.rename(tree.state.root / "away")
    prepared.path.symlink_to(tree.repo)
    assert reason(await tree.seal_refusal(prepared)) == "workspace_missing"


# worktree: after the checks, and the end


async def test_what_checks_leave_is_put_right_and_counted(tree: Bench) -> None:
    prepared = await tree.prepare()
    (prepared.path / "new").write_text("n")
    sealed = await tree.seal(prepared)
    path = prepared.path
    (path / "README").write_text("changed\n")
    (path / "gone").unlink()
    (path / "src" / "main.c").unlink()
    (path / "src").rmdir()
    (path / "src").symlink_to(tree.state.root)
    (path / "new").unlink()
    (path / "new").mkdir()
    (path / "new" / "x").write_text("x")
    (path / "build" / "deep").mkdir(parents=True)
    (path / "build" / "deep" / "out").write_text("x")
    (path / "noise.log").write_text("ignored")
    git(path, "init", "-q", "made")
    assert await tree.workspace.clean_after_checks(prepared, sealed) == 8
    assert git(path, "status", "--porcelain", "--ignored") == "!! .aiagent/\n!! noise.log"
    assert not (path / "build").exists()
    assert tree.state.root.is_dir()
    assert await tree.workspace.clean_after_checks(prepared, sealed) == 0


async def test_a_worktree_with_unsealed_work_is_not_removed(tree: Bench) -> None:
    prepared = await tree.prepare()
    (prepared.path / "new").write_text("n")
    with pytest.raises(WorkspaceError, match="new") as caught:
        await remove_worktree(prepared)
    assert reason(caught.value) == "unsealed"
    sealed = await tree.seal(prepared)
    git(prepared.path, "checkout", "-q", "--detach")
    git(prepared.path, "commit", "-q", "--allow-empty", "-m", "adrift")
    with pytest.raises(WorkspaceError, match="commit"):
        await remove_worktree(prepared)
    git(prepared.path, "checkout", "-q", BRANCH)
    await remove_worktree(prepared)
    await remove_worktree(prepared)
    assert not prepared.path.exists()
    assert git(tree.repo, "rev-parse", BRANCH) == sealed.commit
    again = await tree.prepare("run_2")
    assert (again.path / "new").read_text() == "n"


# sub-modules and filtered files


async def test_what_a_run_changed_is_counted_in_files_and_lines_of_text(tree: Bench) -> None:
    (tree.repo / "old.txt").write_text("1\n2\n3\n")
    git(tree.repo, "add", "old.txt")
    git(tree.repo, "commit", "-qm", "old")
    prepared = await tree.prepare()
    (prepared.path / "old.txt").write_text("1\nchanged\n")
    (prepared.path / "new\tname").write_text("a\nb\n")
    (prepared.path / "picture").write_bytes(b"\0\1\2" * 50)
    sealed = await tree.seal(prepared)
    assert (sealed.files, sealed.lines) == (3, (3, 2))


async def test_a_submodule_stays_a_pointer(tree: Bench, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", str(tree.repo), "library")
    git(tree.repo, "submodule", "--quiet", "add", str(tmp_path / "library"), "lib")
    git(tree.repo, "commit", "-qm", "library")
    prepared = await tree.prepare()
    assert list((prepared.path / "lib").iterdir()) == []
    (prepared.path / "new").write_text("n")
    sealed = await tree.seal(prepared)
    assert sealed.files == 1
    git(prepared.path, "submodule", "--quiet", "update", "--init")
    (prepared.path / "new").write_text("m")
    assert (await tree.seal(prepared, "run_2")).files == 1
    git(prepared.path / "lib", "commit", "-q", "--allow-empty", "-m", "inside")
    error = await tree.seal_refusal(prepared)
    assert reason(error) == "submodule_changed"
    assert error.details["paths"] == ["lib"]


def _plant_lfs(repo: Path, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    (repo / ".gitattributes").write_text("*.bin filter=lfs -text\n")
    (repo / "big.bin").write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(content)}\n"
    )
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "lfs")


async def test_a_file_that_git_lfs_filled_in_keeps_its_pointer(tree: Bench) -> None:
    _plant_lfs(tree.repo, b"real content")
    prepared = await tree.prepare()
    assert (prepared.path / "big.bin").read_text().startswith("version https://git-lfs")
    (prepared.path / "big.bin").write_bytes(b"real content")
    (prepared.path / "new").write_text("n")
    sealed = await tree.seal(prepared)
    assert sealed.files == 1
    assert await tree.workspace.clean_after_checks(prepared, sealed) == 0
    (prepared.path / "big.bin").write_bytes(b"other content")
    assert reason(await tree.seal_refusal(prepared)) == "filtered_changed"


async def test_taking_the_attribute_away_does_not_let_a_filtered_file_in(tree: Bench) -> None:
    _plant_lfs(tree.repo, b"real content")
    prepared = await tree.prepare()
    (prepared.path / ".gitattributes").write_text("")
    (prepared.path / "big.bin").write_bytes(b"decrypted")
    error = await tree.seal_refusal(prepared)
    assert (reason(error), error.details["paths"]) == ("filtered_changed", ["big.bin"])


async def test_a_new_file_with_a_filter_is_refused_by_name(tree: Bench) -> None:
    (tree.repo / ".git" / "info" / "attributes").write_text("*.key filter=crypt\n")
    prepared = await tree.prepare()
    (prepared.path / "new.key").write_text("plain secret")
    error = await tree.seal_refusal(prepared)
    assert (reason(error), error.details["paths"]) == ("filtered_changed", ["new.key"])


async def test_a_filtered_file_may_be_deleted(tree: Bench) -> None:
    _plant_lfs(tree.repo, b"real content")
    prepared = await tree.prepare()
    (prepared.path / "big.bin").unlink()
    assert "big.bin" not in tree.files((await tree.seal(prepared)).commit)


# directory


def _position(repo: Path) -> tuple[str, ...]:
    index = hashlib.sha256((repo / ".git" / "index").read_bytes()).hexdigest()
    heads = git(repo, "for-each-ref", "refs/heads")
    return (index, (repo / ".git" / "HEAD").read_text(), heads)


async def test_a_snapshot_moves_nothing_of_the_user_s(checkout: Bench) -> None:
    before = _position(checkout.repo)
    prepared = await checkout.prepare()
    (prepared.path / "new").write_text("n")
    sealed = await checkout.seal(prepared)
    assert prepared.path == checkout.repo
    assert git(checkout.repo, "rev-parse", "refs/aiagent/runs/run_1") == sealed.commit
    assert _position(checkout.repo) == before
    assert git(checkout.repo, "status", "--porcelain") == "?? new"
    (checkout.repo / "left").write_text("by a check")
    assert await checkout.workspace.clean_after_checks(prepared, sealed) == 0
    assert (checkout.repo / "left").exists()


def _modify(repo: Path) -> None:
    (repo / "README").write_text("changed\n")


def _add_untracked(repo: Path) -> None:
    (repo / "untracked").write_text("x")


def _stage_and_revert(repo: Path) -> None:
    (repo / "README").write_text("changed\n")
    git(repo, "add", "README")
    (repo / "README").write_text("two\n")


@pytest.mark.parametrize("change", [_modify, _add_untracked, _stage_and_revert])
async def test_a_dirty_checkout_is_refused_unless_allowed(
    checkout: Bench, change: Callable[[Path], None]
) -> None:
    change(checkout.repo)
    before = _position(checkout.repo)
    error = await checkout.refusal()
    assert reason(error) == "dirty"
    await checkout.on(allow_dirty=True).prepare()
    assert _position(checkout.repo) == before


async def test_what_a_task_left_does_not_keep_its_next_attempt_out(checkout: Bench) -> None:
    prepared = await checkout.prepare()
    (prepared.path / "new").write_text("n")
    await checkout.seal(prepared)
    await checkout.prepare("run_2")
    assert reason(await checkout.refusal(task_id="tsk_2")) == "dirty"
    (prepared.path / "by-the-user").write_text("n")
    assert reason(await checkout.refusal()) == "dirty"


async def test_a_folder_without_a_repository_has_no_commit(checkout: Bench, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    bench = checkout.on(path=str(tmp_path / "plain"))
    prepared = await bench.prepare()
    assert (prepared.branch, prepared.base_commit, prepared.git_dir) == (None, None, None)
    sealed = await bench.seal(prepared)
    assert sealed.commit is None
    assert not await bench.workspace.verify_unchanged(prepared, sealed)


async def test_a_folder_inside_a_repository_gets_no_snapshot_of_all_of_it(
    checkout: Bench,
) -> None:
    bench = checkout.on(path=str(checkout.repo / "src"))
    assert (await bench.prepare()).git_dir is None
    # git takes a folder named so that is no repository for nothing, and looks further up.
    (bench.repo / ".git").mkdir()
    assert (await bench.prepare()).git_dir is None


async def test_a_snapshot_before_the_first_commit_has_no_parent(
    checkout: Bench, tmp_path: Path
) -> None:
    git(tmp_path, "init", "-q", "empty")
    bench = checkout.on(path=str(tmp_path / "empty"))
    prepared = await bench.prepare()
    assert (await bench.seal(prepared)).commit is None
    (prepared.path / "new").write_text("n")
    sealed = await bench.seal(prepared)
    assert (bench.files(sealed.commit), sealed.files) == ({"new"}, 1)


async def test_filtered_files_and_submodules_count_from_where_they_were(
    checkout: Bench, tmp_path: Path
) -> None:
    repo = checkout.repo
    (repo / ".gitattributes").write_text("*.key filter=crypt\n")
    (repo / "a.key").write_text("encrypted")
    git(repo, "add", "-A")
    git(tmp_path, "clone", "-q", str(repo), "library")
    git(repo, "submodule", "--quiet", "add", str(tmp_path / "library"), "lib")
    git(repo, "commit", "-qm", "more")
    (repo / "a.key").write_text("as the user's filter made it")
    prepared = await checkout.prepare()
    (repo / "new").write_text("n")
    sealed = await checkout.seal(prepared)
    assert sealed.files == 1
    assert await checkout.workspace.verify_unchanged(prepared, sealed)
    (repo / "a.key").write_text("as the agent left it")
    assert reason(await checkout.seal_refusal(prepared)) == "filtered_changed"


async def test_repositories_that_were_there_are_left_out_when_dirt_is_allowed(
    checkout: Bench,
) -> None:
    git(checkout.repo, "init", "-q", "older")
    git(checkout.repo, "init", "-q", "src")
    bench = checkout.on(allow_dirty=True)
    prepared = await bench.prepare()
    (prepared.path / "new").write_text("n")
    sealed = await bench.seal(prepared)
    assert sealed.files == 1
    git(checkout.repo, "init", "-q", "newer")
    assert (await bench.seal_refusal(prepared)).details["paths"] == ["newer"]


async def test_a_half_made_worktree_of_another_task_is_no_obstacle_to_a_seal(tree: Bench) -> None:
    """While git makes one, or after a kill of it, `git worktree list` dies on the empty files."""
    prepared = await tree.prepare()
    half = tree.repo / ".git" / "worktrees" / "tsk_half"
    half.mkdir()
    (half / "gitdir").write_text("/nowhere/.git\n", encoding="utf-8")
    (half / "commondir").touch()
    (prepared.path / "new.txt").write_text("new", encoding="utf-8")
    assert (await tree.seal(prepared)).changed


async def test_an_old_half_made_entry_of_ours_is_cleared_and_others_are_left(tree: Bench) -> None:
    """A crash of the machine in mid-add would otherwise stop every worktree of the repository."""
    admins = tree.repo / ".git" / "worktrees"
    ours, theirs = admins / new_id("tsk"), admins / "somebody"
    for half in (ours, theirs):
        half.mkdir(parents=True)
        (half / "gitdir").write_text("/nowhere/.git\n", encoding="utf-8")
        (half / "commondir").write_text("" if half == ours else "../..\n", encoding="utf-8")
        (half / "HEAD").write_text("ref: refs/heads/x\n", encoding="utf-8")
        os.utime(half, (1, 1))
    assert (await tree.prepare()).path.is_dir()
    assert not ours.exists()
    assert theirs.exists()


async def test_what_a_kill_left_of_the_making_of_a_worktree_goes_with_the_next(tree: Bench) -> None:
    """Its own task may never be worked on again."""
    path = (await tree.prepare()).path
    drafts = path.parent / ".new"
    old, young = drafts / new_id("tsk"), drafts / new_id("tsk")
    for draft in (old, young):
        draft.mkdir(parents=True)
        (draft / ".git").write_text("gitdir: /nowhere\n", encoding="utf-8")
    os.utime(old, (1, 1))
    await tree.prepare(task_id=new_id("tsk"))
    assert [one.name for one in drafts.iterdir()] == [young.name]


async def test_many_worktrees_made_at_once_do_not_trip_over_each_other(tree: Bench) -> None:
    made: list[Path] = []

    async def make(task_id: str) -> None:
        made.append((await tree.prepare(task_id=task_id)).path)

    async with anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(make, f"tsk_{number}")
    assert len(set(made)) == 12
