"""Runs a command where there is no network but the loopback: `loopback_only.py COMMAND [WORD ...]`.

It makes a network namespace for itself, as an ordinary user inside a user namespace of its own, brings its
loopback up, and becomes the command. Whatever the command starts is in there too, and can reach nobody.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def main() -> None:
    user, group = os.geteuid(), os.getegid()
    flags = CLONE_NEWNET if user == 0 else CLONE_NEWNET | CLONE_NEWUSER
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"no network namespace: {os.strerror(error)}")
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1", encoding="ascii")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        name = struct.pack("16sh14x", b"lo", 0)
        (now,) = struct.unpack("16xh14x", fcntl.ioctl(plug, SIOCGIFFLAGS, name))
        fcntl.ioctl(plug, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", now | IFF_UP))
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
