"""What a failed attempt leaves for the next one. Pure: facts in, a bounded text out.

The text ends up in a prompt, so it is short, and its end always says what to do first.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiagent_coordinator.handoffs import words
from aiagent_coordinator.redaction import Masker, printable

#: The whole text; longer ones crowd out the task itself.
MAX_CHARS = 8000
#: Why it failed.
MAX_REASON_CHARS = 2000
#: The end of the failing command's output.
MAX_OUTPUT_CHARS = 1200
# A command line is shown to be run again: this is room for any sensible one.
_MAX_COMMAND_CHARS = 1000
_CUT = "… (cut)"


@dataclass(frozen=True)
class HandoffFacts:
    """What is known about an attempt that did not succeed.

    Args:
        summary: What the agent itself reported.
        diagnosis: The CLI's own error words.
        failing_argv: The check that failed; empty when none did.
        failing_output: The end of what that check printed.
    """

    attempt: int
    outcome: str
    reason: str = ""
    summary: str = ""
    diagnosis: str = ""
    failing_argv: tuple[str, ...] = ()
    failing_exit_code: int | None = None
    failing_output: str = ""
    branch: str | None = None
    commit: str | None = None
    #: What its program said when it last shortened what its model had before it.
    compacted: tuple[str, ...] = ()


def build(facts: HandoffFacts, *, masker: Masker | None = None) -> str:
    """Write the hand-off: at most `MAX_CHARS` characters, masked, without terminal control.

    When it would be too long the agent's own summary is shortened, never the failing command or
    the instructions at the end.
    """
    masker = masker or Masker()
    head = _head(facts)
    failing = _failing(facts, masker)
    end = _end(facts)
    room = MAX_CHARS - sum(len(part) + 2 for part in (head, failing, end))
    diagnosis = _clean(facts.diagnosis, masker)
    parts = [
        head,
        _keep_start(f"Error: {diagnosis}" if diagnosis else "", MAX_REASON_CHARS),
        failing,
    ]
    summary = _clean(facts.summary, masker)
    room -= len(parts[1]) + 2
    if summary:
        parts.insert(1, _keep_start(f"The agent's own words: {summary}", max(room - 2, 0)))
    return "\n\n".join(part for part in (*parts, end) if part)


@dataclass(frozen=True)
class Left:
    """What another agent left for this task, as the prompt shows it."""

    id: str
    from_agent_id: str
    text: str


def left_for(claimed: Iterable[Mapping[str, Any]]) -> tuple[Left, ...]:
    """The hand-offs of a claim, oldest first; each, and all together, at most `MAX_CHARS` characters.

    When there is too much, the oldest are left away: `list_handoffs` has them.
    """
    room = MAX_CHARS
    kept: list[Left] = []
    for one in reversed(list(claimed)):
        text = words(one["summary"], one.get("context"), one.get("recommendations"))
        text = _keep_start(printable(text).strip(), MAX_CHARS)
        room -= len(text)
        if room < 0 and kept:
            break
        kept.append(Left(str(one["id"]), str(one["from_agent_id"]), text))
    return tuple(reversed(kept))


def _head(facts: HandoffFacts) -> str:
    ended = facts.outcome + (f" ({facts.reason})" if facts.reason else "")
    work = f" on {facts.branch}" if facts.branch else ""
    kept = f" Its work is kept{work} as commit {facts.commit[:12]}." if facts.commit else ""
    shortened = "; ".join(_keep_start(text, 200) or "no details" for text in facts.compacted[-3:])
    lost = (
        f" It lost sight of its beginning: its context was shortened ({shortened})."
        if facts.compacted
        else ""
    )
    return f"Attempt {facts.attempt} ended: {ended}.{kept}{lost}"


def _failing(facts: HandoffFacts, masker: Masker) -> str:
    if not facts.failing_argv:
        return ""
    command = _keep_start(
        _clean(shlex.join(facts.failing_argv), masker).replace("\n", " "), _MAX_COMMAND_CHARS
    )
    code = (
        "no exit code"
        if facts.failing_exit_code is None
        else f"exit code {facts.failing_exit_code}"
    )
    lines = [f"This check failed with {code}:", f"  {command}"]
    output = _keep_end(_clean(facts.failing_output, masker), MAX_OUTPUT_CHARS)
    if output:
        lines += ["The end of its output:", output]
    return "\n".join(lines)


def _end(facts: HandoffFacts) -> str:
    if facts.failing_argv:
        return (
            "First run the failing command yourself and mend what it shows; then finish the task."
        )
    if facts.commit:
        return "First look at what that commit already holds; then finish the task."
    return "Nothing was kept; begin with the task itself."


def _clean(text: str, masker: Masker) -> str:
    return printable(masker.mask_text(text)).strip()


def _keep_start(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: max(limit - len(_CUT), 0)] + _CUT[:limit]


def _keep_end(text: str, limit: int) -> str:
    return text if len(text) <= limit else _CUT + text[len(text) - limit + len(_CUT) :]
