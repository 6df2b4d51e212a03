"""Starts, ends and questions the scripted server."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

Json = dict[str, Any]

SERVER = Path(__file__).parent.parent / "fakes" / "scripted_server.py"
#: No wait lasts longer; what is too slow fails.
PATIENCE_SECONDS = 60.0


class ScriptedServer:
    """The scripted server in a folder of its own; it can be started again after each end."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "s.sock"
        self.record = folder / "record"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.kill()

    def start(self, *options: str) -> None:
        command = [
            sys.executable,
            str(SERVER),
            str(self.socket),
            "--record",
            str(self.record),
            *options,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.wait()

    def wait(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.wait(PATIENCE_SECONDS)
        self.process.stdout.close()
        self.process = None

    def entries(self) -> list[Json]:
        if not self.record.exists():
            return []
        # A kill may leave half a line behind.
        whole = self.record.read_bytes().rpartition(b"\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def frames(self) -> list[Json]:
        return [entry["frame"] for entry in self.entries()]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        pause.wait(0.005)
