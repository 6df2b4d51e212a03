"""What should run, kept in memory: as old as it looks, it says what the store says."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest

from aiagent_coordinator import ids
from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.runs import Purpose, RetryPolicy, RunOutcome, Verification
from aiagent_coordinator.server.snapshot import MAX_AGE_SECONDS, Snapshot
from aiagent_coordinator.store import claims, projects, reports, tasks
from aiagent_coordinator.store.engine import Store, open_store
from aiagent_coordinator.store.requests import ClaimRequest, ResultReport
from aiagent_coordinator.store.tasks import NewTask
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Project, TaskStatus

LEASE = 90.0
A_LOOK = 2 * MAX_AGE_SECONDS


def _declare(unit: Unit) -> None:
    projects.declare_project(unit, Project("demo", "Demo", "/srv/demo"))
    projects.declare_agent(unit, Agent("writer", "Writer", "rehearsal"))
    projects.assign(unit, "writer", "demo")


def _cancel_all(unit: Unit) -> None:
    for task in tasks.list_tasks(unit, limit=10, newest=True):
        if task.status is TaskStatus.QUEUED:
            tasks.cancel_task(unit, task.id, actor="person")


@asynccontextmanager
async def _stores(url: str, clock: ManualClock) -> AsyncGenerator[tuple[Store, Store, Snapshot]]:
    """The store as two servers have it, and what the first of them keeps."""
    async with (
        open_store(url, clock=clock, use_database_clock=False) as ours,
        open_store(url, clock=clock, use_database_clock=False) as theirs,
    ):
        await ours.write(_declare)
        yield ours, theirs, Snapshot(ours, clock.monotonic)


async def _claim(store: Store) -> ClaimRequest:
    run_id = ids.new_run_id()
    request = ClaimRequest(run_id, "crd_one", 1, "writer", "demo", Purpose.TASK, 0, f"sha-{run_id}")
    assert (await store.write(lambda unit: claims.claim_run(unit, request, LEASE))).claimed
    return request


async def _said(snapshot: Snapshot) -> tuple[str, str, str]:
    answer = await snapshot.get()
    line = answer["actions"][0]
    return line["action"], line["reason"], answer["etag"]


async def test_what_another_server_of_the_store_wrote_is_seen_at_the_next_look(
    store_url: str, clock: ManualClock
) -> None:
    async with _stores(store_url, clock) as (_, theirs, snapshot):
        before = await _said(snapshot)
        await theirs.write(lambda unit: tasks.create_task(unit, NewTask("demo", "x"), "person"))
        assert await _said(snapshot) == before
        clock.advance(A_LOOK)
        assert (await _said(snapshot))[:2] == ("start", "task_due")


async def test_what_is_committed_while_the_answer_is_made_is_in_the_next(
    store_url: str, clock: ManualClock
) -> None:
    """A database may show each statement another state: what came between them is news."""
    async with _stores(store_url, clock) as (ours, theirs, snapshot):
        for number in range(60):
            async with anyio.create_task_group() as together:
                together.start_soon(snapshot.get)
                # another moment of the look each time
                await anyio.sleep(number % 15 * 0.0005)
                await theirs.write(
                    lambda unit: tasks.create_task(unit, NewTask("demo", "x"), "person")
                )
            clock.advance(A_LOOK)
            assert (await _said(snapshot))[:2] == ("start", "task_due"), number
            await ours.write(_cancel_all)
            clock.advance(A_LOOK)


@pytest.mark.parametrize("moves", ["advance", "jump"])
async def test_a_retry_falls_due_though_nothing_happens(
    store_url: str, clock: ManualClock, moves: str
) -> None:
    async with _stores(store_url, clock) as (ours, _, snapshot):
        await ours.write(lambda unit: tasks.create_task(unit, NewTask("demo", "x"), "person"))
        run = await _claim(ours)
        failed = ResultReport(run.run_id, 1, 2, RunOutcome.FAILED, Verification.NOT_VERIFIED)
        policy = RetryPolicy(backoff_seconds=(30.0,))
        await ours.write(lambda unit: reports.record_result(unit, failed, policy))
        held = await _said(snapshot)
        assert held[:2] == ("hold", "not_due")
        clock.advance(A_LOOK)
        assert await _said(snapshot) == held
        getattr(clock, moves)(30.0)
        clock.advance(A_LOOK)
        assert (await _said(snapshot))[:2] == ("start", "task_due")


async def test_a_run_that_may_be_taken_over_is_offered_though_nothing_happens(
    store_url: str, clock: ManualClock
) -> None:
    async with _stores(store_url, clock) as (ours, _, snapshot):
        await ours.write(lambda unit: tasks.create_task(unit, NewTask("demo", "x"), "person"))
        await _claim(ours)
        assert (await _said(snapshot))[0] == "hold"
        clock.advance(LEASE + 599)
        assert (await _said(snapshot))[0] == "hold"
        clock.advance(1 + A_LOOK)
        assert (await _said(snapshot))[0] == "start"


async def test_answers_that_say_the_same_have_the_same_name_and_others_do_not(
    store_url: str, clock: ManualClock
) -> None:
    async with _stores(store_url, clock) as (ours, _, snapshot):
        first = await snapshot.get()
        task = await ours.write(
            lambda unit: tasks.create_task(unit, NewTask("demo", "x"), "person")
        )
        clock.advance(A_LOOK)
        second = await snapshot.get()
        assert second["etag"] != first["etag"]
        await ours.write(lambda unit: tasks.cancel_task(unit, task.id, actor="person"))
        clock.advance(A_LOOK)
        third = await snapshot.get()
        assert third["version"] > second["version"]
        assert third["actions"] == first["actions"]
        # a name is of one answer in a row: what comes back is named anew
        assert len({first["etag"], second["etag"], third["etag"]}) == 3
        clock.advance(100)
        assert (await snapshot.get())["etag"] == third["etag"]
        # of another server it says nothing
        assert (await Snapshot(ours, clock.monotonic).get())["etag"] != third["etag"]
