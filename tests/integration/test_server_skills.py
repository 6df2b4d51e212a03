"""Skills and hand-offs over the real server: what each caller gets, and what old clients can bear."""

from __future__ import annotations

import base64
import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator import skills
from aiagent_coordinator.paths import host_id
from aiagent_coordinator.runs import ShimIdentity
from aiagent_coordinator.store import projects, reports, requests
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent
from support.board import Board, Claimed, connected, serving, tool_call

GUIDE = b"---\nname: paint\ndescription: How walls are painted.\n---\nUse a brush.\n"


def archive(**more: bytes) -> str:
    content = {"SKILL.md": GUIDE, **more}
    data = skills.pack({name: skills.File(text) for name, text in content.items()})
    return base64.b64encode(data).decode()


def noise(count: int, seed: int = 1) -> bytes:
    """What no archive makes smaller."""
    return random.Random(seed).randbytes(count)


def masked(text: str) -> str:
    return text.replace("hunter2", "***")


async def hire(board: Board) -> None:
    def work(unit: Unit) -> None:
        projects.declare_agent(unit, Agent("bob", "Bob", "rehearsal", max_concurrent=9))
        projects.assign(unit, "bob", "garden")

    await board.store.write(work)


async def working_in(board: Board, claimed: Claimed, folder: Path, host: str) -> None:
    """Say where a run works."""
    report = requests.StartedReport(
        run_id=claimed.run.id,
        fence=claimed.run.fence,
        seq=0,
        host_id=host,
        shim=ShimIdentity(2**22 + 1, 1, "boot"),
        workspace=str(folder),
        log_path="/nowhere/log",
        argv_masked=("true",),
    )
    await board.store.write(lambda unit: reports.record_started(unit, report))


async def bare(board: Board, tool: str, **arguments: Any) -> tuple[bytes, dict[str, Any]]:
    """What a coordinator reads that never shakes hands: the whole line, and the value in it."""
    async with connected(board) as client:
        given = {**arguments, "coordinator_token": board.coordinator_key}
        await client.send(tool_call(1, tool, **given))
        frame = await client.line()
        assert frame is not None
        return json.dumps(frame).encode(), json.loads(frame["result"]["content"][0]["text"])


async def test_people_keep_skills_and_give_them_to_agents(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as person:
        kept = (await person.tool("add_skill", archive_base64=archive(a=b"x")))["skill"]
        assert (kept["directory_name"], kept["description"], kept["files"]) == (
            "paint", "How walls are painted.", 2,
        )  # fmt: skip
        assert await person.code("add_skill", archive_base64=archive()) == "CONFLICT"
        assert await person.code("add_skill", archive_base64=archive(), replace=True) is None
        for wrong in ("nonsense!", base64.b64encode(b"none").decode(), ""):
            assert await person.code("add_skill", archive_base64=wrong) == "VALIDATION"
        named = {"archive_base64": archive(), "directory_name": "../up"}
        assert await person.code("add_skill", **named) == "VALIDATION"
        given = await person.tool("assign_skill", skill_id="paint", agent_id="an")
        assert (given["agent_id"], given["skill"]["agents"]) == ("ann", ["ann"])
        shown = (await person.tool("get_skill", skill_id="paint"))["skill"]
        assert shown["guide"] == GUIDE.decode()
        assert [one["path"] for one in shown["content"]] == ["SKILL.md"]
        assert await person.code("get_skill", skill_id="plaster") == "NOT_FOUND"
        taken = await person.tool("unassign_skill", skill_id="paint", agent_id="ann")
        assert taken["skill"]["agents"] == []
        assert await person.code("remove_skill", skill_id="paint") is None
        assert await person.tool("list_skills") == {"skills": []}


async def test_a_coordinator_of_ours_fetches_what_a_claim_named(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        async with connected(board, board.person) as person:
            kept = (await person.tool("add_skill", archive_base64=archive()))["skill"]
        async with connected(board, board.coordinator) as ours:
            answer = await ours.tool("fetch_skill", sha256=kept["sha256"])
            data = base64.b64decode(answer["archive_base64"])
            assert skills.digest(data) == kept["sha256"]
            assert await ours.code("fetch_skill", sha256="0" * 64) == "NOT_FOUND"


async def test_a_coordinator_of_another_make_gets_skills_in_the_profile_as_far_as_it_can_read(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board:
        async with connected(board, board.person) as person:
            for number, size in enumerate((3_000, 60_000, 30_000, 13_000)):
                more = archive(**{"more.bin": noise(size, number)})
                name = f"s{number}"
                await person.tool("add_skill", archive_base64=more, directory_name=name)
                await person.tool("assign_skill", skill_id=name, agent_id="ann")
        async with connected(board, board.coordinator) as newer:
            whole = await newer.tool("get_subordinate_profile", agent_id="ann")
            assert [one["directory_name"] for one in whole["skills"]] == ["s0", "s1", "s2", "s3"]
            assert "note" not in whole
            first = whole["skills"][0]
            assert set(first) == {"id", "name", "directory_name", "archive_base64"}
            with zipfile.ZipFile(io.BytesIO(base64.b64decode(first["archive_base64"]))) as packed:
                assert packed.read("SKILL.md") == GUIDE
        line, old = await bare(board, "get_subordinate_profile", agent_id="ann")
        assert len(line) < 64 * 1024
        assert [one["directory_name"] for one in old["skills"]] == ["s0", "s2"]
        assert "s1, s3" in old["note"]


async def test_an_agent_registers_by_text_by_folder_and_by_archive(short_dir: Path) -> None:
    folder = short_dir / "work"
    (folder / "wall").mkdir(parents=True)
    (folder / "wall" / "SKILL.md").write_text("Build it.")
    with zipfile.ZipFile(folder / "roof.zip", "w") as packed:
        packed.writestr("SKILL.md", "Cover it.")
    async with serving(short_dir) as board:
        claimed = await board.claim()
        await working_in(board, claimed, folder, host_id())
        async with connected(board, claimed.hello()) as agent:
            made = await agent.tool(
                "register_skill",
                skill_md_content="x",
                directory_name="d",
                name="n",
                description="t",
            )
            assert set(made) == {
                "success", "status", "skill_id", "name", "directory_name", "archive_size", "instruction",
            }  # fmt: skip
            assert (made["status"], made["name"], made["directory_name"]) == ("success", "n", "d")
            wall = await agent.tool("register_skill", folder_path="wall")
            roof = await agent.tool("register_skill", zip_file_path=str(folder / "roof.zip"))
            assert (wall["directory_name"], roof["directory_name"]) == ("wall", "roof")
            again = await agent.tool("register_skill", folder_path="wall")
            assert again["skill_id"] == wall["skill_id"]
            for way in ({}, {"folder_path": "wall", "zip_file_path": "roof.zip"}):
                assert await agent.code("register_skill", **way) == "VALIDATION"
            for way, code in (
                ({"folder_path": "../"}, "FORBIDDEN"),
                ({"folder_path": "/etc"}, "FORBIDDEN"),
                ({"folder_path": "none"}, "NOT_FOUND"),
                ({"zip_file_path": "wall/SKILL.md"}, "VALIDATION"),
                ({"skill_md_content": "x"}, "VALIDATION"),  # nobody says what it is called
                ({"skill_md_content": " ", "directory_name": "e"}, "VALIDATION"),
            ):
                assert await agent.code("register_skill", **way) == code, way


@pytest.mark.parametrize("host", ["elsewhere", None])
async def test_files_of_another_machine_are_not_read_and_the_agent_is_told_what_works(
    short_dir: Path, host: str | None
) -> None:
    (short_dir / "work").mkdir()
    (short_dir / "work" / "SKILL.md").write_text("x")
    async with serving(short_dir) as board:
        claimed = await board.claim()
        if host is not None:
            await working_in(board, claimed, short_dir / "work", host)
        async with connected(board, claimed.hello()) as agent:
            answer = await agent.tool("register_skill", folder_path=".", directory_name="a")
            assert answer["error"]["code"] == "VALIDATION"
            assert "skill_md_content" in answer["error"]["hint"]
            text = {"skill_md_content": "x", "directory_name": "a"}
            assert await agent.code("register_skill", **text) is None


async def test_a_hand_off_stands_in_the_task_and_its_agent_hears_of_it(short_dir: Path) -> None:
    async with serving(short_dir, mask=masked) as board:
        await hire(board)
        ann, other = await board.claim(), await board.claim("Other")
        async with (
            connected(board, ann.hello()) as mine,
            connected(board, other.hello()) as next_one,
        ):
            made = await mine.tool(
                "hand_over",
                summary="Half \x1b[2J done. The key is hunter2.",
                context="c",
                recommendations="r",
                task_id=other.run.task_id,
                to_agent_id="bob",
            )
            assert made["handoff"]["summary"] == "Half  done. The key is ***."
            await mine.tool("hand_over", summary="For anybody.", task_id=other.run.task_id)
            task = (await next_one.tool("get_my_task"))["task"]
            assert [one["summary"] for one in task["handoffs"]] == ["For anybody."]
            assert task["handoff"] == "Agent ann handed over:\n\nFor anybody."
            (waiting,) = (await next_one.tool("list_handoffs", task_id=other.run.task_id))[
                "handoffs"
            ]
            assert await mine.code("take_handoff", handoff_id=waiting["handoff_id"]) == "FORBIDDEN"
            taken = await next_one.tool("take_handoff", handoff_id=waiting["handoff_id"])
            assert taken["handoff"]["accepted_by"] == "ann"
            assert (await mine.tool("list_handoffs"))["handoffs"] == []
            assert (await mine.tool("get_my_task"))["task"]["handoff"] is None
            assert await mine.code("hand_over", summary=" \x00") == "VALIDATION"
            assert await mine.code("hand_over", summary="  ") == "VALIDATION"
            assert await mine.code("hand_over") == "VALIDATION"
        assert await board.count("notification.sent") == 1
        async with connected(board, board.person) as person:
            listed = (await person.tool("list_handoffs", agent_id="bob"))["handoffs"]
            assert [one["to_agent_id"] for one in listed] == ["bob", None]
            page = await person.tool("list_handoffs", limit=1, newest=True)
            assert [one["summary"] for one in page["handoffs"]] == ["For anybody."]
            rest = await person.tool("list_handoffs", newest=True, after=page["next"])
            assert [one["to_agent_id"] for one in rest["handoffs"]] == ["bob"]
            shown = await person.tool("get_handoff", handoff_id=listed[0]["id"])
            assert shown["handoff"] == listed[0]
            details = await person.tool("get_task", task_id=other.run.task_id, details=True)
            assert [one["id"] for one in details["handoffs"]] == [one["id"] for one in listed]


async def test_a_hand_off_sent_again_over_a_bridge_is_made_once(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        call = tool_call(7, "hand_over", summary="Once.")
        for hello in (claimed.hello(), claimed.hello(7)):
            async with connected(board, hello) as client:
                await client.send(call)
                await client.until(lambda frame: frame.get("id") == 7)
        assert await board.count("handoff.made") == 1


@pytest.mark.parametrize("name", ["create_handoff", "accept_handoff", "get_pending_handoffs"])
async def test_the_names_that_were_taken_away_answer_as_ever(short_dir: Path, name: str) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as old:
            await old.send(tool_call(1, name))
            frame = await old.until(lambda frame: frame.get("id") == 1)
            words = f"Authorization Error: Tool '{name}' is not registered in authorization system"
            assert frame["result"]["content"][0]["text"] == words
            assert frame["result"]["isError"] is True
        async with connected(board, claimed.hello()) as newer:
            hint = (await newer.tool(name))["error"]["hint"]
            assert any(one in hint for one in ("hand_over", "take_handoff", "list_handoffs"))
