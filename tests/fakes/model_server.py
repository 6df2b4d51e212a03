"""A model without a mind: serves four protocols of vendors on loopback, and plays a fixed plan of tool calls.

    model_server.py LOG [--plan PLAN.json] [--watch WORD]
                    [--fault status|hang|drop] [--after TURNS] [--times COUNT]
                    [--status 429] [--header 'retry-after: 3600'] [--body '{"error": …}']

It prints its port on a line and serves until it is killed. The plan is a list of steps, one a turn:
`{"tool": "authenticate", "arguments": {}}` calls the first tool whose name ends so, `{"write": "a.txt",
"text": "…"}` writes a file by whatever tool the CLI offers for that, `{"read": "SKILL.md"}` reads the
first path that it was told of and that ends so, `{"shell": "sleep 5"}` runs a command, and `{"say": "…",
"until": WORD}` ends the turn with these words unless the conversation holds that one. How many calls the
conversation already holds says which step is next, so nothing is kept between requests. After the plan it
says that it is done. A request that holds a `--watch`ed word is noted with it.

A fault begins `--after` so many calls of the conversation, and strikes `--times` requests (all, without):
`status` refuses them so, with these headers and this body in place of its own; `hang` never answers;
`drop` ends the connection in the middle of an answer. Each request is a line of JSON in LOG, with the
time it came as `at` (seconds of the epoch).
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

Json = dict[str, Any]
DONE = "All steps are done."
PLAN: list[Json] = [
    {"tool": "authenticate"},
    {"tool": "get_next_action"},
    {"tool": "get_my_task"},
    {"tool": "get_next_action"},
    {"write": "model.txt", "text": "written by a model\n"},
    {"tool": "get_next_action"},
    {"tool": "report_completed", "arguments": {"result": "success", "summary": "wrote model.txt"}},
    {"tool": "get_next_action"},
]


@dataclass(frozen=True)
class Tool:
    """A tool that the CLI offers; Codex puts those of a server into a namespace."""

    name: str
    namespace: str = ""
    is_free_text: bool = False


@dataclass(frozen=True)
class Turn:
    """What the model answers: one call, or words."""

    text: str = ""
    tool: Tool | None = None
    arguments: str = "{}"


def choose(plan: list[Json], made: int, tools: list[Tool], body: Json) -> Turn:
    """The turn after so many calls."""
    told = json.dumps(body)
    plan = [step for step in plan if "until" not in step or step["until"] not in told]
    if not tools or made >= len(plan):
        return Turn(DONE)
    step = plan[made]
    if "say" in step:
        return Turn(step["say"])
    if "shell" in step:
        return _shell(step["shell"], tools)
    if "write" in step:
        return _write(str(Path(_folder(body)) / step["write"]), step["text"], tools)
    if "read" in step:
        file = re.search(rf"(/[^\s\"\\]*{re.escape(step['read'])})", told)
        return _read(file[1] if file else "/nowhere", tools)
    tool = next((tool for tool in tools if tool.name.endswith(step["tool"])), None)
    if tool is None:
        return _program(step, tools)
    return Turn(tool=tool, arguments=json.dumps(step.get("arguments", {})))


def _program(step: Json, tools: list[Tool]) -> Turn:
    """Call a tool by a program that the CLI runs: vibe shows its model no tools of servers."""
    runner = next((tool for tool in tools if tool.name == "run_typescript"), None)
    if runner is None:
        return Turn(f"There is no tool {step['tool']}.")
    called = f"tools.mcp_coord.{step['tool']}({json.dumps(step.get('arguments', {}))})"
    code = f"async function main() {{ return await {called}; }}"
    return Turn(tool=runner, arguments=json.dumps({"code": code}))


def _write(path: str, text: str, tools: list[Tool]) -> Turn:
    patch = "".join(f"+{line}\n" for line in text.splitlines())
    patch = f"*** Begin Patch\n*** Add File: {path}\n{patch}*** End Patch\n"
    shell = f"cat > '{path}' <<'EOF'\n{text}EOF\n"
    has_programs = any(tool.name == "run_typescript" for tool in tools)
    ways: dict[str, object] = {
        "Write": {"file_path": path, "content": text},
        "write": {"filePath": path, "content": text},
        "write_file": {"path" if has_programs else "file_path": path, "content": text},
        "create": {"path": path, "file_text": text},
        "editor": {"path": path, "new_text": text},
        "apply_patch": {"input": patch},
        "exec_command": {"cmd": shell},
        "shell": {"command": ["sh", "-c", shell]},
        "edit": {"file_path": path, "old_string": "", "new_string": text},
    }
    for name, arguments in ways.items():
        tool = next((tool for tool in tools if tool.name == name), None)
        if tool:
            return Turn(tool=tool, arguments=patch if tool.is_free_text else json.dumps(arguments))
    return Turn("There is no tool to write with.")


def _read(path: str, tools: list[Tool]) -> Turn:
    ways: dict[str, Json] = {
        "Read": {"file_path": path},
        "read": {"filePath": path},
        "read_file": {"file_path": path},
        "exec_command": {"cmd": f"cat '{path}'"},
    }
    for name, arguments in ways.items():
        tool = next((tool for tool in tools if tool.name == name), None)
        if tool:
            return Turn(tool=tool, arguments=json.dumps(arguments))
    return Turn("There is no tool to read with.")


def _shell(command: str, tools: list[Tool]) -> Turn:
    told = {"command": command, "description": "as the plan says"}
    ways: dict[str, Json] = {
        "Bash": told,
        "bash": told,
        "run_shell_command": {**told, "is_background": False},
        "exec_command": {"cmd": command},
        "shell": {"command": ["sh", "-c", command]},
    }
    for name, arguments in ways.items():
        tool = next((tool for tool in tools if tool.name == name), None)
        if tool:
            return Turn(tool=tool, arguments=json.dumps(arguments))
    return Turn("There is no tool to run a command with.")


@dataclass
class Fault:
    """What goes wrong, from which turn on, and how often."""

    kind: str = ""
    after: int = 0
    times: int | None = None
    status: int = 429
    headers: tuple[tuple[str, str], ...] = ()
    body: Json | None = None

    def strikes(self, made: int) -> bool:
        """Whether it strikes a request with so many calls behind it; counts the times."""
        if not self.kind or made < self.after or self.times == 0:
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: ModelServer  # pyright: ignore[reportIncompatibleVariableOverride] - typeshed names the base

    def do_HEAD(self) -> None:
        self._send(200, "text/plain", b"")

    def do_GET(self) -> None:
        self.server.note({"get": self.path})
        self._json(200, {"data": [], "models": [], "object": "list", "has_more": False})

    def do_POST(self) -> None:
        body: Json = json.loads(
            self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}"
        )
        path = self.path.partition("?")[0]
        protocol = next((each for each in PROTOCOLS if each.serves(path)), None)
        if protocol is None:
            self.server.note({"post": path, "unknown": True})
            tokens = {"input_tokens": 1, "totalTokens": 1}
            self._json(200 if "count" in path.lower() else 404, tokens)
            return
        tools = protocol.tools(body)
        if tools and self.server.is_struck(made := protocol.made(body)):
            self.server.note({"post": path, "fault": self.server.fault.kind, "made": made})
            self._fail(protocol)
            return
        turn = choose(self.server.plan, protocol.made(body), tools, body)
        called = turn.tool.name if turn.tool else None
        self.server.note(
            {
                "post": path,
                "tools": len(tools),
                "call": called,
                "say": turn.text,
                "saw": [word for word in self.server.watched if word in json.dumps(body)],
            }
        )
        if protocol.is_streamed(path, body):
            events = b"".join(protocol.stream(turn, body))
            self._send(200, "text/event-stream", events)
        else:
            self._json(200, protocol.whole(turn, body))

    def _fail(self, protocol: Protocol) -> None:
        fault = self.server.fault
        if fault.kind == "hang":
            self.server.ended.wait()
        elif fault.kind == "drop":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b": the answer begins\n\n")
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            answer = fault.body or protocol.refusal(fault.status)
            self._json(fault.status, answer, fault.headers)

    def _json(self, status: int, answer: Json, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self._send(status, "application/json", json.dumps(answer).encode(), headers)

    def _send(
        self, status: int, kind: str, content: bytes, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's own name
        del format, args


class ModelServer(ThreadingHTTPServer):
    """The server and what it was told to do."""

    daemon_threads = True

    #: Words whose appearance in a request is noted.
    watched: tuple[str, ...] = ()

    def __init__(self, log: Path, plan: list[Json], fault: Fault) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan = plan
        self.fault = fault
        self.ended = threading.Event()
        self._log = log
        self._lock = threading.Lock()

    def is_struck(self, made: int) -> bool:
        with self._lock:
            return self.fault.strikes(made)

    def note(self, line: Json) -> None:
        with self._lock, self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**line, "at": time.time()}) + "\n")


def _folder(body: Json) -> str:
    """Where the CLI works: every one tells its model, each in its own words."""
    text = json.dumps(body)
    found = re.search(
        r"(?:orking directory: |<cwd>|current working directory is: |workspace directories?:\\n\s*-? *)(/[^\s\"\\<]+)",
        text,
    )
    return found[1] if found else "."


def _list(value: object) -> list[Json]:
    return cast("list[Json]", value) if isinstance(value, list) else []


def _sse(event: Json, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(event)}\n\n".encode()


class Anthropic:
    """Messages: claude."""

    def serves(self, path: str) -> bool:
        return path.endswith("/v1/messages")

    def is_streamed(self, path: str, body: Json) -> bool:
        del path
        return bool(body.get("stream"))

    def tools(self, body: Json) -> list[Tool]:
        return [Tool(str(tool.get("name"))) for tool in _list(body.get("tools"))]

    def made(self, body: Json) -> int:
        messages = _list(body.get("messages"))
        parts = (part for message in messages for part in _list(message.get("content")))
        return sum(part.get("type") == "tool_use" for part in parts)

    def refusal(self, status: int) -> Json:
        kinds = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
        kind = kinds.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": f"scripted {status}"}}

    def whole(self, turn: Turn, body: Json) -> Json:
        block: Json = {"type": "text", "text": turn.text}
        if turn.tool:
            number = self.made(body)
            block = {"type": "tool_use", "id": f"toolu_{number}", "name": turn.tool.name}
            block["input"] = json.loads(turn.arguments)
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body.get("model"),
            "content": [block],
            "stop_reason": "tool_use" if turn.tool else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 10, "output_tokens": 5},
        }

    def stream(self, turn: Turn, body: Json) -> Iterator[bytes]:
        whole = self.whole(turn, body)
        (block,) = whole["content"]
        begun: Json = {**block, "input": {}} if turn.tool else {**block, "text": ""}
        delta = {"type": "text_delta", "text": turn.text}
        if turn.tool:
            delta = {"type": "input_json_delta", "partial_json": turn.arguments}
        events: Iterable[Json] = (
            {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}},
            {"type": "content_block_start", "index": 0, "content_block": begun},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": whole["stop_reason"], "stop_sequence": None},
                "usage": whole["usage"],
            },
            {"type": "message_stop"},
        )
        for event in events:
            yield _sse(event, event["type"])


class Responses:
    """OpenAI's Responses: codex."""

    def serves(self, path: str) -> bool:
        return path.endswith("/responses")

    def is_streamed(self, path: str, body: Json) -> bool:
        del path
        return bool(body.get("stream"))

    def tools(self, body: Json) -> list[Tool]:
        found: list[Tool] = []
        for tool in _list(body.get("tools")):
            name = str(tool.get("name", ""))
            if tool.get("type") == "namespace":
                found += [Tool(str(each["name"]), name) for each in _list(tool.get("tools"))]
            elif name:
                found.append(Tool(name, is_free_text=tool.get("type") == "custom"))
        return found

    def made(self, body: Json) -> int:
        kinds = {"function_call", "custom_tool_call"}
        return sum(item.get("type") in kinds for item in _list(body.get("input")))

    def refusal(self, status: int) -> Json:
        return {"error": {"message": f"scripted {status}", "type": "scripted", "code": None}}

    def whole(self, turn: Turn, body: Json) -> Json:
        used = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
        return {
            "id": "resp_1",
            "object": "response",
            "output": [self._item(turn, body)],
            "usage": used,
        }

    def stream(self, turn: Turn, body: Json) -> Iterator[bytes]:
        whole = self.whole(turn, body)
        yield _sse({"type": "response.created", "response": {"id": whole["id"]}})
        yield _sse({"type": "response.output_item.done", "item": whole["output"][0]})
        yield _sse({"type": "response.completed", "response": whole})

    def _item(self, turn: Turn, body: Json) -> Json:
        if turn.tool is None:
            content = [{"type": "output_text", "text": turn.text}]
            return {"type": "message", "id": "m_1", "role": "assistant", "content": content}
        called: Json = {"name": turn.tool.name, "call_id": f"call_{self.made(body)}"}
        if turn.tool.namespace:
            called["namespace"] = turn.tool.namespace
        if turn.tool.is_free_text:
            return {**called, "type": "custom_tool_call", "input": turn.arguments}
        return {**called, "type": "function_call", "arguments": turn.arguments}


class Completions:
    """OpenAI's Chat Completions: opencode, qwen."""

    def serves(self, path: str) -> bool:
        return path.endswith("/chat/completions")

    def is_streamed(self, path: str, body: Json) -> bool:
        del path
        return bool(body.get("stream"))

    def tools(self, body: Json) -> list[Tool]:
        functions: list[Json] = [tool.get("function") or {} for tool in _list(body.get("tools"))]
        return [Tool(str(one["name"])) for one in functions if "name" in one]

    def made(self, body: Json) -> int:
        return sum(len(_list(one.get("tool_calls"))) for one in _list(body.get("messages")))

    def refusal(self, status: int) -> Json:
        return {"error": {"message": f"scripted {status}", "type": "scripted", "code": None}}

    def whole(self, turn: Turn, body: Json) -> Json:
        message: Json = {"role": "assistant", "content": turn.text or None}
        if turn.tool:
            call = {"name": turn.tool.name, "arguments": turn.arguments}
            called = {"index": 0, "id": f"call_{self.made(body)}", "type": "function"}
            message["tool_calls"] = [{**called, "function": call}]
        end = "tool_calls" if turn.tool else "stop"
        return {
            "id": "chatcmpl_1",
            "object": "chat.completion",
            "created": 1,
            "model": body.get("model"),
            "choices": [{"index": 0, "message": message, "finish_reason": end}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }

    def stream(self, turn: Turn, body: Json) -> Iterator[bytes]:
        whole = self.whole(turn, body)
        (choice,) = whole["choices"]
        chunk: Json = {**whole, "object": "chat.completion.chunk", "usage": None}
        begun = {"index": 0, "delta": choice["message"], "finish_reason": None}
        ended: Json = {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}
        yield _sse({**chunk, "choices": [begun]})
        yield _sse({**chunk, "choices": [ended]})
        yield _sse({**chunk, "choices": [], "usage": whole["usage"]})
        yield b"data: [DONE]\n\n"


class Gemini:
    """generateContent: gemini."""

    def serves(self, path: str) -> bool:
        return path.endswith((":generateContent", ":streamGenerateContent"))

    def is_streamed(self, path: str, body: Json) -> bool:
        del body
        return path.endswith(":streamGenerateContent")

    def tools(self, body: Json) -> list[Tool]:
        declared = (_list(tool.get("functionDeclarations")) for tool in _list(body.get("tools")))
        return [Tool(str(each["name"])) for some in declared for each in some]

    def made(self, body: Json) -> int:
        contents = _list(body.get("contents"))
        return sum("functionCall" in part for each in contents for part in _list(each.get("parts")))

    def refusal(self, status: int) -> Json:
        return {"error": {"code": status, "message": f"scripted {status}", "status": "SCRIPTED"}}

    def whole(self, turn: Turn, body: Json) -> Json:
        config: Json = body.get("generationConfig") or {}
        part: Json = {"text": turn.text}
        if turn.tool:
            part = {"functionCall": {"name": turn.tool.name, "args": json.loads(turn.arguments)}}
        elif config.get("responseMimeType") == "application/json":
            # what it asks a small model on the side: which model is to answer, and who speaks next
            asides = {"model_choice": "flash", "complexity_score": 1, "complexity_reasoning": "-"}
            part = {"text": json.dumps({**asides, "reasoning": "-", "next_speaker": "user"})}
        return {
            "candidates": [
                {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
            ],
            "usageMetadata": {
                "promptTokenCount": 10,
                "candidatesTokenCount": 5,
                "totalTokenCount": 15,
            },
        }

    def stream(self, turn: Turn, body: Json) -> Iterator[bytes]:
        yield _sse(self.whole(turn, body))


Protocol = Anthropic | Responses | Completions | Gemini
PROTOCOLS: tuple[Protocol, ...] = (Anthropic(), Responses(), Completions(), Gemini())


def _header(text: str) -> tuple[str, str]:
    name, _, value = text.partition(":")
    return name.strip(), value.strip()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("log", type=Path)
    parser.add_argument("--plan", type=Path)
    parser.add_argument("--fault", choices=["status", "hang", "drop"], default="")
    parser.add_argument("--after", type=int, default=0)
    parser.add_argument("--times", type=int)
    parser.add_argument("--status", type=int, default=429)
    parser.add_argument("--header", type=_header, action="append", default=[])
    parser.add_argument("--body", type=json.loads)
    parser.add_argument("--watch", action="append", default=[])
    given = parser.parse_args()
    plan = json.loads(given.plan.read_text("utf-8")) if given.plan else PLAN
    headers = tuple(given.header)
    fault = Fault(given.fault, given.after, given.times, given.status, headers, given.body)
    server = ModelServer(given.log, plan, fault)
    server.watched = tuple(given.watch)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
