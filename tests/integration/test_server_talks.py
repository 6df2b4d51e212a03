"""Agents talk with each other through a real server, and have their chat do it while they work."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import update

from aiagent_coordinator.store import passkeys, projects
from aiagent_coordinator.store.talk_tables import conversation
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Project
from aiagent_coordinator.wire.protocol import ACTIONS_URI
from support.board import Board, Claimed, Raw, connected, content_of, hosting, serving, tool_call
from support.pm import PASSKEY, value

Answer = dict[str, Any]


def _declare(unit: Unit) -> None:
    projects.declare_project(unit, Project("moon", "Moon", "/nowhere"))
    for who, where in (("bob", "garden"), ("cid", "garden"), ("far", "moon")):
        projects.declare_agent(unit, Agent(who, who.title(), "rehearsal"))
        projects.assign(unit, who, where)


@asynccontextmanager
async def chats(folder: Path) -> AsyncGenerator[tuple[Board, Raw, Claimed]]:
    """A board where ann talks with people already."""
    async with serving(folder) as board:
        await board.store.write(_declare)
        claimed = await board.claim_chat()
        async with connected(board, claimed.hello()) as ann:
            await ann.tool("get_pending_messages")
            await ann.tool("send_message", content="Hello.")
            yield board, ann, claimed


async def begin(ann: Raw, **more: Any) -> str:
    asked: Answer = {
        "participant_agent_id": "bob",
        "initial_message": "Red?",
        "max_turns": 10,
        "purpose": "the colour",
    }
    made = await ann.tool("start_conversation", **asked | more)
    assert (made["success"], made["state"]) == (True, "pending"), made
    return made["conversation_id"]


@asynccontextmanager
async def talking(
    folder: Path, **more: Any
) -> AsyncGenerator[tuple[Board, tuple[Raw, Claimed], tuple[Raw, Claimed], str]]:
    """The same, and bob has taken up what ann wants to talk about."""
    async with chats(folder) as (board, ann, first):
        where = await begin(ann, **more)
        second = await board.claim_wanted_chat("bob")
        async with connected(board, second.hello()) as bob:
            asked = await bob.tool("get_next_action")
            assert (asked["action"], asked["state"]) == (
                "conversation_request",
                "conversation_active",
            )
            assert (asked["conversation_id"], asked["initiator_agent_id"]) == (where, "ann")
            yield board, (ann, first), (bob, second), where


async def heard(agent: Raw, act: Callable[[], Awaitable[Any]]) -> Answer:
    """What an agent that waits is told as soon as something happened."""
    told: list[Answer] = []

    async def ask() -> None:
        told.append(await agent.tool("get_next_action"))

    # a wait that nobody ends lasts 45 s
    with anyio.fail_after(40):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.sleep(0.2)
            assert not told, "it waits"
            await act()
    return told[0]


async def test_two_agents_talk_until_one_of_them_ends_it(short_dir: Path) -> None:
    async with talking(short_dir) as (board, (ann, _), (bob, _), where):
        step = await bob.tool("get_next_action")
        assert step["action"] == "get_pending_messages"
        (said,) = (await bob.tool("get_pending_messages"))["pending_messages"]
        assert (said["sender_id"], said["receiver_id"]) == ("ann", "bob")
        assert (said["content"], said["conversation_id"]) == ("Red?", where)
        told = await heard(
            ann, lambda: bob.tool("send_message", content="Red.", conversation_id=where)
        )
        assert told["action"] == "get_pending_messages"
        (answer,) = (await ann.tool("get_pending_messages"))["pending_messages"]
        assert answer["content"] == "Red."
        # the other agent's name does as well
        again = await ann.tool("send_message", content="Light red?", target_agent_id="bob")
        assert (again["conversation_id"], again["current_turns"], again["max_turns"]) == (
            *(where, 3),
            10,
        )
        await bob.tool("get_pending_messages")
        over = await heard(
            bob,
            lambda: ann.tool("end_conversation", conversation_id=where, final_message="Done."),
        )
        assert (over["action"], over["ended_by"], over["reason"]) == (
            *("conversation_ended", "ann"),
            "ended",
        )
        last = await bob.tool("get_next_action")
        assert last["action"] == "get_pending_messages", "the last word is read too"
        await bob.tool("get_pending_messages")
        assert (await bob.tool("get_next_action", timeout_seconds=0))["action"] == (
            "wait_for_messages"
        )
        assert await bob.code("send_message", content="Wait", conversation_id=where) == "CONFLICT"
        kept = await ann.tool("get_conversation_messages", conversation_id=where)
        assert [one["content"] for one in kept["messages"]] == [
            *("Red?", "Red."),
            *("Light red?", "Done."),
        ]
        assert (kept["conversation_state"], kept["total_count"]) == ("ended", 4)
        assert await board.count("conversation.ended") == 1


async def test_turns_are_warned_of_reminded_of_and_used_up(short_dir: Path) -> None:
    async with talking(short_dir, max_turns=8) as (_, (ann, _), (bob, _), where):
        answers: list[Answer] = []
        for number in range(2, 9):
            who = bob if number % 2 == 0 else ann
            answers.append(
                await who.tool("send_message", content=str(number), conversation_id=where)
            )
        assert [one["current_turns"] for one in answers] == list(range(2, 9))
        assert ["warning" in one for one in answers] == [False] * 3 + [True] * 4
        assert ["reminder" in one for one in answers] == [n == 5 for n in range(2, 9)]
        assert [one.get("conversation_ended") for one in answers] == [None] * 6 + [True]
        over = await ann.tool("get_next_action")
        assert (over["action"], over["reason"]) == ("conversation_ended", "turns_used")
        assert await ann.code("send_message", content="9", conversation_id=where) == "CONFLICT"


async def test_only_those_who_take_part_read_and_write_in_one_project(short_dir: Path) -> None:
    async with talking(short_dir) as (board, (ann, _), _, where):
        missing = await ann.tool(
            "start_conversation", participant_agent_id="far", initial_message="x", max_turns=2
        )
        assert missing["error"]["message"] == "Agent not found: far"
        assert await ann.code("send_message", content="x", target_agent_id="cid") == "VALIDATION"
        wrong = {"conversation_id": where, "target_agent_id": "cid"}
        assert await ann.code("send_message", content="x", **wrong) == "VALIDATION"
        await ann.tool(
            "start_conversation", participant_agent_id="cid", initial_message="x", max_turns=2
        )
        third = await board.claim_wanted_chat("cid")
        async with connected(board, third.hello()) as cid:
            for tool, more in (
                ("send_message", {"content": "x"}),
                ("end_conversation", {}),
            ):
                told = await cid.tool(tool, conversation_id=where, **more)
                assert told["error"]["message"] == f"Conversation not found: {where}"
            told = await cid.tool("get_conversation_messages", conversation_id=where)
            assert told["error"]["message"].startswith("Access denied")
            told = await cid.tool("get_conversation_messages", conversation_id="cnv_x")
            assert told["error"]["message"] == "Conversation not found: cnv_x"


@pytest.mark.parametrize("how", ["exit", "logout", "invalidate"])
async def test_whoever_leaves_ends_the_conversation_and_the_other_hears_it_at_once(
    short_dir: Path, how: str
) -> None:
    async with chats(short_dir) as (board, ann, _):
        where = await begin(ann)
        hashed = passkeys.hash_of(PASSKEY)
        await board.store.write(lambda unit: passkeys.keep(unit, "bob", hashed))
        pair = {"agent_id": "bob", "project_id": "garden"}
        if how == "invalidate":
            begun = await value(board, "get_agent_action", **pair)
            assert (begun["action"], begun["reason"]) == ("start", "has_chat_work")
            async with connected(board) as bob:
                known = await bob.tool("authenticate", **pair, passkey=PASSKEY)
                shown = {"session_token": known["session_token"]}
                assert (await bob.tool("get_next_action", **shown))["conversation_id"] == where
            told: list[Answer] = []

            async def invalidate() -> None:
                told.append(await value(board, "invalidate_session", **pair))

            over = await heard(ann, invalidate)
            assert told[0]["ended_conversations"] == 1
        else:
            second = await board.claim_wanted_chat("bob")
            async with connected(board, second.hello()) as bob:
                assert (await bob.tool("get_next_action"))["action"] == "conversation_request"
                over = await heard(
                    ann,
                    lambda: board.exited(second.run) if how == "exit" else bob.tool("logout"),
                )
        assert (over["action"], over["conversation_id"]) == ("conversation_ended", where)
        assert (over["ended_by"], over["reason"]) == ("bob", "session_over")
        assert (await ann.tool("get_next_action", timeout_seconds=0))["action"] == (
            "wait_for_messages"
        )


async def test_a_conversation_that_idles_is_over_before_its_session_is(short_dir: Path) -> None:
    async with talking(short_dir) as (board, (ann, _), _, where):

        def age(unit: Unit) -> None:
            before = unit.now - timedelta(minutes=11)
            unit.conn.execute(update(conversation).values(last_at=before))

        await board.store.write(age)
        over = await ann.tool("get_next_action", timeout_seconds=0)
        assert (over["action"], over["ended_by"], over["reason"]) == (
            *("conversation_ended", "system"),
            "idle",
        )
        assert over["conversation_id"] == where


async def test_a_person_sees_and_ends_a_conversation(short_dir: Path) -> None:
    async with talking(short_dir) as (board, (ann, _), (bob, _), where):
        await bob.tool("get_pending_messages")
        async with connected(board, board.person) as person:
            (one,) = (await person.tool("list_conversations", agent_id="bob", is_open=True))[
                "conversations"
            ]
            assert (one["id"], one["state"], one["turns"]) == (where, "active", 1)
            none = await person.tool("list_conversations", project_id="moon")
            assert none["conversations"] == []
            read = await person.tool("read_conversation", conversation_id=where[:20])
            assert [each["body"] for each in read["messages"]] == ["Red?"]
            over = await heard(bob, lambda: person.tool("stop_conversation", conversation_id=where))
            assert (over["action"], over["ended_by"]) == ("conversation_ended", "person")
            assert (await ann.tool("get_next_action"))["action"] == "conversation_ended"
            closed = await person.tool("list_conversations", is_open=False)
            assert [each["state"] for each in closed["conversations"]] == ["ended"]


async def test_a_session_at_work_has_its_chat_talk_and_is_told_what_came_of_it(
    short_dir: Path,
) -> None:
    async with chats(short_dir) as (board, ann, _):
        working = await board.claim()
        async with connected(board, working.hello()) as worker:
            refused = await worker.tool(
                "delegate_to_chat_session", target_agent_id="far", purpose="x"
            )
            assert refused["error"]["message"] == "Agent not found: far"
            wish: list[Answer] = []

            async def delegate() -> None:
                wish.append(
                    await worker.tool(
                        "delegate_to_chat_session",
                        target_agent_id="bob",
                        purpose="Agree on the colour",
                        context="Red would be fine.",
                    )
                )

            step = await heard(ann, delegate)
            assert (step["action"], step["state"]) == ("start_conversation", "process_delegation")
            assert (step["target_agent_id"], step["context"]) == ("bob", "Red would be fine.")
            assert step["delegation_id"] == wish[0]["delegation_id"]
            where = await begin(ann)
            second = await board.claim_wanted_chat("bob")
            async with connected(board, second.hello()) as bob:
                await bob.tool("get_next_action")
                await bob.tool("send_message", content="Red.", conversation_id=where)
                await bob.tool("end_conversation", conversation_id=where)
            over = await ann.tool("get_next_action")
            assert (over["action"], over["delegation_id"]) == (
                "conversation_ended",
                step["delegation_id"],
            )
            await ann.tool("get_pending_messages")
            left = await ann.tool("get_next_action", timeout_seconds=0)
            assert step["delegation_id"] in left["instruction"], "it is reminded"
            done = await ann.tool(
                "report_delegation_completed", delegation_id=step["delegation_id"], result="Red"
            )
            assert done["status"] == "completed"
            assert "has_unread" not in done
            (notice,) = (await worker.tool("get_notifications"))["notifications"]
            assert (notice["type"], notice["action"]) == (
                "chat_session_notification",
                "delegation_completed",
            )
            assert "Red" in notice["message"]
            found = await worker.tool("get_task_conversations")
            assert found["summary"] == {
                "total": 1,
                "active": 0,
                "pending": 0,
                "terminating": 0,
                "ended": 1,
            }
            assert found["conversations"][0]["conversation_id"] == where
            assert found["delegations"][0]["result"] == "Red"
            kept = await worker.tool("get_conversation_messages", conversation_id=where)
            assert [one["content"] for one in kept["messages"]] == ["Red?", "Red."]


async def test_a_delegation_starts_the_chat_of_a_client_that_keeps_task_and_chat_apart(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board:
        await board.store.write(_declare)
        await board.store.write(lambda unit: passkeys.keep(unit, "ann", passkeys.hash_of(PASSKEY)))
        await board.add_task()
        pair = {"agent_id": "ann", "project_id": "garden"}
        assert (await value(board, "get_agent_action", **pair))["reason"] == "has_task_work"
        async with connected(board) as worker:
            known = await worker.tool("authenticate", **pair, passkey=PASSKEY)
            shown = {"session_token": known["session_token"]}
            await worker.tool(
                "delegate_to_chat_session", target_agent_id="bob", purpose="Agree", **shown
            )
            old = await value(board, "get_agent_action", **pair)
            assert old["reason"] == "already_running", "one process of a pair is all it can bear"
            await value(board, "get_app_settings")
            assert (await value(board, "get_agent_action", **pair))["reason"] == "has_chat_work"


async def test_a_conversation_goes_on_in_the_next_life_of_the_server(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        await board.store.write(_declare)
        first = await board.claim_chat()
        async with connected(board, first.hello()) as ann:
            await ann.tool("get_pending_messages")
            await ann.tool("send_message", content="Hello.")
            where = await begin(ann)
        second = await board.claim_wanted_chat("bob")
        said = tool_call("say", "send_message", content="Red.", conversation_id=where)
        board.path = short_dir / "t"
        async with hosting(board), connected(board, second.hello()) as bob:
            await bob.tool("get_next_action")
            await bob.send(said)
            await bob.until(lambda frame: frame.get("id") == "say")
        # the server died before its answer arrived: the bridge sends the same again
        board.path = short_dir / "u"
        async with (
            hosting(board),
            connected(board, second.hello("say")) as bob,
            connected(board, first.hello()) as ann,
        ):
            await bob.send(said)
            answer = await bob.until(lambda frame: frame.get("id") == "say")
            assert content_of(answer["result"])["current_turns"] == 2
            assert (await ann.tool("get_next_action"))["action"] == "get_pending_messages"
            (one,) = (await ann.tool("get_pending_messages"))["pending_messages"]
            assert one["content"] == "Red."
            more = await ann.tool("send_message", content="Good.", conversation_id=where)
            assert more["current_turns"] == 3


async def test_a_session_that_comes_when_nobody_wants_to_talk_any_more_may_go(
    short_dir: Path,
) -> None:
    async with chats(short_dir) as (board, ann, _):
        where = await begin(ann)
        second = await board.claim_wanted_chat("bob")
        await ann.tool("end_conversation", conversation_id=where)
        async with connected(board, second.hello()) as bob:
            assert (await bob.tool("get_next_action"))["action"] == "logout"


@pytest.mark.parametrize("what", ["conversation", "delegation"])
async def test_coordinators_are_told_at_once_that_somebody_is_to_talk(
    short_dir: Path, what: str
) -> None:
    async with chats(short_dir) as (board, ann, _):
        working = await board.claim()
        async with (
            connected(board, board.coordinator) as coordinator,
            connected(board, working.hello()) as worker,
        ):
            await worker.tool("get_my_task")
            await coordinator.request("resources/subscribe", {"uri": ACTIONS_URI})
            # what was pushed for anything before has come once this is answered
            await anyio.sleep(0.2)
            await coordinator.request("ping")
            seen = len(coordinator.seen)
            if what == "conversation":
                await begin(ann)
            else:
                await worker.tool(
                    "delegate_to_chat_session", target_agent_id="bob", purpose="Agree"
                )
            pushed = await coordinator.until(
                lambda frame: frame.get("method") == "notifications/resources/updated"
            )
            assert len(coordinator.seen) == seen + 1
            assert pushed["params"]["uri"] == ACTIONS_URI
            if what == "conversation":
                lines = (await coordinator.tool("list_agent_actions", coordinator_id="crd_x"))[
                    "actions"
                ]
                assert {
                    (line["agent_id"], line["reason"])
                    for line in lines
                    if line["purpose"] == "chat"
                } == {("bob", "conversation")}
