"""Shims that are children of this process: when one ends that is taken note of, and nothing is learned from it.

A process's children are the process's own, whoever started them: hence one list of the module, none
of an executor. Nobody else's child is ever waited for.
"""

from __future__ import annotations

import os
from pathlib import Path

_shims: dict[int, Path] = {}


def add(pid: int, directory: Path) -> None:
    """A shim was started for a directory."""
    _shims[pid] = directory


def has_any(directory: Path) -> bool:
    """Whether a shim of this directory is still to be reaped."""
    return directory in _shims.values()


def reap() -> None:
    """Take the ends of our shims. Never blocks; any thread."""
    for pid in tuple(_shims):
        try:
            ended, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            ended = pid
        if ended:
            _shims.pop(pid, None)
