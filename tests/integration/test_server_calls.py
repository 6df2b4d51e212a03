"""What each role may call, what calls do, and that each does it once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiagent_coordinator import ids
from aiagent_coordinator.server.boards import TOOLS
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.tasks import TaskStatus
from support.board import (
    PATIENCE_SECONDS,
    Board,
    Raw,
    connected,
    content_of,
    eventually,
    hosting,
    serving,
    tool_call,
)

WORKER = {
    "authenticate",
    "get_my_task",
    "get_next_action",
    "report_progress",
    "report_completed",
    "get_session_guide",
    "ask_human",
    "permission_prompt",
    "logout",
    "create_task",
    "create_tasks_batch",
    "update_task_status",
    "get_my_task_progress",
    "get_my_profile",
    "report_model",
    "help",
    "list_tasks",
    "get_task",
    "get_project",
    "get_my_execution_history",
    "get_execution_log",
    "report_execution_start",
    "report_execution_complete",
    "get_notifications",
    "split_task",
    "request_task",
    "get_task_conversations",
    "get_conversation_messages",
    "delegate_to_chat_session",
    "hand_over",
    "take_handoff",
    "list_handoffs",
    "register_skill",
}
#: Only with this duty.
MANAGERS = {
    "list_subordinates",
    "get_subordinate_profile",
    "assign_task",
    "select_action",
    "approve_task_request",
    "reject_task_request",
}
REVIEWERS = {"review_task"}
#: What a reviewer leaves alone.
MAKERS = {
    *("create_task", "create_tasks_batch", "split_task", "update_task_status", "request_task"),
    *("hand_over", "take_handoff", "register_skill"),
}
AGENTS = WORKER | MANAGERS | REVIEWERS
#: What a session for a chat may call, and a task's may not; the other way round below.
ONLY_CHAT = {
    "get_pending_messages",
    "send_message",
    "notify_task_session",
    "start_task_from_chat",
    "update_task_from_chat",
    "start_conversation",
    "end_conversation",
    "report_delegation_completed",
}
ONLY_TASK = {
    "report_progress",
    "report_completed",
    "ask_human",
    "create_task",
    "create_tasks_batch",
    "split_task",
    "update_task_status",
    "report_execution_start",
    "report_execution_complete",
    "get_task_conversations",
    "delegate_to_chat_session",
    "hand_over",
    "take_handoff",
}
CHAT = (WORKER - ONLY_TASK) | ONLY_CHAT
COORDINATOR = {
    "health_check",
    "list_active_projects_with_agents",
    "list_agent_actions",
    "claim_run",
    "report_run_started",
    "renew_runs",
    "report_run_exit",
    "report_run_result",
    "disown_run",
    "get_agent_action",
    "list_managed_agents",
    "register_execution_log_file",
    "report_agent_error",
    "invalidate_session",
    "report_process_exit",
    "get_app_settings",
    "get_subordinate_profile",
    "fetch_skill",
    "list_handoffs",
    "list_limits",
    "clear_limits",
}
PERSON = {
    "health_check",
    "create_task",
    "list_tasks",
    "get_task",
    "cancel_task",
    "list_runs",
    "get_run",
    "request_stop_run",
    "list_projects",
    "list_agents",
    "list_events",
    "get_status",
    "get_usage",
    "list_limits",
    "clear_limits",
    "set_limit",
    "get_remaining",
    "answer_question",
    "list_questions",
    "retry_task",
    "add_dependencies",
    "remove_dependency",
    "explain_task",
    "pause_project",
    "resume_project",
    "archive_project",
    "create_project",
    "create_agent",
    "get_project",
    "get_agent",
    "approve_task",
    "reject_task",
    "write_chat",
    "read_chat",
    "list_conversations",
    "read_conversation",
    "stop_conversation",
    "tell_agent",
    "add_skill",
    "list_skills",
    "get_skill",
    "remove_skill",
    "assign_skill",
    "unassign_skill",
    "list_handoffs",
    "get_handoff",
    "list_templates",
    "run_template",
    "list_audits",
    "get_audit",
    "activate_audit",
    "suspend_audit",
    "deactivate_audit",
    "unlock_task",
    "unlock_agent",
}
MAY: dict[str, set[str]] = {
    "nobody": set(),
    "worker": WORKER,
    "manager": WORKER | MANAGERS,
    "reviewer": (WORKER - MAKERS) | REVIEWERS,
    "chat": CHAT,
    "manager's chat": CHAT,
    "coordinator": COORDINATOR,
    "person": PERSON,
}
REFUSED = {"UNAUTHORIZED", "FORBIDDEN"}


async def _hello(board: Board, role: str) -> dict[str, object] | None:
    match role:
        case "worker":
            return (await board.claim()).hello()
        case "manager":
            await board.promote()
            return (await board.claim()).hello()
        case "reviewer":
            judged = await board.claim("Judged")
            return (await board.claim("Judge it", reviews_id=judged.run.task_id)).hello()
        case "chat":
            return (await board.claim_chat()).hello()
        case "manager's chat":
            await board.promote()
            return (await board.claim_chat()).hello()
        case "coordinator":
            return board.coordinator
        case "person":
            return board.person
        case _:
            return None


@pytest.mark.parametrize("role", list(MAY))
async def test_every_tool_is_refused_to_every_role_that_the_table_does_not_name(
    short_dir: Path, role: str
) -> None:
    """Role by tool: what is not allowed is refused before its arguments are looked at."""
    assert set(TOOLS) == AGENTS | CHAT | COORDINATOR | PERSON
    async with serving(short_dir) as board, connected(board, await _hello(board, role)) as client:
        allowed = {name for name in TOOLS if await client.code(name) not in REFUSED}
        listed = {tool["name"] for tool in (await client.request("tools/list"))["result"]["tools"]}
    # logging out makes a stranger, whatever is called after it
    order = list(TOOLS)
    before_logout = set(order[: order.index("logout") + 1])
    is_agent = role not in {"nobody", "coordinator", "person"}
    assert allowed == (MAY[role] & before_logout if is_agent else MAY[role])
    # agents of another make show their coordinator's token until they authenticate
    also = AGENTS if role in {"nobody", "coordinator"} else set[str]()
    assert listed == MAY[role] | also


async def test_a_stranger_is_told_to_authenticate_and_how(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board) as client:
        answer = await client.tool("get_my_task")
        assert answer["error"]["message"] == "authenticate first"
        assert "authenticate" in answer["error"]["hint"]
        assert await client.code("authenticate") == "UNAUTHORIZED"


async def test_a_tool_that_does_not_exist_is_a_protocol_error(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as client:
        answer = await client.request("tools/call", {"name": "rm", "arguments": {}})
        assert answer["error"]["code"] == -32602


async def test_an_agent_is_led_through_its_task(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim("Paint it", description="Red.")
        async with connected(board, claimed.hello()) as client:
            assert (await client.tool("authenticate"))["task_id"] == claimed.run.task_id
            assert (await client.tool("get_next_action"))["action"] == "get_task"
            assert (await client.tool("get_my_task"))["task"]["description"] == "Red."
            assert (await client.tool("get_next_action"))["action"] == "work"
            assert (await client.tool("report_progress", progress=40, message="half"))["success"]
            assert (await client.tool("get_next_action"))["action"] == "report_completion"
            done = await client.tool("report_completed", result="success", summary="Red now.")
            assert done["action"] == "exit"
            assert (await client.tool("get_next_action"))["action"] == "exit"
        run = await board.run(claimed.run.id)
        assert (run.reported_result, run.reported_summary) == ("success", "Red now.")
        assert run.hello_at is not None
        assert run.authenticated_at is not None
        task = await board.store.read(
            lambda unit: task_store.get_task(unit, claimed.run.task_id or "")
        )
        assert (task.progress, task.status) == (40, TaskStatus.RUNNING)


async def test_a_hello_alone_is_no_authentication_and_the_first_tool_call_is(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            await client.request("ping")
            run = await board.run(claimed.run.id)
            assert run.hello_at is not None
            assert run.authenticated_at is None
            await client.tool("get_my_task")
            assert (await board.run(claimed.run.id)).authenticated_at is not None
            await client.tool("get_my_task")
        assert await board.count("run.hello") == 1
        assert await board.count("run.authenticated") == 1


@pytest.mark.parametrize("key", ["task_id", "agent_id", "project_id", "run_id"])
async def test_an_agent_that_names_somebody_else_is_refused_and_noted(
    short_dir: Path, key: str
) -> None:
    async with serving(short_dir) as board:
        mine, other = await board.claim(), await board.claim()
        foreign = {
            "task_id": other.run.task_id,
            "agent_id": "bob",
            "project_id": "kitchen",
            "run_id": other.run.id,
        }
        async with connected(board, mine.hello()) as client:
            code = await client.code("report_completed", result="success", **{key: foreign[key]})
            assert code == "FORBIDDEN"
            # its own ids are its to repeat
            assert await client.code("get_my_task", task_id=mine.run.task_id) is None
        for claimed in (mine, other):
            assert (await board.run(claimed.run.id)).reported_result is None
        refused = [event for event in await board.events() if event.action == "run.refused"]
        assert [event.run_id for event in refused] == [mine.run.id]
        assert refused[0].data == {"tool": "report_completed", "code": "FORBIDDEN"}


async def test_an_agent_that_calls_a_tool_of_others_leaves_a_trace(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            assert await client.code("create_project", project_id="garden") == "FORBIDDEN"
        assert await board.count("run.refused") == 1
        assert await board.count("task.created") == 1, "only the one that the run is for"


async def test_the_first_report_counts_and_the_second_is_told_so(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            first = await client.tool("report_completed", result="failed", summary="no")
            again = await client.tool("report_completed", result="success", summary="yes")
        assert (first["result"], first["already_reported"]) == ("failed", False)
        assert (again["result"], again["already_reported"]) == ("failed", True)
        assert await board.count("run.reported") == 1


async def test_next_steps_are_kept_with_the_summary(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            await client.tool(
                "report_completed", result="success", summary="Done.", next_steps="Water it."
            )
        summary = (await board.run(claimed.run.id)).reported_summary
        assert summary == "Done.\n\nNext steps: Water it."


async def test_a_stopped_agent_hears_it_with_its_next_call(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with (
            connected(board, claimed.hello()) as agent,
            connected(board, board.person) as person,
        ):
            assert await person.code("cancel_task", task_id=claimed.run.task_id) is None
            assert "exit" in (await agent.tool("report_progress", progress=10))["instruction"]
            assert (await agent.tool("get_next_action"))["action"] == "exit"


async def test_logging_out_makes_a_stranger_until_it_authenticates_again(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            assert await client.code("logout") is None
            assert await client.code("get_my_task") == "UNAUTHORIZED"
            assert await client.code("authenticate") is None
            assert await client.code("get_my_task") is None
        assert await board.count("session.ended") == 1


async def test_the_token_of_a_run_dies_with_its_processes(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as open_before:
            assert await open_before.code("get_my_task") is None
            await board.exited(claimed.run)
            assert await open_before.code("get_my_task") == "UNAUTHORIZED"
            assert await open_before.code("report_completed", result="success") == "UNAUTHORIZED"
        async with connected(board, claimed.hello()) as late:
            assert await late.code("authenticate") == "UNAUTHORIZED"
            assert await late.code("report_completed", result="success") == "UNAUTHORIZED"
        assert (await board.run(claimed.run.id)).reported_result is None


async def _lose_an_answer(
    board: Board, hello: dict[str, object], call: dict[str, Any], effect: str
) -> None:
    """Send a call, and be gone when it has had its effect, without reading the answer."""

    async def is_done() -> bool:
        return await board.count(effect) == 1

    async with connected(board, hello) as client:
        await client.send(call)
        await eventually(is_done)


def _progress(request_id: int | str, progress: int) -> dict[str, Any]:
    return tool_call(request_id, "report_progress", progress=progress)


@pytest.mark.parametrize("request_id", [7, "seven"])
async def test_a_call_that_a_bridge_sends_again_is_done_once(
    short_dir: Path, request_id: int | str
) -> None:
    """Across two lives of the server: the effect is there, the answer was lost."""
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            await client.tool("get_my_task")
        await _lose_an_answer(board, claimed.hello(), _progress(request_id, 30), "task.progress")
        async with connected(board, claimed.hello(request_id)) as client:
            await client.send(_progress(request_id, 30))
            answer = await client.until(lambda frame: frame.get("id") == request_id)
        assert content_of(answer["result"])["progress"] == 30
        assert await board.count("task.progress") == 1


async def test_only_a_named_id_with_the_same_content_is_taken_for_a_repetition(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        await _lose_an_answer(board, claimed.hello(), _progress(7, 30), "task.progress")
        for hello, progress in (
            (claimed.hello(), 30),  # not named: the client counts its ids anew
            (claimed.hello(8), 30),  # another one named
            (claimed.hello("7"), 30),  # text is no number
            (claimed.hello(7), 31),  # named, but it is another call
        ):
            before = await board.count("task.progress")
            async with connected(board, hello) as client:
                await client.send(_progress(7, progress))
                await client.until(lambda frame: frame.get("id") == 7)
            assert await board.count("task.progress") == before + 1


async def test_a_report_sent_again_to_the_next_server_gets_the_first_answer(
    short_dir: Path,
) -> None:
    call = tool_call(1, "report_completed", result="success", summary="s")
    async with serving(short_dir) as board:
        claimed = await board.claim()
        await _lose_an_answer(board, claimed.hello(), call, "run.reported")
        board.path = short_dir / "t"
        async with hosting(board), connected(board, claimed.hello(1)) as client:
            await client.send(call)
            answer = await client.until(lambda frame: frame.get("id") == 1)
        assert content_of(answer["result"])["already_reported"] is False
        assert await board.count("run.reported") == 1


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "project_id is missing"),
    ({"project_id": "garden"}, "title is missing"),
    ({"project_id": "garden", "title": 7}, "title"),
    ({"project_id": "garden", "title": ""}, "title"),
    ({"project_id": "garden", "title": "a\nb"}, "title"),
    ({"project_id": "garden", "title": "x" * 501}, "title"),
    ({"project_id": "garden", "title": "a\0b"}, "title"),
    ({"project_id": "garden", "title": "x", "description": "\0"}, "description"),
    ({"project_id": "garden", "title": "x", "description": "é" * 200_000}, "description"),
    ({"project_id": "garden", "title": "x", "max_attempts": 0}, "max_attempts"),
    ({"project_id": "garden", "title": "x", "max_attempts": True}, "max_attempts"),
    ({"project_id": "garden", "title": "x", "checks": ["make"]}, "checks.0"),
    ({"project_id": "garden", "title": "x", "checks": [{"argv": []}]}, "checks.0.argv"),
    ({"project_id": "garden", "title": "x", "checks": [{"argv": [1]}]}, "checks.0.argv.0"),
    ({"project_id": "garden", "title": "x", "tittle": "y"}, "did you mean title"),
]


@pytest.mark.parametrize(("arguments", "key"), WRONG)
async def test_a_wrong_argument_is_named_with_its_reason(
    short_dir: Path, arguments: dict[str, Any], key: str
) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as client:
        error = (await client.tool("create_task", **arguments))["error"]
        assert error["code"] == "VALIDATION"
        assert key in f"{error['message']} {error['hint']}"
        assert await board.count("task.created") == 0


async def test_an_unknown_project_or_agent_is_answered_with_the_nearest(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as client:
        error = (await client.tool("create_task", project_id="gadren", title="x"))["error"]
        assert (error["code"], error["hint"]) == ("NOT_FOUND", "did you mean garden?")
        error = (await client.tool("create_task", project_id="garden", agent_id="anne", title="x"))[
            "error"
        ]
        assert (error["code"], error["hint"]) == ("NOT_FOUND", "did you mean ann?")


async def test_a_person_puts_a_task_on_the_board_and_finds_it(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as client:
        made = await client.tool(
            "create_task",
            project_id="gar",
            agent_id="ann",
            title="  Cafe\u0301  ",
            description="Brew.",
            checks=[{"argv": ["make", "test"]}],
            max_attempts=2,
        )
        task = made["task"]
        assert (task["title"], task["project_id"]) == ("Café", "garden"), "composed and trimmed"
        assert (task["status"], task["max_attempts"]) == ("queued", 2)
        shown = (await client.tool("get_task", task_id=task["id"][4:24]))["task"]
        assert shown["checks"] == [{"argv": ["make", "test"]}]
        assert shown["description"] == "Brew."
        assert (await client.tool("get_status"))["tasks"] == {"queued": 1}
        assert (await client.tool("cancel_task", task_id=task["id"]))["task"][
            "status"
        ] == "cancelled"


async def test_lists_come_in_pages_that_join_without_gap_or_overlap(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as client:
        made = [(await board.add_task(f"Task {number}")).id for number in range(5)]
        found: list[str] = []
        more: dict[str, Any] = {}
        for size in (2, 2, 1):
            page = await client.tool("list_tasks", limit=2, **more)
            assert len(page["tasks"]) == size
            found += [task["id"] for task in page["tasks"]]
            more = {"after": page["next"]}
        assert sorted(found) == sorted(made)
        assert more == {"after": None}
        assert await client.code("list_tasks", limit=1001) == "VALIDATION"
        assert await client.code("list_tasks", status="strange") == "VALIDATION"


async def test_a_thousand_long_runs_and_tasks_fit_into_one_answer(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as client:
        new = task_store.NewTask(
            project_id="garden", title="long", description="d" * 200_000, max_attempts=1
        )

        def work(unit: Any) -> None:
            for _ in range(100):
                task_store.create_task(unit, new, "person")

        await board.store.write(work)
        assert len((await client.tool("list_tasks", limit=1000))["tasks"]) == 100


async def test_a_run_goes_through_the_coordinators_calls(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board, board.coordinator) as client:
        task = await board.add_task()
        actions = await client.tool("list_agent_actions", coordinator_id=board.coordinator_id)
        assert [(one["action"], one["task_id"]) for one in actions["actions"]] == [
            ("start", task.id)
        ]
        run_id = ids.new_run_id()
        claim = {
            "run_id": run_id,
            "coordinator_id": board.coordinator_id,
            "epoch": 1,
            "agent_id": "ann",
            "project_id": "garden",
            "purpose": "task",
            "slot": 0,
            "token_sha256": "0" * 64,
        }
        answer = await client.tool("claim_run", **claim)
        assert answer["claimed"] is True
        assert await client.tool("claim_run", **claim) | {"lease_until": 0} == answer | {
            "lease_until": 0
        }
        started = {
            "run_id": run_id,
            "fence": answer["fence"],
            "seq": 0,
            "host_id": "h",
            "shim": {"pid": 4_000_000, "start_ticks": 1, "boot_id": "b"},
            "workspace": "/w",
            "log_path": "/l",
            "argv_masked": ["true"],
            "of_a_newer_coordinator": 1,
        }
        assert await client.tool("report_run_started", **started) == {"ok": True}
        held = {"run_id": run_id, "fence": answer["fence"], "phase": "running"}
        unclaimed = {"run_id": ids.new_run_id(), "phase": "starting"}
        renewed = await client.tool(
            "renew_runs",
            coordinator_id=board.coordinator_id,
            epoch=1,
            runs=[held, unclaimed],
        )
        assert [(line["run_id"], line["state"]) for line in renewed["runs"]] == [(run_id, "held")]
        ended = {
            "run_id": run_id,
            "fence": answer["fence"],
            "seq": 1,
            "ended_at": "2026-01-01T00:00:00Z",
            "exit_code": 0,
        }
        assert "loud" not in await client.tool("report_run_exit", **ended)
        result: dict[str, Any] = {
            "run_id": run_id,
            "fence": answer["fence"],
            "seq": 2,
            "outcome": "failed",
            "reason": "no_report",
            "verification": "not_verified",
            "checks": [],
            "log": {"path": "/l", "out_bytes": 1, "err_bytes": 0},
        }
        first = await client.tool("report_run_result", **result)
        assert (first["task_status"], first["attempt"]) == ("queued", 2)
        assert await client.tool("report_run_result", **result) == first
        assert await client.code("report_run_exit", **ended) is None
        assert await client.code("report_run_started", **{**started, "seq": 5}) == "VALIDATION"
        assert await client.code("claim_run", **{**claim, "slot": "left"}) == "VALIDATION"


@pytest.mark.parametrize(("outcome", "status"), [("lost", "queued"), ("not_started", "queued")])
async def test_a_coordinator_disowns_a_run_it_knows_nothing_of(
    short_dir: Path, outcome: str, status: str
) -> None:
    async with serving(short_dir) as board, connected(board, board.coordinator) as client:
        claimed = await board.claim()
        about = {
            "run_id": claimed.run.id,
            "coordinator_id": board.coordinator_id,
            "epoch": 1,
            "outcome": outcome,
        }
        other = {**about, "coordinator_id": ids.new_id("crd")}
        assert await client.code("disown_run", **other) == "STALE_RUN"
        assert (await client.tool("disown_run", **about))["task_status"] == status
        assert (await board.run(claimed.run.id)).outcome == outcome


async def test_projects_with_agents_come_in_the_shape_that_others_know(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board) as client:
        answer = await client.tool(
            "list_active_projects_with_agents", coordinator_token=board.coordinator_key
        )
        assert answer == {
            "projects": [
                {
                    "project_id": "garden",
                    "project_name": "Garden",
                    "working_directory": str(short_dir),
                    "agents": ["ann"],
                }
            ]
        }
        health = await client.tool("health_check", coordinator_token=board.coordinator_key)
        assert (health["status"], health["agent_count"], health["project_count"]) == ("ok", 1, 1)


async def test_an_answer_says_the_same_as_text_and_as_data(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as client:
        await client.tool("list_projects")
        result = (await client.request("tools/call", {"name": "list_projects", "arguments": {}}))[
            "result"
        ]
        text = result["content"][0]["text"]
        assert json.loads(text) == result["structuredContent"]
        assert "\n" not in text


async def test_an_unexpected_failure_is_an_error_without_its_words(
    short_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The border of a request: the server goes on, its log has the traceback."""
    async with serving(short_dir) as board, connected(board, board.person) as client:
        await board.store.write(
            lambda unit: unit.conn.exec_driver_sql("ALTER TABLE event RENAME TO secret_name")
        )
        answer = await client.request("tools/call", {"name": "list_events", "arguments": {}})
        assert answer["result"]["isError"] is True
        assert "secret_name" not in json.dumps(answer)
        assert "no such table" not in json.dumps(answer)
        assert await client.code("list_projects") is None
    assert any(
        getattr(record, "event", "") == "server.request_failed" and record.exc_info
        for record in caplog.records
    )


async def test_no_secret_is_in_any_answer_or_in_the_database(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        seen: list[dict[str, Any]] = []
        for hello in (None, claimed.hello(), board.coordinator, board.person):
            async with connected(board, hello) as client:
                for name in TOOLS:
                    await client.tool(name, coordinator_id=board.coordinator_id)
                    await client.tool(name)
                seen += client.seen
        secrets = [claimed.token, board.operator_key, board.coordinator_key]
        answers = json.dumps(seen)
        kept = await anyio.to_thread.run_sync(_contents, short_dir)
        for secret in secrets:
            assert secret not in answers
            assert secret.encode() not in kept


def _contents(folder: Path) -> bytes:
    files = [path for path in folder.iterdir() if path.name.startswith("store.db")]
    assert files
    return b"".join(path.read_bytes() for path in files)


async def _many(client: Raw, count: int) -> list[dict[str, Any]]:
    await client.send(*(tool_call(number, "list_projects") for number in range(count)))
    return [await client.until(lambda frame: "id" in frame) for _ in range(count)]


async def test_two_thousand_calls_sent_at_once_on_one_connection_are_all_answered(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as client:
        with anyio.fail_after(PATIENCE_SECONDS * 3):
            answers = await _many(client, 2000)
        assert sorted(answer["id"] for answer in answers) == list(range(2000))
        assert all("result" in answer for answer in answers)
