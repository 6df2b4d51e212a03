"""Templates in the store: all their tasks or none, under one key once, over both databases."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from threading import Event
from typing import Any

import anyio
import pytest
from anyio import to_thread

from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.errors import ConflictError, NotFoundError, ValidationError
from aiagent_coordinator.store import dependencies, projects, tasks, templating
from aiagent_coordinator.store.engine import Store, open_store
from aiagent_coordinator.store.migrate import migrate
from aiagent_coordinator.store.tasks import NewTask
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Duty, Project, TaskStatus
from aiagent_coordinator.templates import TaskDraft, Template, Variable

PATIENCE_SECONDS = 60.0
RELEASE = Template(
    "release",
    "A release",
    {"version": Variable("version"), "notes": Variable("notes", default="none")},
    (
        TaskDraft(3, "Announce {{version}}", "{{notes}}", depends_on_orders=(1, 2)),
        TaskDraft(1, "Cut {{ version }}", agent_id="ann", acceptance=("{{version}} is there",)),
        TaskDraft(
            2, "Test {{version}}", role=Duty.WORKER, depends_on_orders=(1,), needs_approval=True
        ),
    ),
    digest="d",
)


def declare(unit: Unit) -> None:
    projects.declare_project(unit, Project("demo", "Demo", "/demo"))
    for one in ("ann", "bob"):
        projects.declare_agent(unit, Agent(one, one.title(), "rehearsal"))
        projects.assign(unit, one, "demo")


@pytest.fixture
async def store(store_url: str, clock: ManualClock) -> AsyncGenerator[Store]:
    async with open_store(store_url, clock=clock) as store:
        await store.write(declare)
        yield store


async def run(store: Store, template: Template = RELEASE, **more: Any) -> templating.Made:
    told: dict[str, Any] = {
        "given": {"version": "1.0"},
        "max_attempts": 4,
        "actor": "person",
        **more,
    }
    given = told.pop("given")
    return await store.write(lambda unit: templating.run(unit, "demo", template, given, **told))


async def how_many(store: Store) -> int:
    return len(await store.read(lambda unit: tasks.list_tasks(unit, limit=1000)))


async def test_a_template_makes_its_tasks_with_their_order_and_who_does_them(store: Store) -> None:
    busy = NewTask("demo", "Something else", "ann")
    await store.write(lambda unit: tasks.create_task(unit, busy, "person"))
    made = await run(store)
    cut, test, announce = (made.tasks[order] for order in (1, 2, 3))
    assert [one.title for one in (cut, test, announce)] == ["Cut 1.0", "Test 1.0", "Announce 1.0"]
    assert cut.acceptance == ("1.0 is there",)
    assert announce.description == "none"
    # the role goes to who has the least to do
    assert (cut.agent_id, test.agent_id, announce.agent_id) == ("ann", "bob", None)
    assert (cut.status, test.status, announce.status) == (
        TaskStatus.QUEUED,
        TaskStatus.BACKLOG,
        TaskStatus.BLOCKED,
    )
    assert {one.max_attempts for one in made.tasks.values()} == {4}
    needed = await store.read(lambda unit: dependencies.needed_by(unit, announce.id))
    assert {one.id for one in needed} == {cut.id, test.id}


async def test_a_key_makes_its_tasks_once_also_when_many_ask_at_once(store: Store) -> None:
    made: list[templating.Made] = []

    async def one() -> None:
        made.append(await run(store, key="first"))

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(one)
    assert await how_many(store) == 3
    assert sorted(one.is_known for one in made) == [False, True, True, True, True]
    assert len({one.tasks[1].id for one in made}) == 1
    assert list(made[-1].tasks) == [1, 2, 3]
    with pytest.raises(ConflictError, match="made tasks of template release before"):
        await run(store, key="first", given={"version": "2.0"})
    await run(store, key="second")
    await run(store)
    assert await how_many(store) == 9


async def test_whatever_is_wrong_is_told_with_its_order_and_nothing_is_made(store: Store) -> None:
    with pytest.raises(ValidationError) as caught:
        await run(store, given={"verzion": "1", "other": ""})
    assert caught.value.message == (
        "template release: variables unknown: other, verzion; missing: version"
    )
    assert caught.value.hint == "it knows: version, notes"
    with pytest.raises(ValidationError, match=r"order 1: a title .*; order 2: a title"):
        await run(store, given={"version": "1\n2"})
    strangers = Template(
        "strange",
        "Strangers",
        {},
        (
            TaskDraft(1, "A", agent_id="eve"),
            TaskDraft(2, "B", role=Duty.MANAGER),
            TaskDraft(3, "C", agent_id="ann", review_by="ann"),
        ),
    )
    with pytest.raises(ValidationError) as caught:
        await run(store, strangers, given={})
    assert caught.value.details["problems"] == [
        "order 1: agent eve does not work in the project; there are: ann, bob",
        "order 2: no agent of the project that is enabled is a manager; there are: ann, bob",
        "order 3: agent ann cannot judge its own result",
    ]
    with pytest.raises(NotFoundError):
        await store.write(
            lambda unit: templating.run(unit, "moon", RELEASE, {}, max_attempts=1, actor="person")
        )
    assert await how_many(store) == 0


async def test_a_plan_says_what_would_be_made_and_makes_nothing(store: Store) -> None:
    given = {"version": "{{notes}} {{{{", "notes": "n"}
    planned = await store.read(lambda unit: templating.plan(unit, "demo", RELEASE, given))
    # no value is looked at for variables again
    assert [(one.draft.order, one.draft.title, one.agent_id) for one in planned] == [
        (1, "Cut {{notes}} {{{{", "ann"),
        (2, "Test {{notes}} {{{{", "bob"),
        (3, "Announce {{notes}} {{{{", None),
    ]
    assert await how_many(store) == 0


@pytest.mark.needs("postgres")
async def test_two_servers_that_say_one_key_at_once_make_its_tasks_once(
    empty_postgres: str, clock: ManualClock
) -> None:
    await to_thread.run_sync(migrate, empty_postgres)
    async with (
        open_store(empty_postgres, clock=clock) as one,
        open_store(empty_postgres, clock=clock) as other,
    ):
        await one.write(declare)
        begun, go = Event(), Event()

        def held(unit: Unit) -> None:
            templating.run(
                unit, "demo", RELEASE, {"version": "1.0"}, max_attempts=4, key="k", actor="person"
            )
            begun.set()
            go.wait(PATIENCE_SECONDS)

        async def second() -> None:
            await to_thread.run_sync(begun.wait, PATIENCE_SECONDS)
            made.append(await run(other, key="k"))

        made: list[templating.Made] = []
        async with anyio.create_task_group() as group:
            group.start_soon(one.write, held)
            group.start_soon(second)
            # it comes to wait for the first, or, without that, to make them too
            await to_thread.run_sync(begun.wait, PATIENCE_SECONDS)
            await anyio.sleep(0.3)
            go.set()
        assert [each.is_known for each in made] == [True]
        assert await how_many(one) == 3
