"""Why a CLI failed, as far as its last words and its exit status tell. Pure."""

from __future__ import annotations

import re
import signal as signals
from dataclasses import dataclass

from aiagent_coordinator.providers.shape import Definition, ErrorRule
from aiagent_coordinator.providers.transcript import error_texts
from aiagent_coordinator.redaction import OVERLAP_BYTES, Masker, printable

#: How much of the end of each stream is looked at.
TAIL_BYTES = 64 * 1024
#: A longer line is looked at up to here only: patterns stay fast on hostile output.
MAX_LINE_CHARS = 1000
#: How much of it is told.
MAX_TEXT_CHARS = 2000
#: Lines told when none looks like an error.
LAST_LINES = 10
#: What is wanted of a stream's end, so that it can be masked as a whole.
WINDOW_BYTES = TAIL_BYTES + OVERLAP_BYTES

_ERROR_WORDS = (
    *("error:", "[api error:", "fatal:", "panic:", "exception:", "traceback (", "quota"),
    *("rate limit", "exhausted", "unauthorized", "authentication failed", "permission denied"),
    *("not found", "no such file"),
)


@dataclass(frozen=True)
class Diagnosis:
    """What can be said about an end.

    Attributes:
        reason: One of the run reasons; None when neither status nor output gives one.
        text: The words it rests on, masked, without terminal control; may be empty.
        remedy: What a person can do, from the definition; may be empty.
    """

    reason: str | None
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Output:
    """What a CLI printed on its standard output.

    Attributes:
        tail: The end of it; told when nothing else was said.
        stated: The errors it states there and did not get over, the oldest first.
    """

    tail: bytes
    stated: tuple[str, ...] = ()


def diagnose(
    definition: Definition,
    exit_code: int | None,
    signal: int | None,
    tail_err: bytes,
    out: bytes | Output = b"",
    *,
    masker: Masker | None = None,
) -> Diagnosis:
    """Say why a CLI ended as it did.

    The definition's patterns on the errors that the CLI states in its dialect come first, then those on
    standard error, then its exit codes, then the plain facts. Prose on standard output is never matched:
    an agent may write about errors.

    Args:
        definition: Whose patterns and codes.
        exit_code: None when a signal ended it, or nobody knows.
        signal: The signal that ended it.
        tail_err: The end of its standard error.
        out: Its standard output, or the end of it alone.
        masker: Hides what must not be told.
    """
    masker = masker or Masker()
    err = _lines(tail_err, masker)
    if isinstance(out, bytes):
        out = Output(out, tuple(error_texts(definition.output.dialect, out[-TAIL_BYTES:])))
    told = _lines("\n".join(out.stated).encode("utf-8", "replace"), masker)
    excerpt = _excerpt([*err, *told]) or _excerpt(_lines(out.tail, masker))
    for lines in (told, err):
        for rule in definition.errors:
            line = _last_match(rule, lines)
            if line:
                return Diagnosis(rule.reason, _clip(line), rule.remedy)
    if signal is not None:
        return Diagnosis("signal", _clip(f"ended by {_signal_name(signal)}\n{excerpt}"))
    named = definition.exit_codes.get(str(exit_code))
    if named:
        return Diagnosis(named, _clip(f"exit code {exit_code}\n{excerpt}"))
    if exit_code:
        return Diagnosis("exit_nonzero", _clip(f"exit code {exit_code}\n{excerpt}"))
    return Diagnosis(None, _clip(excerpt))


def _lines(tail: bytes, masker: Masker) -> list[str]:
    text = masker.mask_bytes(tail[-WINDOW_BYTES:]).decode("utf-8", "replace")[-TAIL_BYTES:]
    lines = (printable(line[:MAX_LINE_CHARS]).strip() for line in text.splitlines())
    return [line for line in lines if line]


def _last_match(rule: ErrorRule, lines: list[str]) -> str | None:
    pattern = re.compile(rule.pattern)
    return next((line for line in reversed(lines) if pattern.search(line)), None)


def _excerpt(lines: list[str]) -> str:
    """The lines that look like errors, else the last ones."""
    telling = [line for line in lines if any(word in line.lower() for word in _ERROR_WORDS)]
    return "\n".join((telling or lines)[-LAST_LINES:])


def _clip(text: str) -> str:
    """Keep the head line and the end: the last words say most."""
    text = text.strip()
    if len(text) <= MAX_TEXT_CHARS:
        return text
    head, _, rest = text.partition("\n")
    head = head[: MAX_TEXT_CHARS // 2]
    return f"{head}\n…{rest[-(MAX_TEXT_CHARS - len(head) - 2) :]}"


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signals.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
