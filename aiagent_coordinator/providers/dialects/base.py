"""What every reader of JSON lines does alike."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from aiagent_coordinator.providers.dialects.lines import Lines
from aiagent_coordinator.providers.dialects.values import Json, seconds_of
from aiagent_coordinator.providers.events import Event, PassedOver, Used

#: Calls, messages and steps that are remembered until they are told of again.
MAX_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Begun:
    """A call that has no result yet."""

    name: str
    at: float | None


class Reader:
    """Turns the output of one run into events, piece by piece. Memory does not grow with the output."""

    def __init__(self) -> None:
        self._lines = Lines()
        #: Length of the line that is being read.
        self.line_bytes = 0
        self._steps: OrderedDict[str, Used] = OrderedDict()
        self._calls: OrderedDict[str, Begun] = OrderedDict()

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes; give the events of the lines that ended."""
        return self._read(self._lines.feed(data))

    def finish(self) -> list[Event]:
        """The output is over: give the events of a last line without an end."""
        return self._read(self._lines.finish())

    def _read(self, lines: Iterable[bytes | int]) -> list[Event]:
        events: list[Event] = []
        for line in lines:
            if isinstance(line, int):
                events.append(PassedOver(line))
                continue
            if not line.startswith(b"{"):
                continue
            try:
                told: object = json.loads(line.decode("utf-8", "replace"))
            except (ValueError, RecursionError):
                continue
            if isinstance(told, dict):
                self.line_bytes = len(line)
                events += self.read(told)  # pyright: ignore[reportUnknownArgumentType] - JSON
        return events

    def read(self, told: Json) -> Iterable[Event]:
        """The events of one line."""
        raise NotImplementedError

    def grown(self, step: str, used: Used) -> Used:
        """What a step adds that may have been told before, smaller; without an id it is a new one."""
        before = self._steps.pop(step, None) if step else None
        if step:
            self._steps[step] = used
            if len(self._steps) > MAX_REMEMBERED:
                self._steps.popitem(last=False)
        if before is None:
            return used
        cost = None if used.cost is None else used.cost - (before.cost or 0.0)
        return Used(
            used.fresh - before.fresh,
            used.out - before.out,
            used.cache - before.cache,
            cost,
            is_partial=used.is_partial,
        )

    def begin(self, call: str, name: str, at: object = None) -> None:
        """Remember a call until its result comes."""
        self._calls[call] = Begun(name, seconds_of(at))
        if len(self._calls) > MAX_REMEMBERED:
            self._calls.popitem(last=False)

    def end(self, call: str, at: object = None) -> float | None:
        """Forget a call; give how many seconds it took, if that is known."""
        begun, ended = self._calls.pop(call, None), seconds_of(at)
        if begun is None or begun.at is None or ended is None:
            return None
        return round(max(0.0, ended - begun.at), 3)

    def is_begun(self, call: str) -> bool:
        """Whether a call has no result yet."""
        return call in self._calls


class Plain(Reader):
    """Output that says nothing about itself: nothing of it is kept or parsed."""

    def feed(self, data: bytes) -> list[Event]:
        """Take nothing."""
        del data
        return []
