"""Which AI CLIs this machine has: found on PATH, asked for their version, never started otherwise."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from aiagent_coordinator.wire.process import TimedOut, run_bounded

if TYPE_CHECKING:
    from aiagent_coordinator.providers.definition import Definition

#: Definitions that are no program of their own to look for.
NOT_LOOKED_FOR = frozenset({"command", "rehearsal"})
#: Some CLIs take seconds to start on a busy machine; one that hangs must not hold anybody up.
VERSION_SECONDS = 15.0


@dataclass(frozen=True)
class Installed:
    """A definition and the program it drives on this machine; without a path it is not there."""

    definition: Definition
    path: Path | None
    #: None: it did not say, or in words that the definition does not know.
    version: str | None = None

    @property
    def is_too_old(self) -> bool:
        """Whether its version is below what the definition was written for."""
        least = re.match(r">=\s*([\d.]+)\Z", self.definition.detect.supported)
        if least is None or self.version is None:
            return False
        return _numbers(self.version) < _numbers(least[1])


def look(definitions: Iterable[Definition], home: Path) -> list[Installed]:
    """Look for each definition's program and ask those that are there for their version.

    Args:
        definitions: Which.
        home: The working directory of the programs while they are asked.
    """
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(partial(_look, home), definitions))


def _look(home: Path, definition: Definition) -> Installed:
    from aiagent_coordinator.providers.detect import resolve

    path = resolve(definition, os.environ.get("PATH"), Path(os.devnull))
    if path is None or not definition.detect.version_pattern:
        return Installed(definition, path)
    argv = [str(path), *definition.detect.version_args]
    try:
        done = run_bounded(argv, cwd=home, timeout_seconds=VERSION_SECONDS, max_output_bytes=65536)
    except (OSError, TimedOut):
        return Installed(definition, path)
    said = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace")
    found = re.search(definition.detect.version_pattern, said)
    return Installed(definition, path, found[1] if found and found.groups() else None)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
