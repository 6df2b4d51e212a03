"""A passkey lets an agent's process outside its run's tree in, and is seen nowhere; real programs."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.board import content_of
from support.house import HOLD, PATIENCE_SECONDS, House, house, living, script, until

PASSKEY = "open-sesame-0815"
REPORT = {"report": {"result": "success", "summary": "done"}}


class Stranger:
    """A client that says nothing of itself but what its calls say."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._lines = stream.makefile("rb")
        self._last_id = 0

    def call(self, name: str, **arguments: str) -> dict[str, Any]:
        self._last_id += 1
        params = {"name": name, "arguments": arguments}
        asked = {"jsonrpc": "2.0", "id": self._last_id, "method": "tools/call", "params": params}
        self._stream.sendall(json.dumps(asked).encode() + b"\n")
        while True:
            answer = json.loads(self._lines.readline())
            if answer.get("id") == self._last_id:
                return content_of(answer["result"])

    def code(self, name: str, **arguments: str) -> str | None:
        return self.call(name, **arguments).get("error", {}).get("code")


@contextmanager
def stranger(home: House) -> Generator[Stranger]:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(PATIENCE_SECONDS)
        stream.connect(str(home.socket))
        yield Stranger(stream)


def running(home: House, task_id: str) -> dict[str, Any]:
    """Wait until the task's agent has authenticated; its run."""

    def found() -> dict[str, Any] | None:
        runs = [run for run in home.runs(task_id) if run["phase"] == "running"]
        return home.json("run", "show", runs[0]["id"]) if runs else None

    return until("its agent is there", lambda: (run := found()) and run["authenticated_at"] and run)


def test_a_passkey_makes_a_connection_that_of_its_agents_run(short_dir: Path):
    """Wrong, missing, another agent's, or without a run: refused, and nothing is told apart."""
    with house(short_dir) as home:
        home.write(
            agents={
                "worker": {"provider": "rehearsal", "passkey": PASSKEY},
                "open": {"provider": "rehearsal"},
            },
            projects=[{"id": "app", "path": str(home.repo)}],
        )
        home.ready()
        with stranger(home) as early:
            assert early.code("authenticate") == "UNAUTHORIZED"
            said = early.call("authenticate", agent_id="worker", passkey=PASSKEY)["error"][
                "message"
            ]
            assert "no run of this agent is live" in said
        task = home.add("Hold", script(HOLD, REPORT))["id"]
        run = running(home, task)
        with stranger(home) as client:
            refusals = {
                client.call("authenticate", agent_id=agent, passkey=passkey)["error"]["message"]
                for agent, passkey in (
                    ("worker", "wrong"), ("open", PASSKEY), ("nobody", PASSKEY), ("worker", ""),
                )
            }  # fmt: skip
            assert refusals == {"the agent's id or its passkey is wrong (exit)"}
            assert client.code("get_my_task") == "UNAUTHORIZED"
            known = client.call("authenticate", agent_id="worker", passkey=PASSKEY)
            assert (known["run_id"], known["task_id"]) == (run["id"], task)
            assert client.call("get_my_task")["task"]["title"] == "Hold"
            assert client.code("list_runs") == "FORBIDDEN"
        home.go(task)
        assert home.finished(task)["status"] == "succeeded"


def test_a_passkey_stands_nowhere_in_the_clear(short_dir: Path):
    """Not in a file of ours, a command line, an environment, a prompt or a log; masked if printed."""
    with house(short_dir) as home:
        home.write(agents={"worker": {"provider": "rehearsal", "passkey": PASSKEY}})
        home.ready()
        leak = {"run": {"argv": ["sh", "-c", f"printf 'got %s{PASSKEY[4:]}\\n' open"]}}
        task = home.add("Hold", script(leak, HOLD, REPORT))["id"]
        run = running(home, task)
        with stranger(home) as client:
            assert client.code("authenticate", agent_id="worker", passkey=PASSKEY) is None
        needle = PASSKEY.encode()
        for pid in living(home):
            for name in ("cmdline", "environ"):
                assert needle not in _read(Path("/proc") / str(pid) / name), (pid, name)
        raw = home.state / "run" / run["id"] / "out"
        until("it was printed", lambda: needle in raw.read_bytes())
        home.go(task)
        assert home.finished(task)["status"] == "succeeded"
        there = [Path(folder) / name for folder, _, names in os.walk(home.state) for name in names]
        files = [file for file in there if file.is_file()]
        assert len(files) > 10
        # what its own program printed is kept as it is, for its owner alone; all that is made of it is not
        assert [file for file in files if needle in _read(file)] == [raw]
        log = Path(home.runs(task)[0]["log_path"]).read_text("utf-8")
        assert "got [masked]" in log
        assert PASSKEY not in home.log_text()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
