"""Whose word a task needs, and who may give it. A real server, clients that say anything."""

from __future__ import annotations

import secrets
from pathlib import Path

from aiagent_coordinator import ids
from aiagent_coordinator.runs import Purpose, RetryPolicy, RunOutcome, Verification
from aiagent_coordinator.store import claims, reports, requests, reviews
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Task, TaskStatus
from support.board import Board, Claimed, connected, serving


async def look(board: Board, task_id: str | None) -> Task:
    assert task_id is not None
    return await board.store.read(lambda unit: task_store.get_task(unit, task_id))


async def done(board: Board, claimed: Claimed, outcome: RunOutcome = RunOutcome.SUCCEEDED) -> None:
    report = requests.ResultReport(
        claimed.run.id, claimed.run.fence, 2, outcome, Verification.VERIFIED, sealed_commit="c" * 40
    )
    policy = RetryPolicy(1, (0.0,))
    await board.store.write(lambda unit: reports.record_result(unit, report, policy))


async def claim_for(board: Board, agent_id: str) -> Claimed:
    """Start the run of the next task of an agent."""
    token = secrets.token_hex(32)
    import hashlib  # noqa: PLC0415 - only here

    request = requests.ClaimRequest(
        ids.new_run_id(), board.coordinator_id, 1, agent_id, "garden", Purpose.TASK,
        secrets.randbelow(2**30), hashlib.sha256(token.encode()).hexdigest(),
    )  # fmt: skip
    answer = await board.store.write(lambda unit: claims.claim_run(unit, request, 90))
    assert answer.claimed, answer
    return Claimed(await board.run(request.run_id), token)


async def test_a_manager_lets_a_task_begin_that_one_below_it_asked_for_and_no_other(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board:
        await board.promote()
        manager = await board.claim()

        def own(unit: Unit) -> None:
            for who in ("bob", "dan"):
                task_store.create_task(unit, task_store.NewTask("garden", "Dig", who), "person")

        await board.store.write(own)
        asked: dict[str, str] = {}
        for who in ("bob", "dan"):
            worker = await claim_for(board, who)
            async with connected(board, worker.hello()) as client:
                said = await client.tool("request_task", title=f"Weed, says {who}")
                assert said["approval_status"] == "pending_approval"
                assert said["approvers"] == (["ann", "person"] if who == "bob" else ["person"])
                asked[who] = said["task_id"]
                assert await client.code("approve_task_request", task_id=asked[who]) == "FORBIDDEN"
        async with connected(board, manager.hello()) as client:
            assert await client.code("approve_task_request", task_id="tsk_x") == "NOT_FOUND"
            assert await client.code("approve_task_request", task_id=asked["dan"]) == "FORBIDDEN"
            own_task = manager.run.task_id
            assert await client.code("reject_task_request", task_id=own_task) == "FORBIDDEN"
            said = await client.tool("approve_task_request", task_id=asked["bob"])
            assert said["status"] == "approved"
            assert await client.code("approve_task_request", task_id=asked["bob"]) == "CONFLICT"
        assert (await look(board, asked["bob"])).status is TaskStatus.QUEUED
        assert (await look(board, asked["dan"])).status is TaskStatus.BACKLOG


async def test_a_reviewer_gives_its_verdict_before_it_reports_and_once(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        await board.promote()
        worker = await board.claim("Dig", review_by="bob", acceptance=("deep",))
        await done(board, worker)
        assert reviews.is_reviewed(await look(board, worker.run.task_id))
        review = await claim_for(board, "bob")
        async with connected(board, review.hello()) as client:
            told = (await client.tool("get_my_task"))["task"]
            assert told["review"]["commit"] == "c" * 40
            assert told["review"]["acceptance"] == ["deep"]
            assert (await client.tool("get_next_action"))["action"] == "review"
            for _ in range(4):
                assert not (await client.tool("report_completed", result="success"))["accepted"]
            assert await client.code("create_task", title="x") == "FORBIDDEN"
            said = await client.tool("review_task", verdict="changes", comment="too flat")
            assert said["status"] == "todo"
            said = await client.tool("review_task", verdict="accept", comment="well")
            assert said["status"] == "todo"
            assert (await client.tool("get_next_action"))["action"] == "report_completion"
            assert (await client.tool("report_completed", result="success"))["accepted"]
        again = await claim_for(board, "ann")
        assert again.run.task_id == worker.run.task_id
        request = requests.ClaimRequest(
            again.run.id, board.coordinator_id, 1, "ann", "garden", Purpose.TASK, again.run.slot, "0" * 64
        )  # fmt: skip
        answer = await board.store.write(lambda unit: claims.claim_run(unit, request, 90))
        assert answer.task is not None
        assert [one.answer for one in answer.task.answers] == ["No: too flat"]


async def test_a_persons_word_goes_before_a_reviewers_and_a_review_that_fails_leaves_it_to_a_person(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board:
        await board.promote()
        async with connected(board, board.person) as person:
            first = await board.claim("Dig", review_by="bob")
            await done(board, first)
            review = await claim_for(board, "bob")
            await person.tool("approve_task", task_id=first.run.task_id)
            assert (await look(board, first.run.task_id)).status is TaskStatus.SUCCEEDED
            dropped = await look(board, review.run.task_id)
            assert dropped.status is TaskStatus.CANCELLED
            assert (await board.run(review.run.id)).stop_reason == "cancelled"
            second = await board.claim("Weed", review_by="bob")
            await done(board, second)
            lost = await claim_for(board, "bob")
            (why,) = (await person.tool("explain_task", task_id=second.run.task_id))["reasons"]
            assert f"agent bob ({lost.run.task_id}, running)" in why["text"]
            await person.tool("cancel_task", task_id=lost.run.task_id)
            assert (await look(board, second.run.task_id)).review_by == "person"
            assert (await person.tool("get_status"))["approvals"] == {"start": 0, "finish": 1}
            await person.tool("reject_task", task_id=second.run.task_id, reason="again")
            assert (await look(board, second.run.task_id)).status is TaskStatus.QUEUED


async def test_nobody_reviews_its_own_work_and_only_an_agent_of_the_project_any(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as person:

        async def code(who: str) -> str | None:
            return await person.code(
                "create_task", project_id="garden", title="t", agent_id="ann", review_by=who
            )

        assert await code("ann") == "VALIDATION"
        assert await code("nobody") == "NOT_FOUND"
        assert await code("person") is None
