"""`ask_human` over the wire: held, answered, given up, and sent again after a restart."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.tasks import AskPolicy, Task
from support.board import (
    PATIENCE_SECONDS,
    Board,
    Claimed,
    connected,
    content_of,
    eventually,
    hosting,
    serving,
    tool_call,
)

QUICK = AskPolicy(hold_seconds=0.2)


async def _task(board: Board, claimed: Claimed) -> Task:
    return await board.store.read(lambda unit: task_store.get_task(unit, claimed.run.task_id or ""))


async def _until(board: Board, action: str) -> None:
    async def happened() -> bool:
        return await board.count(action) > 0

    await eventually(happened)


async def test_an_answer_in_time_is_what_the_call_returns(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with (
            connected(board, claimed.hello()) as agent,
            connected(board, board.person) as person,
        ):
            await agent.send(tool_call(1, "ask_human", text="Which colour?", options=["red"]))
            await _until(board, "question.asked")
            [asked] = (await person.tool("list_questions"))["questions"]
            assert (asked["text"], asked["options"]) == ("Which colour?", ["red"])
            assert (await _task(board, claimed)).status == "waiting"
            answered = await person.tool(
                "answer_question", task_id=claimed.run.task_id, answer="blue"
            )
            assert answered["task"]["status"] == "running"
            heard = await agent.until(lambda frame: frame.get("id") == 1)
            said = content_of(heard["result"])
            assert (said["status"], said["answer"]) == ("answered", "blue")
            assert (await agent.tool("get_next_action"))["action"] == "get_task"
            assert (
                await person.code(
                    "answer_question", question_id=said["question_id"], answer="no, green"
                )
                == "CONFLICT"
            )
        assert await board.count("question.answered") == 1


async def test_without_an_answer_the_agent_is_told_to_commit_and_exit(short_dir: Path) -> None:
    async with serving(short_dir, ask=QUICK) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as agent:
            said = await agent.tool("ask_human", text="Which colour?")
            assert (said["status"], said["action"]) == ("pending", "exit")
            assert "Commit" in said["instruction"]
            step = await agent.tool("get_next_action")
            assert (step["action"], "another run" in step["instruction"]) == ("exit", True)
            # What it still says is no mistake, and changes nothing.
            assert (await agent.tool("report_progress", progress=50))["success"]
            assert (await agent.tool("ask_human", text="Which colour?"))["status"] == "pending"
        assert (await _task(board, claimed)).status == "waiting"
        assert await board.count("question.asked") == 1
        assert await board.count("question.pending") == 1


async def test_a_question_sent_again_to_the_next_server_waits_on_the_same_one(
    short_dir: Path,
) -> None:
    call = tool_call(7, "ask_human", text="Which colour?")
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as agent:
            await agent.send(call)
            await _until(board, "question.asked")
        board.path = short_dir / "t"
        async with (
            hosting(board),
            connected(board, claimed.hello(7)) as agent,
            connected(board, board.person) as person,
        ):
            await agent.send(call)
            await person.tool("answer_question", task_id=claimed.run.task_id, answer="blue")
            heard = await agent.until(lambda frame: frame.get("id") == 7)
        assert content_of(heard["result"])["answer"] == "blue"
        assert await board.count("question.asked") == 1


async def test_a_cancelled_task_wakes_the_agent_that_asks(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with (
            connected(board, claimed.hello()) as agent,
            connected(board, board.person) as person,
        ):
            await agent.send(tool_call(1, "ask_human", text="Which colour?"))
            await _until(board, "question.asked")
            with anyio.fail_after(PATIENCE_SECONDS):
                await person.tool("cancel_task", task_id=claimed.run.task_id)
                heard = await agent.until(lambda frame: frame.get("id") == 1)
            said = content_of(heard["result"])
            assert (said["status"], said["action"]) == ("stopped", "exit")
            refused = await person.tool(
                "answer_question", task_id=claimed.run.task_id, answer="blue"
            )
            assert refused["error"]["code"] == "CONFLICT"
            assert "cancelled" in refused["error"]["message"]


async def test_a_stop_of_the_run_wakes_the_agent_and_leaves_its_question_open(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with (
            connected(board, claimed.hello()) as agent,
            connected(board, board.person) as person,
        ):
            await agent.send(tool_call(1, "ask_human", text="Which colour?"))
            await _until(board, "question.asked")
            await person.tool("request_stop_run", run_id=claimed.run.id)
            heard = await agent.until(lambda frame: frame.get("id") == 1)
            assert content_of(heard["result"])["status"] == "stopped"
            assert len((await person.tool("list_questions"))["questions"]) == 1
        assert (await _task(board, claimed)).status == "waiting"


async def test_an_agent_that_reports_although_it_asked_is_taken_at_its_word(
    short_dir: Path,
) -> None:
    async with serving(short_dir, ask=QUICK) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as agent:
            await agent.tool("ask_human", text="Which colour?")
            assert (await agent.tool("report_completed", result="success"))["accepted"]
        assert (await _task(board, claimed)).status == "running"
        assert await board.count("question.closed") == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"answer": "x"}, "VALIDATION"),
        ({"answer": "x", "task_id": "a", "question_id": "b"}, "VALIDATION"),
        ({"answer": "x", "question_id": "qst_nothing"}, "NOT_FOUND"),
        ({"answer": "x", "task_id": "tsk_nothing"}, "NOT_FOUND"),
    ],
)
async def test_an_answer_to_nothing_is_refused(
    short_dir: Path, arguments: dict[str, str], code: str
) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as person:
        assert await person.code("answer_question", **arguments) == code


async def test_a_question_nobody_answers_ends_with_its_task_by_itself(short_dir: Path) -> None:
    async with serving(short_dir, ask=AskPolicy(hold_seconds=0, timeout_seconds=0)) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as agent:
            assert (await agent.tool("ask_human", text="Hello?"))["status"] == "pending"
        board.path = short_dir / "t"
        # The server looks when it starts, and twice a minute.
        async with hosting(board):
            await _until(board, "question.closed")

            async def failed() -> bool:
                return (await _task(board, claimed)).status == "failed"

            await eventually(failed)
