"""Skills and hand-offs in the store, over both databases."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from aiagent_coordinator import skills as archives
from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.errors import (
    ConfigError,
    ConflictError,
    ForbiddenError,
    LimitError,
    NotFoundError,
    TransitionError,
    ValidationError,
)
from aiagent_coordinator.handoffs import Handoff
from aiagent_coordinator.ids import new_run_id
from aiagent_coordinator.runs import Purpose, Run
from aiagent_coordinator.skills import Packed
from aiagent_coordinator.store import claims, events, handoffs, projects, runs, skills, tasks
from aiagent_coordinator.store.engine import Store, open_store
from aiagent_coordinator.store.handoffs import HandoffFilter, NewHandoff
from aiagent_coordinator.store.requests import ClaimAnswer, ClaimRequest
from aiagent_coordinator.store.tasks import NewTask
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.task_options import TaskOptions
from aiagent_coordinator.tasks import Agent, Project, Task, TaskKind


def packed(name: str = "paint", guide: str = "Use a brush.") -> Packed:
    return archives.packed({"SKILL.md": archives.File(guide.encode())}, fallback=name)


def _declare(unit: Unit) -> None:
    for name in ("demo", "other"):
        projects.declare_project(unit, Project(name, name, f"/srv/{name}"))
        for agent in ("ann", "bob", "cid"):
            projects.declare_agent(unit, Agent(agent, agent, "rehearsal", max_concurrent=99))
            if (agent, name) != ("cid", "demo"):
                projects.assign(unit, agent, name)


@pytest.fixture
async def store(store_url: str, clock: ManualClock) -> AsyncGenerator[Store]:
    async with open_store(store_url, clock=clock) as opened:
        await opened.write(_declare)
        yield opened


async def begin(
    store: Store,
    agent_id: str = "ann",
    project_id: str = "demo",
    title: str = "Do it",
    options: TaskOptions | None = None,
) -> tuple[Run, ClaimAnswer]:
    """A live run of a new task, and what its claim said."""
    new = NewTask(project_id, title, agent_id=agent_id, options=options)

    def work(unit: Unit) -> str:
        return tasks.create_task(unit, new, "person").id

    await store.write(work)
    return await claim(store, agent_id, project_id)


async def claim(store: Store, agent_id: str, project_id: str = "demo") -> tuple[Run, ClaimAnswer]:
    request = ClaimRequest(
        run_id=new_run_id(),
        coordinator_id="crd_one",
        epoch=1,
        agent_id=agent_id,
        project_id=project_id,
        purpose=Purpose.TASK,
        slot=int(hashlib.sha256(new_run_id().encode()).hexdigest()[:6], 16),
        token_sha256=hashlib.sha256(new_run_id().encode()).hexdigest(),
    )
    answer = await store.write(lambda unit: claims.claim_run(unit, request, 90))
    assert answer.claimed, answer
    return await store.read(lambda unit: runs.get_run(unit, request.run_id)), answer


async def keep(store: Store, new: Packed, **more: bool) -> archives.Skill:
    return await store.write(lambda unit: skills.keep(unit, new, added_by="person", **more))


async def counted(store: Store, action: str) -> int:
    found = await store.read(lambda unit: events.list_events(unit, limit=1000))
    return sum(one.action == action for one in found)


async def test_a_skill_is_kept_once_by_its_content_and_changed_only_when_that_is_said(
    store: Store,
) -> None:
    first = await keep(store, packed())
    assert await keep(store, packed()) == first
    assert await counted(store, "skill.added") == 1
    with pytest.raises(ConflictError):
        await keep(store, packed(guide="Use a roller."))
    same = await keep(store, packed("walls"))
    assert same.sha256 == first.sha256
    changed = await keep(store, packed(guide="Use a roller."), replaces=True)
    assert (changed.id, changed.sha256 != first.sha256) == (first.id, True)
    # the content stays while another skill has it, and goes with the last
    assert await store.read(lambda unit: skills.archive(unit, first.sha256)) == packed().archive
    await store.write(lambda unit: skills.remove(unit, same, actor="person"))
    with pytest.raises(NotFoundError):
        await store.read(lambda unit: skills.archive(unit, first.sha256))
    listed = await store.read(skills.list_skills)
    assert [one.directory_name for one in listed] == ["paint"]


async def test_a_skill_is_found_by_its_name_its_id_or_the_beginning_of_that(store: Store) -> None:
    kept = await keep(store, packed())
    for said in ("paint", kept.id, kept.id[:12]):
        assert (await store.read(lambda unit, said=said: skills.find(unit, said))).id == kept.id
    with pytest.raises(NotFoundError):
        await store.read(lambda unit: skills.find(unit, "plaster"))


async def test_a_claim_names_the_skills_of_its_agent_and_of_nobody_else(store: Store) -> None:
    kept = await keep(store, packed())
    await keep(store, packed("unused"))

    def give(unit: Unit) -> None:
        for _ in range(2):
            skills.assign(unit, kept, "ann", actor="person")

    await store.write(give)
    assert await counted(store, "skill.assigned") == 1
    _, mine = await begin(store, "ann")
    _, other = await begin(store, "bob")
    assert mine.agent is not None
    assert other.agent is not None
    assert [(one.directory_name, one.sha256) for one in mine.agent.skills] == [
        ("paint", kept.sha256)
    ]
    assert other.agent.skills == ()
    await store.write(lambda unit: skills.unassign(unit, kept, "ann", actor="person"))
    _, after = await begin(store, "ann")
    assert after.agent is not None
    assert after.agent.skills == ()


async def test_a_task_is_given_those_skills_of_its_agent_that_it_names(store: Store) -> None:
    def give(unit: Unit) -> None:
        for name in ("paint", "plaster"):
            kept = skills.keep(unit, packed(name), added_by="person")
            skills.assign(unit, kept, "ann", actor="person")

    await store.write(give)
    cases: list[tuple[TaskOptions, list[str]]] = [
        ({"skills": ["plaster"]}, ["plaster"]),
        ({"skills": [], "mcp_servers": ["wiki"]}, []),
        ({"mcp_servers": []}, ["paint", "plaster"]),
    ]
    for options, given in cases:
        _, told = await begin(store, "ann", options=options)
        assert told.agent is not None
        assert told.task is not None
        assert [one.directory_name for one in told.agent.skills] == given
        assert told.task.options == options


async def test_the_configuration_gives_and_takes_and_leaves_what_a_person_gave(
    store: Store,
) -> None:
    mine = await keep(store, packed("mine"))
    await store.write(lambda unit: skills.assign(unit, mine, "ann", actor="person"))

    async def declare(**wanted: list[Packed]) -> None:
        await store.write(lambda unit: skills.declare(unit, wanted))

    async def given(agent: str) -> list[str]:
        found = await store.read(lambda unit: skills.of_agent(unit, agent))
        return [one.directory_name for one in found]

    await declare(ann=[packed(), packed("wall")], bob=[packed()])
    assert (await given("ann"), await given("bob")) == (["mine", "paint", "wall"], ["paint"])
    paint = await store.read(lambda unit: skills.find(unit, "paint"))
    with pytest.raises(ConflictError):
        await store.write(lambda unit: skills.unassign(unit, paint, "ann", actor="person"))
    with pytest.raises(ConflictError):
        await store.write(lambda unit: skills.remove(unit, paint, actor="person"))
    with pytest.raises(ConfigError):
        await declare(ann=[packed("mine", "of the file")])
    await declare(bob=[packed(guide="Use a roller.")])
    assert (await given("ann"), await given("bob")) == (["mine"], ["paint"])
    assert [one.directory_name for one in await store.read(skills.list_skills)] == ["mine", "paint"]
    await declare()
    assert (await given("ann"), await given("bob")) == (["mine"], [])
    assert [one.directory_name for one in await store.read(skills.list_skills)] == ["mine"]


async def test_an_agent_changes_only_what_it_registered_and_nobody_is_given(store: Store) -> None:
    async def register(new: Packed, agent: str = "ann") -> archives.Skill:
        return await store.write(lambda unit: skills.register(unit, new, agent))

    made = await register(packed())
    assert (await register(packed(guide="Better."))).id == made.id
    with pytest.raises(ConflictError):
        await register(packed(guide="Mine."), "bob")
    await store.write(lambda unit: skills.assign(unit, made, "bob", actor="person"))
    with pytest.raises(ConflictError):
        await register(packed(guide="Behind your back."))
    await keep(store, packed("theirs"))
    with pytest.raises(ConflictError):
        await register(packed("theirs", "Mine."))
    for number in range(skills.MAX_REGISTERED):
        await register(packed(f"s{number}"))
    with pytest.raises(LimitError):
        await register(packed("more"))
    await register(packed("more"), "bob")


async def test_an_agent_has_only_so_many_skills(store: Store) -> None:
    def work(unit: Unit) -> None:
        for number in range(archives.MAX_SKILLS + 1):
            one = skills.keep(unit, packed(f"s{number}"), added_by="person")
            skills.assign(unit, one, "ann", actor="person")

    with pytest.raises(LimitError):
        await store.write(work)


# -- hand-offs ------------------------------------------------------------------------------------


async def hand(store: Store, run: Run, task_id: str | None = None, **more: str | None) -> Handoff:
    new = NewHandoff(task_id or run.task_id or "", "It stands.", **more)
    return await store.write(lambda unit: handoffs.make(unit, run, new))


async def new_task(store: Store, project_id: str = "demo", **more: object) -> Task:
    new = NewTask(project_id, "Another", **more)  # pyright: ignore[reportArgumentType] - fields of it
    return await store.write(lambda unit: tasks.create_task(unit, new, "person"))


async def test_a_hand_off_is_shown_to_the_next_run_of_its_task_for_whose_agent_it_is(
    store: Store,
) -> None:
    run, _ = await begin(store)
    task = await new_task(store, agent_id="bob")
    to_bob = await hand(store, run, task.id, to_agent_id="bob", context="c", recommendations="r")
    to_all = await hand(store, run, task.id)
    await hand(store, run, task.id, to_agent_id="ann")
    other, answer = await claim(store, "bob")
    assert other.task_id == task.id
    assert answer.task is not None
    assert [one.id for one in answer.task.handoffs] == [to_bob.id, to_all.id]
    first = answer.task.handoffs[0]
    assert (first.from_agent_id, first.summary, first.context, first.recommendations) == (
        "ann", "It stands.", "c", "r",
    )  # fmt: skip
    shown = await store.read(lambda unit: handoffs.for_run(unit, task.id, "cid"))
    assert [one.id for one in shown] == [to_all.id]


async def test_a_hand_off_is_taken_once_by_whom_it_is_for(store: Store) -> None:
    run, _ = await begin(store)
    bobs, _ = await begin(store, "bob")
    far, _ = await begin(store, "bob", "other")
    to_bob = await hand(store, run, to_agent_id="bob")
    to_all = await hand(store, run, bobs.task_id)

    async def take(by: Run, one: Handoff) -> Handoff:
        return await store.write(lambda unit: handoffs.take(unit, by, one.id))

    for by, one, error in (
        (run, to_bob, ForbiddenError),
        (run, to_all, ForbiddenError),
        (far, to_bob, NotFoundError),
    ):
        with pytest.raises(error):
            await take(by, one)
    taken = await take(bobs, to_bob)
    assert (taken.accepted_by, taken.accepted_run_id, taken.is_pending) == ("bob", bobs.id, False)
    assert await take(bobs, to_bob) == taken
    assert await counted(store, "handoff.taken") == 1
    await take(bobs, to_all)
    with pytest.raises(ConflictError):
        # another agent's run of the same task, later
        await take(replace(bobs, agent_id="ann"), to_all)
    # who took it is still shown it in another run of the task; nobody else is
    again = await store.read(lambda unit: handoffs.for_run(unit, bobs.task_id or "", "bob"))
    assert [one.id for one in again] == [to_all.id]
    assert await store.read(lambda unit: handoffs.for_run(unit, bobs.task_id or "", "ann")) == []
    mine = await hand(store, bobs)
    await store.write(lambda unit: handoffs.take(unit, bobs, mine.id))
    assert (
        await store.read(
            lambda unit: handoffs.list_handoffs(unit, HandoffFilter(is_pending=True), limit=9)
        )
        == []
    )


async def test_a_hand_off_is_refused_where_nobody_goes_on(store: Store) -> None:
    run, _ = await begin(store)
    over = await new_task(store)
    await store.write(lambda unit: tasks.cancel_task(unit, over.id, actor="person"))
    step = await new_task(store, kind=TaskKind.STEP, parent_id=run.task_id)
    far = await new_task(store, "other")
    for task_id, target, error in (
        (over.id, None, TransitionError),
        (step.id, None, ValidationError),
        (far.id, None, NotFoundError),
        ("tsk_nothing", None, NotFoundError),
        (None, "cid", ValidationError),
        (None, "nobody", ValidationError),
    ):
        with pytest.raises(error):
            await hand(store, run, task_id, to_agent_id=target)
    for _ in range(handoffs.MAX_PENDING):
        await hand(store, run)
    with pytest.raises(LimitError):
        await hand(store, run)
    assert await counted(store, "handoff.made") == handoffs.MAX_PENDING


async def test_hand_offs_are_listed_in_pages_and_those_of_tasks_that_are_over_wait_no_more(
    store: Store, clock: ManualClock
) -> None:
    run, _ = await begin(store)
    task = await new_task(store)
    made: list[str] = []
    for number in range(5):
        clock.advance(1)
        target = "bob" if number % 2 else None
        made.append((await hand(store, run, task.id, to_agent_id=target)).id)

    async def listed(limit: int = 9, after: str | None = None, **which: object) -> list[str]:
        wanted = HandoffFilter(**which)  # pyright: ignore[reportArgumentType] - fields of it
        newest = bool(which)
        found = await store.read(
            lambda unit: handoffs.list_handoffs(
                unit, wanted, limit=limit, after=after, newest=newest
            )
        )
        return [one.id for one in found]

    assert await listed() == made
    assert await listed(2) + await listed(9, made[1]) == made
    assert await listed(task_id=task.id) == made[::-1]
    assert await listed(to_agent_id="ann") == made[::2][::-1]
    assert await listed(project_id="other") == []
    assert await listed(is_pending=True) == made[::-1]
    await store.write(lambda unit: tasks.cancel_task(unit, task.id, actor="person"))
    assert await listed(is_pending=True) == []
    found = await store.read(lambda unit: handoffs.find(unit, made[0]))
    assert found.id == made[0]
