"""What a manager may do with its sub-tasks, and what wakes it. A real server, a client that says anything."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator.runs import RetryPolicy, RunOutcome, Verification
from aiagent_coordinator.store import dependencies, reports, requests, tables
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.transitions import set_status
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Task, TaskStatus, WaitReason
from support.board import Board, Claimed, Raw, connected, serving


@asynccontextmanager
async def managing(folder: Path, **settings: Any) -> AsyncGenerator[tuple[Board, Claimed, Raw]]:
    """A manager that has read its task."""
    async with serving(folder, **settings) as board:
        await board.promote()
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            await client.tool("get_my_task")
            yield board, claimed, client


async def made(client: Raw, *tasks: dict[str, Any], **more: Any) -> dict[str, str]:
    lines = [{"local_id": one.pop("id"), "title": one.pop("title", "T"), **one} for one in tasks]
    answer = await client.tool("create_tasks_batch", tasks=lines, **more)
    assert answer.get("success"), answer
    return answer["local_id_to_real_id"]


async def look(board: Board, task_id: str | None) -> Task:
    assert task_id is not None
    return await board.store.read(lambda unit: task_store.get_task(unit, task_id))


async def put(board: Board, task_id: str, *moves: tuple[str, TaskStatus], **more: Any) -> None:
    """Move a sub-task as its run would."""

    def work(unit: Unit) -> None:
        for name, target in moves:
            task = task_store.lock_task(unit, task_id)
            given = more if target is moves[-1][1] else {}
            set_status(unit, task, name, target, actor="test", **given)

    await board.store.write(work)


RUN = ("T4", TaskStatus.RUNNING)
DONE = ("T13", TaskStatus.SUCCEEDED)
FAIL = ("T16", TaskStatus.FAILED)
PARK = ("T22", TaskStatus.WAITING)


async def ended(board: Board, claimed: Claimed) -> None:
    """The manager's program is gone."""
    report = requests.ResultReport(
        claimed.run.id, claimed.run.fence, 2, RunOutcome.SUSPENDED, Verification.NOT_VERIFIED, "delegated"
    )  # fmt: skip
    await board.store.write(lambda unit: reports.record_result(unit, report, RetryPolicy()))


async def test_a_manager_is_led_from_its_task_to_its_report(short_dir: Path) -> None:
    async with managing(short_dir) as (board, _, client):

        async def action() -> tuple[str, str]:
            said = await client.tool("get_next_action")
            return said["action"], said["state"]

        guide = await client.tool("get_session_guide")
        assert guide["hierarchy_type"] == "manager"
        assert "assign_task" in guide["guide"]
        assert await action() == ("create_subtasks", "needs_subtask_creation")
        ids = await made(client, {"id": "a"}, {"id": "b", "dependencies": ["a"]})
        assert await action() == ("assign", "needs_assignment")
        for one in ids.values():
            said = await client.tool("assign_task", task_id=one, assignee_id="bob")
            assert (said["assignee_id"], said["previous_assignee_id"]) == ("bob", None)
        said = await client.tool("get_next_action")
        assert (said["action"], said["choices"]) == (
            "situational_awareness",
            ["dispatch_task", "adjust", "wait", "complete"],
        )
        assert [one["id"] for one in said["available_workers"]] == ["bob"]
        assert [one["standing"] for one in said["subtasks"]] == ["ready", "ready"]
        for choice, told in (("dispatch_task", "dispatch_task"), ("adjust", "adjust"), ("complete", "adjust")):  # fmt: skip
            assert (await client.tool("select_action", action=choice))["selected_action"] == choice
            assert (await action())[0] == told
        assert await client.code("select_action", action="sing") == "VALIDATION"
        await put(
            board, ids["a"], RUN, DONE, result={"summary": "dug", "branch": "b", "commit": "c"}
        )
        await put(board, ids["b"], RUN, DONE)
        said = await client.tool("get_next_action")
        assert said["action"] == "completion_check"
        assert said["subtasks"][0]["summary"] == "dug"
        assert (await client.tool("get_my_task_progress"))["tasks"][0]["subtasks"][0][
            "commit"
        ] == "c"
        await client.tool("select_action", action="complete")
        assert (await action())[0] == "report_completion"
        assert (await client.tool("report_completed", result="success"))["accepted"]
        assert (await action())[0] == "exit"


async def test_a_manager_that_waits_is_held_with_its_progress_until_it_is_needed(
    short_dir: Path,
) -> None:
    async with managing(short_dir) as (board, claimed, client):
        ids = await made(client, *({"id": one, "assignee_id": "bob"} for one in "abc"))
        await client.tool("select_action", action="wait")
        said = await client.tool("get_next_action")
        assert (said["action"], said["state"]) == ("wait", "waiting_for_workers")
        await put(board, ids["a"], RUN, DONE)
        assert (await look(board, claimed.run.task_id)).status is TaskStatus.WAITING
        await ended(board, claimed)
        async with connected(board, board.coordinator) as coordinator:
            told = await coordinator.tool("list_agent_actions", coordinator_id="crd_x")
            (line,) = [one for one in told["actions"] if one["agent_id"] == "ann"]
            assert (line["action"], line["reason"]) == ("hold", "waiting_for_workers")
            old = await coordinator.tool("get_agent_action", agent_id="ann", project_id="garden")
            assert old == {
                "action": "hold",
                "reason": "waiting_for_workers",
                "progress": {"completed": 1, "in_progress": 0, "total": 3},
            }
            await put(board, ids["b"], RUN, PARK, wait_reason=WaitReason.BLOCKED)
            told = await coordinator.tool("list_agent_actions", coordinator_id="crd_x")
            (line,) = [one for one in told["actions"] if one["agent_id"] == "ann"]
            assert (line["action"], line["task_id"]) == ("start", claimed.run.task_id)
        task = await look(board, claimed.run.task_id)
        assert (task.status, task.attempt, task.awaited) == (TaskStatus.QUEUED, 1, None)


async def test_what_changes_while_a_waiting_managers_run_ends_is_not_lost(short_dir: Path) -> None:
    async with managing(short_dir) as (board, claimed, client):
        ids = await made(client, {"id": "a", "assignee_id": "bob"})
        await client.tool("select_action", action="wait")
        await put(board, ids["a"], RUN, DONE)
        assert (await look(board, claimed.run.task_id)).status is TaskStatus.WAITING
        await ended(board, claimed)
        assert (await look(board, claimed.run.task_id)).status is TaskStatus.QUEUED
        run = await board.run(claimed.run.id)
        assert (run.outcome, run.reported_result) == (RunOutcome.SUSPENDED, "waiting")


async def test_a_manager_moves_only_its_own_sub_tasks_and_only_as_it_may(short_dir: Path) -> None:
    async with managing(short_dir) as (board, _, client):
        foreign = await board.add_task("Somebody else's")
        ids = await made(client, {"id": "a"}, {"id": "b", "assignee_id": "bob"}, {"id": "c"})

        async def code(tool: str, **arguments: Any) -> str | None:
            return await client.code(tool, **arguments)

        for who in ("ann", "cid", "dan", "nobody"):
            assert await code("assign_task", task_id=ids["a"], assignee_id=who) == "FORBIDDEN"
            assert (await code("get_subordinate_profile", agent_id=who)) == (
                None if who == "cid" else "FORBIDDEN"
            )
        assert await code("assign_task", task_id=foreign.id, assignee_id="bob") == "NOT_FOUND"
        assert (
            await code("update_task_status", task_id=foreign.id, status="cancelled") == "NOT_FOUND"
        )
        assert await code("update_task_status", task_id=ids["a"], status="todo") == "CONFLICT"
        assert await code("update_task_status", task_id=ids["a"], status="done") == "VALIDATION"
        assert (
            await code("update_task_status", task_id=ids["a"], status="in_progress") == "TRANSITION"
        )
        await put(board, ids["b"], RUN)
        assert await code("assign_task", task_id=ids["b"], assignee_id="bob") == "TRANSITION"
        assert await code("split_task", task_id=ids["b"], tasks=[
            {"local_id": "x", "title": "X"}, {"local_id": "y", "title": "Y"}]) == "TRANSITION"  # fmt: skip


async def test_a_blocked_and_a_failed_sub_task_are_taken_up_again_or_given_up(
    short_dir: Path,
) -> None:
    async with managing(short_dir) as (board, _, client):
        ids = await made(client, *({"id": one, "assignee_id": "bob"} for one in "ab"))
        await put(
            board, ids["a"], RUN, PARK, wait_reason=WaitReason.BLOCKED, status_reason="no key"
        )
        await put(board, ids["b"], RUN, FAIL, status_reason="attempts_exhausted")
        said = await client.tool("get_next_action")
        assert said["action"] == "review_and_resolve_blocks"
        assert [one["reason"] for one in said["other_blocked_subtasks"]] == [
            "no key",
            "failed: attempts_exhausted",
        ]
        assert await client.code("select_action", action="wait") == "CONFLICT"
        for one in ids.values():
            await client.tool("update_task_status", task_id=one, status="in_progress")
            assert (await look(board, one)).status is TaskStatus.QUEUED
        assert (await look(board, ids["b"])).attempt == 2
        await put(board, ids["b"], RUN, FAIL)
        await client.tool("update_task_status", task_id=ids["b"], status="cancelled")
        assert (await look(board, ids["b"])).status is TaskStatus.FAILED
        await put(board, ids["a"], RUN, DONE)
        assert (await client.tool("get_next_action"))["action"] == "completion_check"


async def test_success_is_never_taken_while_others_still_work(short_dir: Path) -> None:
    async with managing(short_dir) as (_, _, client):
        ids = await made(client, {"id": "a", "assignee_id": "bob"})
        for _ in range(4):
            said = await client.tool("report_completed", result="success")
            assert (said["accepted"], said["open_subtasks"]) == (False, [ids["a"]])


@pytest.mark.parametrize("is_manager", [True, False])
async def test_a_sub_task_that_is_split_leaves_its_place_to_its_parts(
    short_dir: Path, is_manager: bool
) -> None:
    async with serving(short_dir) as board:
        if is_manager:
            await board.promote()
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            ids = await made(
                client,
                {"id": "first", "title": "First"},
                {"id": "big", "title": "Big", "dependencies": ["first"]},
                {"id": "last", "title": "Last", "dependencies": ["big"]},
            )
            parts = [{"local_id": one, "title": f"Part {one}"} for one in "xy"]
            new: list[str] = []
            for _ in range(2):
                said = await client.tool("split_task", task_id=ids["big"], tasks=parts)
                assert sorted(said["local_id_to_real_id"]) == ["x", "y"]
                new = list(said["local_id_to_real_id"].values())
        assert (await look(board, ids["big"])).status is TaskStatus.CANCELLED

        def needs(unit: Unit) -> dict[str, set[str]]:
            return {
                one: {need.id for need in dependencies.needed_by(unit, one)}
                for one in (*new, ids["last"])
            }

        found = await board.store.read(needs)
        assert found[ids["last"]] == set(new)
        assert all(found[one] == {ids["first"]} for one in new)


async def test_a_deadlock_of_a_task_and_its_part_is_named_and_wakes_the_manager(
    short_dir: Path,
) -> None:
    async with managing(short_dir) as (board, claimed, client):
        ids = await made(client, {"id": "a", "assignee_id": "bob"})
        above = claimed.run.task_id
        await client.tool("select_action", action="wait")
        async with connected(board, board.person) as person:

            async def why(task_id: str | None) -> list[dict[str, Any]]:
                return (await person.tool("explain_task", task_id=task_id))["reasons"]

            (moving,) = await why(above)
            assert (moving["code"], moving["do"]) == ("subtasks", f"explain {ids['a']}")
            await person.tool("add_dependencies", task_id=ids["a"], depends_on=[above])
            (stuck,) = await why(above)
            assert stuck["code"] == "deadlock"
            assert f"waits for {above}, which waits for it" in stuck["text"]
            told = (await why(ids["a"]))[0]
            assert (told["code"], told["do"]) == (
                "deadlock",
                f"task depend {ids['a']} --not-on {above}",
            )
        await ended(board, claimed)
        assert (await look(board, above)).status is TaskStatus.QUEUED


async def test_sub_tasks_go_no_deeper_and_no_wider_than_the_settings_say(short_dir: Path) -> None:
    async with managing(short_dir) as (board, claimed, client):
        lines = [{"local_id": str(n), "title": str(n)} for n in range(11)]
        answer = await client.tool("create_tasks_batch", tasks=lines)
        assert answer["error"]["message"].startswith("SUBTASK_LIMIT")
        below = await board.claim("Below", parent_id=claimed.run.task_id)
        last = await board.claim("At the bottom", parent_id=below.run.task_id)
        for one, limit in ((below, None), (last, "SUBTASK_DEPTH")):
            async with connected(board, one.hello()) as deeper:
                answer = await deeper.tool("create_task", title="Deeper")
                assert answer.get("error", {}).get("message", "").partition(":")[0] == (limit or "")


async def test_a_task_that_was_anybodys_is_its_managers_once_it_is_cut(short_dir: Path) -> None:
    async with managing(short_dir) as (board, claimed, client):

        def loosen(unit: Unit) -> None:
            unit.conn.execute(tables.task.update().values(agent_id=None))

        await board.store.write(loosen)
        await made(client, {"id": "a"})
        assert (await look(board, claimed.run.task_id)).agent_id == "ann"


async def test_a_manager_has_a_failed_sub_task_tried_again_ten_times_at_most(
    short_dir: Path,
) -> None:
    async with managing(short_dir) as (board, _, client):
        ids = await made(client, {"id": "a", "assignee_id": "bob"})
        again = {"task_id": ids["a"], "status": "in_progress"}
        for _ in range(9):
            await put(board, ids["a"], RUN, FAIL)
            assert await client.code("update_task_status", **again) is None
        await put(board, ids["a"], RUN, FAIL)
        assert (await look(board, ids["a"])).attempt == 10
        assert await client.code("update_task_status", **again) == "LIMIT"
