"""Whether this machine can make a sandbox: one is made, and tried from inside. No version is believed."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from aiagent_coordinator.errors import SpawnError
from aiagent_coordinator.executors.programs import copy_programs
from aiagent_coordinator.sandbox.grants import Places, grants_of
from aiagent_coordinator.sandbox.plan import plan_of, wrapped
from aiagent_coordinator.sandbox.policy import Choice, Kind, Network
from aiagent_coordinator.wire.process import TimedOut, run_bounded

#: Two starts of Python on a busy machine.
PROBE_SECONDS = 20.0
#: A sandbox that could not be made is tried again after this: a person may have mended it.
AGAIN_SECONDS = 30.0
#: Run inside: says what it could do, a word each.
_TRY = """
import socket, sys
def attempt(word, act):
    try:
        act()
    except OSError:
        return
    print(word)
attempt("wrote", lambda: open("inside", "w").close())
attempt("peeked", lambda: open(sys.argv[1]).close())
attempt("connected", lambda: socket.create_connection(("127.0.0.1", int(sys.argv[2])), 5).close())
"""
_WORDS = {
    "wrote": "could not write its own workspace",
    "peeked": "could read what is hidden from it",
    "connected": "has the wrong network",
}


@dataclass(frozen=True)
class _Found:
    trouble: str | None
    at: float


class Prober:
    """Remembers what could be made here. Blocks; asked from threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[Kind, Network], _Found] = {}

    def trouble(self, kind: Kind, network: Network) -> str | None:
        """Why this sandbox cannot be made, or None. A good answer stands; a bad one is tried again."""
        if kind is Kind.NONE:
            return None
        with self._lock:
            known = self._found.get((kind, network))
            now = time.monotonic()
            if known is None or (known.trouble and now - known.at > AGAIN_SECONDS):
                known = _Found(probe(kind, network), now)
                self._found[kind, network] = known
            return known.trouble

    def known_trouble(self, kind: Kind, network: Network) -> str | None:
        """The last answer of `trouble`; None also when nobody has asked yet. Does not block."""
        known = self._found.get((kind, network))
        return known.trouble if known else None


def probe(kind: Kind, network: Network) -> str | None:
    """Make the sandbox around a small program that tries to get out; None when it holds."""
    try:
        with tempfile.TemporaryDirectory(prefix="aac-probe-") as name:
            return _probe(kind, network, Path(name).resolve())
    except (OSError, SpawnError, TimedOut) as error:
        return error.message if isinstance(error, SpawnError) else str(error)


def _probe(kind: Kind, network: Network, folder: Path) -> str | None:
    state, workspace, own = folder / "state", folder / "workspace", folder / "state" / "run"
    for each in (state, workspace):
        each.mkdir()
    copy_programs(own)
    hidden = state / "hidden"
    hidden.touch()
    places = Places(
        state_root=state,
        workspace=workspace,
        home=folder / "home",
        own=(own / "confine.py",),
        write=(workspace,),
    )
    (own / "plan").write_bytes(plan_of(kind, grants_of(places, Choice(kind, network))))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        program = [os.path.realpath(sys.executable), "-I", "-S", "-c", _TRY, str(hidden), port]
        command = wrapped(own, own / "plan", own / "mark", program)
        done = run_bounded(command, cwd=workspace, timeout_seconds=PROBE_SECONDS)
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    if not (own / "mark").exists() or not (own / "mark").stat().st_size or done.returncode:
        return said[-1] if said else f"it ended with {done.returncode}"
    wanted = {"wrote", "connected"} if network is Network.INHERIT else {"wrote"}
    wrong = wanted ^ set(done.stdout.decode("ascii", "replace").split())
    return None if not wrong else "; ".join(_WORDS[word] for word in sorted(wrong))
