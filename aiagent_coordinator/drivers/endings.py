"""How a driver ends: as its CLI did. Standard library only."""

from __future__ import annotations

import os
import signal
import sys
from typing import Final, NoReturn

#: What a shell answers for a program that cannot be started.
NOT_STARTED: Final = 127


def end_like(status: int) -> NoReturn:
    """End with a code, or where it is negative by that signal."""
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(max(status, 0))


def say_not_started(program: str, error: OSError) -> None:
    """Tell that a program cannot be started."""
    sys.stderr.write(f"cannot start {program}: {error.strerror or error}\n")
