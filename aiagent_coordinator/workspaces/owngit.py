"""Our git directory for one task: the repository's objects, an index per use, no code.

What the user's repository says about file modes, line ends and ignored files is copied into it as
values; nothing that names a program is.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from collections.abc import Generator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from aiagent_coordinator.errors import GitError
from aiagent_coordinator.ids import path_name
from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.workspaces.base import Author, Prepared, Reason, refusal
from aiagent_coordinator.workspaces.git import REFS_SECONDS, SCAN_SECONDS, Git, environment
from aiagent_coordinator.workspaces.naming import make_folder
from aiagent_coordinator.workspaces.repository import Repository, user_values

FORMAT = 1
_RECORD = "workspace.json"
#: Settings that change what a file's content or mode is; all are plain values.
_VALUES = (
    "core.filemode",
    "core.symlinks",
    "core.autocrlf",
    "core.eol",
    "core.ignorecase",
    "core.precomposeunicode",
    "core.sharedrepository",
)
#: Ignore and attribute files are short; one beyond this is no pattern file.
_PATTERN_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Record:
    """What we remember of a task's workspace.

    Attributes:
        known: What files that git would pass through a filter, and sub-modules, were at the start.
        nested: Repositories inside the user's checkout that were there before the run.
        sealed_tree: What the last seal held.
    """

    common_dir: str
    git_dir: str
    object_format: str
    path: str
    task: str
    branch: str | None = None
    ready: bool = False
    known: dict[str, str] = field(default_factory=dict[str, str])
    nested: list[str] = field(default_factory=list[str])
    sealed_tree: str | None = None


@dataclass(frozen=True)
class OwnGit:
    """Our git directory of one task together with its record."""

    directory: Path
    record: Record

    @property
    def repository(self) -> Repository:
        """The user's repository."""
        return Repository(Path(self.record.common_dir), self.record.object_format)

    @property
    def path(self) -> Path:
        """The work tree."""
        return Path(self.record.path)

    def git(self, author: Author | None = None) -> Git:
        """Git on our directory and the work tree; new objects go into the user's repository."""
        return Git(self.path, environment(author)).having(
            GIT_DIR=self.directory,
            GIT_WORK_TREE=self.path,
            GIT_OBJECT_DIRECTORY=Path(self.record.common_dir) / "objects",
            GIT_INDEX_FILE=self.directory / "no-index",
        )

    @contextlib.contextmanager
    def fresh_index(self, tree: str | None) -> Generator[Git]:
        """Git with an index of its own that starts from a tree, or empty, and knows nothing else.

        An index that lives on could carry planted file times; one that is shared could be locked by
        a call that outlived a kill.
        """
        index = self.directory / f"index.{os.getpid()}.{secrets.token_hex(4)}"
        git = self.git().having(GIT_INDEX_FILE=index)
        try:
            if tree is not None:
                git.run("read-tree", tree, seconds=SCAN_SECONDS)
            yield git
        finally:
            index.unlink(missing_ok=True)
            index.with_name(f"{index.name}.lock").unlink(missing_ok=True)

    def remember(self, record: Record) -> OwnGit:
        """Write the record, whole or not at all, and return the directory with it."""
        text = json.dumps({"format": FORMAT, **asdict(record)})
        _write(self.directory / _RECORD, text.encode("ascii"))
        return replace(self, record=record)

    def refresh(self) -> None:
        """Copy the user's values and patterns anew; old indexes of killed calls go."""
        common = Path(self.record.common_dir)
        values = user_values(Path(self.record.git_dir))
        for left in self.directory.glob("index.*"):
            if not _is_alive(int(left.name.split(".")[1])):
                left.unlink(missing_ok=True)
        for name in ("refs", "objects", "info"):
            (self.directory / name).mkdir(mode=0o700, exist_ok=True)
        _write(self.directory / "HEAD", b"ref: refs/heads/none\n")
        for name in ("info/exclude", "info/attributes", "shallow"):
            _copy(common / name, self.directory / name)
        settings = {key: values[key] for key in _VALUES if key in values}
        for key, name in (("core.excludesfile", "ignore"), ("core.attributesfile", "attributes")):
            copy = self.directory / "info" / f"global-{name}"
            _copy(_global_file(values.get(key), name, Path(self.record.git_dir).parent), copy)
            settings[key] = str(copy)
        _write(self.directory / "config", self._config(settings))

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Whether one commit is the other or one of its ancestors; unknown ones are not."""
        return older == newer or self.git().has("merge-base", "--is-ancestor", older, newer)

    def tree_of(self, commit: str) -> str:
        """The tree of a commit."""
        return self.git().line("rev-parse", "--verify", f"{commit}^{{tree}}")

    def run_of(self, commit: str) -> str:
        """The run a commit names in its trailers; empty when it names none."""
        how = "--format=%(trailers:key=Run-Id,valueonly,separator=%x20)"
        return self.git().line("log", "-1", "--no-show-signature", how, commit)

    def count_files(self, base: str | None, commit: str) -> int:
        """How many files differ between two commits; without a base, how many there are."""
        if base is None:
            return len(self.git().names("ls-tree", "-r", "-z", "--name-only", commit))
        how = ("-r", "-z", "--name-only", "--no-renames", "--ignore-submodules=none")
        return len(self.git().names("diff-tree", *how, base, commit))

    def count_lines(self, base: str | None, commit: str) -> tuple[int, int] | None:
        """Lines of text added and deleted between two commits; None without a base, or where git cannot say.

        It reads contents, which a partial clone may lack: nothing depends on it.
        """
        if base is None:
            return None
        how = ("-r", "-z", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv")
        try:
            done = self.git().run(
                "diff-tree", *how, base, commit, seconds=REFS_SECONDS, accept=range(256)
            )
        except GitError:
            return None
        if done.returncode != 0:
            return None
        counts = [one.split(b"\t", 2)[:2] for one in done.stdout.split(b"\0") if b"\t" in one]
        # of what is no text git says `-`
        told = [
            (int(more), int(less)) for more, less in counts if more.isdigit() and less.isdigit()
        ]
        return sum(more for more, _ in told), sum(less for _, less in told)

    def _config(self, settings: dict[str, str]) -> bytes:
        is_sha1 = self.record.object_format == "sha1"
        lines = [f"[core]\n\trepositoryformatversion = {0 if is_sha1 else 1}\n\tbare = false\n"]
        lines += [f"\t{key.partition('.')[2]} = {_quoted(settings[key])}\n" for key in settings]
        if not is_sha1:
            lines.append(f"[extensions]\n\tobjectformat = {self.record.object_format}\n")
        return os.fsencode("".join(lines))


def directory_of(state: StateDir, project_id: str, task_id: str) -> Path:
    """Where our git directory of a task lies; it is made when it does not exist."""
    return make_folder(state.git, f"{path_name(project_id)}/{path_name(task_id)}")


def recall(directory: Path) -> OwnGit | None:
    """Read what was remembered of a task's workspace; None when nothing was.

    Raises:
        GitError: the record is of another format.
    """
    try:
        values = json.loads((directory / _RECORD).read_bytes())
    except FileNotFoundError:
        return None
    if values.pop("format", None) != FORMAT:
        raise GitError(f"{directory / _RECORD} was written by another version", reason="git_failed")
    return OwnGit(directory, Record(**values))


def reopen(prepared: Prepared) -> OwnGit:
    """Open the git directory of a prepared workspace again, with the user's values of today.

    Raises:
        WorkspaceError: it, or the workspace itself, is gone.
    """
    own = None if prepared.git_dir is None else recall(prepared.git_dir)
    if own is None:
        raise refusal(
            Reason.WORKSPACE_MISSING, f"nothing is known of the workspace {prepared.path}"
        )
    if prepared.path.is_symlink() or not prepared.path.is_dir():
        raise refusal(
            Reason.WORKSPACE_MISSING,
            f"the workspace {prepared.path} is gone",
            hint="what was committed is still on its branch",
        )
    own.refresh()
    return own


def _global_file(named: str | None, name: str, base: Path) -> Path:
    """Where git looks for the user's own ignore or attributes file."""
    if named:
        return base / Path(named).expanduser()
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path(os.environ.get("HOME", "/")) / ".config")
    return Path(home) / "git" / name


def _copy(source: Path, target: Path) -> None:
    """Copy a small plain file; one that is missing or unreadable becomes a missing copy."""
    try:
        # A planted FIFO must not hold us.
        handle = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        target.unlink(missing_ok=True)
        return
    with os.fdopen(handle, "rb") as file:
        is_plain = stat.S_ISREG(os.fstat(handle).st_mode)
        data = file.read(_PATTERN_BYTES + 1) if is_plain else b""
    if len(data) > _PATTERN_BYTES:
        raise GitError(f"{source} is too large for a file of patterns", reason="git_failed")
    _write(target, data)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write(target: Path, data: bytes) -> None:
    draft = target.with_name(f"{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    draft.write_bytes(data)
    draft.replace(target)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
