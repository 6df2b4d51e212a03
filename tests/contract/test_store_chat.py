"""Chats: kept, read by one session, answered by it, and started again when nobody answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from aiagent_coordinator.chats import Author, Message
from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.errors import NotFoundError, TransitionError, ValidationError
from aiagent_coordinator.runs import Purpose, RetryPolicy, Run, RunOutcome
from aiagent_coordinator.store import actions, chat, legacy, orders, projects, runs, tasks, wanting
from aiagent_coordinator.store.engine import Store, open_store
from aiagent_coordinator.store.requests import ClaimAnswer
from aiagent_coordinator.store.tasks import NewTask
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Project, TaskStatus, WorkspaceKind

T = TypeVar("T")
POLICY = RetryPolicy()
PAIR = ("writer", "demo")
GONE = legacy.Cause("legacy:writer/demo", has_exited=True)


def _declare(unit: Unit) -> None:
    for name in ("demo", "other"):
        projects.declare_project(unit, Project(name, name, f"/srv/{name}"))
        projects.declare_agent(unit, Agent(f"{name}-only", name, "rehearsal"))
        projects.assign(unit, f"{name}-only", name)
    projects.declare_agent(unit, Agent("writer", "Writer", "rehearsal"))
    projects.assign(unit, *PAIR)


async def say(store: Store, text: str) -> Message:
    return await store.write(lambda unit: chat.write(unit, *PAIR, text, actor="person"))


async def claim(store: Store, purpose: Purpose = Purpose.CHAT) -> ClaimAnswer:
    return await store.write(lambda unit: legacy.claim(unit, *PAIR, POLICY, purpose))


async def session(store: Store) -> Run:
    """A session of the chat whose agent has authenticated."""
    assert (await claim(store)).claimed

    def greet(unit: Unit) -> Run:
        run = next(one for one in legacy.all_live_of(unit, *PAIR) if one.purpose is Purpose.CHAT)
        runs.mark_authenticated(unit, run.id)
        legacy.greet(unit, run)
        return runs.get_run(unit, run.id)

    return await store.write(greet)


async def end(store: Store, run: Run) -> RunOutcome | None:
    await store.write(lambda unit: legacy.end(unit, run, GONE, POLICY))
    return (await store.read(lambda unit: runs.get_run(unit, run.id))).outcome


async def with_run(store: Store, work: Callable[[Unit, Run], T], run: Run) -> T:
    return await store.write(lambda unit: work(unit, run))


async def wants(store: Store) -> bool:
    return PAIR in await store.read(wanting.wanted)


async def test_a_message_wants_a_session_until_one_has_answered(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock) as store:
        await store.write(_declare)
        assert (await claim(store)).reason == "no_task"
        first = await say(store, "Hello?")
        clock.advance(1)
        second = await say(store, "Anybody?")
        assert await wants(store)
        run = await session(store)
        assert not await wants(store), "one is there"
        assert (await claim(store)).reason == "slot_taken"
        assert run.task_id is None
        assert await with_run(store, chat.unread, run) == 2
        before, pending, total = await with_run(store, chat.read, run)
        assert ([one.id for one in pending], before, total) == ([first.id, second.id], [], 2)
        assert await with_run(store, chat.unread, run) == 0
        _, again, _ = await with_run(store, chat.read, run)
        assert [one.id for one in again] == [first.id, second.id], "not answered yet"
        clock.advance(1)
        await with_run(store, lambda unit, run: chat.reply(unit, run, "Here."), run)
        before, pending, total = await with_run(store, chat.read, run)
        assert ([one.author for one in before], pending, total) == (
            [Author.PERSON, Author.PERSON, Author.AGENT],
            [],
            3,
        )
        assert await end(store, run) is RunOutcome.SUCCEEDED
        assert not await wants(store)


async def test_what_nobody_answered_is_read_by_three_sessions_at_most(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(_declare)
        await say(store, "Hello?")
        for number in range(chat.MAX_DELIVERIES):
            assert await wants(store), number
            run = await session(store)
            _, pending, _ = await with_run(store, chat.read, run)
            assert len(pending) == 1
            assert await end(store, run) is RunOutcome.SUCCEEDED
            assert not await wants(store), "it waits before it tries again"
            clock.advance(chat.REST_SECONDS * (number + 1) + 1)
        assert not await wants(store)
        await say(store, "Still there?")
        assert await wants(store)


async def test_sessions_that_fail_at_once_rest_longer_each_time_and_then_for_good(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(_declare)
        await say(store, "Hello?")
        for number in range(1, chat.MAX_FAILURES + 1):
            assert (await claim(store)).claimed, number
            run = await store.write(lambda unit: legacy.live_of(unit, *PAIR))
            assert run is not None
            assert await end(store, run) is RunOutcome.FAILED
            assert not await wants(store)
            clock.advance(chat.REST_SECONDS * number - 1)
            assert not await wants(store)
            clock.advance(2)
        clock.advance(86_400)
        assert not await wants(store)
        await say(store, "And now?")
        assert await wants(store)


async def test_a_chat_takes_no_place_of_a_task_and_a_task_none_of_a_chat(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock) as store:
        await store.write(_declare)
        await say(store, "Hello?")
        await store.write(lambda unit: tasks.create_task(unit, NewTask("demo", "Do it"), "person"))
        assert (await claim(store)).claimed
        assert (await claim(store, Purpose.TASK)).claimed
        live = await store.write(lambda unit: legacy.all_live_of(unit, *PAIR))
        assert [one.purpose for one in live] == [Purpose.TASK, Purpose.CHAT]


async def test_an_order_is_a_message_that_this_session_has_read(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock) as store:
        await store.write(_declare)
        old = await say(store, "Old")
        run = await session(store)
        await with_run(store, chat.read, run)
        said = await with_run(store, lambda unit, run: chat.reply(unit, run, "mine"), run)
        await end(store, run)
        clock.advance(1)
        new = await say(store, "New")
        run = await session(store)
        for named in (None, new.id, old.id, said.id, "msg_x"):
            with pytest.raises(NotFoundError):
                await with_run(
                    store, lambda unit, run, named=named: chat.heard_by(unit, run, named), run
                )
        await with_run(store, chat.read, run)
        heard = await with_run(store, lambda unit, run: chat.heard_by(unit, run, None), run)
        assert heard.id == new.id
        with pytest.raises(NotFoundError):
            await with_run(store, lambda unit, run: chat.heard_by(unit, run, old.id), run)


async def test_nobody_is_written_to_where_they_do_not_work(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock) as store:
        await store.write(_declare)
        for agent, project, text in (
            ("writer", "other", "x"),
            ("writer", "demo", " "),
            ("writer", "demo", "x" * (chat.PERSON_BYTES + 1)),
        ):
            with pytest.raises(ValidationError):
                await store.write(
                    lambda unit, agent=agent, project=project, text=text: chat.write(
                        unit, agent, project, text, actor="person"
                    )
                )


async def test_orders_reach_the_agents_own_tasks_of_its_project_and_keep_the_rules(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock) as store:
        await store.write(_declare)
        await say(store, "Hello?")
        run = await session(store)

        def add(project: str, agent: str | None, status: TaskStatus) -> Callable[[Unit], str]:
            new = NewTask(project, "Do it", agent, status=status)
            return lambda unit: tasks.create_task(unit, new, "person").id

        mine = await store.write(add("demo", "writer", TaskStatus.BACKLOG))
        for project, agent in (("other", None), ("other", "other-only"), ("demo", "demo-only")):
            far = await store.write(add(project, agent, TaskStatus.BACKLOG))
            with pytest.raises(NotFoundError):
                await with_run(
                    store, lambda unit, run, far=far: orders.within_reach(unit, run, far), run
                )

        def begin(unit: Unit, run: Run) -> TaskStatus:
            task = orders.within_reach(unit, run, mine)
            return orders.start(unit, task, actor="agent:writer").status

        def shelve(unit: Unit, run: Run) -> TaskStatus:
            task = orders.within_reach(unit, run, mine)
            return orders.shelve(unit, task, actor="agent:writer").status

        def describe(unit: Unit, run: Run) -> str:
            task = orders.within_reach(unit, run, mine)
            return orders.describe(unit, task, "Anew", actor="agent:writer").description

        assert await with_run(store, begin, run) is TaskStatus.QUEUED
        assert await with_run(store, begin, run) is TaskStatus.QUEUED
        assert await with_run(store, shelve, run) is TaskStatus.BACKLOG
        assert await with_run(store, describe, run) == "Anew"
        await store.write(lambda unit: tasks.cancel_task(unit, mine, actor="person"))
        for refused in (begin, shelve, describe):
            with pytest.raises(TransitionError):
                await with_run(store, refused, run)


async def test_a_chat_is_a_line_of_its_own_among_the_actions_and_holds_no_folder(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock) as store:
        await store.write(_declare)
        shared = Project("demo", "demo", "/srv/demo", workspace=WorkspaceKind.DIRECTORY)
        await store.write(lambda unit: projects.declare_project(unit, shared))

        async def lines() -> list[tuple[str, str, str]]:
            found = await store.read(actions.list_actions)
            return [
                (one.purpose.value, one.action, one.reason)
                for one in found.actions
                if one.agent_id == "writer"
            ]

        task_line = ("task", "hold", "no_task")
        assert await lines() == [task_line]
        await say(store, "Hello?")
        assert await lines() == [task_line, ("chat", "start", "message")]
        await store.write(
            lambda unit: projects.set_project_status(unit, "demo", "paused", actor="person")
        )
        assert await lines() == [("task", "hold", "project_paused")]
        await store.write(
            lambda unit: projects.set_project_status(unit, "demo", "active", actor="person")
        )
        answer = await claim(store)
        assert answer.project is not None
        assert (answer.project.workspace, answer.project.path) == (WorkspaceKind.SCRATCH, "")
        assert answer.task is not None
        assert (answer.task.checks, answer.task.description) == ((), "")
        assert await lines() == [task_line], "one is there"
        await store.write(lambda unit: tasks.create_task(unit, NewTask("demo", "Do it"), "person"))
        assert await lines() == [("task", "start", "task_due")]
        assert (await claim(store, Purpose.TASK)).claimed
