"""What a model without a mind says next: the next step of a plan, by whatever tools its CLI offers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
    #: Tokens that its question is said to have had.
    used: int = 10


def choose(plan: list[Json], made: int, tools: list[Tool], body: Json) -> Turn:
    """Give the turn after so many calls.

    Args:
        plan: Steps, one a turn.
        made: How many calls the conversation holds.
        tools: What the CLI offers.
        body: Its request, which says where it works.
    """
    told = json.dumps(body)
    plan = [
        step
        for step in plan
        if ("until" not in step or step["until"] not in told) and step.get("only", "") in told
    ]
    if not tools or made >= len(plan):
        return Turn(DONE)
    step = plan[made]
    return replace(_turn(step, tools, body, told), used=step.get("used", Turn.used))


def _turn(step: Json, tools: list[Tool], body: Json, told: str) -> Turn:
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
    if any(tool.name == "run_typescript" for tool in tools):  # vibe takes no word more
        told = {"command": command}
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


def _folder(body: Json) -> str:
    """Where the CLI works: every one tells its model, each in its own words."""
    text = json.dumps(body)
    found = re.search(
        r"(?:orking directory: |<cwd>|current working directory is: |workspace directories?:\\n\s*-? *)(/[^\s\"\\<]+)",
        text,
    )
    return found[1] if found else "."
