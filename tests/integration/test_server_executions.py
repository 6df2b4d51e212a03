"""What agents may ask about executions, and the names that old clients still call. A real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.server.removed import INSTEAD
from aiagent_coordinator.store import legacy
from support.board import Board, Raw, connected, serving
from support.pm import PAIR, ask, authenticate, start, value

NOT_REGISTERED = "Authorization Error: Tool '{}' is not registered in authorization system"


async def bare(board: Board, name: str, **arguments: Any) -> dict[str, Any]:
    """A call of somebody who never shakes hands and shows nothing."""
    params = {"name": name, "arguments": arguments}
    async with await anyio.connect_unix(board.path) as stream:
        client = Raw(stream)
        await client.send({"jsonrpc": "2.0", "method": "tools/call", "params": params, "id": 1})
        answer = await client.line()
        assert answer is not None
        return answer["result"]


async def test_the_removed_names_are_answered_in_the_words_of_their_server(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        await start(board)
        async with connected(board) as agent:
            token = await authenticate(agent)
        assert len(INSTEAD) == 10
        for name in INSTEAD:
            as_coordinator = (await ask(board, name))["result"]
            # a stranger's call of a name that persons have is refused before it is looked at
            as_agent = await bare(board, name, session_token=token)
            for result in (as_coordinator, as_agent):
                assert result["isError"]
                assert result["content"][0]["text"] == NOT_REGISTERED.format(name)


async def test_a_newer_client_is_told_what_to_call_instead(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as agent:
            answer = await agent.tool("get_pending_tasks")
            assert answer["error"]["message"] == "Unknown tool: get_pending_tasks"
            assert "get_my_task" in answer["error"]["hint"]
            assert "loud" in await agent.tool("get_pending_whatever")
        async with connected(board, board.person) as person:
            assert (await person.tool("list_agents"))["agents"], "persons have this one"


async def test_an_agent_reads_what_its_own_runs_printed_and_no_others(short_dir: Path) -> None:
    state = StateDir(short_dir / "state")

    def mask(text: str) -> str:
        return text.replace("hunter2", "***")

    async with serving(short_dir, state=state, mask=mask) as board:
        mine, other = await board.claim(), await board.claim("Another task")
        folder = state.run(mine.run.id)
        folder.mkdir(parents=True)
        lines = [f"line {number} hunter2" for number in range(150)]
        (folder / "out").write_text("\n".join(lines) + "\n", encoding="utf-8")
        async with connected(board, mine.hello()) as agent:
            log = await agent.tool("get_execution_log", execution_id=mine.run.id)
            assert (log["status"], log["exit_code"]) == ("running", None)
            assert log["log_content"][-1] == "line 149 ***"
            assert (log["returned_lines"], log["total_lines"]) == (100, 150)
            assert log["truncated"]
            nothing = await agent.tool("get_execution_log", execution_id=other.run.id)
            assert nothing["error"] == "execution_log_not_found", "it printed nothing"
            assert await agent.code("get_execution_log", execution_id="run_x") == "NOT_FOUND"
        await board.exited(mine.run)
        async with connected(board, other.hello()) as agent:
            ended = await agent.tool("get_execution_log", execution_id=mine.run.id)
            assert ended["exit_code"] == 0, "as its coordinator saw it"


async def test_an_exit_code_is_taken_from_an_agent_only_where_nobody_else_tells_it(
    short_dir: Path,
) -> None:
    told = {"exit_code": 7, "duration_seconds": 3, "log_file_path": "/etc/passwd"}
    async with serving(short_dir) as board:
        await start(board)
        supervised = await board.claim("Another task")
        async with connected(board) as agent:
            token = await authenticate(agent)
            begun = await agent.tool("report_execution_start", session_token=token)
            run_id = begun["execution_log_id"]
            done = await agent.tool(
                "report_execution_complete",
                execution_log_id=run_id,
                error_message="it broke",
                session_token=token,
                **told,
            )
            assert (done["exit_code"], done["error_message"]) == (7, "it broke")
            assert done["log_file_path"] is None
            log = await agent.tool("get_execution_log", execution_id=run_id, session_token=token)
            assert not log["success"], "an agent does not say what the server reads"
        await value(board, "invalidate_session", **PAIR)
        assert (await board.run(run_id)).exit_code == 7
        async with connected(board, supervised.hello()) as agent:
            own = supervised.run.id
            done = await agent.tool("report_execution_complete", execution_log_id=own, **told)
            assert done["exit_code"] is None
        assert not legacy.is_legacy(supervised.run)


@pytest.mark.parametrize("wrong", ["7", None, 2**31, True])
async def test_an_exit_code_is_a_small_number(short_dir: Path, wrong: object) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as agent:
            told = {"execution_log_id": claimed.run.id, "duration_seconds": 1.5}
            code = await agent.code("report_execution_complete", exit_code=wrong, **told)
            assert code == "VALIDATION"
