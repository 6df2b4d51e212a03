"""Leave for what a driven CLI wants to do: by its approval, else by the word of our server."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio.to_thread

from aiagent_coordinator.drivers import consent
from aiagent_coordinator.drivers.words import Json, say

#: Of what is shown of a request.
TITLE_CHARS = 500
#: No kind of the protocol: no approval but that of everything is for it.
OUTSIDE = "outside"


#: What an agent reads where nobody said more.
NO_RULE = "It is not allowed here. Do it another way, or go on without."


@dataclass(frozen=True)
class Answer:
    """What is said to a request, and the words that go with a no."""

    is_allowed: bool
    words: str = ""


@dataclass(frozen=True)
class Wish:
    """One thing that a CLI asks leave for.

    Attributes:
        tool: What it would use, by a name that rules are written for.
        kind: What that is, in the words of the Agent Client Protocol.
        title: What it is, in the CLI's words.
        about: The arguments, as rules read them.
    """

    tool: str
    kind: str
    title: str
    about: Json


def changes_of(paths: Iterable[str], tool: str = "Edit", kind: str = "edit") -> list[Wish]:
    """A wish for each file that is to be changed: a rule for one says nothing of another.

    A file outside the folder that the CLI works in is none that an approval of edits is for.
    """
    here = Path.cwd().resolve()
    return [
        Wish(tool, kind if _is_below(here, path) else OUTSIDE, path, {"file_path": path})
        for path in dict.fromkeys(paths)
    ]


def _is_below(folder: Path, path: str) -> bool:
    """Whether a file lies in a folder, wherever links on the way lead."""
    try:
        return (folder / path).resolve().is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):
        return False


class Leave:
    """Who decides for one run."""

    def __init__(self, approval: str, *, asks: bool) -> None:
        self._approval = approval
        self._desk = consent.Desk.of(os.environ) if asks else None

    async def give(self, ident: str, wishes: Sequence[Wish]) -> Answer:
        """Whether all of it may be done; after the first no, nothing more is asked. Says each decision.

        Args:
            ident: The CLI's own name for what it wants.
            wishes: What belongs to it, one by one; of nothing, nothing is allowed.
        """
        answer = Answer(is_allowed=False, words=NO_RULE)
        for wish in wishes:
            answer = await self._decide(ident, wish)
            if not answer.is_allowed:
                break
        return answer

    async def _decide(self, ident: str, wish: Wish) -> Answer:
        event: Json = {"event": "permission", "id": ident, "title": wish.title[:TITLE_CHARS]}
        decision = consent.settle(self._approval, wish.kind, wish.title)
        answer = Answer(decision == "allowed", NO_RULE)
        if decision == "asked" and self._desk is not None:
            say({**event, "decision": "asked"})
            work = partial(self._desk.ask, wish.tool, wish.about, ident)
            # a person may think for long, and an end is not to wait for that
            told = await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
            answer = Answer(*told)
        say({**event, "decision": "allowed" if answer.is_allowed else "denied"})
        return answer
