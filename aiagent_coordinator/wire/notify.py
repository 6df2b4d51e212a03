"""Tells the service manager how we are: systemd's notify protocol, one datagram a fact.

Nothing is ever waited for: a manager that does not read costs nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping

#: What names the manager's socket, and what it expects of a watchdog.
VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
#: Signs of life within the time after which the manager believes us dead.
SIGNS_PER_LIMIT = 3.0


class Notifier:
    """The way to the manager; without one every word is dropped."""

    def __init__(self, address: str = "", watchdog_seconds: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_seconds = watchdog_seconds if self._address else None
        self._last_sign: float | None = None

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Notifier:
        """Take the manager's variables out of an environment: they are meant for this process alone."""
        address, limit, pid = (environment.pop(name, "") for name in VARIABLES)
        if not address.startswith(("/", "@")):
            return cls()
        is_ours = pid in {"", str(os.getpid())}
        seconds = int(limit) / 1e6 if limit.isdecimal() and is_ours else 0.0
        return cls(address, seconds or None)

    @property
    def is_watched(self) -> bool:
        """Whether signs of life are expected."""
        return self.watchdog_seconds is not None

    @property
    def sign_seconds(self) -> float:
        """How far apart signs of life may be at most; infinite without a watchdog."""
        limit = self.watchdog_seconds
        return float("inf") if limit is None else limit / SIGNS_PER_LIMIT

    def ready(self) -> None:
        """Say that we answer: at the start, and after a reload."""
        self.send("READY=1")

    def reloading(self) -> None:
        """Say that the settings are being read again; `ready` ends it."""
        self.send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self.send("STOPPING=1")

    def sign_of_life(self) -> None:
        """Say that work makes progress; called as often as it does, sent as rarely as is enough."""
        now = time.monotonic()
        if not self.is_watched:
            return
        if self._last_sign is None or now - self._last_sign >= self.sign_seconds / 2:
            self._last_sign = now
            self.send("WATCHDOG=1")

    def send(self, words: str) -> None:
        """Send lines of `NAME=value`. What cannot be sent is dropped."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.setblocking(False)
                out.sendto(words.encode(), self._address)
        except (OSError, ValueError):
            pass
