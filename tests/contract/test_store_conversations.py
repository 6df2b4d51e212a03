"""Conversations of agents: asked for, taken up, counted, ended, and never left hanging when a session ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from aiagent_coordinator.chats import (
    IDLE_SECONDS,
    Conversation,
    Delegation,
    DelegationState,
    Standing,
)
from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.errors import (
    ConflictError,
    LimitError,
    NotFoundError,
    ValidationError,
)
from aiagent_coordinator.runs import Purpose, RetryPolicy, Run
from aiagent_coordinator.store import (
    actions,
    chat,
    conversation_ends,
    conversation_reads,
    conversations,
    delegations,
    legacy,
    notifications,
    projects,
    runs,
    talks,
    tasks,
    wanting,
)
from aiagent_coordinator.store.engine import Store, open_store
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Project

T = TypeVar("T")
POLICY = RetryPolicy()
ANN, BOB = ("ann", "demo"), ("bob", "demo")


def _declare(unit: Unit) -> None:
    for name in ("demo", "other"):
        projects.declare_project(unit, Project(name, name, f"/srv/{name}"))
    for name in ("ann", "bob", "cid", "off", "far", "dan", "eve", "fay", "gus"):
        projects.declare_agent(unit, Agent(name, name.title(), "rehearsal", enabled=name != "off"))
        projects.assign(unit, name, "other" if name == "far" else "demo")


async def session(store: Store, agent: str, purpose: Purpose = Purpose.CHAT) -> Run:
    """A live session whose agent has authenticated; something must want it."""

    def work(unit: Unit) -> Run:
        answer = legacy.claim(unit, agent, "demo", POLICY, purpose)
        assert answer.claimed, answer
        live = legacy.all_live_of(unit, agent, "demo")
        run = next(one for one in live if one.purpose is purpose)
        runs.mark_authenticated(unit, run.id)
        legacy.greet(unit, run)
        return runs.get_run(unit, run.id)

    return await store.write(work)


async def chatting(store: Store, agent: str) -> Run:
    """The same, because a person wrote; what it wrote is answered."""
    await store.write(lambda unit: chat.write(unit, agent, "demo", "Hello?", actor="person"))
    run = await session(store, agent)

    def answer(unit: Unit) -> None:
        chat.read(unit, run)
        chat.reply(unit, run, "Here.")

    await store.write(answer)
    return run


async def gone(store: Store, run: Run) -> None:
    cause = legacy.Cause(run.coordinator_id, has_exited=True)
    await store.write(lambda unit: legacy.end(unit, run, cause, POLICY))


async def do(store: Store, run: Run, work: Callable[..., T], *more: object) -> T:
    return await store.write(lambda unit: work(unit, run, *more))


async def begun(
    store: Store, run: Run, with_: str = "bob", turns: int = 10, said: str = "Hi"
) -> Conversation:
    opening = conversations.Opening(with_, said, turns, "to agree")
    made, first = await do(store, run, conversations.start, opening)
    assert (first.number, made.turns) == (1, 1)
    return made


async def now(store: Store, one: Conversation) -> Conversation:
    found = await store.read(lambda unit: conversation_reads.get(unit, one.id))
    assert found is not None
    return found


async def talking(store: Store, turns: int = 10) -> tuple[Run, Run, Conversation]:
    """Two sessions in a conversation that is taken up."""
    ann = await chatting(store, "ann")
    one = await begun(store, ann, turns=turns)
    assert one.state is Standing.PENDING
    assert (await store.read(wanting.wanted)) == {BOB: "conversation"}
    bob = await session(store, "bob")
    assert (await store.read(wanting.wanted)) == {}
    asked = await store.read(lambda unit: conversations.requested(unit, bob))
    assert asked is not None
    assert asked.id == one.id
    taken = await do(store, bob, conversations.accept, one.id)
    assert taken.state is Standing.ACTIVE
    return ann, bob, taken


async def test_two_agents_talk_in_turns_until_one_ends_it(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock) as store:
        await store.write(_declare)
        ann, bob, one = await talking(store)
        assert await store.read(lambda unit: conversation_reads.unread(unit, bob)) == 1
        (first,) = await do(store, bob, conversation_reads.read, 10)
        assert (first.sender_agent_id, first.body) == ("ann", "Hi")
        assert await store.read(lambda unit: conversation_reads.unread(unit, bob)) == 0
        again = await do(store, bob, conversation_reads.read, 10)
        assert [said.id for said in again] == [first.id], "it is not answered yet"
        assert await store.read(lambda unit: talks.owed(unit, bob)) == 1
        told, answer = await do(store, bob, conversations.say, one.id, "Hello Ann")
        assert (told.turns, answer.number) == (2, 2)
        assert await do(store, bob, conversation_reads.read, 10) == []
        assert await store.read(lambda unit: talks.owed(unit, bob)) == 0
        over = await do(store, ann, conversations.end, one.id, "Bye")
        assert (over.state, over.turns, over.ended_by) == (Standing.TERMINATING, 2, "ann")
        assert await store.read(lambda unit: conversation_ends.over_for(unit, ann)) is None
        heard = await store.read(lambda unit: conversation_ends.over_for(unit, bob))
        assert heard is not None
        with pytest.raises(ConflictError):
            await do(store, bob, conversations.say, one.id, "Wait")
        assert (await do(store, bob, conversation_ends.hear, one.id)).state is Standing.ENDED
        assert (await do(store, bob, conversation_ends.hear, one.id)).state is Standing.ENDED
        last = await do(store, bob, conversation_reads.read, 10)
        assert [said.body for said in last] == ["Bye"]
        assert (await do(store, ann, conversations.end, one.id, None)).state is Standing.ENDED
        said, total = await store.read(lambda unit: conversation_reads.spoken(unit, one.id, 2))
        assert ([each.number for each in said], total) == ([2, 3], 3)


@pytest.mark.parametrize(("asked", "given"), [(-1, 2), (2, 2), (40, 40), (1000, 40)])
async def test_turns_are_put_between_two_and_forty(
    store_url: str, clock: ManualClock, asked: int, given: int
) -> None:
    async with open_store(store_url, clock=clock) as store:
        await store.write(_declare)
        ann = await chatting(store, "ann")
        assert (await begun(store, ann, turns=asked)).max_turns == given


async def test_the_last_turn_ends_a_conversation(store_url: str, clock: ManualClock) -> None:
    async with open_store(store_url, clock=clock) as store:
        await store.write(_declare)
        ann, bob, one = await talking(store, turns=2)
        over, _ = await do(store, bob, conversations.say, one.id, "Yes")
        assert (over.state, over.end_reason) == (Standing.TERMINATING, "turns_used")
        assert await store.read(lambda unit: conversation_ends.over_for(unit, bob)) is None
        assert (await do(store, ann, conversation_ends.hear, one.id)).state is Standing.ENDED
        assert [said.body for said in await do(store, ann, conversation_reads.read, 9)] == ["Yes"]


async def test_nobody_talks_with_itself_across_projects_or_twice(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock) as store:
        await store.write(_declare)
        ann = await chatting(store, "ann")
        for whom, error in (
            ("ann", ValidationError),
            ("far", NotFoundError),
            ("nobody", NotFoundError),
            ("off", ConflictError),
        ):
            with pytest.raises(error):
                await begun(store, ann, whom)
        one = await begun(store, ann)
        with pytest.raises(ConflictError, match=one.id):
            await begun(store, ann)
        bob = await session(store, "bob")
        with pytest.raises(ConflictError, match="wants to talk with you"):
            await begun(store, bob, "ann")
        for whom in ("cid", "dan", "eve", "fay"):
            await begun(store, ann, whom)
        with pytest.raises(LimitError):
            await begun(store, ann, "gus")
        cid = await chatting(store, "cid")
        for act in (conversations.say, conversations.end):
            with pytest.raises(NotFoundError):
                await do(store, cid, act, one.id, "Me too")


async def test_a_session_begins_and_a_task_delegates_only_so_often(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock) as store:
        await store.write(_declare)
        work = await at_work(store)
        for number in range(delegations.MAX_OF_TASK):
            await do(store, work, delegations.delegate, "bob", f"Agree on {number}", None)
        with pytest.raises(LimitError):
            await do(store, work, delegations.delegate, "bob", "Once more", None)
        ann = await chatting(store, "ann")
        for _ in range(conversations.MAX_BEGUN):
            one = await begun(store, ann)
            await do(store, ann, conversations.end, one.id, None)
        with pytest.raises(LimitError):
            await begun(store, ann)


@pytest.mark.parametrize("side", ["initiator", "participant"])
async def test_the_end_of_a_session_ends_its_conversations_and_the_other_side_is_told(
    store_url: str, clock: ManualClock, side: str
) -> None:
    async with open_store(store_url, clock=clock) as store:
        await store.write(_declare)
        ann, bob, one = await talking(store)
        leaves, stays = (ann, bob) if side == "initiator" else (bob, ann)
        await gone(store, leaves)
        over = await now(store, one)
        assert (over.state, over.end_reason) == (Standing.TERMINATING, "session_over")
        assert over.ended_by == leaves.agent_id
        heard = await store.read(lambda unit: conversation_ends.over_for(unit, stays))
        assert heard is not None
        await gone(store, stays)
        assert (await now(store, one)).state is Standing.ENDED, "nobody is left to tell"


async def test_who_asked_and_left_wants_nobody_to_come(store_url: str, clock: ManualClock) -> None:
    async with open_store(store_url, clock=clock) as store:
        await store.write(_declare)
        ann = await chatting(store, "ann")
        one = await begun(store, ann)
        await gone(store, ann)
        assert (await now(store, one)).state is Standing.ENDED
        assert await store.read(wanting.wanted) == {}


async def test_a_conversation_in_which_nobody_speaks_expires(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(_declare)
        ann, bob, one = await talking(store)
        clock.advance(IDLE_SECONDS - 1)
        await do(store, ann, conversations.say, one.id, "Still there?")
        clock.advance(IDLE_SECONDS - 1)
        await store.write(wanting.give_up)
        assert (await now(store, one)).state is Standing.ACTIVE
        clock.advance(2)
        assert await store.read(wanting.is_hopeless)
        await store.write(wanting.give_up)
        over = await now(store, one)
        assert (over.state, over.ended_by) == (Standing.TERMINATING, "system")
        for run in (ann, bob):
            await do(store, run, conversation_ends.hear, one.id)
        assert (await now(store, one)).state is Standing.EXPIRED


async def test_a_person_ends_a_conversation_and_both_hear_it(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock) as store:
        await store.write(_declare)
        ann, bob, one = await talking(store)
        await store.write(lambda unit: conversations.end_by_person(unit, one.id))
        assert (await do(store, ann, conversation_ends.hear, one.id)).state is Standing.TERMINATING
        over = await do(store, bob, conversation_ends.hear, one.id)
        assert (over.state, over.ended_by, over.end_reason) == (Standing.ENDED, "person", "person")


async def test_a_partner_whose_sessions_fail_rests_like_any_chat(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(_declare)
        ann = await chatting(store, "ann")
        await begun(store, ann)
        lines = (await store.read(actions.list_actions)).actions
        (start,) = [line for line in lines if line.purpose is Purpose.CHAT]
        assert (start.agent_id, start.action, start.reason) == ("bob", "start", "conversation")
        await gone(store, await session(store, "bob"))
        assert await store.read(wanting.wanted) == {}
        (end,) = await store.read(wanting.rests_until)
        assert (end - clock.now()).total_seconds() == chat.REST_SECONDS
        assert await store.read(actions.holds_until) == end, "no event tells it"
        clock.advance(chat.REST_SECONDS + 1)
        assert await store.read(wanting.wanted) == {BOB: "conversation"}


async def at_work(store: Store) -> Run:
    new = tasks.NewTask(project_id="demo", agent_id="ann", title="Dig")
    await store.write(lambda unit: tasks.create_task(unit, new, "person"))
    return await session(store, "ann", Purpose.TASK)


async def wish(store: Store, run: Run, target: str = "bob") -> Delegation:
    return await do(store, run, delegations.delegate, target, "to agree", "on red")


async def read_notices(store: Store, run: Run) -> list[str]:
    found = await store.read(lambda unit: notifications.unread(unit, run))
    return [one.action for one in found]


async def test_a_delegation_is_taken_done_and_told_to_the_session_at_work(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock) as store:
        await store.write(_declare)
        work = await at_work(store)
        asked = await wish(store, work)
        assert (await wish(store, work)).id == asked.id, "said twice is said once"
        assert (await store.read(wanting.wanted)) == {ANN: "delegation"}
        ann = await session(store, "ann")
        waits = await store.read(lambda unit: delegations.pending(unit, ann))
        assert waits is not None
        taken = await do(store, ann, delegations.take, waits.id)
        assert (taken.state, taken.tries) == (DelegationState.PROCESSING, 1)
        opening = conversations.Opening("bob", "Red?", 6, "colour", taken)
        one, _ = await do(store, ann, conversations.start, opening)
        assert (one.task_id, one.delegation_id) == (work.task_id, asked.id)
        assert await store.read(lambda unit: talks.owed(unit, ann)) == 1
        for _ in range(2):
            done = await do(store, ann, delegations.complete, asked.id, "Red it is")
            assert (done.state, done.result) == (DelegationState.COMPLETED, "Red it is")
        assert await read_notices(store, work) == ["delegation_completed"]
        assert await read_notices(store, ann) == []
        found = await store.read(
            lambda unit: conversation_reads.of_tasks(unit, [str(work.task_id)])
        )
        assert [each.id for each in found] == [one.id]
        other = await chatting(store, "bob")
        with pytest.raises(NotFoundError):
            await do(store, other, delegations.complete, asked.id, "No")


async def test_a_delegation_whose_sessions_die_goes_to_the_next_and_fails_after_three(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(_declare)
        work = await at_work(store)
        asked = await wish(store, work)
        for number in range(1, delegations.MAX_TRIES + 1):
            assert (await store.read(wanting.wanted)) == {ANN: "delegation"}, number
            ann = await session(store, "ann")
            await do(store, ann, delegations.take, asked.id)
            assert await read_notices(store, work) == []
            await gone(store, ann)
            clock.advance(chat.REST_SECONDS * number + 1)
        assert await store.read(wanting.wanted) == {}
        assert await read_notices(store, work) == ["delegation_failed"]
        (over,) = await store.read(lambda unit: delegations.of_task(unit, str(work.task_id)))
        assert over.state is DelegationState.FAILED


async def test_a_delegation_that_no_session_comes_for_fails(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(_declare)
        work = await at_work(store)
        await wish(store, work)
        for number in range(1, chat.MAX_FAILURES + 1):
            await store.write(wanting.give_up)
            assert await read_notices(store, work) == [], number
            await gone(store, await session(store, "ann"))
            clock.advance(chat.REST_SECONDS * number + 1)
        await store.write(wanting.give_up)
        assert await read_notices(store, work) == ["delegation_failed"]


async def test_what_a_delegation_came_to_is_read_by_the_next_attempt_too(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(_declare)
        work = await at_work(store)
        asked = await wish(store, work)
        ann = await session(store, "ann")
        await do(store, ann, delegations.take, asked.id)
        await gone(store, work)
        await do(store, ann, delegations.complete, asked.id, None)
        clock.advance(3600)
        assert await read_notices(store, await session(store, "ann", Purpose.TASK)) == [
            "delegation_completed"
        ]


async def test_a_cancelled_task_wants_no_talk_any_more(store_url: str, clock: ManualClock) -> None:
    async with open_store(store_url, clock=clock) as store:
        await store.write(_declare)
        work = await at_work(store)
        await wish(store, work)
        await store.write(lambda unit: tasks.cancel_task(unit, str(work.task_id), actor="person"))
        await store.write(wanting.give_up)
        (over,) = await store.read(lambda unit: delegations.of_task(unit, str(work.task_id)))
        assert over.state is DelegationState.FAILED
        assert await store.read(wanting.wanted) == {}
