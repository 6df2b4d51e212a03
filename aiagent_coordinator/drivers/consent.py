"""What an agent of a driven CLI may do: settled by its approval, or asked of our server. Pure but for `Desk`.

A CLI asks by the kind of what it wants to do; the ids of the answers it offers differ everywhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from aiagent_coordinator.errors import CoordinatorError, UnavailableError
from aiagent_coordinator.wire.client import BlockingClient
from aiagent_coordinator.wire.protocol import AGENT_TOOLS, hello_run

Json = dict[str, Any]
Decision = Literal["allowed", "denied", "asked"]

#: Kinds of the Agent Client Protocol that look and change nothing.
LOOKS: Final = frozenset({"read", "search", "think"})
#: Kinds that change files.
EDITS: Final = frozenset({"edit", "move", "delete"})
#: Kinds under which an agent shows a tool of a server.
_FOREIGN: Final = frozenset({"other", "read", "think", "search"})
#: Longer than the server holds such a call.
CALL_SECONDS: Final = 3600.0
#: So long a server may be away.
AWAY_SECONDS: Final = 600.0
#: Between tries to reach it.
AGAIN_SECONDS: Final = 1.0


def settle(approval: str, kind: str, title: str) -> Decision:
    """What the approval of an agent says of something that its CLI asks for.

    Args:
        approval: `ask`, `edits` or `bypass`.
        kind: What it is, in the protocol's words.
        title: What it is, in the CLI's words.

    Returns:
        `asked` where the approval alone does not allow it.
    """
    if approval == "bypass" or kind in LOOKS or is_ours(kind, title):
        return "allowed"
    return "allowed" if approval == "edits" and kind in EDITS else "asked"


def is_ours(kind: str, title: str) -> bool:
    """Whether this is a call of a tool of our server, which needs nobody's word."""
    if kind not in _FOREIGN or len(title) > 200:
        return False
    words = "".join(char if char.isalnum() or char == "_" else " " for char in title).split()
    named = {part for word in words for part in (word, word.rpartition("__")[2])}
    named |= {word.removeprefix("coord_") for word in words}
    return "coord" in title and not named.isdisjoint(AGENT_TOOLS)


def choose(options: Iterable[Mapping[str, Any]], *, is_allowed: bool) -> str | None:
    """The id of the answer to give, by its kind: for this once where that is offered.

    None: nothing of the kind is offered.
    """
    kinds = ("allow_once", "allow_always") if is_allowed else ("reject_once", "reject_always")
    offered = {str(one.get("kind")): str(one.get("optionId")) for one in options}
    return next((offered[kind] for kind in kinds if kind in offered), None)


@dataclass(frozen=True)
class Desk:
    """Our server, as the agent of this run reaches it."""

    socket: str
    token_file: Path
    run_id: str

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Desk | None:
        """The way to the server that the environment names; None without one."""
        names = ("AIAGENT_SOCKET", "AIAGENT_TOKEN_FILE", "AIAGENT_RUN_ID")
        socket, token, run_id = (environ.get(name, "") for name in names)
        return cls(socket, Path(token), run_id) if socket and token and run_id else None

    def ask(self, tool: str, arguments: Json, ident: str) -> tuple[bool, str]:
        """Ask whether something may be done; waits as long as the server holds such a call. Blocking.

        Returns:
            Whether it may, and the words that go with a no.
        """
        asked = {"tool_name": tool, "input": arguments, "tool_use_id": ident}
        # the same name each time: a server that comes back knows the request again
        nonce = os.urandom(8).hex()
        deadline = time.monotonic() + AWAY_SECONDS
        while True:
            try:
                told = self._call(asked, nonce)
            except UnavailableError as error:
                if time.monotonic() > deadline:
                    return False, f"nobody could be asked: {error.message}"
                time.sleep(AGAIN_SECONDS)
            except (CoordinatorError, OSError) as error:
                return False, str(error)
            else:
                return told.get("behavior") == "allow", str(told.get("message") or "")

    def _call(self, asked: Json, nonce: str) -> Json:
        token = self.token_file.read_text("ascii").strip()
        hello = hello_run(self.run_id, token, nonce, [])
        with BlockingClient(self.socket, hello, CALL_SECONDS) as client:
            return client.call("permission_prompt", asked)
