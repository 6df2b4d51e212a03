"""What the program of an agent may do, by rules of people. Pure: a request in, a decision out.

A rule is `Tool` or `Tool(pattern)`, as in Claude Code: `Bash(git status*)`, `WebFetch`, `mcp__github__*`. The
pattern is compared with what the call is mainly about: its command, its path, its address. What a rule
denies is denied whatever another allows.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Final, cast


class Verdict(StrEnum):
    """What the rules say of a request."""

    ALLOW = "allow"
    DENY = "deny"
    #: No rule knows it.
    ASK = "ask"


@dataclass(frozen=True)
class Permissions:
    """The rules of one agent, and whether a person is asked where none of them decides."""

    asks: bool = False
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    @classmethod
    def of(cls, kept: Mapping[str, Any] | None) -> Permissions:
        """The rules as the store keeps them; None: none, and nobody is asked."""
        found = kept or {}
        return cls(
            bool(found.get("ask")), tuple(found.get("allow", ())), tuple(found.get("deny", ()))
        )


#: The members of a call that say what it is about, the first that is there.
_ABOUT: Final = ("command", "cmd", "file_path", "filePath", "path", "notebook_path", "url", "query")
_PATHS: Final = frozenset({"file_path", "filePath", "path", "notebook_path"})
_RULE: Final = re.compile(
    r"(?P<tool>[A-Za-z0-9_*.-]{1,200})(?:\((?P<pattern>.{1,1000})\))?\Z", re.DOTALL
)
#: Other names for tools that run commands.
_SHELLS: Final = frozenset({"bash", "execute", "shell", "exec_command", "run_shell_command"})
#: With these one command becomes two, or writes where its words do not say.
_JOINTS: Final = re.compile(r"[;&|`\n<>]|\$\(")
#: What a person says to allow something. Everything else is a no.
_CONSENT: Final = frozenset({"allow", "accept", "yes", "y"})


def check_rule(rule: str) -> str:
    """Give the rule back.

    Raises:
        ValueError: it is none.
    """
    if not _RULE.match(rule):
        message = f"{rule!r} is no rule; write it like Bash(git status*) or WebFetch"
        raise ValueError(message)
    return rule


def about(arguments: Mapping[str, Any]) -> str:
    """What a call is mainly about, as one text."""
    for name in _ABOUT:
        found = arguments.get(name)
        if isinstance(found, str):
            return _plain_path(found) if name in _PATHS else found
        if isinstance(found, list):
            return shlex.join(str(word) for word in cast("list[object]", found))
    return json.dumps(arguments, ensure_ascii=False, sort_keys=True)


def _names_file(arguments: Mapping[str, Any]) -> bool:
    """Whether a path is what a call is mainly about."""
    first = next((name for name in _ABOUT if isinstance(arguments.get(name), str | list)), "")
    return first in _PATHS


def _both_ways(path: str, folder: str) -> list[str]:
    """A path as it is, and from the folder or from the root."""
    if not folder or not path:
        return [path]
    whole = _plain_path(posixpath.join(folder, path))
    below = posixpath.relpath(whole, folder)
    return [path, whole] if below.split("/")[0] == ".." else [path, whole, below]


def _plain_path(path: str) -> str:
    """A path without detours: what leaves a folder again is not in it, and a dot hides nothing."""
    plain = posixpath.normpath(path) if path else path
    return f"/{plain.lstrip('/')}" if plain.startswith("/") else plain


def decide(
    permissions: Permissions, tool: str, arguments: Mapping[str, Any], folder: str = ""
) -> Verdict:
    """What the rules say of one call.

    Args:
        permissions: The rules.
        tool: The tool's name.
        arguments: What it is called with.
        folder: Where the program works: a rule may name a file from there or from the root, whichever
            of them the program says.
    """
    text = about(arguments)
    texts = _both_ways(text, folder) if _names_file(arguments) else [text]
    parts = [part.strip() for part in _JOINTS.split(text)] if _is_shell(tool) else []
    if any(_matches(rule, tool, part) for rule in permissions.deny for part in (*texts, *parts)):
        return Verdict.DENY
    if any(_allows(rule, tool, one) for rule in permissions.allow for one in texts):
        return Verdict.ALLOW
    return Verdict.ASK if permissions.asks else Verdict.DENY


def is_consent(answer: str) -> bool:
    """Whether a person's answer allows what was asked; nothing but a plain yes does."""
    return answer.strip().strip(".!").lower() in _CONSENT


def _allows(rule: str, tool: str, text: str) -> bool:
    """Whether a rule allows a call: a wildcard never stands for a second command."""
    found = _RULE.match(rule)
    pattern = found and found["pattern"]
    if pattern and _is_shell(tool) and _JOINTS.search(text) and pattern != text:
        return False
    return _matches(rule, tool, text)


def _matches(rule: str, tool: str, text: str) -> bool:
    found = _RULE.match(rule)
    if found is None:
        return False
    named, called = found["tool"].lower(), tool.lower()
    is_named = fnmatchcase(called, named) or (_is_shell(named) and _is_shell(called))
    pattern = found["pattern"]
    return is_named and (pattern is None or fnmatchcase(text, _literal(pattern)))


def _literal(pattern: str) -> str:
    """A pattern in which `*` alone is special; `:*` at its end means the same, as in Claude Code."""
    if pattern.endswith(":*"):
        pattern = f"{pattern[:-2]}*"
    return pattern.replace("[", "[[]").replace("?", "[?]")


def _is_shell(tool: str) -> bool:
    return tool.lower() in _SHELLS
