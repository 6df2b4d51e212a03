"""What people say to a running CLI: given to its driver, and found out whether it was heard.

A message is a file of the run under its own id, which the shim reads once: whoever gives it again,
after a restart of ours too, changes nothing. That it was heard stands in the run's output.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import anyio

from aiagent_coordinator.pipeline.context import Context, Control
from aiagent_coordinator.pipeline.run import RunRecord

#: How drivers say that their CLI took a message up.
_HEARD = re.compile(rb'^\{"event":"heard","id":"(tel_[0-9a-z]{26})"\}$', re.MULTILINE)
#: A longer line says nothing of the kind.
_LINE_BYTES = 200
CHUNK_BYTES = 1024 * 1024


class Telling:
    """Gives one run what people say to it. Belongs to the task that looks after the run."""

    def __init__(self, record: RunRecord, context: Context, control: Control) -> None:
        self._folder = context.state.run(record.run_id)
        self._executor = context.executor
        self._control = control
        self._is_live = record.is_live
        self._ear = _Ear(self._folder / "out")

    async def go_on(self) -> None:
        """Give what is new, and listen while something was given that nobody has heard."""
        if not self._is_live:
            return
        said: list[dict[str, Any]] = self._control.facts.get("tells") or []
        for one in said:
            ident = str(one["id"])
            if ident in self._control.said:
                continue
            kind = "interrupt" if one.get("interrupts") else "message"
            word = json.dumps({"id": ident, "kind": kind, "text": one["text"]}, ensure_ascii=False)
            if await self._executor.answer(self._folder, ident, word):
                self._control.said.add(ident)
        if self._control.said.difference(self._control.heard):
            await self.listen()

    async def listen(self) -> None:
        """Find out what was heard."""
        if self._is_live:
            await anyio.to_thread.run_sync(self._ear.listen)
            self._control.hear(self._ear.heard)


class _Ear:
    """Looks through the output of a driver, from where it was left."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        #: The ids of messages that were heard. Kept: whoever asked may be gone before it is told.
        self.heard: list[str] = []

    def listen(self) -> None:
        """Look through what was printed since the last look."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return
        try:
            while data := os.pread(descriptor, CHUNK_BYTES, self._offset):
                end = data.rfind(b"\n") + 1
                self.heard += [one.decode() for one in _HEARD.findall(data[:end])]
                if end == 0 and len(data) <= _LINE_BYTES:
                    break  # half a line: its rest is to come
                self._offset += end or len(data)
                if len(data) < CHUNK_BYTES:
                    break
        finally:
            os.close(descriptor)
