"""Whose process is it: a run's that is over, or a stranger's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aiagent_coordinator.executors.processes import Seen
from aiagent_coordinator.executors.strays import Over, abandoned, in_workspaces, tagged

ROOT = "/state/worktrees"
WORK = f"{ROOT}/app/tsk_1"
RUN = Over("run_1", since=100, cwd=WORK, kills_leftovers=True)
LEFT = Seen(7, 150, 1, None, WORK, has_terminal=False, command="server")


def found(seen: list[Seen], *, live: set[str] | None = None, run: Over = RUN) -> list[int]:
    candidates = in_workspaces(seen, [ROOT])
    strays = abandoned(candidates, [run], live or set(), {1})
    return [one.process.pid for one in strays]


def test_what_names_a_run_that_is_over_is_its_own():
    mine = replace(LEFT, tag="run_1")
    assert [one.run_id for one in tagged([mine], {"run_1": RUN})] == ["run_1"]


@pytest.mark.parametrize(
    ("seen", "run"),
    [
        ({"tag": "run_2"}, {}),
        ({"tag": None}, {}),
        ({"started": 99}, {}),
        ({}, {"kills_leftovers": False}),
    ],
)
def test_another_name_an_earlier_start_and_leave_to_stay_protect(
    seen: dict[str, Any], run: dict[str, Any]
):
    one = replace(LEFT, **{"tag": "run_1", **seen})
    assert not tagged([one], {"run_1": replace(RUN, **run)})


def test_an_orphan_in_a_workspace_that_nobody_works_in_is_left_behind_with_its_children():
    child = replace(LEFT, pid=8, parent=7, cwd=f"{WORK}/deep")
    grandchild = replace(child, pid=9, parent=8)
    assert found([grandchild, child, LEFT]) == [7, 8, 9]


@pytest.mark.parametrize(
    "changes",
    [
        {"parent": 4000},
        {"has_terminal": True},
        {"cwd": "/home/user"},
        {"cwd": ROOT},
        {"cwd": f"{WORK}-other"},
        {"cwd": None},
        {"started": 99},
        {"tag": "run_of_another"},
    ],
)
def test_a_person_who_works_there_is_a_stranger(changes: dict[str, Any]):
    """A shell, an editor and its helpers have a terminal or a parent, or were there before."""
    assert found([replace(LEFT, **changes)]) == []


def test_without_a_beginning_only_the_name_of_a_run_counts():
    """Some systems do not say when a run began."""
    unknown = replace(RUN, since=0)
    assert tagged([replace(LEFT, tag="run_1")], {"run_1": unknown})
    assert found([LEFT], run=unknown) == []


def test_a_workspace_in_use_is_left_alone():
    assert found([LEFT], live={WORK}) == []
    assert found([LEFT], live={ROOT + "/app/tsk_2"}) == [7]


def test_leave_to_stay_holds_for_what_hides_its_name_too():
    assert found([LEFT], run=replace(RUN, kills_leftovers=False)) == []
