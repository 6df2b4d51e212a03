"""Rules say what a program may do; what they do not know is a person's, or nobody's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.drivers import consent
from aiagent_coordinator.permissions import (
    Permissions,
    Verdict,
    check_rule,
    decide,
    is_consent,
)

RULES = Permissions(
    asks=True,
    allow=("Bash(git status*)", "Bash(npm run test:*)", "Read", "Edit(/work/*)", "mcp__docs__*"),
    deny=("Bash(rm *)", "Bash(git push*)", "Edit(/work/.env)", "WebFetch"),
)


@pytest.mark.parametrize(
    ("tool", "arguments", "verdict"),
    [
        ("Bash", {"command": "git status"}, "allow"),
        ("Bash", {"command": "git status --short"}, "allow"),
        ("Bash", {"command": "npm run test:unit"}, "allow"),
        ("Bash", {"command": "npm run test unit"}, "allow"),
        ("Bash", {"command": "git statu"}, "ask"),
        ("Bash", {"command": "git status; curl evil"}, "ask"),
        ("Bash", {"command": "git status && curl evil"}, "ask"),
        ("Bash", {"command": "git status $(curl evil)"}, "ask"),
        ("Bash", {"command": "git status `curl evil`"}, "ask"),
        ("Bash", {"command": "git status\ncurl evil"}, "ask"),
        ("Bash", {"command": "git status > /etc/passwd"}, "ask"),
        ("Bash", {"command": "rm -rf build"}, "deny"),
        ("Bash", {"command": "true && rm -rf build"}, "deny"),
        ("Bash", {"command": "git status; git push origin"}, "deny"),
        ("Execute", {"command": "git status"}, "allow"),
        ("exec_command", {"cmd": "rm x"}, "deny"),
        ("shell", {"command": ["rm", "x"]}, "deny"),
        ("Read", {"file_path": "/etc/passwd"}, "allow"),
        ("Edit", {"file_path": "/work/a.py"}, "allow"),
        ("Edit", {"file_path": "/home/a.py"}, "ask"),
        ("Edit", {"file_path": "/work/.env"}, "deny"),
        ("Edit", {"file_path": "/work/../etc/passwd"}, "ask"),
        ("Edit", {"file_path": "/work/src/../.env"}, "deny"),
        ("Edit", {"file_path": "/work/./.env"}, "deny"),
        ("Edit", {"file_path": "//work//.env"}, "deny"),
        ("WebFetch", {"url": "https://example.org"}, "deny"),
        ("mcp__docs__search", {"query": "x"}, "allow"),
        ("mcp__other__search", {"query": "x"}, "ask"),
        ("Unknown", {}, "ask"),
    ],
)
def test_a_rule_decides_what_it_names_and_nothing_beside(
    tool: str, arguments: dict[str, Any], verdict: str
):
    assert decide(RULES, tool, arguments) == verdict


def test_without_a_person_to_ask_what_no_rule_allows_is_denied():
    assert decide(Permissions(), "Bash", {"command": "ls"}) is Verdict.DENY
    assert Permissions.of(None) == Permissions()
    kept = {"ask": True, "allow": ["Read"], "deny": []}
    assert Permissions.of(kept) == Permissions(asks=True, allow=("Read",))


def test_signs_of_patterns_other_than_the_star_are_text():
    rules = Permissions(allow=("Bash(ls [ab]?)",))
    assert decide(rules, "Bash", {"command": "ls [ab]?"}) is Verdict.ALLOW
    assert decide(rules, "Bash", {"command": "ls ac"}) is Verdict.DENY


@pytest.mark.parametrize("text", ["", "Bash(", "Bash()", "Ba sh", "Bash(x", "(x)"])
def test_what_is_no_rule_is_refused(text: str):
    with pytest.raises(ValueError, match="no rule"):
        check_rule(text)


@given(st.text())
def test_nothing_but_a_plain_yes_is_consent(text: str):
    plain = text.strip().strip(".!").lower()
    assert is_consent(text) == (plain in {"allow", "accept", "yes", "y"})


@pytest.mark.parametrize("text", ["allow", " Yes. ", "ACCEPT", "y"])
def test_a_plain_yes_is_consent(text: str):
    assert is_consent(text)


@pytest.mark.parametrize("text", ["no", "allow it only if x", "yes but not there", "deny", ""])
def test_a_yes_with_a_but_is_none(text: str):
    assert not is_consent(text)


@pytest.mark.parametrize(
    ("path", "verdict"),
    [
        ("src/a.py", "allow"),
        ("/home/tree/src/a.py", "allow"),
        ("/home/tree/./src/a.py", "allow"),
        ("/home/tree/src/../a.py", "ask"),
        ("/home/other/src/a.py", "ask"),
        ("../tree/src/a.py", "allow"),
        ("/home/tree/src/key", "deny"),
        ("src/key", "deny"),
        ("lib/key", "deny"),
        ("/home/tree/lib/key", "deny"),
        ("", "ask"),
    ],
)
def test_a_rule_names_a_file_from_the_workspace_or_from_the_root(path: str, verdict: str):
    """Programs say either; a rule holds for both."""
    rules = Permissions(
        asks=True, allow=("Edit(src/*)",), deny=("Edit(src/key)", "Edit(/home/tree/lib/*)")
    )
    assert decide(rules, "Edit", {"file_path": path}, "/home/tree") == Verdict(verdict)


@pytest.mark.parametrize(
    ("approval", "kind", "title", "decision"),
    [
        ("ask", "read", "Reading", "allowed"),
        ("ask", "edit", "Writing", "asked"),
        ("edits", "edit", "Writing", "allowed"),
        ("edits", "execute", "make", "asked"),
        ("bypass", "execute", "make", "allowed"),
        ("ask", "other", "mcp__coord__get_my_task", "allowed"),
        ("ask", "other", "coord_get_my_task", "allowed"),
        ("ask", "other", "get_my_task (coord MCP Server)", "allowed"),
        ("ask", "other", "mcp__evil__get_my_task", "asked"),
        ("ask", "execute", "coord get_my_task", "asked"),
        ("ask", "other", "coord " + "x" * 300 + " get_my_task", "asked"),
    ],
)
def test_the_approval_settles_what_a_driven_agent_asks_for(
    approval: str, kind: str, title: str, decision: str
):
    assert consent.settle(approval, kind, title) == decision


def test_an_answer_is_chosen_by_its_kind_and_for_this_once():
    offered = [
        {"kind": "allow_always", "optionId": "once"},
        {"kind": "allow_once", "optionId": "always"},
        {"kind": "reject_always", "optionId": "never"},
    ]
    assert consent.choose(offered, is_allowed=True) == "always"
    assert consent.choose(offered, is_allowed=False) == "never"
    assert consent.choose(offered[:1], is_allowed=True) == "once"
    assert consent.choose(offered[:2], is_allowed=False) is None
