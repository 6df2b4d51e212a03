"""The plain pages for hand-offs: who may call them, and that they do what the tools do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from aiagent_coordinator.store import projects
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent
from support.board import Board, serving
from support.web import LOCAL, browsing

PATH = "/api/handoffs"
TOKENS = {"person": "p" * 20, "coordinator": "c" * 20}
SETTINGS = replace(LOCAL, person_token=TOKENS["person"], coordinator_token=TOKENS["coordinator"])
SAID = {"summary": "The wall is red.", "context": "In the shed.", "recommendations": "Two coats."}


async def hire(board: Board) -> None:
    def work(unit: Unit) -> None:
        projects.declare_agent(unit, Agent("bob", "Bob", "rehearsal", max_concurrent=9))
        projects.assign(unit, "bob", "garden")

    await board.store.write(work)


async def test_each_caller_may_do_with_a_page_what_it_may_with_its_tool(short_dir: Path) -> None:
    async with serving(short_dir, http=SETTINGS) as board:
        worker, chat = await board.claim(), await board.claim_chat()
        judged = await board.claim("Judged")
        reviewer = await board.claim("Judge it", reviews_id=judged.run.task_id)
        #: Token → status of: list, of a task, make, accept.
        expected: dict[str | None, tuple[int, int, int, int]] = {
            None: (401, 401, 401, 401),
            "wrong": (401, 401, 401, 401),
            worker.token: (200, 200, 201, 200),
            chat.token: (200, 200, 403, 403),
            reviewer.token: (200, 200, 403, 403),
            TOKENS["person"]: (200, 200, 403, 403),
            board.operator_key: (200, 200, 403, 403),
            TOKENS["coordinator"]: (200, 200, 403, 403),
            board.coordinator_key: (200, 200, 403, 403),
        }
        mine = {**SAID, "taskId": worker.run.task_id}
        async with browsing(board, worker.token) as web:
            made = (await web.http.post(PATH, json=mine)).json()
        for token, statuses in expected.items():
            async with browsing(board, token) as web:
                answers = (
                    await web.http.get(PATH),
                    await web.http.get(f"/api/tasks/{worker.run.task_id}/handoffs"),
                    await web.http.post(PATH, json=mine),
                    await web.http.post(f"{PATH}/{made['id']}/accept"),
                )
                assert tuple(one.status_code for one in answers) == statuses, token
                for one in answers:
                    if one.status_code >= 400:
                        assert one.json()["success"] is False
                        assert "red" not in one.text
                        assert ("www-authenticate" in one.headers) == (one.status_code == 401)


async def test_an_agent_leaves_something_and_another_takes_it(short_dir: Path) -> None:
    async with serving(short_dir, http=SETTINGS) as board:
        await hire(board)
        ann = await board.claim()
        task_id = ann.run.task_id or ""
        async with browsing(board, ann.token) as web:
            made = await web.http.post(PATH, json={**SAID, "unknown": 1})
            assert made.status_code == 201
            left = made.json()
            assert left == {
                "id": left["id"], "taskId": task_id, "fromAgentId": "ann", **SAID,
                "createdAt": left["createdAt"], "isPending": True, "isTargeted": False,
            }  # fmt: skip
            to_bob = {**SAID, "taskId": task_id, "toAgentId": "bob"}
            targeted = (await web.http.post(PATH, json=to_bob)).json()
            assert (targeted["toAgentId"], targeted["isTargeted"]) == ("bob", True)
            assert [one["id"] for one in (await web.http.get(PATH)).json()] == [left["id"]]
            refused = await web.http.post(f"{PATH}/{targeted['id']}/accept")
            assert refused.status_code == 403
            for _ in range(2):
                taken = await web.http.post(f"{PATH}/{left['id']}/accept")
                assert (taken.status_code, taken.json()["isPending"]) == (200, False)
            assert (await web.http.get(PATH)).json() == []
        async with browsing(board, TOKENS["coordinator"]) as web:
            waiting: list[dict[str, Any]] = (await web.http.get(PATH)).json()
            assert [one["id"] for one in waiting] == [targeted["id"]]
            every = (await web.http.get(f"/api/tasks/{task_id}/handoffs")).json()
            assert {one["id"] for one in every} == {left["id"], targeted["id"]}
            assert (await web.http.get("/api/tasks/tsk_none/handoffs")).status_code == 404


async def test_what_cannot_be_used_is_refused_by_name(short_dir: Path) -> None:
    async with serving(short_dir, http=SETTINGS) as board:
        ann = await board.claim()
        async with browsing(board, ann.token) as web:
            for content, status in (
                (b"", 400),
                (b"[]", 400),
                (b"{", 400),
                (b"[" * 20_000, 400),
                (b"\xff", 400),
                (b"{}", 400),
                (b'{"summary": 1}', 400),
                (b'{"summary": "  "}', 400),
                (b'{"summary": "a\\u0000"}', 400),
                (b'{"summary": "' + b"x" * 2001 + b'"}', 400),
                (b'{"summary": "x", "toAgentId": "nobody"}', 400),
                (b'{"summary": "x", "taskId": "tsk_none"}', 404),
            ):
                answer = await web.http.post(PATH, content=content)
                assert answer.status_code == status, (content[:40], answer.text)
                assert answer.json()["error"]
            assert (await web.http.post(f"{PATH}/hnd_none/accept")).status_code == 404
            assert (await web.http.delete(PATH)).status_code == 405


async def test_the_description_has_the_pages(short_dir: Path) -> None:
    async with serving(short_dir, http=SETTINGS) as board, browsing(board) as web:
        described = (await web.http.get("/openapi.json")).json()["paths"]
        assert set(described[PATH]) == {"get", "post"}
        assert "post" in described[PATH + "/{handoff_id}/accept"]
        assert "get" in described["/api/tasks/{task_id}/handoffs"]
