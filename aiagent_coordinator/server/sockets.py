"""The Unix socket: made so that only its owner can reach it, and never taken from a living server.

Making and probing block for microseconds; call them before the event loop serves anybody.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aiagent_coordinator.errors import AlreadyRunningError, ConfigError
from aiagent_coordinator.paths import check_socket_path, door_of, make_private

#: Connections the kernel holds for us while the server is still starting.
BACKLOG = 2048
#: A living server accepts from its backlog at once; this bounds the probe of a wedged one.
PROBE_SECONDS = 2.0
# <sys/un.h> and <sys/ucred.h> of macOS; Python has no names for them.
_SOL_LOCAL, _LOCAL_PEERCRED, _LOCAL_PEERPID = 0, 1, 2


@dataclass(frozen=True)
class Peer:
    """Who is at the other end of a connection; pid 0 = in a process namespace we cannot see."""

    pid: int
    uid: int


def bind_socket(path: Path) -> socket.socket:
    """Make the listening socket: 0600, in a folder that nobody else can change (0700 if we make it).

    The caller holds the state directory's lock: two servers that start on one path at the same
    moment are told apart there, not here. A leftover of a dead server is replaced. The socket is non-blocking and listens already, so
    that connections wait until somebody accepts.

    Raises:
        ConfigError: the path is too long, or something in the way is not ours to remove.
        AlreadyRunningError: a server answers there.
    """
    check_socket_path(path)
    _check_folder(path.parent)
    _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind_private(listener, path)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def open_door(path: Path) -> None:
    """Give a bound socket its second name, for sandboxes; see `paths.door_of`. Linux only.

    Where that cannot be made, one of an earlier server is removed: nobody answers there any more.

    Raises:
        ConfigError: what is in the way is not ours.
        OSError: the file system does not know second names.
    """
    if not sys.platform.startswith("linux"):
        return
    door = door_of(path)
    make_private(door.parent)
    draft = door.with_suffix(".new")
    try:
        draft.unlink(missing_ok=True)
        draft.hardlink_to(path)
        draft.replace(door)
    except OSError:
        with suppress(OSError):
            door.unlink(missing_ok=True)
        raise


def _check_folder(folder: Path) -> None:
    """Make the folder if there is none; never change the rights of one that a person made."""
    hint = "set socket to a path in a folder of yours"
    try:
        if not os.path.lexists(folder):
            make_private(folder)
        info = folder.lstat()
    except OSError as error:
        message = f"the socket folder {folder} cannot be used: {error.strerror}"
        raise ConfigError(message, hint=hint) from error
    if not stat.S_ISDIR(info.st_mode):
        raise ConfigError(f"the socket folder {folder} is not a plain folder", hint=hint)
    if info.st_uid != os.geteuid():
        raise ConfigError(f"the socket folder {folder} belongs to another user", hint=hint)
    # who can write there can put a socket of their own in place of ours
    if info.st_mode & 0o022:
        raise ConfigError(f"others can write to the socket folder {folder}", hint=hint)


def _bind_private(listener: socket.socket, path: Path) -> None:
    # the file must never exist with more rights than it ends up with
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AlreadyRunningError(f"another server took {path} at this moment") from error
        raise ConfigError(f"no socket can be made at {path}: {error.strerror}") from error
    finally:
        os.umask(before)


def _clear(path: Path) -> None:
    """Remove the socket of a dead server of ours; refuse everything else that is in the way."""
    try:
        info = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(info.st_mode):
        raise ConfigError(f"{path} is a symbolic link; a socket is never made through one")
    if not stat.S_ISSOCK(info.st_mode):
        raise ConfigError(f"{path} exists and is not a socket", hint="remove it or set socket")
    if info.st_uid != os.geteuid():
        raise ConfigError(f"{path} belongs to another user")
    if is_live(path):
        raise AlreadyRunningError(f"a server already answers at {path}")
    path.unlink(missing_ok=True)


def is_live(path: Path) -> bool:
    """Say whether somebody listens on this socket; a full backlog counts as living."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except (TimeoutError, BlockingIOError):
            return True
        except OSError as error:
            raise ConfigError(f"{path} cannot be probed: {error.strerror}") from error
    return True


def peer_of(connection: socket.socket) -> Peer:
    """Ask the kernel who connected.

    Raises:
        OSError: the kernel does not say (the peer is gone on some systems).
    """
    if sys.platform == "darwin":
        # struct xucred: version, uid, number of groups, 16 groups
        raw = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 76)
        uid = struct.unpack_from("=II", raw)[1]
        pid = struct.unpack("=i", connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID, 4))[0]
        return Peer(pid=pid, uid=uid)
    size = struct.calcsize("=iII")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid, uid, _gid = struct.unpack("=iII", raw)
    return Peer(pid=pid, uid=uid)
