"""The page of the wire lists exactly the tools that there are, for whom, with their arguments."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.boards import AGENT_TOOLS as THEIRS
from aiagent_coordinator.server.boards import TOOLS
from aiagent_coordinator.server.tools import Tool
from aiagent_coordinator.store import requests
from aiagent_coordinator.wire.protocol import AGENT_TOOLS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "wire.md"
_SAID_ONCE = {"agent_id", "project_id", "task_id", "run_id", "session_token"}


def _role(tool: Tool) -> str:
    """Under whose chapter a tool stands: that of the first role that may call it."""
    return next(role.value for role in Role if role in tool.roles)


#: Answers whose fields are declared.
_ANSWERS: dict[str, type[Any]] = {
    "list_agent_actions": requests.ActionsAnswer,
    "claim_run": requests.ClaimAnswer,
    "report_run_started": requests.StartedAnswer,
    "renew_runs": requests.RenewAnswer,
    "report_run_exit": requests.ExitAnswer,
    "report_run_result": requests.ResultAnswer,
}


#: Every tool that somebody may call; one name can be an agent's and a person's.
EVERY: dict[str, Tool] = {
    **{f"agent {name}": tool for name, tool in THEIRS.items()},
    **{f"{_role(tool)} {name}": tool for name, tool in TOOLS.items()},
}


def _sections() -> dict[str, str]:
    """Role and tool → its text."""
    found: dict[str, str] = {}
    for chapter in PAGE.read_text("utf-8").split("\n## ")[1:]:
        role = chapter.splitlines()[0].split()[-1]
        for part in chapter.split("\n### ")[1:]:
            name = part.splitlines()[0].strip("`")
            found[f"{role} {name}"] = part
    return found


def _listed(text: str, title: str) -> dict[str, bool]:
    """What a list of the page names: name → whether it must be there."""
    _, _, rest = text.partition(f"\n{title}:\n")
    items = re.findall(r"^- `(\w+)(\??)`", rest.split("\n\n")[0], re.MULTILINE)
    return {name: not optional for name, optional in items}


def test_the_page_lists_the_tools_there_are():
    """Nobody should have to read the code to find a tool."""
    assert set(_sections()) == set(EVERY)


def test_programs_are_told_of_every_tool_of_an_agent():
    """One that is told tool by tool what needs no asking would hang at a tool that was left out."""
    assert set(AGENT_TOOLS) == set(THEIRS)
    assert {tool.roles for tool in THEIRS.values()} == {frozenset({Role.AGENT})}


@pytest.mark.parametrize("name", sorted(EVERY))
def test_the_arguments_on_the_page_are_those_of_the_schema(name: str):
    """An argument that is missing on the page, or optional in only one of them, misleads callers."""
    schema = EVERY[name].info.input_schema
    required = schema.get("required", [])
    expected = {key: key in required for key in schema.get("properties", {})}
    if Role.AGENT in EVERY[name].roles:
        # said once for all of them
        expected = {key: must for key, must in expected.items() if key not in _SAID_ONCE}
    assert _listed(_sections()[name], "Arguments") == expected


@pytest.mark.parametrize("name", sorted(_ANSWERS))
def test_the_answers_on_the_page_are_those_of_the_code(name: str):
    """What a coordinator may rely on is written down."""
    expected = {field.name for field in dataclasses.fields(_ANSWERS[name])}
    assert set(_listed(_sections()[f"coordinator {name}"], "Answer")) == expected
