"""What is said to every agent, whatever its workflow. Pure."""

from __future__ import annotations

from collections.abc import Sequence

#: Said once a report is in.
FINISHED = "You are finished. Call no more tools and exit."
#: Said when nobody answered in time.
SUSPENDED = (
    "There is no answer yet. Commit what you have, report nothing, call no more tools and exit. "
    "The task goes on, with the answer, in another run."
)
#: Said to a program that reads answers itself.
ON_STDIN = (
    "Your question is asked. Stay, and read the answer on your standard input; it may take long. "
    "Then go on with your task, as the answer says."
)
#: Said to a manager that waits for its sub-tasks.
WAITING = (
    "Your sub-tasks are at work. Commit what you have, report nothing, call logout and exit. You are "
    "started again when one of them needs you, or when all are done."
)

#: Said where a workflow has gone round as often as it may.
NO_FURTHER = (
    "You have been through this as often as you may. Call report_completed now: 'success' only if the "
    "task is done, else 'failed', and say in the summary what is left. Then call get_next_action."
)


def stopped(reason: str) -> str:
    """What is said to an agent whose run is being stopped."""
    return f"This run is being stopped ({reason}). Call no more tools and exit."


def missing_evidence(missing: Sequence[str]) -> str:
    """What is said to an agent whose report left criteria out."""
    listed = "\n".join(f"- {one}" for one in missing)
    return (
        f"Your report says nothing about these acceptance criteria:\n{listed}\nMake sure that each is "
        "met, then call report_completed again with evidence for every criterion: its number, and "
        "how you know. If one cannot be met, report 'failed' and say why."
    )
