"""Notices: sent once, read by the session that they are for, and kept until then."""

from __future__ import annotations

import hashlib

from aiagent_coordinator.chats import Notice, NoticeKind
from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.ids import new_run_id
from aiagent_coordinator.runs import Purpose, Run
from aiagent_coordinator.store import claims, notifications, pauses, projects, runs, tasks
from aiagent_coordinator.store.engine import Store, open_store
from aiagent_coordinator.store.requests import ClaimRequest
from aiagent_coordinator.store.tasks import NewTask
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Project

WORDS = ("It rains.", "Go in.")


def _declare(unit: Unit) -> None:
    for name in ("demo", "other"):
        projects.declare_project(unit, Project(name, name, f"/srv/{name}"))
    projects.declare_agent(unit, Agent("writer", "Writer", "rehearsal", max_concurrent=9))
    for name in ("demo", "other"):
        projects.assign(unit, "writer", name)


async def begin(store: Store, project_id: str = "demo") -> Run:
    """A live run."""
    request = ClaimRequest(
        run_id=new_run_id(),
        coordinator_id="crd_one",
        epoch=1,
        agent_id="writer",
        project_id=project_id,
        purpose=Purpose.TASK,
        slot=int(hashlib.sha256(new_run_id().encode()).hexdigest()[:6], 16),
        token_sha256=hashlib.sha256(new_run_id().encode()).hexdigest(),
    )

    def work(unit: Unit) -> Run:
        tasks.create_task(unit, NewTask(project_id, "Do it"), "person")
        assert claims.claim_run(unit, request, 90).claimed
        return runs.get_run(unit, request.run_id)

    return await store.write(work)


async def unread(store: Store, run: Run) -> list[Notice]:
    return await store.read(lambda unit: notifications.unread(unit, run))


async def test_a_notice_is_read_by_whom_it_is_for_and_by_nobody_else(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock) as store:
        await store.write(_declare)
        mine, mate, far = await begin(store), await begin(store), await begin(store, "other")

        def send(unit: Unit) -> None:
            one = notifications.interrupt(mine, "rain", WORDS)
            notifications.send(unit, one, actor="person")
            any_of_pair = notifications.new("writer", "demo", NoticeKind.MESSAGE, "sun", WORDS)
            notifications.send(unit, any_of_pair, actor="person")
            for_chats = notifications.new(
                "writer", "demo", NoticeKind.MESSAGE, "wind", WORDS, purpose=Purpose.CHAT
            )
            notifications.send(unit, for_chats, actor="person")

        await store.write(send)
        assert [one.action for one in await unread(store, mine)] == ["rain", "sun"]
        assert [one.action for one in await unread(store, mate)] == ["sun"]
        assert await unread(store, far) == []
        pairs = await store.read(notifications.pairs_with_unread)
        assert pairs == {("writer", "demo")}
        found = await unread(store, mine)
        await store.write(lambda unit: notifications.mark_read(unit, mine, found))
        assert await unread(store, mine) == []
        assert await unread(store, mate) == [], "read once is read for the pair"


async def test_a_pause_tells_every_live_run_of_the_project_and_a_resume_takes_it_back(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock) as store:
        await store.write(_declare)
        mine, far = await begin(store), await begin(store, "other")

        async def set_to(status: str, *, stops: bool = False) -> None:
            await store.write(
                lambda unit: pauses.set_status(
                    unit, "demo", status, stops_runs=stops, actor="person"
                )
            )

        await set_to("paused")
        await set_to("archived")
        assert [one.action for one in await unread(store, mine)] == ["project_paused"], "told once"
        assert await unread(store, far) == []
        await set_to("active")
        assert [one.action for one in await unread(store, mine)] == ["project_resumed"]
        assert (await store.read(lambda unit: runs.get_run(unit, mine.id))).stop_reason is None
        await set_to("paused", stops=True)
        run = await store.read(lambda unit: runs.get_run(unit, mine.id))
        assert run.stop_reason == "stopped"
        assert [one.action for one in await unread(store, mine)] == ["project_resumed", "exit"]
        assert (await store.read(lambda unit: runs.get_run(unit, far.id))).stop_reason is None


async def test_a_stop_is_told_once(store_url: str, clock: ManualClock) -> None:
    async with open_store(store_url, clock=clock) as store:
        await store.write(_declare)
        run = await begin(store)
        for reason in ("stopped", "again"):
            await store.write(
                lambda unit, reason=reason: runs.request_stop(unit, run.id, reason, actor="person")
            )
        (told,) = await unread(store, run)
        assert (told.kind, told.task_id) == (NoticeKind.INTERRUPT, run.task_id)
        assert "(stopped)" in told.message
