from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from aiagent_coordinator.errors import AlreadyRunningError, ConfigError
from aiagent_coordinator.server.sockets import bind_socket, is_live, peer_of


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_new_socket_and_its_new_folder_are_for_their_owner_alone(short_dir: Path) -> None:
    before = os.umask(0)
    try:
        with bind_socket(short_dir / "in" / "s"):
            assert _mode(short_dir / "in" / "s") == 0o600
            assert _mode(short_dir / "in") == 0o700
        assert os.umask(0) == 0, "the umask is as it was"
    finally:
        os.umask(before)


def test_a_folder_that_a_person_made_keeps_its_rights(short_dir: Path) -> None:
    folder = short_dir / "in"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with bind_socket(folder / "s"):
        assert _mode(folder) == 0o755


def test_a_folder_that_others_can_write_to_is_refused(short_dir: Path) -> None:
    folder = short_dir / "in"
    folder.mkdir()
    folder.chmod(0o1777)
    with pytest.raises(ConfigError, match="others can write"):
        bind_socket(folder / "s")
    assert _mode(folder) == 0o1777


def test_a_folder_behind_a_link_is_refused(short_dir: Path) -> None:
    (short_dir / "real").mkdir(mode=0o700)
    (short_dir / "link").symlink_to("real")
    with pytest.raises(ConfigError, match="not a plain folder"):
        bind_socket(short_dir / "link" / "s")


@pytest.mark.needs("root")
def test_a_folder_or_socket_of_another_user_is_refused(short_dir: Path) -> None:
    folder = short_dir / "in"
    folder.mkdir(mode=0o700)
    leftover = socket.socket(socket.AF_UNIX)
    leftover.bind(str(folder / "s"))
    leftover.close()
    os.chown(folder / "s", 65534, 65534)
    with pytest.raises(ConfigError, match="belongs to another user"):
        bind_socket(folder / "s")
    os.chown(folder, 65534, 65534)
    with pytest.raises(ConfigError, match="belongs to another user"):
        bind_socket(folder / "s")
    assert (folder / "s").exists()


@pytest.mark.parametrize("kind", ["link", "dangling link", "file", "folder", "fifo"])
def test_what_is_no_socket_is_refused_and_left_alone(short_dir: Path, kind: str) -> None:
    path = short_dir / "s"
    match kind:
        case "link":
            (short_dir / "real").touch()
            path.symlink_to("real")
        case "dangling link":
            path.symlink_to("nowhere")
        case "file":
            path.write_text("mine")
        case "folder":
            path.mkdir()
        case _:
            os.mkfifo(path)
    with pytest.raises(ConfigError):
        bind_socket(path)
    assert os.path.lexists(path)


def test_the_leftover_of_a_dead_server_is_replaced(short_dir: Path) -> None:
    bind_socket(short_dir / "s").close()
    assert (short_dir / "s").exists()
    assert not is_live(short_dir / "s")
    with bind_socket(short_dir / "s"):
        assert is_live(short_dir / "s")


def test_a_living_server_keeps_its_socket(short_dir: Path) -> None:
    with bind_socket(short_dir / "s"):
        inode = (short_dir / "s").stat().st_ino
        with pytest.raises(AlreadyRunningError, match="already answers"):
            bind_socket(short_dir / "s")
        assert (short_dir / "s").stat().st_ino == inode


def test_a_wedged_server_with_a_full_backlog_counts_as_living(short_dir: Path) -> None:
    path = short_dir / "s"
    with socket.socket(socket.AF_UNIX) as wedged, socket.socket(socket.AF_UNIX) as first:
        wedged.bind(str(path))
        wedged.listen(0)
        first.connect(str(path))
        assert is_live(path)


def test_a_path_that_no_socket_can_have_is_named_with_its_length(short_dir: Path) -> None:
    path = short_dir / ("x" * 100)
    with pytest.raises(ConfigError, match=f"{len(os.fsencode(path))} bytes"):
        bind_socket(path)


def test_connections_wait_before_anybody_accepts(short_dir: Path) -> None:
    with bind_socket(short_dir / "s") as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(short_dir / "s"))
        client.sendall(b"early\n")
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(100) == b"early\n"


def test_the_kernel_says_who_connected(short_dir: Path) -> None:
    code = "import socket,sys; s=socket.socket(1); s.connect(sys.argv[1]); sys.stdin.read()"
    with (
        bind_socket(short_dir / "s") as listener,
        subprocess.Popen(
            [sys.executable, "-c", code, str(short_dir / "s")], stdin=subprocess.PIPE
        ) as child,
    ):
        listener.setblocking(True)
        connection, _ = listener.accept()
        with connection:
            peer = peer_of(connection)
        assert child.stdin is not None
        child.stdin.close()
        assert (peer.pid, peer.uid) == (child.pid, os.geteuid())
