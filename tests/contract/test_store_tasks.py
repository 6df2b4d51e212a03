"""The board: what is declared, tasks and their transitions, one event for each."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aiagent_coordinator import ids
from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    TransitionError,
    ValidationError,
)
from aiagent_coordinator.store import events, projects, tasks
from aiagent_coordinator.store.engine import Store, open_store
from aiagent_coordinator.store.tasks import NewTask, TaskFilter
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Check, Project, Task, TaskStatus, WaitReason

PROJECT = Project("demo", "Demo", "/srv/demo", checks=(Check(("true",)),))
AGENT = Agent("writer", "Writer", "rehearsal")


def declare(unit: Unit) -> None:
    projects.declare_project(unit, PROJECT)
    projects.declare_agent(unit, AGENT)
    projects.assign(unit, "writer", "demo")


def creating(title: str = "Do it", parent_id: str | None = None) -> Callable[[Unit], Task]:
    new = NewTask("demo", title, "writer", parent_id=parent_id)
    return lambda unit: tasks.create_task(unit, new, "person")


def moving(
    task: Task, name: str, target: TaskStatus, wait_reason: WaitReason | None = None
) -> Callable[[Unit], Task]:
    return lambda unit: tasks.set_status(
        unit, task, name, target, actor="person", wait_reason=wait_reason
    )


def reading(task_id: str) -> Callable[[Unit], Task]:
    return lambda unit: tasks.get_task(unit, task_id)


async def count_events(store: Store, action: str) -> int:
    happened = await store.read(lambda unit: events.list_events(unit, limit=10_000))
    return sum(event.action == action for event in happened)


async def test_declaring_the_same_again_says_nothing_and_a_change_says_so_once(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare)
        before = await store.read(events.last_seq)
        await store.write(declare)
        assert await store.read(events.last_seq) == before
        changed = Project("demo", "Demo", "/srv/demo", base_ref="main")
        await store.write(lambda unit: projects.declare_project(unit, changed))
        assert await count_events(store, "project.changed") == 2  # the assignment, then this
        assert await store.read(projects.list_projects) == [changed]
        assert await store.read(projects.assignments) == [(AGENT, changed)]


async def test_a_declared_project_never_moves_silently(store_url: str, clock: ManualClock) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare)
        moved = Project("demo", "Demo", "/srv/elsewhere")
        with pytest.raises(ConfigError, match=r"/srv/demo.*/srv/elsewhere"):
            await store.write(lambda unit: projects.declare_project(unit, moved))


async def test_what_vanishes_from_the_configuration_is_kept_but_not_listed(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare)
        await store.write(
            lambda unit: projects.keep_only(unit, project_ids=[], agent_ids=["writer"], pairs=[])
        )
        assert await store.read(projects.list_projects) == []
        assert await store.read(projects.list_agents) == [AGENT]
        assert await store.read(projects.assignments) == []
        assert await store.read(lambda unit: projects.get_project(unit, "demo")) == PROJECT
        await store.write(declare)
        assert await store.read(projects.assignments) == [(AGENT, PROJECT)]


async def test_a_task_comes_back_as_it_was_made(store_url: str, clock: ManualClock) -> None:
    new = NewTask(
        "demo",
        "Ünïcode 仕事",
        "writer",
        description="many\nlines",
        priority=3,
        acceptance=("it works",),
        checks=(Check(("pytest", "-q")),),
        branch="topic",
        max_attempts=5,
        options={"mcp_servers": [], "skills": ["paint"]},
    )
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare)
        made = await store.write(lambda unit: tasks.create_task(unit, new, "person"))
        read = await store.read(lambda unit: tasks.get_task(unit, made.id))
        assert read == made
        assert read.created_at == clock.now()
        assert (read.status, read.attempt, read.version) == (TaskStatus.QUEUED, 1, 1)
        assert await count_events(store, "task.created") == 1
        assert await count_events(store, "task.status") == 1


@pytest.mark.parametrize(
    ("new", "key"),
    [
        (NewTask("demo", "two\nlines"), "title"),
        (NewTask("demo", "  "), "title"),
        (NewTask("demo", "x" * 501), "title"),
        (NewTask("demo", "x", description="y" * (256 * 1024 + 1)), "description"),
        (NewTask("demo", "x", description="\0"), "description"),
        (NewTask("demo", "x", description="\ud800"), "description"),
        (NewTask("demo", "x", max_attempts=0), "max_attempts"),
        (NewTask("demo", "x", "idle"), "agent_id"),
    ],
)
async def test_a_task_that_makes_no_sense_is_refused_with_the_field(
    store_url: str, clock: ManualClock, new: NewTask, key: str
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare)
        await store.write(lambda unit: projects.declare_agent(unit, Agent("idle", "Idle", "x")))
        with pytest.raises(ValidationError) as caught:
            await store.write(lambda unit: tasks.create_task(unit, new, "person"))
        assert caught.value.details["key"] == key
        assert await store.read(tasks.list_tasks) == []


async def test_a_task_of_an_unknown_project_is_refused(store_url: str, clock: ManualClock) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        with pytest.raises(NotFoundError):
            await store.write(creating())


async def test_each_transition_leaves_one_event_and_a_new_version(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare)
        task = await store.write(creating())
        story = [
            ("T2", TaskStatus.BACKLOG, None),
            ("T2", TaskStatus.QUEUED, None),
            ("T4", TaskStatus.RUNNING, None),
            ("T5", TaskStatus.WAITING, WaitReason.INPUT),
            ("T9", TaskStatus.QUEUED, None),
            ("T17", TaskStatus.CANCELLED, None),
            ("T18", TaskStatus.QUEUED, None),
        ]
        for place, (name, target, wait_reason) in enumerate(story, 2):
            task = await store.write(moving(task, name, target, wait_reason))
            assert (task.status, task.wait_reason, task.version) == (target, wait_reason, place)
            assert task == await store.read(reading(task.id))
            assert await count_events(store, "task.status") == place
        which = events.EventFilter(task_id=task.id)
        happened = await store.read(lambda unit: events.list_events(unit, which))
        moves = [event.data["transition"] for event in happened if event.action == "task.status"]
        assert moves == ["T1", *(name for name, _, _ in story)]


async def test_a_transition_from_an_old_reading_is_refused_and_changes_nothing(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare)
        old = await store.write(creating())
        shelved = await store.write(moving(old, "T2", TaskStatus.BACKLOG))
        before = await store.read(events.last_seq)
        with pytest.raises(ConflictError):
            await store.write(moving(old, "T4", TaskStatus.RUNNING))
        # The same status again is not the same reading.
        await store.write(moving(shelved, "T2", TaskStatus.QUEUED))
        with pytest.raises(ConflictError):
            await store.write(moving(old, "T4", TaskStatus.RUNNING))
        assert await store.read(events.last_seq) == before + 1


async def test_a_transition_outside_the_table_is_refused(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare)
        task = await store.write(creating())
        with pytest.raises(TransitionError):
            await store.write(
                lambda unit: tasks.set_status(
                    unit, task, "T13", TaskStatus.SUCCEEDED, actor="person"
                )
            )
        assert await store.read(lambda unit: tasks.get_task(unit, task.id)) == task


async def test_cancelling_takes_open_descendants_along_and_again_changes_nothing(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare)
        top = await store.write(creating("top"))
        child = await store.write(creating("child", top.id))
        await store.write(creating("grandchild", child.id))
        other = await store.write(creating("other"))
        await store.write(lambda unit: tasks.cancel_task(unit, top.id, actor="person"))
        cancelled = TaskFilter(statuses=(TaskStatus.CANCELLED,))
        listed = await store.read(lambda unit: tasks.list_tasks(unit, cancelled))
        assert [task.title for task in listed] == ["top", "child", "grandchild"]
        before = await store.read(events.last_seq)
        await store.write(lambda unit: tasks.cancel_task(unit, top.id, actor="person"))
        assert await store.read(events.last_seq) == before
        assert (await store.read(lambda unit: tasks.get_task(unit, other.id))).status == "queued"


async def test_a_task_is_found_by_a_unique_beginning(store_url: str, clock: ManualClock) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare)
        first = await store.write(creating("first"))
        second = await store.write(creating("second"))
        for text in (first.id, first.id.removeprefix("tsk_"), first.id[:-1]):
            assert await store.read(lambda unit, text=text: tasks.find_task(unit, text)) == first
        with pytest.raises(ConflictError) as caught:
            await store.read(lambda unit: tasks.find_task(unit, "tsk_"))
        assert caught.value.details["candidates"] == sorted([first.id, second.id])
        for text in ("", "tsk_%", "nothing"):
            with pytest.raises(NotFoundError):
                await store.read(lambda unit, text=text: tasks.find_task(unit, text))


@pytest.mark.parametrize("newest", [False, True])
async def test_pages_of_tasks_follow_each_other(
    store_url: str, clock: ManualClock, newest: bool
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare)
        made: list[str] = []
        for number in range(5):
            made.append((await store.write(creating(f"task {number}"))).id)
            clock.advance((number + 1) % 2)  # some were made in the same instant
        seen: list[str] = []
        after: str | None = None
        while True:
            page = await store.read(
                lambda unit, after=after: tasks.list_tasks(
                    unit, limit=2, after=after, newest=newest
                )
            )
            if not page:
                break
            seen += [task.id for task in page]
            after = seen[-1]
        assert sorted(seen) == sorted(made)
        oldest_first = seen[::-1] if newest else seen
        assert [ident in made[:1] for ident in oldest_first] == [True, False, False, False, False]
        with pytest.raises(NotFoundError):
            await store.read(lambda unit: tasks.list_tasks(unit, after="tsk_none"))


async def test_progress_is_told_and_only_of_running_tasks(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare)
        task = await store.write(creating())
        with pytest.raises(TransitionError):
            await store.write(lambda unit: tasks.set_progress(unit, task, 10, actor="agent"))
        running = await store.write(
            lambda unit: tasks.set_status(unit, task, "T4", TaskStatus.RUNNING, actor="x")
        )
        with pytest.raises(ValidationError):
            await store.write(lambda unit: tasks.set_progress(unit, running, 101, actor="agent"))
        await store.write(lambda unit: tasks.set_progress(unit, running, 40, actor="agent"))
        assert (await store.read(lambda unit: tasks.get_task(unit, task.id))).progress == 40
        assert await count_events(store, "task.progress") == 1


def test_ids_made_in_a_row_are_all_different() -> None:
    assert len({ids.new_run_id() for _ in range(1000)}) == 1000
