"""A sandbox as the launcher reads it: words of the program that makes it, or rules for the kernel. Pure."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from aiagent_coordinator.errors import SpawnError
from aiagent_coordinator.sandbox.grants import Grants
from aiagent_coordinator.sandbox.policy import Kind, Network

#: Devices that any program may use. Not /dev/shm: what lies there is everybody's.
DEVICES = (
    *("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"),
    *("/dev/tty", "/dev/ptmx", "/dev/pts", "/dev/fd"),
)
#: Whom root is inside bwrap: many programs refuse to work unasked for root.
ORDINARY_ID = "1000"
PROGRAMS = {Kind.BWRAP: "bwrap", Kind.SANDBOX_EXEC: "sandbox-exec"}


def plan_of(kind: Kind, grants: Grants, *, path_env: str | None = None) -> bytes:
    """The plan file of a sandbox.

    Args:
        kind: Which; not `none`.
        grants: What it leaves open.
        path_env: Where the program that makes it is looked for; our own PATH by default.

    Raises:
        SpawnError: that program is not there.
    """
    if kind is Kind.LANDLOCK:
        fields = ["landlock", grants.network.value, *landlock_rules(grants)]
    else:
        program = shutil.which(PROGRAMS[kind], path=path_env)
        if program is None:
            raise SpawnError(f"{PROGRAMS[kind]} was not found on PATH")
        words = bwrap_words(grants) if kind is Kind.BWRAP else seatbelt_words(grants)
        fields = ["through", os.path.abspath(program), *words]  # noqa: PTH100 - links stay
    return b"".join(os.fsencode(field) + b"\0" for field in fields)


def wrapped(run_dir: Path, plan: Path, mark: Path, command: Sequence[str]) -> tuple[str, ...]:
    """The command line that starts a command inside the sandbox of a plan."""
    python = os.path.realpath(sys.executable)
    program = str(run_dir / "confine.py")
    return (python, "-I", "-S", program, str(plan), str(mark), "--", *command)


def landlock_rules(grants: Grants) -> Iterator[str]:
    """Pairs of access and path. What the kernel is not told about is refused."""
    groups = {
        "read": [*grants.read, Path("/proc")],
        "list": grants.listed,
        "device": [Path(name) for name in DEVICES],
        "write": grants.write,
    }
    for access, paths in groups.items():
        for path in paths:
            yield from (access, str(path))


def bwrap_words(grants: Grants) -> list[str]:
    """The arguments of bubblewrap: an empty file system with what is open put into it."""
    words = ["--die-with-parent", "--unshare-user", "--unshare-pid", "--unshare-ipc"]
    words += ["--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL"]
    if grants.network is Network.NONE:
        words.append("--unshare-net")
    if os.geteuid() == 0:
        words += ["--uid", ORDINARY_ID, "--gid", ORDINARY_ID]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for path, way in _mounts(grants):
        if len(path.parts) == 2 and path.is_symlink():
            # a link at the top of the file system (`/bin`) stays the link it is
            words += ["--symlink", str(path.readlink()), str(path)]
        else:
            words += [way, str(path)] if way == "--tmpfs" else [way, str(path), str(path)]
    return [*words, "--remount-ro", "/", "--chdir", str(grants.workspace), "--"]


def _mounts(grants: Grants) -> Iterator[tuple[Path, str]]:
    """What is mounted and how, in order: a folder before what lies in it, else it would cover it."""
    ways = {Path("/tmp"): "--tmpfs"}  # noqa: S108 - its own inside
    if grants.home != Path("/"):
        ways[grants.home] = "--tmpfs"
    read = [*grants.read, *([grants.door] if grants.door else [])]
    for way, paths in (("--ro-bind", read), ("--bind", grants.write)):
        for path in paths:
            # by both names: programs remember either
            ways[path] = ways[Path(os.path.realpath(path))] = way
    for path in sorted(ways, key=lambda one: one.parts):
        around = next((ways[above] for above in path.parents if above in ways), None)
        if not (around == ways[path] != "--tmpfs"):
            yield path, ways[path]


def seatbelt_words(grants: Grants) -> list[str]:
    """The arguments of macOS's sandbox-exec. Written from its documentation; nobody has run it yet."""
    profile = [
        "(version 1)",
        "(deny default)",
        '(import "system.sb")',
        "(allow process-exec process-fork signal sysctl-read mach-lookup)",
        '(allow file-read-metadata file-ioctl (subpath "/"))',
    ]
    system = [Path("/System"), Path("/Library"), Path("/private/etc"), Path("/private/var/db")]
    profile += [f"(allow file-read* {_subpath(path)})" for path in (*system, *grants.read)]
    profile += [f"(allow file-read* file-write* {_subpath(path)})" for path in grants.write]
    profile += [f"(allow file-read* file-write-data (literal {_quoted(d)}))" for d in DEVICES]
    if grants.network is Network.INHERIT:
        profile.append("(allow network*)")
    if grants.door is not None:
        profile.append(f"(allow network-outbound {_subpath(grants.door)})")
    return ["-p", "\n".join(profile)]


def _subpath(path: Path) -> str:
    """A folder with all in it, or one file. The system compares with links followed."""
    real = Path(os.path.realpath(path))
    try:
        is_folder = stat.S_ISDIR(real.stat().st_mode)
    except OSError:
        is_folder = True
    return f"({'subpath' if is_folder else 'literal'} {_quoted(str(real))})"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
