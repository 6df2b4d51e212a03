"""Audits and templates over the server's own calls: what persons are told, and what agents of every make cause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.board import Board, Raw, connected, serving
from support.pm import PAIR, authenticate, start, value

RULES = """\
schema: 1
title: Looked at
rules:
  - trigger: task_completed
    lock: [task]
    tasks:
      - {order: 1, title: "Look at {{task_title}}", description: "{{summary}}"}
"""
STEPS = """\
schema: 1
title: Two steps
variables: {what: {about: What it is}}
tasks:
  - {order: 1, title: "Begin {{what}}"}
  - {order: 2, title: "End {{what}}", depends_on_orders: [1]}
"""


def put(folder: Path, kind: str, name: str, text: str) -> Path:
    file = folder / ".aiagent" / kind / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    return file


async def tasks_of(person: Raw) -> list[dict[str, Any]]:
    return (await person.tool("list_tasks"))["tasks"]


async def ended_by_another_make(board: Board) -> str:
    """A task that an agent of aiagent-runner completes; its id."""
    task_id = (await start(board))["task_id"]
    async with connected(board) as agent:
        token = await authenticate(agent)
        await agent.tool("report_completed", result="success", summary="ok", session_token=token)
    await value(board, "invalidate_session", **PAIR)
    return task_id


async def test_what_an_agent_of_another_make_completes_fires_too(short_dir: Path) -> None:
    put(short_dir, "audits", "look", RULES)
    async with serving(short_dir) as board, connected(board, board.person) as person:
        which = {"project_id": "garden", "name": "look"}
        shown = (await person.tool("get_audit", **which))["audit"]
        assert (shown["status"], shown["rules"][0]["trigger"]) == ("inactive", "task_completed")
        assert await person.code("suspend_audit", **which) == "NOT_FOUND"
        assert (await person.tool("activate_audit", **which))["audit"]["status"] == "active"
        task_id = await ended_by_another_make(board)
        (look,) = [one for one in await tasks_of(person) if one["audit_firing_id"]]
        assert look["title"] == "Look at Mend the fence [Audit: Mend the fence]"
        shown = (await person.tool("get_audit", **which))["audit"]
        assert [(one["task_id"], one["tasks"]) for one in shown["firings"]] == [
            (task_id, [look["id"]])
        ]
        assert [(one["subject"], one["subject_id"]) for one in shown["holds"]] == [
            ("task", task_id)
        ]
        reasons = (await person.tool("explain_task", task_id=task_id))["reasons"]
        assert [one["code"] for one in reasons] == ["locked", "over"]
        done = await person.tool("unlock_task", task_id=task_id)
        assert (done["task"]["is_locked"], done["held_by"]) == (False, ["look"])
        assert await person.code("unlock_task", task_id=task_id) == "CONFLICT"
        assert await person.code("unlock_agent", agent_id="ann") == "CONFLICT"


async def test_what_an_audit_holds_moves_no_more_by_itself(short_dir: Path) -> None:
    """Whoever waits until all is done is not kept waiting for a person's word."""
    rules = "{trigger: status_changed, to: [cancelled], lock: [task, agent]}"
    put(short_dir, "audits", "stop", f"schema: 1\ntitle: Stop\nrules:\n  - {rules}\n")
    async with serving(short_dir) as board, connected(board, board.person) as person:
        await person.tool("activate_audit", project_id="garden", name="stop")
        task_id = (await board.add_task()).id
        assert (await person.tool("get_remaining"))["is_moving"]
        await person.tool("cancel_task", task_id=task_id)
        await person.tool("retry_task", task_id=task_id)
        await person.tool("unlock_agent", agent_id="ann")
        assert not (await person.tool("get_remaining"))["is_moving"]
        assert await value(board, "get_agent_action", **PAIR) == {
            "action": "hold",
            "reason": "no_work",
        }
        await person.tool("unlock_task", task_id=task_id)
        assert (await person.tool("get_remaining"))["is_moving"]
        assert (await value(board, "get_agent_action", **PAIR))["action"] == "start"


async def test_a_file_that_changes_counts_only_when_it_is_activated_again(short_dir: Path) -> None:
    """Agents write in the folders of projects; the rules that watch them are not theirs to change."""
    file = put(short_dir, "audits", "look", RULES)
    async with serving(short_dir) as board, connected(board, board.person) as person:
        which = {"project_id": "garden", "name": "look"}

        async def listed() -> dict[str, Any]:
            found = (await person.tool("list_audits", project_id="garden"))["audits"]
            return {one["name"]: one for one in found}["look"]

        await person.tool("activate_audit", **which)
        assert not (await listed())["is_changed"]
        file.write_text(RULES.replace("Looked at", "Not looked at"), "utf-8")
        now = await listed()
        assert (now["is_changed"], now["title"], now["status"]) == (True, "Looked at", "active")
        file.write_text("schema: 1\n", "utf-8")
        now = await listed()
        assert "look.yaml: rules: needs a list of 1 to 20 rules" in now["problems"][0]
        assert await person.code("activate_audit", **which) == "CONFIG"
        file.unlink()
        now = await listed()
        assert (now["status"], now["origin"], now["problems"]) == ("active", None, [])
        await ended_by_another_make(board)
        assert len(await tasks_of(person)) == 2
        assert (await person.tool("deactivate_audit", **which))["audit"]["status"] == "inactive"
        assert not any(one["is_locked"] for one in await tasks_of(person))


async def test_a_person_makes_the_tasks_of_a_template_over_mcp(short_dir: Path) -> None:
    put(short_dir, "templates", "steps", STEPS)
    async with serving(short_dir) as board, connected(board, board.person) as person:
        found = (await person.tool("list_templates", project_id="garden"))["templates"]
        (known,) = [one for one in found if one["name"] == "steps"]
        assert (known["origin"], known["tasks"], known["problems"]) == ("project", 2, [])
        assert known["variables"] == [{"name": "what", "about": "What it is", "default": None}]
        ask = {"project_id": "garden", "name": "steps"}
        refused = await person.tool("run_template", **ask, values={"wat": "x"})
        assert refused["error"]["code"] == "VALIDATION"
        assert "unknown: wat; missing: what" in refused["error"]["message"]
        said = {"values": {"what": "it"}, "key": "one"}
        dry = await person.tool("run_template", **ask, **said, dry_run=True)
        assert [one["title"] for one in dry["tasks"]] == ["Begin it", "End it"]
        assert await tasks_of(person) == []
        made = [await person.tool("run_template", **ask, **said) for _ in range(2)]
        assert [one["already_made"] for one in made] == [False, True]
        assert [one["status"] for one in made[1]["tasks"]] == ["queued", "blocked"]
        assert len(await tasks_of(person)) == 2
        assert await person.code("run_template", **{**ask, "name": "../steps"}) == "NOT_FOUND"
