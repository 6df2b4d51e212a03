"""A process that holds locks as server or loop do, until it is told to end.

`lock_holder.py [--stubborn] LOCK...` prints "ready", then the name of each signal it gets; SIGTERM and
SIGUSR1 end it unless it is stubborn. `--no-note` empties the notes, `--wrong-note` names another process.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import time
from pathlib import Path
from types import FrameType

from aiagent_coordinator.wire import lockfile

ended = False


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stubborn", action="store_true")
    parser.add_argument("--no-note", action="store_true")
    parser.add_argument("--wrong-note", action="store_true")
    parser.add_argument("locks", nargs="+")
    options = parser.parse_args()

    def on_signal(number: int, _: FrameType | None) -> None:
        global ended  # noqa: PLW0603 - a handler has nowhere else to say it
        print(signal.Signals(number).name, flush=True)
        ended = not options.stubborn

    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, on_signal)
    for lock in options.locks:
        if options.no_note:
            file = os.open(lock, os.O_RDWR | os.O_CREAT)
            fcntl.flock(file, fcntl.LOCK_EX)
            continue
        lockfile.take(lock, role="server", version="0.1.0")
        if options.wrong_note:
            note = lockfile.read(lock) or {}
            with Path(lock).open("w", encoding="ascii") as text:
                json.dump({**note, "start_ticks": 1}, text)
    print("ready", flush=True)
    while not ended:
        time.sleep(0.01)


if __name__ == "__main__":
    main()
