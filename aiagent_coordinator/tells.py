"""What a person tells the agent of a task while it works. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Listens(StrEnum):
    """What the program of a run takes in while it works."""

    #: Messages, in the turn that it is in; and interrupts.
    TURN = "turn"
    #: Interrupts alone: a message would break off what it does.
    INTERRUPT = "interrupt"


class Way(StrEnum):
    """How a message reaches an agent."""

    #: By its program, while it works.
    TURN = "turn"
    #: Beside the answer to a call of its own.
    CALL = "call"
    #: With the prompt of the task's next run.
    START = "start"


@dataclass(frozen=True)
class Tell:
    """One message of a person to the agent of a task."""

    id: str
    task_id: str
    author: str
    body: str
    #: What the agent does is broken off first.
    interrupts: bool
    created_at: datetime
    #: Which run is to hear it, or heard it; None: the next one.
    run_id: str | None = None
    way: Way | None = None
    #: The notice by which it is told beside a call.
    notice_id: str | None = None
    #: When the agent had it.
    delivered_at: datetime | None = None
