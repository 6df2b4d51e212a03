"""Where things lie: the state directory, the run directory, the socket. Names only, no I/O but mkdir.

Everything of ours is under one state directory (0700) and one small runtime directory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiagent_coordinator.errors import ConfigError

APP = "aiagent-coordinator"
#: `sun_path` holds 108 bytes on Linux and 104 on macOS, with the final NUL; some clients append a suffix.
SOCKET_PATH_BYTES = 100
#: With less the databases and the records of what runs are about to meet a full disk.
LEAST_FREE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class StateDir:
    """The layout of one state directory."""

    root: Path

    @property
    def version_file(self) -> Path:
        """Layout version, one integer."""
        return self.root / "VERSION"

    @property
    def server_lock(self) -> Path:
        """Held by the process that owns the store and the socket."""
        return self.root / "server.lock"

    @property
    def coordinator_lock(self) -> Path:
        """Held by the process that runs the loop."""
        return self.root / "coordinator.lock"

    @property
    def operator_key(self) -> Path:
        """Lets our commands act as the person (0600)."""
        return self.root / "operator.key"

    @property
    def coordinator_key(self) -> Path:
        """Lets our loop act as the coordinator (0600)."""
        return self.root / "coordinator.key"

    @property
    def coordinator_id(self) -> Path:
        """This coordinator's random id."""
        return self.root / "coordinator_id"

    @property
    def epoch(self) -> Path:
        """The number of the coordinator's current life; a higher one fences it."""
        return self.root / "epoch"

    @property
    def journal(self) -> Path:
        """The coordinator's own database."""
        return self.root / "journal.db"

    @property
    def store(self) -> Path:
        """The server's database."""
        return self.root / "store.db"

    @property
    def runs(self) -> Path:
        """One folder per run."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """Readable merged logs."""
        return self.root / "logs"

    @property
    def git(self) -> Path:
        """Git directories of ours, one per project."""
        return self.root / "git"

    @property
    def worktrees(self) -> Path:
        """Worktrees of runs."""
        return self.root / "worktrees"

    @property
    def quarantine(self) -> Path:
        """What was damaged and set aside."""
        return self.root / "quarantine"

    def run(self, run_id: str) -> Path:
        """The folder of one run."""
        return self.runs / run_id

    def is_full(self) -> bool:
        """Whether its disk has no room for what must be written next: records, journal, board."""
        try:
            info = os.statvfs(self.root)
        except OSError:
            return False
        return info.f_bavail * info.f_frsize < LEAST_FREE_BYTES

    def create(self) -> None:
        """Make the folders, readable by the owner alone.

        Raises:
            ConfigError: the folder cannot be made or belongs to somebody else.
        """
        try:
            for folder in (self.root, self.runs, self.logs, self.git, self.worktrees):
                make_private(folder)
        except OSError as error:
            raise ConfigError(
                f"the state directory {self.root} cannot be used: {error.strerror}",
                hint="choose another with state_dir, or mend its permissions",
            ) from error


def make_private(folder: Path) -> None:
    """Make a folder that only its owner can enter, refusing a link or somebody else's.

    Raises:
        ConfigError: it is a link, no folder, or not ours.
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = folder.lstat()
    if not folder.is_dir() or folder.is_symlink():
        raise ConfigError(f"{folder} is not a plain folder")
    if info.st_uid != os.geteuid():
        raise ConfigError(f"{folder} belongs to another user")
    if info.st_mode & 0o077:
        folder.chmod(0o700)


def instance_id(config_file: Path | None, state_dir: Path | None = None) -> str:
    """The short name of one installation: 12 hex of its config file's real path.

    Without a config file: of the explicit state directory; without that `default`.
    """
    origin = config_file or state_dir
    if origin is None:
        return "default"
    return hashlib.sha256(os.fsencode(origin.resolve())).hexdigest()[:12]


def default_state_dir(config_file: Path | None) -> Path:
    """The state directory of a config file that names none."""
    return _user_state_dir() / instance_id(config_file)


def user_config_dir() -> Path:
    """The folder of the user's own settings."""
    import platformdirs  # noqa: PLC0415 - it makes a quick command slower, most need none of it

    return Path(platformdirs.user_config_dir(APP))


def _user_state_dir() -> Path:
    import platformdirs  # noqa: PLC0415 - as above

    return Path(platformdirs.user_state_dir(APP))


def runtime_dir() -> Path:
    """The folder of sockets: the session's runtime folder, else a private one under the temporary folder."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and Path(base).is_dir():
        return Path(base) / APP
    import tempfile  # noqa: PLC0415 - rarely needed, and it makes a quick command slower

    return Path(tempfile.gettempdir()) / f"{APP}-{os.geteuid()}"


def default_socket(config_file: Path | None, state_dir: Path | None = None) -> Path:
    """The socket of a configuration that names none."""
    return runtime_dir() / f"{instance_id(config_file, state_dir)}.sock"


def check_socket_path(path: Path) -> Path:
    """Return the path if a socket can be bound there.

    Raises:
        ConfigError: it is longer than `SOCKET_PATH_BYTES` bytes.
    """
    size = len(os.fsencode(path))
    if size > SOCKET_PATH_BYTES:
        raise ConfigError(
            f"the socket path has {size} bytes, at most {SOCKET_PATH_BYTES} work: {path}",
            hint="set socket to a shorter path",
        )
    return path


def door_of(socket: Path) -> Path:
    """A second name of the socket, alone in a folder of its own.

    A sandbox that shows single files would show a socket that dies with its server. A folder shows
    the next server's, too.
    """
    return socket.with_name(f"{socket.name}.d") / "s"


def pointer_files(config_file: Path | None, state_dir: Path | None = None) -> Iterator[Path]:
    """The two small files that tell quick commands where the server is, the runtime folder's first."""
    name = f"{instance_id(config_file, state_dir)}.json"
    yield runtime_dir() / name
    yield _user_state_dir() / name


def run_temp_name(run_id: str) -> str:
    """What a run's temporary folder is called. It follows from the run, so whoever looks finds it."""
    return "aac-" + hashlib.sha256(run_id.encode()).hexdigest()[:10]


def host_id() -> str:
    """A name for this machine that outlives restarts; the host name where the system has none."""
    for candidate in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        try:
            text = candidate.read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text:
            return text
    return os.uname().nodename
