"""A throw-away PostgreSQL: prints its socket folder once it answers, ends when its standard input does.

Uses the server programs of this machine as an ordinary user, over a Unix socket alone, without fsync.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

START_SECONDS = 60.0


def find_programs() -> Path:
    """The newest folder that holds the server's programs."""
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4])
    )
    found = str(versions[-1]) if versions else shutil.which("initdb")
    if found is None:
        sys.exit("no initdb on this machine")
    return Path(found).parent


def ordinary_user() -> dict[str, Any]:
    """What makes a child somebody else than root; the server refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    entry = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def wait_until_ready(programs: Path, folder: Path, server: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + START_SECONDS
    ask = [str(programs / "pg_isready"), "-q", "-h", str(folder), "-U", "postgres"]
    while subprocess.run(ask, check=False, timeout=START_SECONDS).returncode != 0:
        if server.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"PostgreSQL did not start: {(folder / 'log').read_text()}")
        time.sleep(0.02)


def main() -> None:
    programs = find_programs()
    user = ordinary_user()
    folder = Path(tempfile.mkdtemp(prefix="aac-pg-"))
    try:
        if user:
            os.chown(folder, user["user"], user["group"])
        data = folder / "data"
        make = [str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "postgres"]
        make += ["--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run(
            make, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=START_SECONDS, **user
        )
        run = [str(programs / "postgres"), "-D", str(data), "-k", str(folder)]
        run += ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                run, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **user
            )
        try:
            wait_until_ready(programs, folder, server)
            print(folder, flush=True)
            sys.stdin.read()
        finally:
            # At once, without a last checkpoint: nobody opens this data again.
            server.send_signal(signal.SIGQUIT)
            server.wait(timeout=START_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
