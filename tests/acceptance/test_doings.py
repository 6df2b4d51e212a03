"""What a run does is seen while it runs, by its own program's words, and stays when it is over."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.house import House, house, until

#: Speaks as claude does: the lines of `LINES` up to the first empty one, then waits, then the rest.
SPEAKER = """\
#!{python} -S
import os, sys, time
for part in open({lines!r}).read().split("\\n\\n"):
    while part.startswith("wait "):
        path, _, part = part.removeprefix("wait ").partition("\\n")
        while not os.path.exists(path):
            time.sleep(0.05)
    print(part.strip(), flush=True)
sys.exit({code})
"""
SYSTEM: dict[str, Any] = {"type": "system", "session_id": "s-1"}
INIT: dict[str, Any] = {**SYSTEM, "subtype": "init", "tools": [], "mcp_servers": []}
RETRY = {**SYSTEM, "subtype": "api_retry", "attempt": 2, "max_retries": 4, "error_status": 529}
SHRUNK = {"trigger": "auto", "pre_tokens": 150_000, "post_tokens": 20_000}
COMPACT = {**SYSTEM, "subtype": "compact_boundary", "compact_metadata": SHRUNK}
LIMIT = {"status": "allowed_warning", "resetsAt": 1795330800, "rateLimitType": "five_hour"}
END: dict[str, Any] = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "result": "done",
    "total_cost_usd": 0.5,
    "usage": {"input_tokens": 100, "output_tokens": 20},
    "modelUsage": {"m": {"contextWindow": 200_000}},
}


#: Says who it is as our agents do, by the server's bridge.
CALLS = """
import json, subprocess
config = json.load(open(sys.argv[sys.argv.index("--mcp-config") + 1]))["mcpServers"]["coord"]
bridge = subprocess.Popen([config["command"], *config["args"]], stdin=subprocess.PIPE,
    stdout=subprocess.PIPE, env={**os.environ, **config.get("env", {})})
def ask(number, method, params):
    frame = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    bridge.stdin.write(json.dumps(frame).encode() + b"\\n"); bridge.stdin.flush()
    while json.loads(bridge.stdout.readline()).get("id") != number: pass
client = {"name": "x", "version": "1"}
about = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
ask(1, "initialize", about)
ask(2, "tools/call", {"name": "authenticate", "arguments": {}})
bridge.stdin.close(); bridge.wait()
"""


def says(*parts: dict[str, Any], used: int = 10) -> dict[str, Any]:
    usage = {"input_tokens": used, "output_tokens": 5}
    message = {"id": f"m{used}", "content": list(parts), "usage": usage}
    return {"type": "assistant", "message": message, "parent_tool_use_id": None}


def call(command: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": command}}


def gives(text: str) -> dict[str, Any]:
    part = {"type": "tool_result", "tool_use_id": "t1", "content": text}
    return {"type": "user", "message": {"content": [part]}}


@contextmanager
def speaking(folder: Path, *parts: list[dict[str, Any]], code: int = 0) -> Generator[House]:
    """A house whose worker's program prints each part when the file of that number appears."""
    told = folder / "lines"
    blocks = ["\n".join(json.dumps(line) for line in part) for part in parts]
    waits = [f"wait {folder}/go{number}\n{block}" for number, block in enumerate(blocks[1:], 1)]
    told.write_text("\n\n".join([blocks[0], *waits]), encoding="utf-8")
    program = folder / "speaker"
    program.write_text(SPEAKER.format(python=sys.executable, lines=str(told), code=code))
    program.chmod(0o755)
    with house(folder) as home:
        speaker = {"like": "claude", "cli_command": str(program)}
        home.write(ai_providers={"speaker": speaker}, agents={"worker": {"provider": "speaker"}})
        home.ready()
        yield home


def test_what_a_run_does_is_seen_while_it_runs(short_dir: Path):
    parts: list[list[dict[str, Any]]] = [
        [INIT, says(call("pytest -q"), used=40_000)],
        [gives("3 passed"), RETRY, {"type": "rate_limit_event", "rate_limit_info": LIMIT}],
        [COMPACT, says({"type": "text", "text": "Well."}, used=20_000), END],
    ]
    with speaking(short_dir, *parts) as home:
        task = home.add("Do it", max_attempts="1")["id"]

        def run_that(activity: str) -> dict[str, Any] | None:
            found = next((one for one in home.runs(task) if one["activity"] == activity), None)
            return found and home.json("run", "show", found["id"])

        run = until("it says that it tests", lambda: run_that("Bash: pytest -q"))
        assert (run["context"]["used"], run["context"]["limit"]) == (40_005, None)
        assert run["counts"]["tool_calls"] == 1
        assert (
            f"Run {run['id']} of worker: Bash: pytest -q (40005 tokens" in home.run("status").stdout
        )
        assert "Bash: pytest -q" in home.run("task", "show", task).stdout
        assert "running: Bash: pytest -q" in home.run("explain", task).stdout
        (short_dir / "go1").touch()
        waiting = "waiting for its model (try 2 of 4, 529)"
        run = until("it says that it waits", lambda: run_that(waiting))
        (limit,) = run["limits"]
        assert (limit["window"], limit["status"]) == ("five_hour", "warning")
        # a life after ours reads it again, and says nothing twice
        home.processes[-1].kill()
        home.processes[-1].wait()
        home.ready()
        (short_dir / "go2").touch()
        home.last(task)
        run = home.json("run", "show", run["id"])
        assert (run["activity"], run["compactions"]) == (None, 1)
        assert run["context"]["limit"] == 200_000
        happened = home.ask("list_events", task_id=task)["events"]
        told = [one["data"] for one in happened if one["action"] == "run.compacted"]
        assert told == [{"number": 1, "text": "auto, 150000 tokens to 20000"}]
        assert "its context was shortened (auto, 150000" in home.task(task)["handoff"]
        steps = home.run("logs", "--steps", task, "--json").stdout.splitlines()
        (step,) = [json.loads(line) for line in steps]
        assert (step["tool"], step["result"]) == ("Bash", "3 passed")
        table = home.run("logs", "--steps", run["id"]).stdout
        assert "pytest -q" in table
        log = home.run("logs", "--activity", task).stdout
        assert "tool    Bash: pytest -q" in log
        assert log.count("context shortened") == 1
        assert "run     ended: failed" in log


def test_a_program_that_ends_with_a_question_asks_a_person(short_dir: Path):
    question = {"type": "text", "text": "I see two files.\n\nWhich one do you mean?"}
    with speaking(short_dir, [INIT, says(question), {**END, "result": question["text"]}]) as home:
        # it called our tools before: else they would be what is missing
        program = short_dir / "speaker"
        text = program.read_text().replace("import os, sys, time", f"import os, sys, time\n{CALLS}")
        program.write_text(text)
        task = home.add("Do it", max_attempts="1")["id"]
        waiting = until("it waits", lambda: _waiting(home, task))
        assert waiting["question"]["text"] == "Which one do you mean?"
        run = home.runs(task)[0]
        assert (run["outcome"], run["reason"]) == ("suspended", "asked")


def _waiting(home: House, task: str) -> dict[str, Any] | None:
    found = home.json("task", "show", task)
    return found if found["status"] == "waiting" else None


def test_a_run_that_says_that_it_failed_is_no_success_whatever_its_exit_code(short_dir: Path):
    error = {**END, "is_error": True, "subtype": "error_during_execution", "result": ""}
    with speaking(short_dir, [INIT, error]) as home:
        task = home.add("Do it", max_attempts="1")["id"]
        run = home.last(task)
        assert run["outcome"] == "failed"
        assert "error_during_execution" in (run["error"] or "")
