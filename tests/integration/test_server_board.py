"""What people change about the board over the wire, and what they are told about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator.store import projects
from aiagent_coordinator.tasks import Agent
from support.board import Board, Raw, connected, hosting, serving


async def _add(person: Raw, title: str, **more: Any) -> dict[str, Any]:
    asked = {"project_id": "garden", "agent_id": "ann", "title": title, **more}
    return (await person.tool("create_task", **asked))["task"]


async def _reasons(person: Raw, task_id: str) -> list[str]:
    told = await person.tool("explain_task", task_id=task_id)
    assert all(reason["text"] for reason in told["reasons"])
    return [reason["code"] for reason in told["reasons"]]


async def _heard(board: Board) -> None:
    """Let a coordinator be there."""
    async with connected(board, board.coordinator) as coordinator:
        asked = {"coordinator_id": board.coordinator_id}
        assert await coordinator.code("list_agent_actions", **asked) is None


async def test_dependencies_are_given_by_prefix_and_shown_with_the_task(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as person:
        first = await _add(person, "Dig")
        second = await _add(person, "Plant", depends_on=[first["id"][:-1]])
        assert (second["status"], second["depends_on"]) == ("blocked", [first["id"]])
        shown = await person.tool("get_task", task_id=second["id"], details=True)
        assert [one["title"] for one in shown["depends_on"]] == ["Dig"]
        assert (shown["runs"], shown["questions"]) == ([], [])
        assert [event["action"] for event in shown["events"]] == ["task.created", "task.status"]
        other = await person.tool("get_task", task_id=first["id"], details=True)
        assert other["needed_by"] == [second["id"]]
        refused = await person.tool(
            "add_dependencies", task_id=first["id"], depends_on=[second["id"]]
        )
        assert refused["error"]["code"] == "CYCLE"
        assert f"{first['id']} -> {second['id']} -> {first['id']}" in refused["error"]["message"]
        freed = await person.tool("remove_dependency", task_id=second["id"], depends_on=first["id"])
        assert freed["task"]["status"] == "queued"


async def test_every_reason_why_a_task_does_not_run_is_told_in_order(short_dir: Path) -> None:
    async with serving(short_dir, max_concurrent=1) as board:
        running = await board.claim("Dig")
        async with connected(board, board.person) as person:
            task = await _add(person, "Plant")
            assert await _reasons(person, task["id"]) == ["no_coordinator", "max_concurrent"]
            await _heard(board)
            assert await _reasons(person, task["id"]) == ["max_concurrent"]
            later = await _add(person, "Water", depends_on=[task["id"]])
            await person.tool("pause_project", project_id="garden")
            assert await _reasons(person, later["id"]) == [
                "dependency", "project_paused", "max_concurrent",
            ]  # fmt: skip
            await person.tool("resume_project", project_id="gar")
            await person.tool("cancel_task", task_id=task["id"])
            assert (await _reasons(person, later["id"]))[0] == "dependency_failed"
            assert await _reasons(person, running.run.task_id or "") == ["running"]
            assert await _reasons(person, task["id"]) == ["over"]
            behind = [await _add(person, f"Weed {number}") for number in range(3)]
            assert (await _reasons(person, behind[-1]["id"]))[-1] == "order"


async def test_a_free_task_with_a_coordinator_there_has_no_reason_to_wait(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as person:
        await _heard(board)
        task = await _add(person, "Plant")
        assert await _reasons(person, task["id"]) == []


async def test_a_paused_project_starts_nothing_and_stays_paused_over_a_restart(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board:
        async with connected(board, board.person) as person:
            paused = await person.tool("pause_project", project_id="garden")
            assert paused["project"]["status"] == "paused"
            await _add(person, "Plant")
        before = await board.store.read(lambda unit: projects.get_project(unit, "garden"))
        # The configuration says nothing about it: declaring again does not resume.
        declared = type(before)(before.id, before.name, before.path)
        await board.store.write(lambda unit: projects.declare_project(unit, declared))
        async with connected(board, board.coordinator) as coordinator:
            asked = {"coordinator_id": board.coordinator_id}
            [line] = (await coordinator.tool("list_agent_actions", **asked))["actions"]
        assert (line["action"], line["reason"]) == ("hold", "project_paused")
        assert await board.count("project.status") == 1


async def test_what_is_made_by_command_works_and_survives_the_configuration(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as person:
        made = await person.tool(
            "create_agent", agent_id="bob", provider="rehearsal", projects=["garden"]
        )
        assert (made["agent"]["id"], made["agent"]["projects"]) == ("bob", ["garden"])
        made = await person.tool(
            "create_project", project_id="notes", workspace="scratch", agents=["bob"]
        )
        assert made["project"]["agents"] == ["bob"]

        def reload(unit: Any) -> None:
            projects.keep_only(
                unit, project_ids=["garden"], agent_ids=["ann"], pairs=[("ann", "garden")]
            )

        await board.store.write(reload)
        shown = (await person.tool("get_project", project_id="notes"))["project"]
        assert (shown["origin"], shown["agents"], shown["tasks"]) == ("board", ["bob"], {})
        shown = (await person.tool("get_agent", agent_id="bob"))["agent"]
        assert (shown["origin"], shown["projects"]) == ("board", ["garden", "notes"])
        task = await _add(person, "Think", project_id="notes", agent_id="bob")
        assert task["status"] == "queued"


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("create_project", {"project_id": "garden", "path": "/x"}, "CONFLICT"),
        ("create_project", {"project_id": "Garden", "path": "/x"}, "VALIDATION"),
        ("create_project", {"project_id": "notes", "path": "x"}, "VALIDATION"),
        ("create_project", {"project_id": "n", "path": "/x", "agents": ["zoe"]}, "NOT_FOUND"),
        ("create_agent", {"agent_id": "ann", "provider": "rehearsal"}, "CONFLICT"),
        ("create_agent", {"agent_id": "b", "provider": "r", "projects": ["x"]}, "NOT_FOUND"),
    ],
)
async def test_what_the_file_declares_or_makes_no_sense_is_not_made(
    short_dir: Path, tool: str, arguments: dict[str, Any], code: str
) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as person:
        assert await person.code(tool, **arguments) == code
        assert len((await person.tool("list_projects"))["projects"]) == 1
        assert len((await person.tool("list_agents"))["agents"]) == 1


async def test_the_agent_of_the_file_is_named_as_such(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as person:
        await board.store.write(
            lambda unit: projects.create_agent(unit, Agent("eve", "Eve", "x"), actor="person")
        )
        refused = await person.tool("create_agent", agent_id="ann", provider="x")
        assert "configuration" in refused["error"]["message"]
        refused = await person.tool("create_agent", agent_id="eve", provider="x")
        assert "already" in refused["error"]["message"]


async def test_a_failed_task_is_put_back_with_more_attempts(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as person:
        task = await _add(person, "Plant")
        assert await person.code("retry_task", task_id=task["id"]) == "TRANSITION"
        await person.tool("cancel_task", task_id=task["id"])
        again = await person.tool("retry_task", task_id=task["id"], attempts=5)
        assert (again["task"]["status"], again["task"]["max_attempts"]) == ("queued", 5)


async def test_the_status_counts_thousands_of_tasks_and_open_questions(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        for number in range(3):
            await board.add_task(f"Weed {number}")
        claimed = await board.claim()
        async with hosting_again(board, short_dir), connected(board, claimed.hello()) as agent:
            await agent.tool("ask_human", text="Which?")
            async with connected(board, board.person) as person:
                status = await person.tool("get_status")
        assert status["tasks"] == {"queued": 3, "waiting": 1}
        assert status["questions"] == 1


def hosting_again(board: Board, folder: Path) -> Any:
    """Another life of the server, which holds no question."""
    from aiagent_coordinator.tasks import AskPolicy  # noqa: PLC0415 - here alone

    board.path = folder / "t"
    return hosting(board, ask=AskPolicy(hold_seconds=0))


async def test_a_report_without_evidence_is_given_back_at_most_twice(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim("Paint it", acceptance=("It is red.", "It is dry."))
        async with connected(board, claimed.hello()) as agent:
            await agent.tool("get_next_action")
            await agent.tool("get_my_task")
            await agent.tool("get_next_action")
            evidence = [{"criterion": 1, "text": "I looked."}]
            refused = await agent.tool("report_completed", result="success", evidence=evidence)
            assert (refused["accepted"], refused["missing"]) == (False, [2])
            assert "2. It is dry." in refused["instruction"]
            step = await agent.tool("get_next_action")
            assert step["action"] == "report_completion"
            assert "2. It is dry." in step["instruction"]
            refused = await agent.tool("report_completed", result="success")
            assert refused["missing"] == [2], "what was said before is kept"
            assert (await board.run(claimed.run.id)).reported_result is None
            taken = await agent.tool("report_completed", result="success", summary="Red.")
            assert taken["accepted"]
            assert (await agent.tool("get_next_action"))["action"] == "exit"
        run = await board.run(claimed.run.id)
        assert run.evidence == ({"criterion": 1, "text": "I looked."},)
        assert run.report_refusals == 2
        assert await board.count("run.report_refused") == 2


async def test_a_report_with_evidence_for_all_is_taken_at_once(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim("Paint it", acceptance=("It is red.",))
        async with connected(board, claimed.hello()) as agent:
            taken = await agent.tool(
                "report_completed",
                result="success",
                evidence=[{"criterion": 1, "text": "I looked."}],
            )
        assert taken["accepted"]
        assert await board.count("run.report_refused") == 0


async def test_a_report_of_failure_needs_no_evidence(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim("Paint it", acceptance=("It is red.",))
        async with connected(board, claimed.hello()) as agent:
            assert (await agent.tool("report_completed", result="failed"))["accepted"]


async def test_the_guide_tells_an_agent_how_to_work_and_where_it_stands(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim("Paint it")
        async with connected(board, claimed.hello()) as agent:
            guide = await agent.tool("get_session_guide")
        assert (guide["task_id"], guide["title"]) == (claimed.run.task_id, "Paint it")
        for word in ("get_next_action", "ask_human", "report_completed"):
            assert word in guide["guide"]
