"""Two real servers on one real PostgreSQL: what one commits, those who wait at the other hear."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import text

from aiagent_coordinator.clock import SystemClock
from aiagent_coordinator.events import Event
from aiagent_coordinator.store import chat, projects
from aiagent_coordinator.store.engine import open_store
from aiagent_coordinator.store.migrate import migrate
from aiagent_coordinator.store.neighbours import News
from aiagent_coordinator.store.postgres import postgres_engine
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent
from support.board import (
    Board,
    Claimed,
    Raw,
    connected,
    declare,
    hosting,
)

pytestmark = pytest.mark.needs("postgres")


@dataclass
class Two:
    """Two servers, each with its own store of the one database."""

    here: Board
    there: Board
    url: str


@asynccontextmanager
async def two(url: str, folder: Path) -> AsyncGenerator[Two]:
    await anyio.to_thread.run_sync(migrate, url)
    async with AsyncExitStack() as stack:
        boards: list[Board] = []
        for name in ("h", "t"):
            store = await stack.enter_async_context(open_store(url, clock=SystemClock()))
            boards.append(Board(store, folder / name))
        await boards[0].store.write(lambda unit: _declare(unit, folder))
        for board in boards:
            await stack.enter_async_context(hosting(board))
        yield Two(boards[0], boards[1], url)


def _declare(unit: Unit, folder: Path) -> None:
    declare(unit, folder)
    projects.declare_agent(unit, Agent("bob", "Bob", "rehearsal"))
    projects.assign(unit, "bob", "garden")


async def quiet(board: Board, agent: str) -> Claimed:
    """The same, with nothing left to answer."""

    def say(unit: Unit) -> None:
        chat.write(unit, agent, "garden", "Hello?", actor="person")

    await board.store.write(say)
    claimed = await board.claim_wanted_chat(agent)

    def answer(unit: Unit) -> None:
        chat.read(unit, claimed.run)
        chat.reply(unit, claimed.run, "Here.")

    await board.store.write(answer)
    return claimed


async def hears(agent: Raw, act: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
    """What an agent that waits is told once something happened, long before its wait is over."""
    told: list[dict[str, Any]] = []

    async def ask() -> None:
        told.append(await agent.tool("get_next_action"))

    # a wait that nobody ends lasts 45 s
    with anyio.fail_after(40):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.sleep(0.3)
            assert not told, "it waits"
            await act()
    return told[0]


async def test_who_waits_at_one_server_hears_what_is_written_at_the_other(
    empty_postgres: str, short_dir: Path
) -> None:
    async with two(empty_postgres, short_dir) as pair:
        claimed = await quiet(pair.here, "ann")
        async with (
            connected(pair.here, claimed.hello()) as agent,
            connected(pair.there, pair.there.person) as person,
        ):
            told = await hears(
                agent,
                lambda: person.tool(
                    "write_chat", agent_id="ann", project_id="garden", content="And now?"
                ),
            )
            assert told["action"] == "get_pending_messages"
            await agent.tool("get_pending_messages")
            await agent.tool("send_message", content="Fine.")
            stop = await hears(
                agent, lambda: person.tool("request_stop_run", run_id=claimed.run.id)
            )
            assert stop["action"] == "exit"
            noted = await agent.tool("get_notifications")
            assert [one["action"] for one in noted["notifications"]] == ["exit"]


async def test_two_agents_at_two_servers_talk_with_each_other(
    empty_postgres: str, short_dir: Path
) -> None:
    async with two(empty_postgres, short_dir) as pair:
        first, second = await quiet(pair.here, "ann"), await quiet(pair.there, "bob")
        async with (
            connected(pair.here, first.hello()) as ann,
            connected(pair.there, second.hello()) as bob,
        ):
            asked = await hears(
                bob,
                lambda: ann.tool(
                    "start_conversation",
                    participant_agent_id="bob",
                    initial_message="Red?",
                    max_turns=6,
                ),
            )
            assert asked["action"] == "conversation_request"
            where = asked["conversation_id"]
            await bob.tool("get_pending_messages")
            told = await hears(
                ann, lambda: bob.tool("send_message", content="Red.", conversation_id=where)
            )
            assert told["action"] == "get_pending_messages"
            await ann.tool("get_pending_messages")
            over = await hears(bob, lambda: ann.tool("end_conversation", conversation_id=where))
            assert (over["action"], over["ended_by"]) == ("conversation_ended", "ann")


async def test_the_other_server_is_heard_again_after_its_wakes_were_cut_off(
    empty_postgres: str, short_dir: Path
) -> None:
    async with two(empty_postgres, short_dir) as pair:
        claimed = await quiet(pair.here, "ann")
        engine = postgres_engine(empty_postgres)
        kill = text(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"
        )
        with engine.connect() as conn:
            assert conn.scalar(kill) == 2
        engine.dispose()
        async with (
            connected(pair.here, claimed.hello()) as agent,
            connected(pair.there, pair.there.person) as person,
        ):
            for _ in range(2):
                told = await hears(
                    agent,
                    lambda: person.tool(
                        "write_chat", agent_id="ann", project_id="garden", content="Hm?"
                    ),
                )
                assert told["action"] == "get_pending_messages"
                await agent.tool("get_pending_messages")
                await agent.tool("send_message", content="Fine.")


async def test_a_question_asked_at_one_server_is_answered_at_the_other(
    empty_postgres: str, short_dir: Path
) -> None:
    async with two(empty_postgres, short_dir) as pair:
        claimed = await pair.here.claim()
        async with (
            connected(pair.here, claimed.hello()) as agent,
            connected(pair.there, pair.there.person) as person,
        ):
            heard: list[dict[str, Any]] = []

            async def ask() -> None:
                heard.append(await agent.tool("ask_human", text="Red?"))

            # a question is held for longer
            with anyio.fail_after(40):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(ask)
                    asked: list[dict[str, Any]] = []
                    while not asked:
                        await anyio.sleep(0.05)
                        asked = (await person.tool("list_questions"))["questions"]
                    assert not heard
                    await person.tool("answer_question", question_id=asked[0]["id"], answer="Red.")
            assert (heard[0]["status"], heard[0]["answer"]) == ("answered", "Red.")


def _event(seq: int) -> Event:
    return Event(seq, SystemClock().now(), "server", "coordinator.seen")


def test_an_event_is_news_once_whoever_comes_with_it_first() -> None:
    news = News()
    news.begin(4)
    assert [one.seq for one in news.ours([_event(5), _event(8)])] == [5, 8]
    assert news.heard_to == 5
    there = [_event(seq) for seq in (6, 7, 8, 9)]
    assert [one.seq for one in news.theirs(there)] == [6, 7, 9]
    assert news.heard_to == 9
    assert news.ours([_event(9)]) == []
    assert news.theirs(there) == []
