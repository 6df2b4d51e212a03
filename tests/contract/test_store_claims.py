"""Claims and leases: who may run what, once, and what happens to what is left behind."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import product

import anyio
import pytest

from aiagent_coordinator import ids
from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.errors import ConflictError, StaleRunError
from aiagent_coordinator.runs import Purpose, RetryPolicy, RunOutcome, RunPhase, Verification
from aiagent_coordinator.store import (
    actions,
    claims,
    events,
    leases,
    projects,
    reports,
    runs,
    tasks,
)
from aiagent_coordinator.store.engine import Store, open_store
from aiagent_coordinator.store.requests import (
    ClaimAnswer,
    ClaimRequest,
    ExitReport,
    HeldRun,
    RenewAnswer,
    RenewRequest,
    ResultReport,
)
from aiagent_coordinator.store.tasks import NewTask
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Check, Project, Task, TaskStatus, WorkspaceKind

LEASE = 90.0
POLICY = RetryPolicy()
PROJECT = Project("demo", "Demo", "/srv/demo", base_ref="main", checks=(Check(("true",)),))
AGENT = Agent("writer", "Writer", "rehearsal", max_concurrent=50)


def declare(
    agents: tuple[Agent, ...] = (AGENT,), project_list: tuple[Project, ...] = (PROJECT,)
) -> Callable[[Unit], None]:
    def work(unit: Unit) -> None:
        for project in project_list:
            projects.declare_project(unit, project)
        for agent in agents:
            projects.declare_agent(unit, agent)
            for project in project_list:
                projects.assign(unit, agent.id, project.id)

    return work


def creating(title: str = "Do it", **more: object) -> Callable[[Unit], Task]:
    new = replace(NewTask("demo", title), **more)  # pyright: ignore[reportArgumentType]
    return lambda unit: tasks.create_task(unit, new, "person")


def asking(slot: int = 0, **more: object) -> ClaimRequest:
    run_id = ids.new_run_id()
    request = ClaimRequest(
        run_id, "crd_one", 1, "writer", "demo", Purpose.TASK, slot, f"sha-{run_id}"
    )
    return replace(request, **more)  # pyright: ignore[reportArgumentType]


async def claim(store: Store, request: ClaimRequest) -> ClaimAnswer:
    return await store.write(lambda unit: claims.claim_run(unit, request, LEASE))


async def renew(
    store: Store, *held: HeldRun, coordinator_id: str = "crd_one", epoch: int = 1
) -> RenewAnswer:
    request = RenewRequest(coordinator_id, epoch, held)
    return await store.write(lambda unit: leases.renew_runs(unit, request, LEASE))


async def end(store: Store, request: ClaimRequest, fence: int) -> None:
    result = ResultReport(request.run_id, fence, 2, RunOutcome.SUCCEEDED, Verification.NOT_VERIFIED)
    await store.write(lambda unit: reports.record_result(unit, result, POLICY))


async def test_a_hundred_claimers_of_ten_tasks_make_ten_runs(
    store_url: str, clock: ManualClock
) -> None:
    answers: list[ClaimAnswer] = []
    async with AsyncExitStack() as stack:
        # PostgreSQL is shared by servers; a SQLite file has one process.
        many = 4 if store_url.startswith("postgresql") else 1
        stores = [
            await stack.enter_async_context(
                open_store(store_url, clock=clock, use_database_clock=False)
            )
            for _ in range(many)
        ]
        agents = [replace(AGENT, id=f"agent{number}") for number in range(7)]
        await stores[0].write(declare(tuple(agents)))
        for number in range(10):
            await stores[0].write(creating(f"task {number}"))

        async def one(number: int) -> None:
            store = stores[number % many]
            who = {"coordinator_id": f"crd_{number % 3}", "agent_id": f"agent{number % 7}"}
            answers.append(await claim(store, asking(number, **who)))

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(one, number)
        won = [answer.task.id for answer in answers if answer.task]
        assert len(won) == len(set(won)) == 10
        assert {answer.reason for answer in answers if not answer.claimed} == {"no_task"}
        assert len(await stores[0].read(runs.list_runs)) == 10
        running = tasks.TaskFilter(statuses=(TaskStatus.RUNNING,))
        assert len(await stores[0].read(lambda unit: tasks.list_tasks(unit, running))) == 10


async def test_a_limit_holds_however_many_servers_claim_at_once(
    store_url: str, clock: ManualClock
) -> None:
    answers: list[ClaimAnswer] = []
    async with AsyncExitStack() as stack:
        many = 4 if store_url.startswith("postgresql") else 1
        stores = [
            await stack.enter_async_context(
                open_store(store_url, clock=clock, use_database_clock=False)
            )
            for _ in range(many)
        ]
        places = (PROJECT, replace(PROJECT, id="other", path="/srv/other"))
        await stores[0].write(declare((replace(AGENT, max_concurrent=2),), places))
        for number in range(20):
            await stores[0].write(creating(f"task {number}", project_id=places[number % 2].id))

        async def one(number: int) -> None:
            where = {
                "coordinator_id": f"crd_{number % many}",
                "project_id": places[number % 2].id,
            }
            answers.append(await claim(stores[number % many], asking(number, **where)))

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(one, number)
    assert sum(answer.claimed for answer in answers) == 2
    assert {answer.reason for answer in answers if not answer.claimed} == {"agent_limit"}


async def test_a_claim_gives_all_that_a_run_needs(store_url: str, clock: ManualClock) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare())
        task = await store.write(creating(checks=(Check(("own",)),), acceptance=("good",)))
        request = asking()
        answer = await claim(store, request)
        assert answer.claimed
        assert answer.task is not None
        assert answer.project is not None
        assert answer.agent is not None
        assert (answer.fence, answer.task.id, answer.task.attempt) == (1, task.id, 1)
        assert answer.task.checks == (Check(("true",)), Check(("own",)))
        assert (answer.task.base_ref, answer.task.acceptance) == ("main", ("good",))
        assert answer.project.path == "/srv/demo"
        assert answer.agent.provider == "rehearsal"
        assert answer.lease_until is not None
        assert (answer.lease_until - clock.now()).total_seconds() == LEASE
        run = await store.read(lambda unit: runs.get_run(unit, request.run_id))
        assert (run.phase, run.task_id, run.holder) == ("starting", task.id, "coordinator:crd_one")
        assert (
            await store.read(lambda unit: runs.run_by_token_hash(unit, request.token_sha256)) == run
        )


async def test_claiming_again_under_the_same_id_changes_nothing_and_answers_the_same(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare())
        await store.write(creating("one"))
        await store.write(creating("two"))
        request = asking()
        first = await claim(store, request)
        before = await store.read(events.last_seq)
        assert await claim(store, request) == first
        assert await store.read(events.last_seq) == before
        with pytest.raises(StaleRunError):
            await claim(store, replace(request, coordinator_id="crd_other"))
        with pytest.raises(ConflictError):
            await claim(store, replace(request, slot=7))
        assert len(await store.read(runs.list_runs)) == 1


async def test_a_new_life_takes_its_runs_along_and_the_old_one_is_refused(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare())
        await store.write(creating())
        request = asking()
        first = await claim(store, request)
        again = await claim(store, replace(request, epoch=2, token_sha256="new"))
        assert again == first
        assert await store.read(lambda unit: runs.run_by_token_hash(unit, "new")) is not None
        old = await store.read(lambda unit: runs.run_by_token_hash(unit, request.token_sha256))
        assert old is None
        with pytest.raises(StaleRunError):
            await claim(store, request)
        with pytest.raises(StaleRunError):
            await renew(store, epoch=1)
        seen = await store.read(lambda unit: events.list_events(unit, limit=100))
        epochs = [event.data["epoch"] for event in seen if event.action == "coordinator.seen"]
        assert epochs == [1, 2]


async def test_a_claim_of_an_ended_run_says_so(store_url: str, clock: ManualClock) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare())
        await store.write(creating())
        request = asking()
        await claim(store, request)
        await end(store, request, fence=1)
        assert await claim(store, request) == ClaimAnswer(claimed=False, reason="ended")


@pytest.mark.parametrize(
    ("agent", "project", "request_", "reason"),
    [
        (AGENT, PROJECT, asking(agent_id="nobody"), "not_assigned"),
        (replace(AGENT, enabled=False), PROJECT, asking(), "agent_disabled"),
        (AGENT, replace(PROJECT, status="paused"), asking(), "project_paused"),
        (replace(AGENT, max_concurrent=1), PROJECT, asking(1), "agent_limit"),
        (AGENT, replace(PROJECT, max_concurrent=1), asking(1), "project_limit"),
        (AGENT, PROJECT, asking(0), "slot_taken"),
        (AGENT, PROJECT, asking(1, purpose=Purpose.CHAT), "no_task"),
    ],
)
async def test_a_claim_that_gets_nothing_says_why(
    store_url: str,
    clock: ManualClock,
    agent: Agent,
    project: Project,
    request_: ClaimRequest,
    reason: str,
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare())
        await store.write(creating("one"))
        await store.write(creating("two"))
        await claim(store, asking(0))
        await store.write(declare((agent,), (project,)))
        assert await claim(store, request_) == ClaimAnswer(claimed=False, reason=reason)


async def test_a_shared_folder_has_one_run_until_its_result_is_in(
    store_url: str, clock: ManualClock
) -> None:
    """Two projects on one path, many claims at once: one gets it, the next one after the result."""
    kind = WorkspaceKind.DIRECTORY
    both = tuple(replace(PROJECT, id=name, workspace=kind) for name in ("demo", "other"))
    async with AsyncExitStack() as stack:
        many = 4 if store_url.startswith("postgresql") else 1
        stores = [
            await stack.enter_async_context(
                open_store(store_url, clock=clock, use_database_clock=False)
            )
            for _ in range(many)
        ]
        store = stores[0]
        await store.write(declare((AGENT, replace(AGENT, id="second")), both))
        for project in both:
            for number in range(2):
                await store.write(creating(f"task {number}", project_id=project.id))
        answers: dict[str, ClaimAnswer] = {}
        asked = [
            asking(number, agent_id=agent, project_id=project.id)
            for number, (agent, project) in enumerate(product(("writer", "second"), both))
        ]

        async def one(number: int, request: ClaimRequest) -> None:
            answers[request.run_id] = await claim(stores[number % many], request)

        async with anyio.create_task_group() as group:
            for number, request in enumerate(asked):
                group.start_soon(one, number, request)
        (begun,) = [request for request in asked if answers[request.run_id].claimed]
        refused = {answer.reason for answer in answers.values() if not answer.claimed}
        assert refused == {"directory_in_use"}
        # its processes are gone, but it is not sealed yet
        exit_ = ExitReport(begun.run_id, 1, 1, clock.now(), 0)
        await store.write(lambda unit: reports.record_exit(unit, exit_))
        listed = await store.read(actions.list_actions)
        assert {(line.action, line.reason) for line in listed.actions} == {
            ("hold", "directory_in_use")
        }
        fresh = replace(asked[0], run_id=ids.new_run_id(), slot=7)
        assert (await claim(store, fresh)).reason == "directory_in_use"
        await end(store, begun, fence=1)
        listed = await store.read(actions.list_actions)
        assert {line.slots_free for line in listed.actions if line.action == "start"} == {1}
        assert (await claim(store, fresh)).claimed


async def test_what_is_no_longer_declared_starts_nothing(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare())
        await store.write(creating())
        pairs = [("writer", "demo")]
        await store.write(
            lambda unit: projects.keep_only(unit, project_ids=[], agent_ids=["writer"], pairs=pairs)
        )
        assert (await claim(store, asking())).reason == "project_paused"


async def test_a_place_is_free_at_the_exit_and_the_slot_only_with_the_result(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare((replace(AGENT, max_concurrent=1),)))
        for title in ("one", "two", "three"):
            await store.write(creating(title))
        request = asking(0)
        await claim(store, request)
        assert (await claim(store, asking(1))).reason == "agent_limit"
        gone = ExitReport(request.run_id, 1, 1, ended_at=clock.now(), exit_code=0)
        await store.write(lambda unit: reports.record_exit(unit, gone))
        assert (await claim(store, asking(0))).reason == "slot_taken"
        assert (await claim(store, asking(1))).claimed
        await end(store, request, fence=1)
        assert (await claim(store, asking(0))).reason == "agent_limit"


async def test_due_retries_come_first_then_priority_then_age(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare())
        old = await store.write(creating("old", status=TaskStatus.BACKLOG))
        clock.advance(1)
        retried = await store.write(creating("retried"))
        request = asking()
        await claim(store, request)
        failed = ResultReport(
            request.run_id, 1, 2, RunOutcome.FAILED, Verification.NOT_VERIFIED, "no_report"
        )
        await store.write(lambda unit: reports.record_result(unit, failed, POLICY))
        await store.write(
            lambda unit: tasks.set_status(unit, old, "T2", TaskStatus.QUEUED, actor="person")
        )
        for title, priority in (("young", 0), ("urgent", 5)):
            clock.advance(1)
            await store.write(creating(title, priority=priority))

        async def next_title() -> str:
            answer = await claim(store, asking(len(await store.read(runs.list_runs))))
            assert answer.task is not None
            return answer.task.title

        assert await next_title() == "urgent"  # the retry waits its 30 seconds
        clock.advance(30)
        assert [await next_title() for _ in range(3)] == ["retried", "old", "young"]
        again = await store.read(lambda unit: tasks.get_task(unit, retried.id))
        assert (again.attempt, again.not_before) == (2, None)


async def test_unassigned_tasks_go_to_any_agent_and_assigned_ones_to_theirs(
    store_url: str, clock: ManualClock
) -> None:
    other = replace(AGENT, id="other")
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare((AGENT, other)))
        await store.write(creating("hers", agent_id="other"))
        assert (await claim(store, asking())).reason == "no_task"
        await store.write(creating("anybody's"))
        answer = await claim(store, asking())
        assert answer.task is not None
        assert answer.task.title == "anybody's"
        assert (await claim(store, asking(agent_id="other"))).claimed


async def test_a_renewal_tells_what_happened_and_names_what_it_does_not_list(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare())
        requests = [asking(slot) for slot in range(3)]
        for request in requests:
            await store.write(creating())
            await claim(store, request)
        told, other, forgotten = (request.run_id for request in requests)
        await store.write(lambda unit: runs.mark_hello(unit, told))
        run = await store.write(lambda unit: runs.mark_authenticated(unit, told))
        await store.write(lambda unit: runs.record_agent_report(unit, run, "success", "done it"))
        await store.write(lambda unit: runs.request_stop(unit, told, "enough", actor="person"))
        clock.advance(30)
        answer = await renew(
            store,
            HeldRun(told, 1, RunPhase.RUNNING, activity="typing", progress=30),
            HeldRun(other, 9, RunPhase.RUNNING),
            HeldRun("run_nobody", 1, RunPhase.RUNNING),
        )
        lines = {line.run_id: line for line in answer.runs}
        assert {run_id: line.state for run_id, line in lines.items()} == {
            told: "held",
            other: "superseded",
            "run_nobody": "unknown",
        }
        line = lines[told]
        assert line.report is not None
        assert line.stop is not None
        assert (line.report.result, line.report.summary) == ("success", "done it")
        assert line.stop.reason == "enough"
        assert line.hello_at == line.authenticated_at == run.authenticated_at
        assert answer.unlisted == (forgotten,)
        after = await store.read(lambda unit: runs.get_run(unit, told))
        assert after.phase is RunPhase.RUNNING
        assert after.lease_until == answer.lease_until
        stale = await store.read(lambda unit: runs.get_run(unit, other))
        assert stale.lease_until < answer.lease_until


async def test_a_phase_never_goes_back(store_url: str, clock: ManualClock) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare())
        await store.write(creating())
        request = asking()
        await claim(store, request)
        for phase in (RunPhase.STOPPING, RunPhase.STARTING, RunPhase.ENDED):
            await renew(store, HeldRun(request.run_id, 1, phase))
            run = await store.read(lambda unit: runs.get_run(unit, request.run_id))
            assert run.phase is RunPhase.STOPPING


async def test_a_result_that_crosses_a_renewal_is_not_taken_for_a_loss(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare())
        await store.write(creating())
        request = asking()
        await claim(store, request)
        await end(store, request, fence=1)
        answer = await renew(store, HeldRun(request.run_id, 1, RunPhase.FINISHING))
        assert [line.state for line in answer.runs] == ["held"]


async def test_an_expired_lease_is_takeable_only_after_the_grace_and_only_by_another(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare())
        task = await store.write(creating())
        old = asking()
        await claim(store, old)
        clock.advance(LEASE + 599)
        new = asking(coordinator_id="crd_two")
        assert (await claim(store, new)).reason == "slot_taken"
        clock.advance(1)
        # Its own coordinator never loses it to itself.
        assert (await claim(store, asking())).reason == "slot_taken"
        answer = await claim(store, new)
        assert answer.task is not None
        assert (answer.task.id, answer.fence) == (task.id, 3)
        lost = await store.read(lambda unit: runs.get_run(unit, old.run_id))
        assert (lost.phase, lost.outcome, lost.reason) == ("ended", "lost", "lost")
        now = await store.read(lambda unit: tasks.get_task(unit, task.id))
        assert (now.status, now.attempt, now.infra_requeues) == (TaskStatus.RUNNING, 1, 1)
        which = events.EventFilter(task_id=task.id)
        happened = await store.read(lambda unit: events.list_events(unit, which))
        moves = [event.data["transition"] for event in happened if event.action == "task.status"]
        assert moves == ["T1", "T4", "T20", "T4"]
        # The old one hears of it, and its late reports change nothing.
        answer = await renew(store, HeldRun(old.run_id, 1, RunPhase.RUNNING))
        assert [line.state for line in answer.runs] == ["superseded"]
        with pytest.raises(StaleRunError):
            await end(store, old, fence=1)
        assert (await store.read(lambda unit: tasks.get_task(unit, task.id))) == now


async def test_a_server_that_was_away_starts_the_expiry_anew(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare())
        await store.write(creating())
        await claim(store, asking())
    clock.advance(10_000)
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        assert (await claim(store, asking(coordinator_id="crd_two"))).reason == "slot_taken"
        clock.advance(LEASE + 600)
        assert (await claim(store, asking(coordinator_id="crd_two"))).claimed


@pytest.mark.parametrize("days", [1, -1])
async def test_a_clock_that_jumps_or_a_machine_that_slept_lets_nobody_take_a_run(
    store_url: str, clock: ManualClock, days: int
) -> None:
    """After a jump leases start anew, as after a start of the server; then they end as ever."""
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare())
        await store.write(creating())
        ours = asking()
        await claim(store, ours)
        clock.jump(days * 86400)
        assert (await claim(store, asking(coordinator_id="crd_two"))).reason == "slot_taken"
        held = await renew(store, HeldRun(ours.run_id, 1, RunPhase.RUNNING))
        assert [line.state for line in held.runs] == ["held"]
        clock.advance(LEASE + 600)
        assert (await claim(store, asking(coordinator_id="crd_two"))).claimed


async def test_work_that_another_coordinator_left_is_offered_once_it_may_be_taken(
    store_url: str, clock: ManualClock
) -> None:
    """Nobody claims what is not offered: the line of work says start, although nothing is queued."""
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare())
        task = await store.write(creating())
        await claim(store, asking())

        async def offered() -> list[tuple[str, str | None]]:
            answer = await store.read(actions.list_actions)
            return [(line.action, line.task_id) for line in answer.actions]

        assert ("start", task.id) not in await offered()
        clock.advance(LEASE + 600)
        assert ("start", task.id) in await offered()


async def test_the_second_run_of_a_task_or_a_slot_is_refused_by_the_database_itself(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare())
        await store.write(creating("one"))
        await store.write(creating("two"))
        first, second = asking(0), asking(1)
        await claim(store, first)
        await claim(store, second)
        run = runs.tables.run
        for column, value in (
            ("slot", 0),
            ("task_id", (await store.read(lambda u: runs.get_run(u, first.run_id))).task_id),
        ):
            with pytest.raises(ConflictError):
                await store.write(
                    lambda unit, column=column, value=value: unit.conn.execute(
                        run.update().where(run.c.id == second.run_id).values({column: value})
                    )
                )


async def test_actions_say_what_to_start_why_to_hold_and_what_to_stop(
    store_url: str, clock: ManualClock
) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare((replace(AGENT, max_concurrent=2),)))

        async def look() -> list[tuple[str, str, int, str | None]]:
            answer = await store.read(actions.list_actions)
            return [
                (line.action, line.reason, line.slots_free, line.task_id) for line in answer.actions
            ]

        assert await look() == [("hold", "no_task", 0, None)]
        first = await store.write(creating("first"))
        assert await look() == [("start", "task_due", 1, first.id)]
        urgent = await store.write(creating("urgent", priority=9, agent_id="writer"))
        await store.write(creating("third"))
        assert await look() == [("start", "task_due", 2, urgent.id)]
        request = asking(0)
        await claim(store, request)
        assert await look() == [("start", "task_due", 1, first.id)]
        await claim(store, asking(1))
        assert await look() == [("hold", "agent_limit", 0, None)]
        run_id = request.run_id
        await store.write(lambda unit: runs.request_stop(unit, run_id, "enough", actor="person"))
        assert await look() == [
            ("hold", "agent_limit", 0, None),
            ("stop", "enough", 0, urgent.id),
        ]
        seen = (await store.read(actions.list_actions)).version
        assert seen == await store.read(events.last_seq)


async def test_actions_hold_a_retry_until_it_is_due(store_url: str, clock: ManualClock) -> None:
    async with open_store(store_url, clock=clock, use_database_clock=False) as store:
        await store.write(declare())
        await store.write(creating())
        request = asking()
        await claim(store, request)
        failed = ResultReport(request.run_id, 1, 2, RunOutcome.FAILED, Verification.NOT_VERIFIED)
        await store.write(lambda unit: reports.record_result(unit, failed, POLICY))
        answer = await store.read(actions.list_actions)
        assert [(line.action, line.reason) for line in answer.actions] == [("hold", "not_due")]
        clock.advance(30)
        answer = await store.read(actions.list_actions)
        assert [(line.action, line.reason) for line in answer.actions] == [("start", "task_due")]
