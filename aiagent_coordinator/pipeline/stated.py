"""What a run's program said of itself as a whole: read when it is over, and kept with the run's record."""

from __future__ import annotations

import re
from typing import Any

from aiagent_coordinator.clock import parse_iso
from aiagent_coordinator.pipeline import waits
from aiagent_coordinator.pipeline.context import Context
from aiagent_coordinator.pipeline.prepare import write_private
from aiagent_coordinator.pipeline.run import RunRecord
from aiagent_coordinator.pipeline.stream import DIALECT_FILE, Stream
from aiagent_coordinator.providers.digest import Digest, waiting
from aiagent_coordinator.providers.values import SERVER_NAME

#: Errors that are kept, and of each.
MAX_FAULTS = 20
MAX_FAULT_CHARS = 1000
#: Of a question that a program ends with.
MAX_QUESTION_CHARS = 2000
#: An offer at the end of a report is no question.
_OFFER = re.compile(r"(?i)\banything else\b|\b(?:if|should) you (?:want|need|like)\b")
_QUESTION = re.compile(r"\?[\s*_`\"')\]]{0,8}\Z")
#: How programs say that a server is not there.
_ABSENT = frozenset({"failed", "disconnected", "error"})


def stream_of(record: RunRecord, context: Context) -> Stream:
    """A stream at the beginning of a run's output. Blocks for a moment."""
    dialect = context.definition_of(record).output.dialect
    folder = context.state.run(record.run_id)
    write_private(folder / DIALECT_FILE, dialect.encode())
    stream = Stream(folder, dialect, context.masker, backend=record.provider)
    launched = parse_iso(record.launched_at)
    if launched is not None:
        attempt = record.task.get("attempt", 1)
        words = f"run     attempt {attempt} of {record.task['id']} started"
        stream.stage(words, int(launched.timestamp() * 1e9))
    return stream


def stated_by(stream: Stream) -> dict[str, Any] | None:
    """Read the rest of a run's output, and say what follows; None where it says nothing. Blocks.

    Returns:
        Plain JSON: `is_error` (null: it did not say how it ended), `faults` (masked texts),
        `session_id`, `usage`, `question` (what it ended with, if that is one), `waiting` (for its model, if it
        did), `retry` (the same in parts), `lacks_our_tools`, `compacted`, `live` (as it goes over the wire).
    """
    if not stream.is_telling:
        return None
    digest = stream.finish()
    used = digest.usage
    return {
        "is_error": None if digest.result is None else digest.result.is_error,
        "faults": [stream.mask(fault.text)[:MAX_FAULT_CHARS] for fault in digest.faults][
            -MAX_FAULTS:
        ],
        "session_id": digest.session_id,
        "usage": None if used is None else used.as_json(),
        "question": stream.mask(question_in(digest) or "") or None,
        "waiting": waiting(digest.retry) if digest.retry else None,
        "retry": waits.as_json(digest.retry),
        "lacks_our_tools": lacks_our_tools(digest),
        "compacted": [stream.clean(text) for text in digest.last_compactions],
        "live": {**stream.live(), "activity": ""},
    }


def lacks_our_tools(digest: Digest) -> bool:
    """Whether a program says that it could not reach our server."""
    return (digest.servers or {}).get(SERVER_NAME) in _ABSENT


def question_in(digest: Digest) -> str | None:
    """The question that a program ended with: the last paragraph of what its model said last."""
    if digest.result is not None and digest.result.is_error:
        return None
    said = (digest.result.text if digest.result else None) or digest.last_text
    last = said.strip().rpartition("\n\n")[2].strip()
    if not _QUESTION.search(last) or _OFFER.search(last[-200:]):
        return None
    return last[-MAX_QUESTION_CHARS:]
