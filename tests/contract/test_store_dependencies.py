"""What waits for what: blocked until all is done, never in a circle, and told why it stays."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

import pytest

from aiagent_coordinator import ids
from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.errors import ConflictError, CycleError, NotFoundError, TransitionError
from aiagent_coordinator.runs import Purpose, RetryPolicy, RunOutcome, Verification
from aiagent_coordinator.store import claims, dependencies, events, projects, reports, tasks
from aiagent_coordinator.store.engine import Store, open_store
from aiagent_coordinator.store.requests import ClaimAnswer, ClaimRequest, ResultReport
from aiagent_coordinator.store.tasks import NewTask
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Project, Task, TaskStatus

POLICY = RetryPolicy(max_attempts=1, backoff_seconds=(0.0,))


class Desk:
    """A store with a project and an agent, and what people and coordinators do with it."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def add(self, title: str, *depends_on: str, attempts: int = 1) -> Task:
        new = NewTask("demo", title, "writer", depends_on=depends_on, max_attempts=attempts)
        return await self.store.write(lambda unit: tasks.create_task(unit, new, "person"))

    async def now(self, task: Task) -> Task:
        return await self.store.read(lambda unit: tasks.get_task(unit, task.id))

    async def claim(self) -> tuple[ClaimRequest, ClaimAnswer]:
        run_id = ids.new_run_id()
        request = ClaimRequest(
            run_id, "crd_one", 1, "writer", "demo", Purpose.TASK, 0, f"sha-{run_id}"
        )
        return request, await self.store.write(lambda unit: claims.claim_run(unit, request, 90.0))

    async def work(self, outcome: RunOutcome = RunOutcome.SUCCEEDED) -> str:
        """Run whatever is due to its end; the id of its task."""
        request, answer = await self.claim()
        assert answer.task is not None, answer.reason
        result = ResultReport(
            request.run_id, answer.fence or 0, 2, outcome, Verification.NOT_VERIFIED
        )
        await self.store.write(lambda unit: reports.record_result(unit, result, POLICY))
        return answer.task.id

    async def depend(self, task: Task, *others: Task) -> Task:
        named = [other.id for other in others]
        return await self.store.write(
            lambda unit: tasks.add_dependencies(unit, task.id, named, actor="person")
        )

    async def do(self, work: Callable[[Unit], Task]) -> Task:
        return await self.store.write(work)


def declare(unit: Unit) -> None:
    projects.declare_project(unit, Project("demo", "Demo", "/srv/demo"))
    projects.declare_agent(unit, Agent("writer", "Writer", "rehearsal", max_concurrent=9))
    projects.assign(unit, "writer", "demo")


@pytest.fixture
async def desk(store_url: str, clock: ManualClock) -> AsyncGenerator[Desk]:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare)
        yield Desk(store)


async def test_a_task_begins_only_when_all_it_depends_on_has_succeeded(desk: Desk) -> None:
    first, second = await desk.add("first"), await desk.add("second")
    last = await desk.add("last", first.id, second.id.removeprefix("tsk_"))
    assert last.status is TaskStatus.BLOCKED
    assert last.status_reason == f"dependencies: {', '.join(sorted((first.id, second.id)))}"
    assert await desk.work() in {first.id, second.id}
    assert (await desk.now(last)).status is TaskStatus.BLOCKED
    await desk.work()
    ready = await desk.now(last)
    assert (ready.status, ready.status_reason) == (TaskStatus.QUEUED, None)
    assert await desk.work() == last.id
    which = events.EventFilter(task_id=last.id)
    happened = await desk.store.read(lambda unit: events.list_events(unit, which))
    moves = [event.data["transition"] for event in happened if event.action == "task.status"]
    assert moves == ["T1", "T3", "T4", "T13"]


async def test_a_task_that_depends_on_finished_work_is_queued_at_once(desk: Desk) -> None:
    first = await desk.add("first")
    await desk.work()
    assert (await desk.add("next", first.id)).status is TaskStatus.QUEUED


async def test_a_dependency_that_does_not_exist_makes_no_task(desk: Desk) -> None:
    with pytest.raises(NotFoundError, match="tsk_nothing"):
        await desk.add("next", "tsk_nothing")
    await desk.add("a")
    await desk.add("b")
    with pytest.raises(ConflictError, match="fits several"):
        await desk.add("next", "tsk_")
    assert len(await desk.store.read(tasks.list_tasks)) == 2


@pytest.mark.parametrize("how", ["failed", "cancelled"])
async def test_a_failed_dependency_leaves_its_dependent_blocked_and_named(
    desk: Desk, how: str
) -> None:
    first = await desk.add("first")
    last = await desk.add("last", first.id)
    if how == "failed":
        await desk.work(RunOutcome.FAILED)
    else:
        await desk.do(lambda unit: tasks.cancel_task(unit, first.id, actor="person"))
    held = await desk.now(last)
    assert held.status is TaskStatus.BLOCKED
    assert held.status_reason == f"dependency_failed: {first.id} {how}"
    _, answer = await desk.claim()
    assert answer.reason == "no_task"
    # A retry of what failed gives hope again, and its success lets go.
    await desk.do(lambda unit: tasks.retry_task(unit, first.id, actor="person"))
    assert (await desk.now(last)).status_reason == f"dependencies: {first.id}"
    assert await desk.work() == first.id
    assert (await desk.now(last)).status is TaskStatus.QUEUED


async def test_a_circle_is_refused_with_its_path_and_changes_nothing(desk: Desk) -> None:
    first = await desk.add("first")
    second = await desk.add("second", first.id)
    third = await desk.add("third", second.id)
    with pytest.raises(CycleError) as caught:
        await desk.depend(first, third)
    assert f"{first.id} -> {third.id} -> {second.id} -> {first.id}" in caught.value.message
    assert caught.value.code == "CYCLE"
    with pytest.raises(CycleError):
        await desk.depend(first, first)
    assert await desk.store.read(lambda unit: dependencies.needed_by(unit, first.id)) == []
    assert (await desk.now(first)).status is TaskStatus.QUEUED


async def test_a_dependency_can_come_and_go_until_the_task_begins(desk: Desk) -> None:
    first, second = await desk.add("first"), await desk.add("second")
    assert (await desk.depend(first, second)).status is TaskStatus.BLOCKED
    assert (await desk.depend(first, second)).status is TaskStatus.BLOCKED
    freed = await desk.do(
        lambda unit: tasks.remove_dependency(unit, first.id, second.id, actor="person")
    )
    assert freed.status is TaskStatus.QUEUED
    await desk.work()
    with pytest.raises(TransitionError, match="does not wait"):
        await desk.depend(first, second)


async def test_a_retry_gives_attempts_and_keeps_the_hand_off(desk: Desk) -> None:
    task = await desk.add("hard")
    request, answer = await desk.claim()
    result = ResultReport(
        request.run_id,
        answer.fence or 0,
        2,
        RunOutcome.FAILED,
        Verification.NOT_VERIFIED,
        handoff="it was the door",
    )
    await desk.store.write(lambda unit: reports.record_result(unit, result, POLICY))
    assert (await desk.now(task)).status is TaskStatus.FAILED
    again = await desk.do(lambda unit: tasks.retry_task(unit, task.id, attempts=2, actor="person"))
    assert (again.status, again.attempt, again.max_attempts) == (TaskStatus.QUEUED, 2, 3)
    _, answer = await desk.claim()
    assert answer.task is not None
    assert (answer.task.attempt, answer.task.handoff) == (2, "it was the door")
    with pytest.raises(TransitionError):
        await desk.do(lambda unit: tasks.retry_task(unit, task.id, actor="person"))
    # Cancelled while it runs: until its run has ended nothing else may begin.
    await desk.do(lambda unit: tasks.cancel_task(unit, task.id, actor="person"))
    with pytest.raises(ConflictError, match="still ending"):
        await desk.do(lambda unit: tasks.retry_task(unit, task.id, actor="person"))


async def test_counting_by_status_is_right_for_many_tasks(desk: Desk) -> None:
    first = await desk.add("first")
    for number in range(5):
        await desk.add(f"task {number}", first.id)
    counts = await desk.store.read(tasks.count_by_status)
    assert counts == {"queued": 1, "blocked": 5}
    assert await desk.store.read(lambda unit: tasks.count_by_status(unit, "other")) == {}
