from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiagent_coordinator.errors import PathEscapeError
from aiagent_coordinator.ids import is_branch_name, path_name
from aiagent_coordinator.workspaces.naming import (
    branch_name,
    confined,
    make_folder,
    parts,
    remove,
)

PIECES = (
    *("..", ".", "/", "\\", "\0", "\n", "-rf", "~", "link", "a", "ä", "\u202e", "\ud800", "@{"),
    *(".lock", ".git", " ", "*", ":", "%2e%2e", "x" * 300, "CON", "😀", "A", "file"),
)
NASTY = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PIECES), max_size=8).map("".join))


def ten_thousand_names() -> Iterator[str]:
    """The same names each time."""
    dice = random.Random(7)
    for _ in range(10_000):
        yield "".join(dice.choices(PIECES, k=dice.randrange(8)))


def test_a_branch_names_project_task_and_title() -> None:
    assert branch_name("proj", "tsk_1", "Do it, now!") == "aiagent/proj/tsk_1-do-it-now"


def test_a_title_without_letters_leaves_the_task_alone() -> None:
    assert branch_name("proj", "tsk_1", "日本語") == "aiagent/proj/tsk_1"


@settings(max_examples=300, deadline=None)
@given(NASTY, NASTY, NASTY)
def test_git_takes_every_branch_name(project: str, task: str, title: str) -> None:
    name = branch_name(project, task, title)
    argv = ["git", "check-ref-format", "--branch", name]
    done = subprocess.run(argv, capture_output=True, check=False, timeout=10)
    assert done.returncode == 0, name
    assert name.count("/") == 2


@settings(max_examples=300, deadline=None)
@given(NASTY)
@example("..")
@example("../x")
@example("a/../../x")
def test_no_path_leads_out_of_its_folder(name: str) -> None:
    root = Path("/nonexistent/root")
    try:
        path = confined(root, name)
    except PathEscapeError:
        return
    assert path != root
    assert os.path.normpath(path) == str(path)
    assert path.is_relative_to(root)


def test_no_folder_is_made_or_removed_outside(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    root.mkdir()
    (root / "link").symlink_to(outside)
    (root / "file").write_text("x")
    made = 0
    for name in ten_thousand_names():
        assert len(parts(path_name(name))) == 1
        try:
            folder = make_folder(root, name)
        except PathEscapeError:
            continue
        made += 1
        assert folder.is_relative_to(root)
        assert os.path.normpath(folder) == str(folder)
        assert folder.is_dir()
        remove(root, str(folder.relative_to(root)))
        assert not folder.exists()
    assert 1_000 < made < 9_000
    assert sorted(tmp_path.iterdir()) == [outside, root]
    assert sorted(root.iterdir()) == [root / "file", root / "link"]
    assert [item.name for item in outside.iterdir()] == ["precious"]


@pytest.mark.parametrize("name", ["", "/", "/etc", "..", "a/..", "./a", "a//b", "a/\0", "x" * 256])
def test_what_is_no_path_below_a_folder_is_refused(name: str) -> None:
    with pytest.raises(PathEscapeError):
        parts(name)


def test_a_linked_parent_is_refused_everywhere(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (outside / "below").mkdir(parents=True)
    root.mkdir()
    (root / "link").symlink_to(outside)
    for call in (confined, make_folder, remove):
        with pytest.raises(PathEscapeError):
            call(root, "link/below")
    assert (outside / "below").is_dir()


def test_a_link_is_removed_and_not_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "link").symlink_to(outside)
    remove(root, "a/b/link")
    assert outside.is_dir()
    assert list(root.iterdir()) == []


def test_removing_keeps_folders_that_hold_something(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "kept").write_text("x")
    (tmp_path / "a" / "b" / "c").write_text("x")
    remove(tmp_path, "a/b/c")
    remove(tmp_path, "a/b/c")
    assert [item.name for item in (tmp_path / "a").iterdir()] == ["kept"]


#: Names that people type, good and bad; git itself is asked which is which.
BRANCH_NAMES = [
    "topic", "feature/task-1.1-schema", "a/b/c", "日本", "x@y", "a{b", "-", "-f", "HEAD", "a b", "a..b",
    "a~1", "a^", "a:b", "a?", "a*", "a[b", "a\\b", "/a", "a/", "a//b", ".a", "a/.b", "a.", "a.lock",
    "a.lock/b", "a@{b", "a\tb", "a\x7fb", "a.b", "refs/heads/a", "a/HEAD", "a]", "@a",
]  # fmt: skip


@pytest.mark.parametrize("name", BRANCH_NAMES)
def test_a_name_is_a_branch_exactly_when_git_says_so(name: str):
    """Without a repository at hand the board knows too."""
    command = ["git", "check-ref-format", "--branch", name]
    fine = subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert is_branch_name(name) == fine
