"""Sub-tasks of an agent: made, led through, reported, and gone with their task. A real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator.runs import RetryPolicy, RunOutcome, Verification
from aiagent_coordinator.store import projects, reports, requests
from aiagent_coordinator.store import steps as step_store
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.tasks import Project, Task, TaskStatus
from support.board import Board, Claimed, Raw, connected, serving

BATCH: list[dict[str, Any]] = [
    {"local_id": "paint", "title": "Paint", "dependencies": ["wash"]},
    {"local_id": "wash", "title": "Wash", "description": "With water.", "priority": "high"},
    {"local_id": "tidy", "title": "Tidy up"},
]


async def parts(board: Board, claimed: Claimed) -> dict[str, Task]:
    task_id = claimed.run.task_id
    assert task_id is not None
    found = await board.store.read(lambda unit: step_store.of_task(unit, task_id))
    return {one.title: one for one in found}


async def batch(client: Raw, tasks: list[dict[str, Any]] | None = None) -> dict[str, str]:
    answer = await client.tool("create_tasks_batch", tasks=tasks or BATCH)
    assert answer["success"], answer
    return answer["local_id_to_real_id"]


async def move(client: Raw, step_id: str, status: str, **more: str) -> str:
    answer = await client.tool("update_task_status", task_id=step_id, status=status, **more)
    return answer["task"]["new_status"]


async def test_an_agent_is_led_through_its_subtasks_in_the_order_they_can_be_done(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            await client.tool("get_my_task")
            ids = await batch(client)
            told: list[tuple[str, str]] = []
            for _ in range(20):
                step = await client.tool("get_next_action")
                action = step["action"]
                if action == "report_completion":
                    break
                meant = step.get("next_subtask") or step["current_subtask"]
                told.append((action, meant["title"]))
                word = "in_progress" if action == "start_subtask" else "done"
                assert await move(client, meant["task_id"], word) == word
            assert told == [
                ("start_subtask", "Wash"),
                ("execute_subtask", "Wash"),
                ("start_subtask", "Paint"),
                ("execute_subtask", "Paint"),
                ("start_subtask", "Tidy up"),
                ("execute_subtask", "Tidy up"),
            ]
            progress = await client.tool("get_my_task_progress")
            (mine,) = progress["tasks"]
            assert mine["status"] == "in_progress"
            assert {one["id"]: one["status"] for one in mine["subtasks"]} == dict.fromkeys(
                ids.values(), "done"
            )
            assert (await client.tool("report_completed", result="success"))["accepted"]


async def test_a_batch_that_is_sent_again_makes_nothing_twice(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            ids = await batch(client)
            assert await batch(client) == ids
            one = await client.tool("create_task", title="Tidy up")
            assert one["task"]["id"] == ids["tidy"]
            more = await client.tool("create_task", title="Sing", dependencies=[ids["tidy"]])
            assert more["task"]["status"] == "todo"
        assert len(await parts(board, claimed)) == 4
        assert (await parts(board, claimed))["Sing"].status is TaskStatus.BLOCKED


@pytest.mark.parametrize(
    ("tasks", "code"),
    [
        ([{"local_id": "a", "title": "A", "dependencies": ["b"]}], "VALIDATION"),
        (
            [
                {"local_id": "a", "title": "A", "dependencies": ["b"]},
                {"local_id": "b", "title": "B", "dependencies": ["a"]},
            ],
            "CYCLE",
        ),
        ([{"local_id": "a", "title": "A"}, {"local_id": "a", "title": "B"}], "VALIDATION"),
        ([{"local_id": "a", "title": "A"}, {"local_id": "b", "title": "two\nlines"}], "VALIDATION"),
        ([], "VALIDATION"),
        ([{"local_id": str(n), "title": str(n)} for n in range(51)], "VALIDATION"),
    ],
)
async def test_a_batch_is_made_whole_or_not_at_all(
    short_dir: Path, tasks: list[dict[str, Any]], code: str
) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            assert await client.code("create_tasks_batch", tasks=tasks) == code
        assert await parts(board, claimed) == {}


async def test_a_subtask_moves_only_along_its_way_and_only_its_owner_moves_it(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board:
        claimed, other = await board.claim(), await board.claim("Another")
        async with (
            connected(board, claimed.hello()) as client,
            connected(board, other.hello()) as stranger,
        ):
            ids = await batch(client)

            async def text(step: str, status: str) -> str:
                said = await client.tool("update_task_status", task_id=ids[step], status=status)
                return said["error"]["message"]

            assert await text("wash", "done") == "Invalid status transition from todo to done"
            assert "Valid values: in_progress" in await text("wash", "sleeping")
            assert "waits for others" in await text("paint", "in_progress")
            assert await move(client, ids["wash"], "in_progress") == "in_progress"
            assert await move(client, ids["wash"], "in_progress") == "in_progress"
            assert await move(client, ids["wash"], "blocked", reason="no water") == "blocked"
            assert await move(client, ids["wash"], "in_progress") == "in_progress"
            assert await move(client, ids["wash"], "done") == "done"
            assert "from done to cancelled" in await text("wash", "cancelled")
            assert await stranger.code(
                "update_task_status", task_id=ids["tidy"], status="done"
            ) == ("NOT_FOUND")
            own = claimed.run.task_id
            assert await client.code("update_task_status", task_id=own, status="done") == (
                "VALIDATION"
            )
            assert await client.code("create_task", title="x", parent_task_id="tsk_x") == (
                "VALIDATION"
            )


async def test_blocked_and_hopeless_subtasks_are_told_as_such(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            await client.tool("get_my_task")
            ids = await batch(client, BATCH[:2])
            await move(client, ids["wash"], "in_progress")
            await move(client, ids["wash"], "blocked", reason="no water")
            assert (await client.tool("get_next_action"))["action"] == "review_and_resolve_blocks"
            (mine,) = (await client.tool("get_my_task_progress"))["tasks"]
            assert mine["subtasks"][1] == {
                "id": ids["wash"],
                "title": "Wash",
                "status": "blocked",
                "reason": "no water",
            }
            await move(client, ids["wash"], "cancelled")
            assert (await client.tool("get_next_action"))["action"] == "dependency_deadlock"
            await move(client, ids["paint"], "cancelled")
            assert (await client.tool("get_next_action"))["action"] == "report_completion"


async def test_success_with_open_subtasks_is_given_back_and_in_the_end_they_go_with_the_task(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            ids = await batch(client)
            for _ in range(2):
                said = await client.tool("report_completed", result="success")
                assert not said["accepted"]
                assert set(said["open_subtasks"]) == set(ids.values())
            assert (await client.tool("report_completed", result="success"))["accepted"]
        report = requests.ResultReport(
            claimed.run.id, claimed.run.fence, 2, RunOutcome.SUCCEEDED, Verification.NOT_VERIFIED
        )
        await board.store.write(lambda unit: reports.record_result(unit, report, RetryPolicy()))
        found = await parts(board, claimed)
        assert {one.status for one in found.values()} == {TaskStatus.CANCELLED}
        assert {one.status_reason for one in found.values()} == {"its task succeeded"}


async def test_steps_are_started_by_nobody_else_and_count_as_no_work(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            ids = await batch(client)
        async with (
            connected(board, board.coordinator) as coordinator,
            connected(board, board.person) as person,
        ):
            told = await coordinator.tool("list_agent_actions", coordinator_id="crd_x")
            assert {line["action"] for line in told["actions"]} == {"hold"}
            why = await person.tool("explain_task", task_id=ids["wash"])
            assert [one["code"] for one in why["reasons"]] == ["step"]
            await person.tool("cancel_task", task_id=claimed.run.task_id)
            gone = (await person.tool("get_task", task_id=ids["wash"]))["task"]
            assert (gone["status"], gone["status_reason"]) == ("cancelled", "its task cancelled")


async def test_an_agent_may_ask_who_it_is_and_what_it_may_call(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            me = await client.tool("get_my_profile")
            assert (me["id"], me["ai_type"], me["status"]) == ("ann", "rehearsal", "active")
            listed = await client.tool("help")
            names = {one["name"] for one in listed["tools"]}
            offered = (await client.request("tools/list"))["result"]["tools"]
            assert names == {tool["name"] for tool in offered}
            one = await client.tool("help", tool_name="create_task")
            assert "title" in one["tool"]["parameters"]["properties"]
            assert "error" in await client.tool("help", tool_name="claim_run")
            same = await client.tool("report_model", provider="rehearsal", model_id="r-1")
            assert same["verified"]
            other = await client.tool("report_model", provider="gemini", model_id="r-1")
            assert other["success"]
            assert not other["verified"]


async def test_an_agent_sees_its_own_project_and_no_other(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim("Mine")
        other = Project(id="kitchen", name="Kitchen", path=str(short_dir / "k"))
        await board.store.write(lambda unit: projects.declare_project(unit, other))
        secret = await board.store.write(
            lambda unit: task_store.create_task(
                unit, task_store.NewTask("kitchen", "Secret recipe"), "person"
            )
        )
        await board.add_task("Next", description="later")
        async with connected(board, claimed.hello()) as client:
            listed = (await client.tool("list_tasks"))["tasks"]
            assert {(one["title"], one["status"]) for one in listed} == {
                ("Mine", "in_progress"),
                ("Next", "todo"),
            }
            todo = (await client.tool("list_tasks", status="todo"))["tasks"]
            assert [one["title"] for one in todo] == ["Next"]
            assert await client.code("list_tasks", status="sleeping") == "VALIDATION"
            shown = await client.tool("get_task", task_id=todo[0]["id"])
            assert shown["task"]["description"] == "later"
            refused = await client.tool("get_task", task_id=secret.id)
            assert refused["error"]["message"] == f"Task not found: {secret.id}"
            assert (await client.tool("get_project"))["project"]["id"] == "garden"
            assert await client.code("get_project", project_id="kitchen") == "FORBIDDEN"
            (run,) = (await client.tool("get_my_execution_history"))["executions"]
            assert (run["execution_id"], run["status"], run["exit_code"]) == (
                claimed.run.id,
                "running",
                None,
            )
