"""Audits in the store: they fire once with what they watch, hold what they say, and end, over both databases."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from aiagent_coordinator import ids
from aiagent_coordinator.audits import Audit, AuditStatus, LockSubject, Rule, Trigger
from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.errors import ConflictError, ValidationError
from aiagent_coordinator.runs import Purpose, RetryPolicy, Run, RunOutcome, Verification
from aiagent_coordinator.store import (
    actions,
    audits,
    claims,
    events,
    handoffs,
    locks,
    projects,
    reports,
    reviews,
    tasks,
)
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.engine import Store, open_store
from aiagent_coordinator.store.firing import MAX_FIRINGS
from aiagent_coordinator.store.requests import ClaimAnswer, ClaimRequest, ResultReport
from aiagent_coordinator.store.tasks import NewTask, TaskFilter
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Duty, Project, Task, TaskStatus
from aiagent_coordinator.templates import TaskDraft

LOOK = TaskDraft(1, "Look at {{task_title}}", "{{summary}} by {{agent_id}}", agent_id="judge")
WRITE = TaskDraft(2, "Write it down", depends_on_orders=(1,))
BOTH = (LockSubject.TASK, LockSubject.AGENT)


def audit(*rules: Rule, name: str = "second") -> Audit:
    return Audit(name, "A second look", rules, "second.yaml", "digest")


COMPLETED = Rule(Trigger.TASK_COMPLETED, tasks=(WRITE, LOOK))
FAILED = Rule(Trigger.STATUS_CHANGED, (TaskStatus.FAILED,), lock=BOTH, tasks=(LOOK,))


class Shop:
    """A project with somebody who works, somebody who looks, and a manager."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def add(self, title: str = "Build", agent: str = "worker", **more: Any) -> Task:
        new = NewTask("demo", title, agent, **more)
        return await self.store.write(lambda unit: tasks.create_task(unit, new, "person"))

    async def activate(self, *rules: Rule, name: str = "second") -> None:
        made = audit(*rules, name=name)
        await self.store.write(
            lambda unit: audits.activate(unit, "demo", made, max_attempts=2, actor="person")
        )

    async def try_claim(self, agent_id: str = "worker") -> ClaimAnswer:
        run_id = ids.new_run_id()
        request = ClaimRequest(
            run_id, "crd_one", 1, agent_id, "demo", Purpose.TASK, 0, f"sha-{run_id}"
        )
        self.run_id = run_id
        return await self.store.write(lambda unit: claims.claim_run(unit, request, 90.0))

    async def claim(self, agent_id: str = "worker") -> Run:
        answer = await self.try_claim(agent_id)
        assert answer.claimed, answer
        return await self.store.read(lambda unit: run_store.get_run(unit, self.run_id))

    async def end(
        self,
        run: Run,
        outcome: RunOutcome = RunOutcome.SUCCEEDED,
        reason: str | None = None,
        attempts: float = 1,
    ) -> None:
        report = ResultReport(
            run.id, run.fence, 2, outcome, Verification.VERIFIED, reason, handoff="go on"
        )
        policy = RetryPolicy(int(attempts), (0.0,))
        await self.store.write(lambda unit: reports.record_result(unit, report, policy))

    async def done(self, title: str = "Build", **more: Any) -> Task:
        """A task that an agent has done."""
        task = await self.add(title, **more)
        await self.end(await self.claim(task.agent_id or "worker"))
        return await self.look(task.id)

    async def look(self, task_id: str) -> Task:
        return await self.store.read(lambda unit: tasks.get_task(unit, task_id))

    async def made(self) -> list[Task]:
        """What audits have made, oldest first."""

        def work(unit: Unit) -> list[Task]:
            found = tasks.list_tasks(unit, TaskFilter("demo"), limit=1000)
            every = [tasks.get_task(unit, one.id) for one in found]
            return [one for one in every if one.audit_firing_id is not None]

        return await self.store.read(work)

    async def count(self, action: str) -> int:
        happened = await self.store.read(lambda unit: events.list_events(unit, limit=10_000))
        return sum(event.action == action for event in happened)

    async def held(self, subject: LockSubject, which: str) -> list[locks.Held]:
        return await self.store.read(lambda unit: locks.of(unit, subject, which))


@pytest.fixture
async def shop(store_url: str, clock: ManualClock) -> AsyncGenerator[Shop]:
    def declare(unit: Unit) -> None:
        for name in ("demo", "other"):
            projects.declare_project(unit, Project(name, name.title(), f"/{name}"))
        for agent in (
            Agent("boss", "Boss", "rehearsal", hierarchy=Duty.MANAGER),
            Agent("worker", "Worker", "rehearsal"),
            Agent("judge", "Judge", "rehearsal"),
        ):
            projects.declare_agent(unit, agent)
            projects.assign(unit, agent.id, "demo")

    async with open_store(store_url, clock=clock) as store:
        await store.write(declare)
        yield Shop(store)


async def test_the_completion_of_an_agents_task_fires_once_with_it(shop: Shop) -> None:
    """There agents' completions never fire; here a report that is said twice fires once."""
    await shop.activate(COMPLETED)
    task = await shop.add("Build [it]")
    run = await shop.claim()
    assert await shop.made() == []
    await shop.end(run)
    await shop.end(run)
    look, write = await shop.made()
    assert [one.title for one in (look, write)] == [
        "Look at Build [it] [Audit: Build [it]]",
        "Write it down [Audit: Build [it]]",
    ]
    assert (look.agent_id, write.agent_id) == ("judge", None)
    assert (look.status, write.status) == (TaskStatus.QUEUED, TaskStatus.BLOCKED)
    assert look.description == " by worker"
    assert {one.max_attempts for one in (look, write)} == {2}
    assert await shop.count("audit.fired") == 1
    # in the same transaction: the completion and what it fires have one instant
    assert look.created_at == (await shop.look(task.id)).ended_at


async def test_what_an_audit_made_fires_nothing_nor_do_its_parts_reviews_and_steps(
    shop: Shop,
) -> None:
    await shop.activate(COMPLETED)
    await shop.done()
    (look, write) = await shop.made()
    await shop.end(await shop.claim("judge"))
    await shop.end(await shop.claim("worker"))
    assert (await shop.look(write.id)).status is TaskStatus.SUCCEEDED
    part = await shop.done("A part", parent_id=look.id)
    assert part.status is TaskStatus.SUCCEEDED
    await shop.done("A judgement", reviews_id=part.id)
    assert len(await shop.made()) == 2
    assert await shop.count("audit.fired") == 1


async def test_a_rule_is_for_its_agents_its_statuses_and_its_project(shop: Shop) -> None:
    only_boss = Rule(Trigger.TASK_COMPLETED, agents=("boss",), tasks=(LOOK,))
    await shop.activate(
        only_boss, Rule(Trigger.STATUS_CHANGED, (TaskStatus.CANCELLED,), tasks=(WRITE_ALONE,))
    )
    await shop.done()
    assert await shop.made() == []
    await shop.done(agent="boss")
    assert len(await shop.made()) == 1
    task = await shop.add()
    await shop.store.write(lambda unit: tasks.cancel_task(unit, task.id, actor="person"))
    assert len(await shop.made()) == 2
    elsewhere = NewTask("other", "Elsewhere")
    other = await shop.store.write(lambda unit: tasks.create_task(unit, elsewhere, "person"))
    await shop.store.write(lambda unit: tasks.cancel_task(unit, other.id, actor="person"))
    assert len(await shop.made()) == 2


WRITE_ALONE = TaskDraft(1, "Write it down", "{{reason}}")


@pytest.mark.parametrize("status", [AuditStatus.SUSPENDED, AuditStatus.INACTIVE])
async def test_an_audit_that_is_not_active_fires_nothing(shop: Shop, status: AuditStatus) -> None:
    await shop.activate(COMPLETED)
    await shop.store.write(
        lambda unit: audits.set_status(unit, "demo", "second", status, actor="person")
    )
    await shop.done()
    assert await shop.made() == []
    await shop.activate(COMPLETED)
    await shop.done()
    assert len(await shop.made()) == 2


async def test_a_hand_off_fires_when_it_is_taken_and_each_once(shop: Shop) -> None:
    """It changes no task, and every one counts."""
    await shop.activate(Rule(Trigger.HANDOFF_COMPLETED, tasks=(WRITE_ALONE,)), COMPLETED)
    target = await shop.add("Target", "judge")
    await shop.add()
    left, taken = await shop.claim(), await shop.claim("judge")
    assert taken.task_id == target.id
    for place in (1, 2):
        new = handoffs.NewHandoff(target.id, "so far", to_agent_id="judge")
        made = await shop.store.write(lambda unit, new=new: handoffs.make(unit, left, new))
        assert len(await shop.made()) == place - 1
        for _ in range(2):
            await shop.store.write(lambda unit, made=made: handoffs.take(unit, taken, made.id))
        assert len(await shop.made()) == place
    assert {one.title for one in await shop.made()} == {"Write it down [Audit: Target]"}


async def test_a_time_that_ran_out_fires_also_at_the_last_attempt(shop: Shop) -> None:
    """The only times a task has: that of its run, and that of an answer."""
    late = Rule(Trigger.DEADLINE_EXCEEDED, tasks=(WRITE_ALONE,))
    await shop.activate(late)
    await shop.add(max_attempts=2)
    await shop.end(await shop.claim(), RunOutcome.FAILED, "timed_out", 2)
    (first,) = await shop.made()
    assert (first.title, first.description) == ("Write it down [Audit: Build]", "timed_out")
    again = await shop.claim()
    # the last attempt: its task fails because attempts are used up
    await shop.end(again, RunOutcome.FAILED, "timed_out", 2)
    assert len(await shop.made()) == 2


async def test_a_locked_task_is_moved_by_a_person_alone_and_let_go_when_the_audit_is_over(
    shop: Shop,
) -> None:
    await shop.activate(FAILED)
    task = await shop.add(max_attempts=1)
    await shop.end(await shop.claim(), RunOutcome.FAILED, "agent_reported")
    (look,) = await shop.made()
    assert (await shop.look(task.id)).is_locked
    with pytest.raises(ConflictError, match="locked by an audit"):
        await shop.store.write(lambda unit: tasks.retry_task(unit, task.id, actor="agent:boss"))
    # a person may, and it begins when it is let go
    again = await shop.store.write(lambda unit: tasks.retry_task(unit, task.id, actor="person"))
    assert (again.status, again.is_locked) == (TaskStatus.QUEUED, True)
    assert (await shop.try_claim()).reason == "agent_locked"
    await shop.end(await shop.claim("judge"))
    assert (await shop.look(look.id)).status is TaskStatus.SUCCEEDED
    assert not (await shop.look(task.id)).is_locked
    assert await shop.held(LockSubject.AGENT, "worker") == []
    assert (await shop.claim()).task_id == task.id


async def test_a_locked_task_is_not_claimed_and_a_locked_agent_is_told_to_hold(
    shop: Shop,
) -> None:
    await shop.activate(
        Rule(Trigger.STATUS_CHANGED, (TaskStatus.QUEUED,), lock=(LockSubject.TASK,))
    )
    await shop.add(max_attempts=3)
    await shop.end(await shop.claim(), RunOutcome.FAILED, "agent_reported", 3)
    assert (await shop.try_claim()).reason == "no_task"
    assert not any(
        one.action == "start" for one in (await shop.store.read(actions.list_actions)).actions
    )
    await shop.activate(Rule(Trigger.TASK_COMPLETED, lock=(LockSubject.AGENT,)), name="hold")
    await shop.done(agent="judge")
    await shop.add(agent="judge")
    (line,) = [
        one
        for one in (await shop.store.read(actions.list_actions)).actions
        if one.agent_id == "judge"
    ]
    assert (line.action, line.reason) == ("hold", "agent_locked")
    assert (await shop.try_claim("judge")).reason == "agent_locked"
    await shop.store.write(
        lambda unit: locks.unlock(unit, LockSubject.AGENT, "judge", actor="person")
    )
    assert (await shop.try_claim("judge")).claimed
    with pytest.raises(ConflictError):
        await shop.store.write(
            lambda unit: locks.unlock(unit, LockSubject.AGENT, "judge", actor="person")
        )


async def test_what_happens_around_a_locked_task_is_made_up_for_when_it_is_let_go(
    shop: Shop,
) -> None:
    """Nobody's end is refused because something that waits for it is held."""
    first = await shop.add("First")
    second = await shop.add("Second", depends_on=(first.id,))
    await shop.activate(
        Rule(Trigger.STATUS_CHANGED, (TaskStatus.BLOCKED,), lock=(LockSubject.TASK,))
    )
    third = await shop.add("Third")
    await shop.store.write(
        lambda unit: tasks.add_dependencies(unit, third.id, [first.id], actor="agent:boss")
    )
    assert (await shop.look(third.id)).is_locked
    await shop.end(await shop.claim())
    assert (await shop.look(second.id)).status is TaskStatus.QUEUED
    assert (await shop.look(third.id)).status is TaskStatus.BLOCKED
    await shop.store.write(
        lambda unit: locks.unlock(unit, LockSubject.TASK, third.id, actor="person")
    )
    assert (await shop.look(third.id)).status is TaskStatus.QUEUED


async def test_a_result_that_waits_for_a_reviewer_is_held_against_it(shop: Shop) -> None:
    held = Rule(Trigger.STATUS_CHANGED, (TaskStatus.WAITING,), lock=(LockSubject.TASK,))
    await shop.activate(held)
    task = await shop.add(review_by="judge")
    await shop.end(await shop.claim())
    assert (await shop.look(task.id)).is_locked
    review = await shop.claim("judge")

    def judge(unit: Unit) -> Task:
        mine = tasks.lock_task(unit, review.task_id or "")
        return reviews.judge(unit, mine, is_accepted=True, comment="fine", actor="agent:judge")

    with pytest.raises(ConflictError, match="locked by an audit"):
        await shop.store.write(judge)

    def approve(unit: Unit) -> Task:
        return reviews.approve(unit, tasks.lock_task(unit, task.id), actor="person")

    assert (await shop.store.write(approve)).status is TaskStatus.SUCCEEDED


async def test_an_audit_that_failed_keeps_what_it_holds_and_one_put_away_lets_go(
    shop: Shop,
) -> None:
    await shop.activate(FAILED)
    task = await shop.add(max_attempts=1)
    await shop.end(await shop.claim(), RunOutcome.FAILED, "agent_reported")
    for _ in range(2):
        await shop.end(await shop.claim("judge"), RunOutcome.FAILED, "agent_reported", 2)
    (look,) = await shop.made()
    assert look.status is TaskStatus.FAILED
    assert (await shop.look(task.id)).is_locked
    for status, is_locked in ((AuditStatus.SUSPENDED, True), (AuditStatus.INACTIVE, False)):
        await shop.store.write(
            lambda unit, status=status: audits.set_status(
                unit, "demo", "second", status, actor="person"
            )
        )
        assert (await shop.look(task.id)).is_locked is is_locked
    assert await shop.held(LockSubject.AGENT, "worker") == []


async def test_two_audits_hold_one_task_until_both_let_go(shop: Shop) -> None:
    for name in ("one", "two"):
        await shop.activate(Rule(Trigger.TASK_COMPLETED, lock=(LockSubject.TASK,)), name=name)
    task = await shop.done()
    assert [one.audit for one in await shop.held(LockSubject.TASK, task.id)] == ["one", "two"]
    for name, is_locked in (("one", True), ("two", False)):
        await shop.store.write(
            lambda unit, name=name: audits.set_status(
                unit, "demo", name, AuditStatus.INACTIVE, actor="person"
            )
        )
        assert (await shop.look(task.id)).is_locked is is_locked


async def test_a_task_that_goes_to_and_fro_makes_no_endless_chain(shop: Shop) -> None:
    await shop.activate(Rule(Trigger.STATUS_CHANGED, (TaskStatus.CANCELLED,), tasks=(WRITE_ALONE,)))
    task = await shop.add()
    for _ in range(MAX_FIRINGS + 2):
        await shop.store.write(lambda unit: tasks.cancel_task(unit, task.id, actor="person"))
        await shop.store.write(lambda unit: tasks.retry_task(unit, task.id, actor="person"))
    assert len(await shop.made()) == MAX_FIRINGS


async def test_nothing_that_an_audit_cannot_do_refuses_a_completion(shop: Shop) -> None:
    """Who it names has left the project, and what it quotes fits into no title."""
    draft = TaskDraft(
        1, "{{task_description}}{{task_title}}", "x", agent_id="judge", review_by="boss"
    )
    await shop.activate(Rule(Trigger.TASK_COMPLETED, tasks=(draft,)))

    def leave(unit: Unit) -> None:
        for one in ("judge", "boss"):
            projects.unassign(unit, one, "demo")

    await shop.store.write(leave)
    done = await shop.done("T" * 500, description="many\nlines\t" * 1000)
    assert done.status is TaskStatus.SUCCEEDED
    (made,) = await shop.made()
    assert (made.agent_id, made.review_by) == (None, "person")
    assert len(made.title) == 500
    assert made.title.startswith("many lines many lines")
    assert made.title.endswith("T]")


async def test_rules_that_name_strangers_are_not_activated(shop: Shop) -> None:
    stranger = TaskDraft(1, "Look", agent_id="nobody")
    boss = TaskDraft(2, "Lead", role=Duty.MANAGER, review_by="nobody")
    with pytest.raises(ValidationError) as caught:
        await shop.activate(
            Rule(Trigger.TASK_COMPLETED, agents=("stranger",), tasks=(stranger, boss))
        )
    told = caught.value.details["problems"]
    assert told == [
        "rules[0]: agent stranger does not work in the project",
        "rules[0]: agent nobody does not work in the project; there are: boss, judge, worker",
        "rules[0]: agent nobody does not work in the project; there are: boss, judge, worker",
    ]


async def test_an_agent_that_is_to_do_what_a_rule_made_is_not_held_by_it(shop: Shop) -> None:
    """It would wait for itself for ever."""
    await shop.activate(Rule(Trigger.TASK_COMPLETED, lock=BOTH, tasks=(LOOK,)))
    own = await shop.done(agent="judge")
    assert await shop.held(LockSubject.AGENT, "judge") == []
    assert own.is_locked
    await shop.end(await shop.claim("judge"))
    assert not (await shop.look(own.id)).is_locked
