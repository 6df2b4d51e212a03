"""AI Agent PM's server as it is seen on its socket: its encoder's bytes, its words, and bad habits.

    pm_server.py SOCKET STATE
    pm_server.py http://HOST:PORT/mcp STATE

STATE is a folder: `board.json` says what there is and how to answer (read again at each call), and
`calls.jsonl` gets a line for each call, as it came.

board.json: token, projects [{project_id, project_name, working_directory, agents[]}],
actions {"agent/project": [answer, …]} (the first is taken off the list; none left: hold no_work),
bad {"agent/project": how}, passkeys {agent: passkey}, tools (names that exist; absent: all),
profile {…}, settings {…}. `bad` is one of: silence, half, eof, nan, deep, duplicate, list, number, text,
unknown, missing, loud, refused, unsuccessful, huge, garbage, kick.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

OLD = {"invalidate_session"}
LOCK = threading.Lock()
SESSIONS: dict[str, tuple[str, str]] = {}
STARTED: dict[str, float] = {}
MIB = 1024 * 1024


def pretty(value: object, level: int = 0) -> str:
    """As the server's encoder writes: two spaces, ` : `, sorted keys, slashes escaped."""
    inner, outer = "  " * (level + 1), "  " * level
    if isinstance(value, dict) and value:
        pairs: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
        lines = [
            f'{inner}"{key}" : {pretty(item, level + 1)}' for key, item in sorted(pairs.items())
        ]
        return "{\n" + ",\n".join(lines) + f"\n{outer}}}"
    if isinstance(value, list):
        items: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
        if not items:
            return f"[\n\n{outer}]"
        return "[\n" + ",\n".join(inner + pretty(one, level + 1) for one in items) + f"\n{outer}]"
    return json.dumps(value, ensure_ascii=False).replace("/", "\\/")


class Server:
    def __init__(self, state: Path) -> None:
        self.state = state

    def board(self) -> dict[str, Any]:
        return json.loads((self.state / "board.json").read_text("utf-8"))

    def note(self, line: bytes) -> None:
        with LOCK, (self.state / "calls.jsonl").open("ab") as file:
            file.write(line.rstrip(b"\n") + b"\n")

    def serve(self, near: socket.socket) -> None:
        """One request after the other, as long as the connection lasts."""
        with near, near.makefile("rb") as lines:
            for line in lines:
                try:
                    request = json.loads(line)
                except ValueError:
                    continue  # never answered
                answer = self.answer(request, line)
                if answer is None:
                    continue
                try:
                    near.sendall(answer)
                except OSError:
                    return
                if not answer.endswith(b"\n"):
                    if answer.endswith(b"<eof>"):
                        return
                    time.sleep(3600)

    def answer(self, request: dict[str, Any], line: bytes) -> bytes | None:
        request_id, method = request.get("id"), request.get("method")
        if request_id is None:
            return None
        if method == "initialize":
            about: dict[str, Any] = {
                "capabilities": {"prompts": {}, "resources": {}, "tools": {}},
                "protocolVersion": "2024-11-05",
                "serverInfo": {"name": "mcp-server-pm", "version": "0.2.0"},
            }
            return self.line({"id": request_id, "jsonrpc": "2.0", "result": about})
        if method == "tools/list":
            return self.line({"id": request_id, "jsonrpc": "2.0", "result": {"tools": []}})
        if method != "tools/call":
            error = {"code": -32601, "message": f"Method not found: {method}"}
            return self.line({"error": error, "id": request_id, "jsonrpc": "2.0"})
        self.note(line)
        name, arguments = request["params"]["name"], request["params"]["arguments"]
        board = self.board()
        if "coordinator_token" in arguments and arguments["coordinator_token"] != board["token"]:
            return self.refusal(
                request_id,
                "Error: Invalid coordinator token. Set MCP_COORDINATOR_TOKEN environment variable.",
            )
        known = board.get("tools")
        handler = getattr(self, name, None)
        if handler is None or (known is not None and name not in known):
            text = f"Authorization Error: Tool '{name}' is not registered in authorization system"
            return self.refusal(request_id, text)
        how = board.get("bad", {}).get(f"{arguments.get('agent_id')}/{arguments.get('project_id')}")
        if name == "get_agent_action" and how:
            return self.badly(how, request_id)
        return self.result(request_id, handler(board, arguments))

    def line(self, message: object) -> bytes:
        text = json.dumps(message, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        return text.replace("/", "\\/").encode() + b"\n"

    def result(self, request_id: object, value: object) -> bytes:
        content = [{"text": pretty(value), "type": "text"}]
        return self.line({"id": request_id, "jsonrpc": "2.0", "result": {"content": content}})

    def refusal(self, request_id: object, text: str) -> bytes:
        content = [{"text": text, "type": "text"}]
        result = {"content": content, "isError": True}
        return self.line({"id": request_id, "jsonrpc": "2.0", "result": result})

    def badly(self, how: str, request_id: object) -> bytes | None:
        text = {
            "nan": '{"action": NaN}',
            "list": '["start"]',
            "number": "7",
            "text": "start",
            "unknown": '{"action": "dance", "reason": "music"}',
            "missing": '{"reason": "has_task_work"}',
            "duplicate": '{"action": "start", "action": "hold", "reason": "twice"}',
            "deep": '{"action":' + "[" * 100_000 + "]" * 100_000 + "}",
            "kick": '{"action": "start", "kick_command": "rm -rf /", "reason": "has_task_work"}',
        }.get(how)
        if text is not None:
            content = [{"text": text, "type": "text"}]
            return self.line({"id": request_id, "jsonrpc": "2.0", "result": {"content": content}})
        return self.raw(how, request_id) or self.failing(how, request_id)

    def raw(self, how: str, request_id: object) -> bytes | None:
        """What is no line of JSON at all, or only half of one."""
        if how == "silence":
            time.sleep(3600)
        begun = b'{"id":%d,"jsonrpc":"2.0","result":' % request_id
        deep = b"[" * 100_000 + b"]" * 100_000
        return {
            "half": begun + b'{"cont',
            "eof": begun + b'{"cont<eof>',
            "frame_nan": begun + b'{"content":[NaN]}}\n',
            "frame_deep": begun + deep + b"}\n",
            "garbage": b"this is no JSON at all\n",
        }.get(how)

    def failing(self, how: str, request_id: object) -> bytes | None:
        match how:
            case "loud":
                error = {"code": -32602, "message": "no such pair"}
                return self.line({"error": error, "id": request_id, "jsonrpc": "2.0"})
            case "refused":
                text = "Authorization Error: Tool 'get_agent_action' requires Coordinator privilege"
                return self.refusal(request_id, text)
            case "unsuccessful":
                return self.result(request_id, {"success": False, "error": "Agent not found: x"})
            case "huge":
                padding = "x" * (15 * MIB)
                value = {"action": "hold", "reason": "no_work", "padding": padding}
                return self.result(request_id, value)
            case _:
                return None

    # -- tools -----------------------------------------------------------------------------------

    def health_check(self, board: dict[str, Any], _arguments: object) -> object:
        return {
            "agent_count": 1,
            "project_count": len(board["projects"]),
            "status": "ok",
            "success": True,
        }

    def list_active_projects_with_agents(self, board: dict[str, Any], _arguments: object) -> object:
        return {"projects": board["projects"]}

    def get_agent_action(self, board: dict[str, Any], arguments: dict[str, Any]) -> object:
        key = f"{arguments['agent_id']}/{arguments['project_id']}"
        with LOCK:
            taken_file = self.state / f"taken-{key.replace('/', '-')}"
            taken = int(taken_file.read_text()) if taken_file.exists() else 0
            answers = board.get("actions", {}).get(key, [])
            if taken >= len(answers):
                return {"action": "hold", "reason": "no_work"}
            taken_file.write_text(str(taken + 1))
            return answers[taken]

    def register_execution_log_file(self, _: object, arguments: dict[str, Any]) -> object:
        return {
            "agent_id": arguments["agent_id"],
            "execution_log_id": "exec_fake0000001",
            "log_file_path": arguments["log_file_path"],
            "success": True,
            "task_id": arguments["task_id"],
        }

    def report_agent_error(self, _: object, arguments: dict[str, Any]) -> object:
        return {
            "agent_id": arguments["agent_id"],
            "message_id": "err_CE4C3CC1",
            "project_id": arguments["project_id"],
            "success": True,
        }

    def invalidate_session(self, _: object, arguments: dict[str, Any]) -> object:
        return {
            "agent_id": arguments["agent_id"],
            "deleted_agent_sessions": 0,
            "ended_conversations": 0,
            "ended_workflow_sessions": 0,
            "project_id": arguments["project_id"],
            "success": True,
        }

    def report_process_exit(self, board: object, arguments: dict[str, Any]) -> object:
        told: Any = self.invalidate_session(board, arguments)
        return {"action": "invalidated_all", **told}

    def get_app_settings(self, board: dict[str, Any], _: object) -> object:
        default = {
            "agent_base_prompt": None,
            "allow_remote_access": False,
            "pending_purpose_ttl_seconds": 300,
        }
        return board.get("settings", default)

    def get_subordinate_profile(self, board: dict[str, Any], arguments: dict[str, Any]) -> object:
        default: dict[str, Any] = {
            "id": arguments["agent_id"],
            "skills": [],
            "system_prompt": "You are a fake.",
        }
        return board.get("profile", default)

    def authenticate(self, board: dict[str, Any], arguments: dict[str, Any]) -> object:
        if board.get("passkeys", {}).get(arguments["agent_id"]) != arguments["passkey"]:
            return {
                "success": False,
                "error": "Invalid agent_id or passkey",
                "action": "exit",
                "instruction": "exit",
            }
        return {
            "success": True,
            "session_token": "sess_" + "0" * 32,
            "expires_in": 3600,
            "agent_name": "Fake",
            "instruction": "Call get_next_action.",
        }

    def get_next_action(self, _: object, _arguments: object) -> object:
        return {"action": "exit", "instruction": "You are done.", "state": "done"}


def web(server: Server, url: str) -> None:
    """The same over HTTP, as its web server does it: plain JSON, a bearer token from everybody."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with LOCK, (server.state / "connections").open("a") as file:
                file.write(f"{self.client_address[1]}\n")
            if self.headers["Authorization"] != f"Bearer {server.board()['token']}":
                self.tell(b'{"error":"Unauthorized"}\n', 401)
                return
            if self.path != "/mcp":
                self.tell(b"{}\n", 404)
                return
            request = json.loads(body)
            if request.get("id") is None:
                self.tell(b'{"jsonrpc":"2.0","result":{"acknowledged":true}}\n')
                return
            answer = server.answer(request, body) or b""
            if answer.endswith(b"\n"):
                self.tell(answer)
                return
            # half an answer: the rest never comes, or the connection ends
            self.tell(answer.removesuffix(b"<eof>"), missing=10)
            if not answer.endswith(b"<eof>"):
                time.sleep(3600)
            self.close_connection = True

        def tell(self, answer: bytes, status: int = 200, missing: int = 0) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer) + missing))
            self.end_headers()
            self.wfile.write(answer)
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - theirs
            pass

    parts = urlsplit(url)
    with ThreadingHTTPServer((parts.hostname or "", parts.port or 0), Handler) as listener:
        listener.daemon_threads = True
        (server.state / "up").touch()
        listener.serve_forever()


def main() -> None:
    place, state = sys.argv[1], Path(sys.argv[2])
    server = Server(state)
    if place.startswith("http://"):
        web(server, place)
        return
    path = Path(place)
    listener = socket.socket(socket.AF_UNIX)
    path.unlink(missing_ok=True)
    listener.bind(str(path))
    listener.listen(5)
    (state / "up").touch()
    while True:
        near = listener.accept()[0]
        threading.Thread(target=server.serve, args=(near,), daemon=True).start()


if __name__ == "__main__":
    main()
