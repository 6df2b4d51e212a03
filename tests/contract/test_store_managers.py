"""Managers and reviewers in the store: batches, waits, wakes, splits and verdicts, over both databases."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from aiagent_coordinator import ids
from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.errors import ConflictError, LimitError
from aiagent_coordinator.runs import Purpose, RetryPolicy, Run, RunOutcome, Verification
from aiagent_coordinator.store import (
    actions,
    claims,
    dependencies,
    managing,
    projects,
    reports,
    reviews,
    subtasks,
    tasks,
    waking,
)
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.engine import Store, open_store
from aiagent_coordinator.store.requests import ClaimRequest, ResultReport
from aiagent_coordinator.store.subtasks import NewPart
from aiagent_coordinator.store.tasks import NewTask
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Duty, Project, SubtaskPolicy, Task, TaskStatus

POLICY = SubtaskPolicy(max_depth=1, max_per_task=4)
BATCH = (NewPart("Dig", "a", assignee_id="low"), NewPart("Fill", "b", needs=("a",)))


class Office:
    """A manager, one that works for it, and one that reviews."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def add(self, **more: Any) -> Task:
        new = NewTask("demo", "Build", "top", **more)
        return await self.store.write(lambda unit: tasks.create_task(unit, new, "person"))

    async def claim(self, agent_id: str) -> Run:
        run_id = ids.new_run_id()
        request = ClaimRequest(
            run_id, "crd_one", 1, agent_id, "demo", Purpose.TASK, 0, f"sha-{run_id}"
        )
        answer = await self.store.write(lambda unit: claims.claim_run(unit, request, 90.0))
        assert answer.claimed, answer
        return await self.store.read(lambda unit: run_store.get_run(unit, run_id))

    async def end(self, run: Run, outcome: RunOutcome = RunOutcome.SUCCEEDED) -> None:
        report = ResultReport(run.id, run.fence, 2, outcome, Verification.VERIFIED)
        policy = RetryPolicy(1, (0.0,))
        await self.store.write(lambda unit: reports.record_result(unit, report, policy))

    async def batch(self, task: Task, key: str | None = None) -> dict[str, Task]:
        def work(unit: Unit) -> dict[str, Task]:
            parent = tasks.lock_task(unit, task.id)
            return subtasks.add(unit, parent, BATCH, POLICY, key=key).made

        return await self.store.write(work)

    async def wait(self, task: Task, run: Run) -> None:
        def work(unit: Unit) -> Task:
            return managing.wait(unit, tasks.lock_task(unit, task.id), run)

        await self.store.write(work)

    async def look(self, task: Task) -> Task:
        return await self.store.read(lambda unit: tasks.get_task(unit, task.id))


@pytest.fixture
async def office(store_url: str, clock: ManualClock) -> AsyncGenerator[Office]:
    def declare(unit: Unit) -> None:
        projects.declare_project(unit, Project("demo", "Demo", "/demo"))
        for agent in (
            Agent("top", "Top", "rehearsal", hierarchy=Duty.MANAGER, max_concurrent=5),
            Agent("low", "Low", "rehearsal", parent_id="top", workflow="mine"),
            Agent("judge", "Judge", "rehearsal"),
        ):
            projects.declare_agent(unit, agent)
            projects.assign(unit, agent.id, "demo")

    async with open_store(store_url, clock=clock) as store:
        await store.write(declare)
        yield Office(store)


async def test_a_batch_is_made_once_under_its_key_or_its_words_and_within_bounds(
    office: Office,
) -> None:
    task = await office.add()
    first = await office.batch(task, "one")
    assert first["a"].status is TaskStatus.QUEUED
    assert first["b"].status is TaskStatus.BACKLOG
    again = await office.batch(task, "one")
    assert {one: made.id for one, made in again.items()} == {
        one: made.id for one, made in first.items()
    }
    second = await office.batch(task)
    assert (await office.batch(task)).keys() == second.keys()
    with pytest.raises(LimitError):
        await office.batch(task, "three")
    with pytest.raises(LimitError):
        await office.batch(first["a"])
    low = await office.store.read(lambda unit: projects.get_agent(unit, "low"))
    assert (low.hierarchy, low.parent_id, low.workflow) == (Duty.WORKER, "top", "mine")


async def test_what_is_off_for_a_task_is_off_for_its_parts_too(office: Office) -> None:
    task = await office.add(options={"mcp_servers": [], "skills": ["of-the-manager"]})
    made = await office.batch(task)
    assert {one.id: one.options for one in made.values()} == {
        one.id: {"mcp_servers": []} for one in made.values()
    }
    plain = await office.batch(await office.add())
    assert [one.options for one in plain.values()] == [None, None]


async def test_a_manager_is_woken_once_by_what_needs_it_and_never_while_its_run_ends(
    office: Office,
) -> None:
    task = await office.add()
    run = await office.claim("top")
    assert run.duty is Duty.MANAGER
    with pytest.raises(ConflictError):
        await office.wait(task, run)
    made = await office.batch(task)
    await office.wait(task, run)
    lines = (await office.store.read(actions.list_actions)).actions
    (top,) = [line for line in lines if line.agent_id == "top"]
    assert (top.reason, top.progress) == (
        "waiting_for_workers",
        {"completed": 0, "in_progress": 0, "total": 2},
    )
    dug = await office.claim("low")
    assert dug.task_id == made["a"].id
    await office.end(dug)
    # it is needed: Fill has nobody. Its run is still there
    assert (await office.look(task)).status is TaskStatus.WAITING
    await office.end(run, RunOutcome.SUSPENDED)
    woken = await office.look(task)
    assert (woken.status, woken.attempt, woken.awaited) == (TaskStatus.QUEUED, 1, None)
    assert (await office.claim("top")).task_id == task.id


async def test_a_sub_task_is_given_split_and_given_up(office: Office) -> None:
    task = await office.add()
    made = await office.batch(task)

    def work(unit: Unit) -> tuple[set[str], set[str]]:
        parent = tasks.lock_task(unit, task.id)
        given, before = managing.assign(unit, parent, made["b"].id, "low")
        assert (given.status, before) == (TaskStatus.BLOCKED, None)
        taken, before = managing.assign(unit, parent, made["b"].id, None)
        assert (taken.status, taken.agent_id, before) == (TaskStatus.BACKLOG, None, "low")
        parts = (NewPart("One", "x"), NewPart("Two", "y"))
        split = subtasks.split(unit, parent, made["a"].id, parts, POLICY).made
        needs = {one.id for one in dependencies.needed_by(unit, made["b"].id)}
        for one in split.values():
            managing.move(unit, parent, one.id, "cancelled", "not wanted")
        words = waking.standing(unit, parent, waking.delegated(unit, task.id))
        assert words[made["a"].id] == "over"
        return needs, {one.id for one in split.values()}

    needs, split = await office.store.write(work)
    assert needs == split


async def test_a_result_waits_for_its_review_and_a_verdict_moves_it(office: Office) -> None:
    task = await office.add(review_by="judge")
    for round_, is_accepted in enumerate((False, True)):
        run = await office.claim("top")
        await office.end(run)
        assert reviews.is_reviewed(await office.look(task))
        review = await office.claim("judge")
        assert review.duty is Duty.REVIEWER

        def judge(unit: Unit, review: Run = review, is_accepted: bool = is_accepted) -> Task:
            own = tasks.lock_task(unit, review.task_id or "")
            return reviews.judge(unit, own, is_accepted=is_accepted, comment="so", actor="judge")

        after = await office.store.write(judge)
        assert after.status is (TaskStatus.SUCCEEDED if is_accepted else TaskStatus.QUEUED)
        assert after.review_rounds == round_ or not is_accepted
        await office.end(review)
    assert [one["verdict"] for one in (await office.look(task)).feedback] == ["changes", "approved"]
    assert await office.store.read(reviews.pending) == {"start": 0, "finish": 0}


async def test_a_task_that_needs_approval_begins_only_after_it(office: Office) -> None:
    task = await office.add(approval="pending")
    assert task.status is TaskStatus.BACKLOG
    assert (await office.store.read(reviews.pending))["start"] == 1

    def approve(unit: Unit) -> Task:
        return reviews.approve(unit, tasks.lock_task(unit, task.id), actor="person")

    assert (await office.store.write(approve)).status is TaskStatus.QUEUED
    with pytest.raises(ConflictError):
        await office.store.write(approve)
