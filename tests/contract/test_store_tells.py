"""What people tell the agents of tasks: each way there is, once, and again only to who cannot know it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import pytest

from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.errors import ConflictError, LimitError
from aiagent_coordinator.ids import new_run_id
from aiagent_coordinator.runs import Purpose, RetryPolicy, RunOutcome, ShimIdentity, Verification
from aiagent_coordinator.store import claims, leases, notifications, projects, reports, tasks, tells
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.engine import Store, open_store
from aiagent_coordinator.store.requests import (
    ClaimAnswer,
    ClaimRequest,
    ExitReport,
    HeldRun,
    RenewRequest,
    ResultReport,
    StartedReport,
)
from aiagent_coordinator.store.tasks import NewTask
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Project, Task
from aiagent_coordinator.tells import Tell, Way

POLICY = RetryPolicy(9, (0.0,))


@dataclass
class Desk:
    """One task, and what its coordinator does with it."""

    store: Store
    clock: ManualClock
    task_id: str
    run_id: str = ""
    fence: int = 0

    async def claim(self) -> ClaimAnswer:
        self.run_id = new_run_id()
        return await self.claim_again()

    async def claim_again(self) -> ClaimAnswer:
        request = ClaimRequest(
            run_id=self.run_id,
            coordinator_id="crd_one",
            epoch=1,
            agent_id="writer",
            project_id="demo",
            purpose=Purpose.TASK,
            slot=0,
            token_sha256=hashlib.sha256(self.run_id.encode()).hexdigest(),
        )
        answer = await self.store.write(lambda unit: claims.claim_run(unit, request, 90))
        assert answer.claimed, answer.reason
        self.fence = answer.fence or 0
        return answer

    async def start(self, listens: str | None) -> None:
        report = StartedReport(
            run_id=self.run_id,
            fence=self.fence,
            seq=0,
            host_id="here",
            shim=ShimIdentity(1, 1, "boot"),
            workspace="/w",
            log_path="/l",
            argv_masked=("cli",),
            listens=listens,
        )
        await self.store.write(lambda unit: reports.record_started(unit, report))

    async def say(self, text: str, *, interrupts: bool = False) -> Tell:
        def work(unit: Unit) -> Tell:
            task = tasks.lock_task(unit, self.task_id)
            return tells.send(unit, task, text, interrupts=interrupts, actor="person")

        self.clock.advance(1)
        return await self.store.write(work)

    async def renew(self, *heard: str) -> list[str]:
        held = HeldRun(self.run_id, self.fence, run_store.RunPhase.RUNNING, heard=heard)
        request = RenewRequest("crd_one", 1, (held,))
        answer = await self.store.write(lambda unit: leases.renew_runs(unit, request, 90))
        return [one.text for one in answer.runs[0].tells]

    async def end(self, *heard: str, session: str | None = None) -> None:
        def work(unit: Unit) -> None:
            ended = ExitReport(self.run_id, self.fence, 1, unit.now, exit_code=1, heard=heard)
            reports.record_exit(unit, ended)
            result = ResultReport(
                self.run_id,
                self.fence,
                2,
                RunOutcome.FAILED,
                Verification.NOT_VERIFIED,
                reason="no_report",
                provider_session_id=session,
            )
            reports.record_result(unit, result, POLICY)

        await self.store.write(work)

    async def known(self) -> list[tuple[str, Way | None, bool]]:
        found = await self.store.read(lambda unit: tells.of_task(unit, self.task_id))
        return [(one.body, one.way, one.delivered_at is not None) for one in found]


@pytest.fixture
async def here(store_url: str, clock: ManualClock) -> AsyncGenerator[Desk]:
    def work(unit: Unit) -> Task:
        projects.declare_project(unit, Project("demo", "demo", "/srv/demo"))
        projects.declare_agent(unit, Agent("writer", "Writer", "claude"))
        projects.assign(unit, "writer", "demo")
        return tasks.create_task(unit, NewTask("demo", "Do it", max_attempts=9), "person")

    async with open_store(store_url, clock=clock) as store:
        yield Desk(store, clock, (await store.write(work)).id)


def said(answer: ClaimAnswer) -> list[str]:
    assert answer.task is not None
    return [one.text for one in answer.task.tells]


async def test_a_listening_run_is_given_a_message_until_it_was_heard(here: Desk) -> None:
    await here.claim()
    await here.start("turn")
    one = await here.say("one")
    two = await here.say("two", interrupts=True)
    assert (one.way, two.way) == (Way.TURN, Way.TURN)
    assert await here.renew() == ["one", "two"]
    assert await here.renew(one.id) == ["two"]
    assert await here.renew(one.id) == ["two"]
    await here.end(one.id, two.id)
    assert [row[1:] for row in await here.known()] == [(Way.TURN, True), (Way.TURN, True)]


async def test_what_is_said_before_a_run_starts_is_in_its_claim_and_heard_with_its_start(
    here: Desk,
) -> None:
    """A claim that is sent again says the same; what comes between claim and start goes its own way."""
    assert (await here.say("early")).way is None
    assert said(await here.claim()) == ["early"]
    assert said(await here.claim_again()) == ["early"]
    assert [row[1:] for row in await here.known()] == [(Way.START, False)]
    between = await here.say("between")
    assert between.way is None
    await here.start("turn")
    expected = [("early", Way.START, True), ("between", Way.TURN, False)]
    assert await here.known() == expected
    assert await here.renew() == ["between"]


async def test_a_run_that_never_started_leaves_its_messages_to_the_next(here: Desk) -> None:
    await here.say("early")
    await here.claim()
    await here.end()
    assert [row[1:] for row in await here.known()] == [(Way.START, False)]
    assert said(await here.claim()) == ["early"]


async def test_a_new_session_hears_everything_and_one_gone_on_with_only_what_is_new(
    here: Desk,
) -> None:
    await here.claim()
    await here.start("turn")
    one = await here.say("one")
    await here.renew(one.id)
    await here.say("never heard")
    await here.end()
    here.clock.advance(1)
    assert said(await here.claim()) == ["one", "never heard"]
    await here.start("turn")
    await here.store.write(lambda unit: run_store.mark_authenticated(unit, here.run_id))
    await here.end(session="abc")
    here.clock.advance(1)
    await here.say("three")
    assert said(await here.claim()) == ["three"]


async def test_a_program_that_does_not_listen_is_told_by_a_notice(here: Desk) -> None:
    await here.claim()
    await here.start(None)
    sent = await here.say("one")
    assert sent.way is Way.CALL
    assert await here.renew() == []

    def read(unit: Unit) -> list[str]:
        run = run_store.get_run(unit, here.run_id)
        found = notifications.unread(unit, run)
        tells.noticed(unit, run, [one.id for one in found])
        return [one.message for one in found]

    assert await here.store.write(read) == ["one"]
    assert await here.known() == [("one", Way.CALL, True)]
    with pytest.raises(ConflictError, match="cannot be interrupted"):
        await here.say("stop", interrupts=True)


async def test_one_that_takes_interrupts_alone_is_told_the_rest_by_a_notice(here: Desk) -> None:
    await here.claim()
    await here.start("interrupt")
    assert (await here.say("one")).way is Way.CALL
    assert (await here.say("stop", interrupts=True)).way is Way.TURN
    assert await here.renew() == ["stop"]


async def test_nobody_is_told_of_a_task_that_is_over_and_few_messages_wait(here: Desk) -> None:
    with pytest.raises(ConflictError, match="no run to interrupt"):
        await here.say("stop", interrupts=True)
    for number in range(tells.MAX_WAITING):
        await here.say(str(number))
    with pytest.raises(LimitError):
        await here.say("one more")
    await here.store.write(lambda unit: tasks.cancel_task(unit, here.task_id, actor="person"))
    with pytest.raises(ConflictError, match="cancelled"):
        await here.say("late")
