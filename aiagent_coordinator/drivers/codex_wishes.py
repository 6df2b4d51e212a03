"""From what Codex asks leave for to wishes that rules can be written for. Pure but for links in the workspace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from aiagent_coordinator.drivers.leave import Wish, changes_of

Json = dict[str, Any]


def wishes_of(method: str, params: Json, paths: Sequence[str]) -> list[Wish]:
    """What a request for leave is about, one by one.

    Args:
        method: The request.
        params: What it says.
        paths: The files that the change it is for names.
    """
    if method == "item/fileChange/requestApproval":
        root = params.get("grantRoot")
        # for the rest of the session, everything below it
        roots = [str(root)] if root else []
        return changes_of([*paths, *roots]) or [_unnamed("Edit", params)]
    return [_command(params)]


def _command(params: Json) -> Wish:
    """A command, or what else is asked in its place: then its words are no command."""
    network = params.get("networkApprovalContext")
    if isinstance(network, dict):
        where = cast("Json", network)
        url = f"{where.get('protocol')}://{where.get('host')}"
        return Wish("Network", "execute", url, {"url": url})
    command, kind = params.get("command"), str(params.get("kind") or "command")
    if not isinstance(command, str) or not command:
        return _unnamed("Network", params)
    # what is typed into a program that runs is read by that, and not by a shell
    tool = "Bash" if kind == "command" else "WriteStdin" if kind == "writeStdin" else kind
    return Wish(tool, "execute", command, {"command": command})


def _unnamed(tool: str, params: Json) -> Wish:
    """Something of which only the reason is known."""
    reason = str(params.get("reason") or "no reason given")
    return Wish(tool, "execute", reason, {"reason": reason})
