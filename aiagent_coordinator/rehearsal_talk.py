"""How the rehearsal agent talks: it repeats what it is told, and is content with one answer. Standard library only."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

#: What a person writes to have it end at once without another word, after its answer or before.
LEAVE, VANISH = "/leave", "/vanish"
_ANSWER_CHARS = 4000
#: Turns that it wants of a conversation.
_TURNS = 6
#: Between two looks at the notifications.
_LOOK_SECONDS = 0.2
#: Words of a session for a chat that ask for nothing but the next one: where it is told to wait, the server
#: has waited already.
_NOTHING_TO_DO = frozenset({"wait_for_messages", "conversation_request", "conversation_ended"})


@dataclass
class Talker:
    """What it knows of its conversations.

    Args:
        call: Calls a tool.
    """

    call: Callable[..., Json]
    #: The conversation that it began for a task of its own → the delegation.
    asked: dict[str, str] = field(default_factory=dict[str, str])

    def follow(self, told: Json) -> bool:
        """Do what a session for a chat is told; False: that is no word of one."""
        match told.get("action"):
            case "get_pending_messages":
                self._answer()
            case "start_conversation":
                self._begin(told)
            case action:
                return action in _NOTHING_TO_DO
        return True

    def hear(self, action: str, seconds: float) -> str | None:
        """Wait for a notification; gives what it says, or None when none came in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            told: list[Json] = self.call("get_notifications")["notifications"]
            for one in told:
                if one.get("action") == action:
                    return str(one.get("message"))
            time.sleep(_LOOK_SECONDS)
        return None

    def _answer(self) -> None:
        said: list[Json] = self.call("get_pending_messages")["pending_messages"]
        of_people = [str(one["content"]) for one in said if "conversation_id" not in one]
        if VANISH in of_people:
            sys.exit(0)
        if of_people:
            text = f"You wrote: {' / '.join(of_people)}"
            self.call("send_message", content=text[:_ANSWER_CHARS])
        if LEAVE in of_people:
            sys.exit(0)
        for one in said:
            if "conversation_id" in one:
                self._answer_agent(str(one["conversation_id"]), str(one["content"]))

    def _answer_agent(self, where: str, said: str) -> None:
        state = self.call("get_conversation_messages", conversation_id=where)["conversation_state"]
        if where in self.asked:
            if state == "active":
                self.call("end_conversation", conversation_id=where, final_message="Thank you.")
            done = {"delegation_id": self.asked.pop(where), "result": said}
            self.call("report_delegation_completed", **done)
        elif state == "active":
            text = f"You said: {said}"[:_ANSWER_CHARS]
            self.call("send_message", content=text, conversation_id=where)

    def _begin(self, wish: Json) -> None:
        words = (str(wish.get("purpose") or ""), str(wish.get("context") or ""))
        made = self.call(
            "start_conversation",
            participant_agent_id=wish["target_agent_id"],
            initial_message="\n".join(filter(None, words))[:_ANSWER_CHARS],
            max_turns=_TURNS,
            purpose=words[0],
        )
        self.asked[str(made["conversation_id"])] = str(wish["delegation_id"])
