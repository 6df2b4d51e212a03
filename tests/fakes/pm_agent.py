"""An agent's program as AI Agent PM's coordinators start it: an MCP client behind `nc -U`, or over HTTP.

It finds its server in `--mcp-config` (inline, or a file), its credentials in the environment, and does
what the first word of its task says: succeed, fail, block, silent (leaves without a report), hang, or
quota. An agent whose id begins with `dies` ends before it authenticates. A manager has two parts done, waits
for them without staying, and reports when it is started again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any


def main() -> int:
    if os.environ["AGENT_ID"].startswith("dies"):
        print("Error: this program does not start here", flush=True)
        return 4
    given = sys.argv[sys.argv.index("--mcp-config") + 1]
    config = json.loads(given if given.startswith("{") else Path(given).read_text("utf-8"))
    server = config["mcpServers"]["agent-pm"]
    if "url" in server:
        return Agent(None, server).work()
    with subprocess.Popen(
        [server["command"], *server["args"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        code = Agent(process, server).work()
        process.kill()
    return code


class Agent:
    def __init__(self, process: subprocess.Popen[bytes] | None, server: dict[str, Any]) -> None:
        self._process = process
        self._server = server
        self._session: dict[str, str] = {}
        self._last_id = 0
        self._token = ""

    def work(self) -> int:
        about = {"name": "pm-agent", "version": "1"}
        params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": about}
        self._request("initialize", params)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        self._request("tools/list", {})
        known = self._tool(
            "authenticate",
            agent_id=os.environ["AGENT_ID"],
            passkey=os.environ["AGENT_PASSKEY"],
            project_id=os.environ["PROJECT_ID"],
        )
        self._token = known["session_token"]
        task: dict[str, Any] = {}
        while True:
            step = self._tool("get_next_action")
            print(step["action"], flush=True)
            match step["action"]:
                case "get_task":
                    task = self._tool("get_my_task")["task"]
                case "work":
                    self._tool("report_progress", progress=50)
                case "report_completion":
                    code = self._finish(task["description"].split()[0])
                    if code is not None:
                        return code
                case "get_pending_messages":
                    asked = self._tool("get_pending_messages")["pending_messages"]
                    said = " ".join(one["content"] for one in asked)
                    self._tool(
                        "send_message", target_agent_id="person", content=f"You said: {said}"
                    )
                case "wait_for_messages":
                    time.sleep(step["wait_seconds"])
                case "logout" | "exit" | "wait":
                    self._tool("logout")
                    return 0
                case other:
                    if not self._manage(other, task, step):
                        print("Error: unknown action", other, flush=True)
                        return 9

    def _manage(self, action: str, task: dict[str, Any], step: dict[str, Any]) -> bool:
        """Do what a manager is told; False where it is nothing for managers."""
        match action:
            case "create_subtasks":
                first = {"local_id": "a", "title": "Lay the floor", "description": "succeed"}
                second = {"local_id": "b", "title": "Paint the wall", "description": "succeed"}
                parts = [first, second | {"dependencies": ["a"]}]
                self._tool("create_tasks_batch", parent_task_id=task["task_id"], tasks=parts)
            case "assign":
                part = next(one for one in step["subtasks"] if not one["assignee_id"])
                whom = step["available_workers"][0]["id"]
                self._tool("assign_task", task_id=part["task_id"], assignee_id=whom)
            case "situational_awareness":
                self._tool("select_action", action="wait")
            case "completion_check":
                self._tool("select_action", action="complete")
            case _:
                return False
        return True

    def _finish(self, what: str) -> int | None:
        """Report, and go on; or leave with an exit status."""
        match what:
            case "succeed":
                self._tool("report_completed", result="success", summary="it is done")
            case "fail":
                self._tool("report_completed", result="failed", summary="it cannot be done")
            case "block":
                self._tool("report_completed", result="blocked", summary="somebody must help")
            case "hang":
                time.sleep(600)
            case "quota":
                print("Error: quota exhausted, please retry after 70 seconds", flush=True)
                return 1
            case _:
                return 0
        return None

    def _tool(self, name: str, **arguments: object) -> dict[str, Any]:
        if self._token:
            arguments["session_token"] = self._token
        result = self._request("tools/call", {"name": name, "arguments": arguments})
        text = result["content"][0]["text"]
        if result.get("isError"):
            print("Error:", text, flush=True)
            raise SystemExit(3)
        return json.loads(text)

    def _request(self, method: str, params: object) -> dict[str, Any]:
        self._last_id += 1
        frame = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params}
        if self._process is None:
            return self._post(frame)["result"]
        assert self._process.stdout is not None
        self._send(frame)
        while True:
            line = self._process.stdout.readline()
            if not line:
                print("Error: the server went away", flush=True)
                raise SystemExit(5)
            message = json.loads(line)
            if message.get("id") == self._last_id:
                return message["result"]

    def _send(self, message: object) -> None:
        if self._process is None:
            self._post(message)
            return
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def _post(self, message: object) -> dict[str, Any]:
        """Send one message as hosts that know Streamable HTTP do; the answer, in one piece or a stream."""
        headers = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            **self._server["headers"],
            **self._session,
        }
        request = urllib.request.Request(
            self._server["url"], json.dumps(message).encode(), headers, method="POST"
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            text = answer.read().decode()
            if answer.headers.get("mcp-session-id"):
                self._session = {"mcp-session-id": answer.headers["mcp-session-id"]}
        lines = [line[5:] for line in text.splitlines() if line.startswith("data:")]
        text = next((line for line in reversed(lines) if line.strip()), text)
        return json.loads(text) if text.strip() else {}


if __name__ == "__main__":
    sys.exit(main())
