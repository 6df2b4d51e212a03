"""What a sandbox leaves open: the system to read, the run's own places to write, nothing else."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiagent_coordinator
from aiagent_coordinator.errors import SpawnError
from aiagent_coordinator.sandbox.policy import Choice, Network

#: Programs and libraries of the system; what does not exist is left out.
SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt"),
    *("/nix/store", "/gnu/store", "/run/current-system", "/home/linuxbrew/.linuxbrew"),
    "/sys/devices/system/cpu",
)
#: What programs read of /etc. Not all of it: for root, passwords and keys would be among it.
ETC = tuple(
    f"/etc/{name}"
    for name in (
        *("alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf"),
        *("crypto-policies", "debian_version", "fonts", "gai.conf", "gitconfig", "group"),
        *("host.conf", "hostname", "hosts", "inputrc", "ld.so.cache", "ld.so.conf"),
        *("ld.so.conf.d", "localtime", "locale.alias", "locale.conf", "login.defs"),
        *("lsb-release", "machine-id", "magic", "mime.types", "nsswitch.conf", "os-release"),
        *("passwd", "pki/ca-trust", "pki/tls/certs", "pki/tls/cert.pem", "profile", "profile.d"),
        *("protocols", "resolv.conf", "services", "shells", "ssl/certs", "ssl/cert.pem"),
        *("ssl/openssl.cnf", "terminfo", "timezone"),
    )
)
#: Git's own settings: the agent's commits bear the user's name.
GIT_SETTINGS = (".gitconfig", ".config/git")
_SHEBANG_BYTES = 256


@dataclass(frozen=True)
class Places:
    """The places of one run.

    Attributes:
        state_root: The state directory: nothing of it is open but what is named here.
        own: What the run reads of its own folder.
        write: What it writes: workspace, temporary folder, the CLI's own state, git's folders.
        read: What it reads beside the system: the repository, settings of the CLI.
        door: A folder that holds the server's socket, or the socket; None for what may not call it.
        programs: The CLI, and whatever else must be there to be started.
    """

    state_root: Path
    workspace: Path
    home: Path
    own: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    read: tuple[Path, ...] = ()
    door: Path | None = None
    programs: tuple[Path, ...] = ()
    path_env: str = ""


@dataclass(frozen=True)
class Grants:
    """What is open, each path as it is written; a path below another may only widen it."""

    workspace: Path
    home: Path
    read: tuple[Path, ...]
    write: tuple[Path, ...]
    #: Folders of which the names may be seen, and nothing more.
    listed: tuple[Path, ...] = ()
    door: Path | None = None
    network: Network = Network.INHERIT


def grants_of(places: Places, choice: Choice) -> Grants:
    """Work out what a run's sandbox leaves open. Looks at the file system, changes nothing.

    Raises:
        SpawnError: something that is to be open would open the state directory.
    """
    folders, listed = _python()
    found = [Path(name) for name in (*SYSTEM, *ETC)]
    found += folders
    found += [Path(folder) for folder in places.path_env.split(os.pathsep) if folder]
    for program in places.programs:
        found += program_folders(program, places.path_env)
    # what nobody asked for by name never opens the home: keys lie there
    read = [path for path in found if not places.home.is_relative_to(path)]
    read += [*(places.home / name for name in GIT_SETTINGS), *places.read, *choice.read]
    write = [*places.write, *choice.write]
    for path in (*read, *write):
        _refuse_state(path, places)
    return Grants(
        workspace=places.workspace,
        home=places.home,
        read=(*_there(read), *places.own),
        write=_there(write),
        listed=_there(listed),
        door=places.door,
        network=choice.network,
    )


def program_folders(program: Path, path_env: str) -> Iterator[Path]:
    """What a program needs around itself: its folder, its libraries, its package, its interpreter."""
    for path in dict.fromkeys((program, Path(os.path.realpath(program)))):
        yield from (path, path.parent)
        package = _package(path)
        if package is not None:
            yield package
        if path.parent.name == "bin":
            prefix = path.parent.parent
            yield from (prefix / name for name in ("lib", "lib64", "libexec", "pyvenv.cfg"))
    interpreter = _interpreter(program, path_env)
    if interpreter is not None and interpreter != program:
        yield from program_folders(interpreter, path_env)


def _package(path: Path) -> Path | None:
    """The outermost `node_modules` around a program: its package's own packages lie there."""
    if "node_modules" not in path.parts:
        return None
    return Path(*path.parts[: path.parts.index("node_modules") + 1])


def _interpreter(program: Path, path_env: str) -> Path | None:
    """The program that a script's first line names."""
    try:
        with program.open("rb") as file:
            line = file.read(_SHEBANG_BYTES).partition(b"\n")[0]
    except OSError:
        return None
    words = os.fsdecode(line[2:]).split() if line.startswith(b"#!") else []
    if not words:
        return None
    if Path(words[0]).name != "env":
        return Path(words[0])
    names = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    found = shutil.which(names[0], path=path_env) if names else None
    return Path(found) if found else None


def _python() -> tuple[list[Path], list[Path]]:
    """Our interpreter, which runs launcher and bridge, and our package, which the rehearsal needs."""
    prefixes = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.exec_prefix)}
    program = Path(os.path.realpath(sys.executable))
    package = Path(aiagent_coordinator.__file__).parent
    # a package that is installed for editing is found by listing the folder around it
    return [*sorted(prefixes), program, package], [package.parent]


def _refuse_state(path: Path, places: Places) -> None:
    """Nothing that is opened may hold the state directory or lie in it, as written or as links lead."""
    for one in dict.fromkeys((os.path.normpath(path), os.path.realpath(path))):
        for root in dict.fromkeys((str(places.state_root), os.path.realpath(places.state_root))):
            if Path(root).is_relative_to(one) or (
                Path(one).is_relative_to(root) and not _is_own(Path(one), places)
            ):
                raise SpawnError(
                    f"the sandbox would open the state directory {root} by {path}",
                    hint="set state_dir to a folder of its own, or open less",
                )


def _is_own(path: Path, places: Places) -> bool:
    own = (places.workspace, *places.write, *places.read, *places.own)
    return any(path in {one, Path(os.path.realpath(one))} for one in own)


def _there(paths: list[Path]) -> tuple[Path, ...]:
    return tuple(path for path in dict.fromkeys(paths) if path.exists())
