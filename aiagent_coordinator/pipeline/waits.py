"""Whether a program does nothing but ask its provider again: by its own words, in its output or beside it.

Programs repeat what was refused by themselves, some for hours and without an end. A short wait is left to
them. After a long one the run is ended, and what they wait for is what the run ended of.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from aiagent_coordinator.pipeline.context import Context
from aiagent_coordinator.pipeline.limits import Finding
from aiagent_coordinator.pipeline.run import RunRecord
from aiagent_coordinator.providers.digest import Digest, waiting
from aiagent_coordinator.providers.events import Retry
from aiagent_coordinator.providers.resets import limit_of
from aiagent_coordinator.providers.shape import Definition, ErrorRule
from aiagent_coordinator.redaction import Masker, printable

#: Of standard error, at one look.
LOOK_BYTES: Final = 16 * 1024
#: A longer line is looked at up to here.
MAX_LINE_CHARS: Final = 1000
#: The warning that says for what a run was ended while it waited.
WAITS: Final = "waits"
_STATUSES: Final = {401: "auth", 403: "auth", 402: "billing", 429: "rate_limited"}


@dataclass(frozen=True)
class Wait:
    """What a program waits for."""

    #: One of the run reasons.
    reason: str
    text: str
    remedy: str = ""
    #: How long it said that it waits.
    seconds: float | None = None


def in_output(retry: Retry | None, definition: Definition) -> Wait | None:
    """What its output says that it waits for; None when it does not."""
    if retry is None:
        return None
    words = retry.reason or ""
    rule = next((one for one in definition.errors if re.search(one.pattern, words)), None)
    text = waiting(retry) + (f": {words}" if words else "")
    if rule is not None:
        return Wait(rule.reason, text, rule.remedy, retry.wait_seconds)
    status = retry.status or 0
    reason = _STATUSES.get(status, "overloaded" if status >= 500 else "stalled")
    remedy = next((one.remedy for one in definition.errors if one.reason == reason), "")
    return Wait(reason, text, remedy, retry.wait_seconds)


def beside(text: bytes, definition: Definition, now: datetime) -> Wait | None:
    """What some lines of its standard error say that it waits for, the last of them; masked already."""
    lines = text.decode("utf-8", "replace").splitlines()
    for line in (printable(one[:MAX_LINE_CHARS]).strip() for one in reversed(lines)):
        rule = next((one for one in definition.waits if re.search(one.pattern, line)), None)
        if rule is not None:
            return _waits(rule, line, now)
    return None


def _waits(rule: ErrorRule, line: str, now: datetime) -> Wait:
    resets_at = limit_of([line], now, now.astimezone().tzinfo or UTC).resets_at
    seconds = None if resets_at is None else (resets_at - now).total_seconds()
    return Wait(rule.reason, line, rule.remedy, seconds)


def as_json(retry: Retry | None) -> dict[str, Any] | None:
    """What a run's record keeps of it."""
    if retry is None:
        return None
    names = ("attempt", "most", "wait_seconds", "status", "reason")
    return {name: getattr(retry, name) for name in names}


def of_record(record: RunRecord, context: Context) -> Wait | None:
    """What a run waited for that was stopped because it stood still; None: nothing that it spoke of."""
    definition = context.definition_of(record)
    told = (record.stated or {}).get("retry")
    found = in_output(Retry(**told) if told else None, definition)
    said = record.warnings.get(WAITS, "")
    return _better(found, beside(said.encode(), definition, context.clock.now()))


def _better(in_output: Wait | None, beside: Wait | None) -> Wait | None:
    """What is said in the output, unless it does not say what for."""
    is_vague = in_output is None or in_output.reason == "stalled"
    return beside if is_vague and beside is not None else in_output


class Patience:
    """Follows one run, and says when it has waited too long. Owned by the task that looks after the run."""

    def __init__(
        self, folder: Path, definition: Definition, masker: Masker, most_seconds: float
    ) -> None:
        self._folder = folder
        self._definition = definition
        self._masker = masker
        self._most = most_seconds
        self._since: float | None = None
        #: How often it said so: in its output, and beside it.
        self._signs = (0, 0)
        self._times_beside = 0
        self._err_bytes = 0
        #: What it said beside its output, and how long that was then.
        self._beside: tuple[Wait, int] | None = None

    def has_more(self) -> bool:
        """Whether there is something new on standard error. Asks for a size, and reads nothing."""
        return bool(self._definition.waits) and _size(self._folder / "err") > self._err_bytes

    def read(self, now: datetime) -> None:
        """Read what is new there. Blocks."""
        try:
            with (self._folder / "err").open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(self._err_bytes, size - LOOK_BYTES))
                # a line may be half written: it is read again with its rest
                text = file.read(LOOK_BYTES).rpartition(b"\n")[0]
        except OSError:
            return
        self._err_bytes = size
        found = beside(self._masker.mask_bytes(text), self._definition, now)
        if found is not None:
            self._beside = found, _size(self._folder / "out")
            self._times_beside += 1

    def wait_of(self, digest: Digest | None) -> Wait | None:
        """What it waits for now; None when it does not."""
        retry = None if digest is None else digest.retry
        if self._beside is not None and _size(self._folder / "out") > self._beside[1]:
            # it went on, or says the same in its output a moment later
            self._beside = None if retry is None else (self._beside[0], _size(self._folder / "out"))
        found = in_output(retry, self._definition)
        return _better(found, self._beside[0] if self._beside else None)

    def judge(self, monotonic: float, digest: Digest | None) -> Finding | None:
        """What follows from it; None while nothing does.

        It is looked at when it says so once more: what is silent after a try may have been answered, and
        its model thinks.

        Args:
            monotonic: The instant, in seconds of a clock that never goes back.
            digest: What its output said so far.
        """
        wait = self.wait_of(digest)
        if wait is None:
            self._since = None
            return None
        signs = (0 if digest is None else digest.retries, self._times_beside)
        if signs == self._signs:
            return None
        self._signs = signs
        self._since = monotonic if self._since is None else self._since
        waited = monotonic - self._since
        if waited <= self._most and (wait.seconds or 0.0) <= self._most:
            return None
        return Finding(WAITS, wait.text, "stalled")


def _size(path: Path) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_size  # noqa: PTH116 - one call a second a run
    except OSError:
        return 0
