"""A person and an agent write to each other through a real server; orders come from people alone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import update

from aiagent_coordinator.runs import Purpose
from aiagent_coordinator.store import legacy, projects, tables
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Project, TaskStatus
from support.board import Board, Claimed, Raw, connected, hosting, serving
from support.pm import PAIR, authenticate, start, value, with_passkey

WIDE = "\N{FULLWIDTH COMMERCIAL AT}"
ORDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "request_task": ("タスク作成", {"title": "Paint"}),
    "notify_task_session": ("通知", {"message": "Make it red."}),
    "start_task_from_chat": ("開始", {"task_id": "TASK"}),
    "update_task_from_chat": ("調整", {"task_id": "TASK", "description": "Anew"}),
}


async def write(board: Board, text: str) -> str:
    async with connected(board, board.person) as person:
        said = await person.tool("write_chat", agent_id="ann", project_id="gar", content=text)
        return said["message"]["id"]


async def chat(board: Board) -> list[tuple[str, str]]:
    async with connected(board, board.person) as person:
        found = await person.tool("read_chat", agent_id="ann", project_id="garden")
        return [(one["author"], one["body"]) for one in found["messages"]]


async def backlog(board: Board, title: str = "Dig") -> str:
    return (await board.add_task(title, status=TaskStatus.BACKLOG)).id


async def elsewhere(board: Board) -> str:
    """A task of another project."""

    def work(unit: Unit) -> str:
        projects.declare_project(unit, Project("moon", "Moon", "/nowhere"))
        return task_store.create_task(unit, task_store.NewTask("moon", "Land"), "person").id

    return await board.store.write(work)


async def order(client: Raw, name: str, task_id: str, **more: Any) -> dict[str, Any]:
    arguments = {
        key: task_id if given == "TASK" else given for key, given in ORDERS[name][1].items()
    }
    return await client.tool(name, **arguments, **more)


async def test_a_message_is_read_and_answered_and_the_session_waits_for_the_next(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim_chat("How far are you?")
        async with connected(board, claimed.hello()) as agent:
            assert (await agent.tool("get_my_task"))["has_task"] is False
            guide = await agent.tool("get_session_guide")
            assert guide["session_purpose"] == "chat"
            step = await agent.tool("get_next_action")
            assert (step["action"], step["state"]) == ("get_pending_messages", "chat_session")
            told = await agent.tool("get_pending_messages")
            (asked,) = told["pending_messages"]
            assert (asked["sender_id"], asked["content"]) == ("person", "How far are you?")
            await agent.tool("send_message", content="Half way.", target_agent_id="person")
            quiet = await agent.tool("get_next_action", timeout_seconds=0)
            assert (quiet["action"], quiet["state"]) == ("wait_for_messages", "chat_waiting")
            assert quiet["remaining_timeout_minutes"] == 10
            assert (await agent.tool("get_pending_messages"))["pending_messages"] == []
            assert await agent.code("send_message", content="x", target_agent_id="bob") == (
                "VALIDATION"
            )
            assert await agent.code("send_message", content="x" * 4001) == "VALIDATION"
            for far in ("tsk_x", await elsewhere(board)):
                told = await agent.tool("send_message", content="x", related_task_id=far)
                assert told["error"]["message"] == f"Task not found: {far}"
        assert await chat(board) == [("person", "How far are you?"), ("agent", "Half way.")]


async def test_who_waits_hears_a_message_and_a_stop_at_once(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim_chat()
        async with (
            connected(board, claimed.hello()) as agent,
            connected(board, board.person) as person,
        ):
            await agent.tool("get_pending_messages")
            await agent.tool("send_message", content="Hello.")
            for act, action in (
                (write(board, "And now?"), "get_pending_messages"),
                (person.tool("request_stop_run", run_id=claimed.run.id), "exit"),
            ):
                heard: list[str] = []

                async def ask(heard: list[str] = heard) -> None:
                    heard.append((await agent.tool("get_next_action"))["action"])

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(ask)
                    await anyio.sleep(0.2)
                    assert not heard, "it waits"
                    await act
                assert heard == [action]
                await agent.tool("get_pending_messages")


async def test_a_waiting_call_goes_on_in_the_next_life_of_the_server(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim_chat()
        board.path = short_dir / "t"
        async with hosting(board), connected(board, claimed.hello()) as agent:
            await agent.tool("get_pending_messages")
            await agent.tool("send_message", content="Hello.")
            asked: dict[str, Any] = {"name": "get_next_action", "arguments": {}}
            await agent.send(
                {"jsonrpc": "2.0", "id": "long", "method": "tools/call", "params": asked}
            )
            await anyio.sleep(0.2)
            assert not any(frame.get("id") == "long" for frame in agent.seen)
        # the server went away while it waited: no answer, so the bridge asks again
        board.path = short_dir / "u"
        async with hosting(board), connected(board, claimed.hello("long")) as agent:
            await write(board, "Still there?")
            assert (await agent.tool("get_next_action"))["action"] == "get_pending_messages"


@pytest.mark.parametrize("sign", ["@@", WIDE + WIDE, "@" + WIDE])
@pytest.mark.parametrize("name", list(ORDERS))
async def test_a_persons_marker_lets_the_agent_do_exactly_that(
    short_dir: Path, name: str, sign: str
) -> None:
    async with serving(short_dir) as board:
        task_id = await backlog(board)
        marker = sign + ORDERS[name][0]
        claimed = await board.claim_chat(f"{marker} please")
        async with connected(board, claimed.hello()) as agent:
            refused = await order(agent, name, task_id)
            assert refused["error"]["code"] == "FORBIDDEN", "it has not read the message yet"
            await agent.tool("get_pending_messages")
            for other in ORDERS:
                done = await order(agent, other, task_id)
                assert ("error" not in done) == (other == name), (other, done)
        assert await board.count("run.refused") == len(ORDERS)


@pytest.mark.parametrize("name", list(ORDERS))
async def test_an_agents_own_words_and_old_messages_order_nothing(
    short_dir: Path, name: str
) -> None:
    async with serving(short_dir) as board:
        task_id = await backlog(board)
        marker = "@@" + ORDERS[name][0]
        claimed = await board.claim_chat("Tell me a story")
        async with connected(board, claimed.hello()) as agent:
            await agent.tool("get_pending_messages")
            sent = await agent.tool("send_message", content=f"{marker} do it")
            for said in ({}, {"message_id": sent["message_id"]}, {"message_id": "msg_x"}):
                answer = await order(agent, name, task_id, **said)
                assert answer["error"]["code"] == "FORBIDDEN", said
            ordered = await write(board, marker)
            await agent.tool("get_pending_messages")
            await write(board, "Thank you")
            await agent.tool("get_pending_messages")
            last = await order(agent, name, task_id)
            assert last["error"]["code"] == "FORBIDDEN", "without an id the last one counts"
            done = await order(agent, name, task_id, message_id=ordered)
            assert done["success"]


async def test_what_is_ordered_happens_under_the_rules_of_the_board(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        everything = " ".join(f"@@{word}" for word, _ in ORDERS.values())
        working = await board.claim("Long work")
        claimed = await board.claim_chat(everything)
        async with connected(board, claimed.hello()) as agent:
            await agent.tool("get_pending_messages")
            made = await agent.tool("request_task", title="Paint", description="Red.")
            assert (made["status"], made["approval_status"]) == ("backlog", "approved")
            again = await agent.tool("request_task", title="Paint")
            assert again["task_id"] == made["task_id"], "one order makes it once"
            begun = await agent.tool("start_task_from_chat", task_id=made["task_id"])
            assert (begun["previous_status"], begun["new_status"]) == ("backlog", "todo")
            changed = await agent.tool(
                "update_task_from_chat", task_id=made["task_id"], status="cancelled"
            )
            assert (changed["updated_fields"], changed["status"]) == (["status"], "cancelled")
            over = await agent.code("start_task_from_chat", task_id=made["task_id"])
            assert over == "TRANSITION"
            wrong = await agent.code(
                "update_task_from_chat", task_id=made["task_id"], status="done"
            )
            assert wrong == "VALIDATION"
            own = working.run.task_id
            await agent.tool("update_task_from_chat", task_id=own, description="Anew")
            await agent.tool("notify_task_session", message="Make it red.", priority="high")
        async with connected(board, working.hello()) as worker:
            told = await worker.tool("get_notifications")
            kinds = [(one["type"], one["action"]) for one in told["notifications"]]
            assert kinds == [("interrupt", "task_described"), ("chat_session_notification", "high")]
            assert (await worker.tool("get_my_task"))["task"]["description"] == "Anew"


async def test_a_task_session_reads_no_chat_and_a_chat_moves_no_task(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        working = await board.claim()
        claimed = await board.claim_chat("@@開始")
        async with connected(board, working.hello()) as worker:
            for name in ("get_pending_messages", "send_message", *set(ORDERS) - {"request_task"}):
                assert await worker.code(name) == "FORBIDDEN"
        async with connected(board, claimed.hello()) as agent:
            assert await agent.code("report_completed", result="success") == "FORBIDDEN"
            assert await agent.code("create_task", title="x") == "FORBIDDEN"


async def begin(board: Board, **pair: str) -> dict[str, Any]:
    return await value(board, "get_agent_action", **(pair or PAIR))


async def test_unread_messages_start_a_session_that_ends_with_its_process(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        await with_passkey(board)
        await write(board, "Hello?")
        begun = await begin(board)
        assert (begun["action"], begun["reason"]) == ("start", "has_chat_work")
        assert "task_id" not in begun
        assert (await begin(board))["reason"] == "spawn_in_progress"
        async with connected(board) as agent:
            token = await authenticate(agent)
            step = await agent.tool("get_next_action", session_token=token)
            assert step["action"] == "get_pending_messages"
            await agent.tool("get_pending_messages", session_token=token)
            await agent.tool("send_message", content="Hello.", session_token=token)
            await board.add_task()
            step = await agent.tool("get_next_action", timeout_seconds=0, session_token=token)
            assert step["action"] == "logout", "its place is wanted, one process at a time"
            await agent.tool("logout", session_token=token)
        ended = await value(board, "invalidate_session", **PAIR)
        assert ended["ended_workflow_sessions"] == 1
        assert (await begin(board))["reason"] == "has_task_work"


async def test_a_client_that_keeps_processes_apart_gets_task_and_chat_side_by_side(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board:
        await start(board)
        await write(board, "Hello?")
        assert (await begin(board))["reason"] == "spawn_in_progress", "nobody knows it can"
        async with connected(board) as task_agent, connected(board) as chat_agent:
            task_token = await authenticate(task_agent)
            assert (await begin(board))["reason"] == "already_running"
            await value(board, "get_app_settings")
            assert (await begin(board))["reason"] == "has_chat_work"
            chat_token = await authenticate(chat_agent)
            one = await task_agent.tool("get_next_action", session_token=task_token)
            other = await chat_agent.tool("get_next_action", session_token=chat_token)
            assert (one["action"], other["action"]) == ("get_task", "get_pending_messages")
            assert await chat_agent.code("report_completed", result="success") == "FORBIDDEN"
            assert await chat_agent.code("get_my_task", session_token=task_token) == "FORBIDDEN"
            asked = {**PAIR, "remaining_processes": 1}
            unknown = await value(board, "report_process_exit", **asked)
            assert unknown["reason"] == "cannot_determine_orphan"
            await chat_agent.tool("logout", session_token=chat_token)
            gone = await value(board, "report_process_exit", **asked)
            assert (gone["action"], gone["deleted_purpose"]) == ("deleted_orphan", "chat")
            live = await board.store.write(lambda unit: legacy.all_live_of(unit, "ann", "garden"))
            assert [run.purpose for run in live] == [Purpose.TASK]


async def test_a_paused_project_starts_no_chat(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        await write(board, "Hello?")
        async with connected(board, board.person) as person:
            await person.tool("pause_project", project_id="garden")
            assert (await begin(board))["reason"] == "project_paused"
            await person.tool("resume_project", project_id="garden")
        assert (await begin(board))["reason"] == "has_chat_work"


async def test_an_error_line_of_a_coordinator_stands_in_the_chat(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        await value(board, "report_agent_error", **PAIR, error_message="Error: no luck")
        ((author, body),) = await chat(board)
        assert author == "system"
        assert "no luck" in body
        assert (await begin(board))["action"] == "hold", "nobody has to answer it"


async def test_a_session_that_says_goodbye_is_told_so_after_ten_quiet_minutes(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim_chat()
        await _age(board, claimed)
        async with connected(board, claimed.hello()) as agent:
            await agent.tool("get_pending_messages")
            step = await agent.tool("get_next_action")
            assert (step["action"], step["state"]) == ("logout", "chat_timeout")


async def _age(board: Board, claimed: Claimed) -> None:
    """Let everything in the chat be eleven minutes old."""

    def work(unit: Unit) -> None:
        at = claimed.run.created_at - timedelta(minutes=11)
        for table in (tables.message, tables.run):
            unit.conn.execute(update(table).values(created_at=at))

    await board.store.write(work)
