"""`--until-stdin-closes`: end with the program that started this one, however it ends.

The kernel closes a pipe's last writer with its process: no kill of it leaves us, or an agent, behind.
"""

from __future__ import annotations

import os
import signal
import stat
import threading

from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.messages import text

#: What comes in meanwhile is nothing to us.
CHUNK_BYTES = 4096


def hold(descriptor: int = 0) -> None:
    """End this process and its agents in order, as SIGUSR1 does, when this pipe or socket closes.

    Raises:
        ValidationError: it is neither, so that it has no other end.
    """
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        mode = 0
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        raise ValidationError(text("lifeline.no_pipe"), hint=text("lifeline.no_pipe_hint"))
    threading.Thread(target=_wait, args=(descriptor,), name="lifeline", daemon=True).start()


def _wait(descriptor: int) -> None:
    os.set_blocking(descriptor, True)
    try:
        while os.read(descriptor, CHUNK_BYTES):
            pass
    except OSError:
        pass  # a reset is an end too
    os.kill(os.getpid(), signal.SIGUSR1)
