"""Every call of git: one bounded process, nothing inherited, nothing of a repository's executed.

A repository's configuration is code (hooks, filters, monitors, drivers). Calls that commit run on
a git directory of ours that has none of it; the few that must read the user's own override every
key that names a program.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiagent_coordinator.errors import GitError
from aiagent_coordinator.wire import process
from aiagent_coordinator.workspaces.base import Author, Reason

#: Reading and moving refs: milliseconds; a minute means a hung file system.
REFS_SECONDS = 60.0
#: Listing and comparing a work tree of 100,000s of files on a slow disk.
SCAN_SECONDS = 600.0
#: Writing or hashing a whole work tree with large files in it.
TREE_SECONDS = 1800.0
#: A listing of a million paths of 250 bytes each.
OUTPUT_BYTES = 256 * 1024 * 1024
#: How much of git's own words an error keeps.
_STDERR_CHARS = 2000

#: Keys that name a program or make git start one, each set to what starts nothing.
OVERRIDES: tuple[tuple[str, str], ...] = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.pager", "cat"),
    ("core.editor", "false"),
    ("core.askPass", ""),
    ("core.sshCommand", "false"),
    ("core.gitProxy", ""),
    ("core.alternateRefsCommand", "false"),
    ("core.untrackedCache", "false"),
    ("core.splitIndex", "false"),
    ("index.sparse", "false"),
    ("sequence.editor", "false"),
    ("credential.helper", ""),
    ("diff.external", ""),
    ("interactive.diffFilter", ""),
    ("gpg.program", "false"),
    ("commit.gpgSign", "false"),
    ("tag.gpgSign", "false"),
    ("log.showSignature", "false"),
    ("uploadpack.packObjectsHook", ""),
    ("protocol.allow", "never"),
    ("protocol.ext.allow", "never"),
    ("submodule.recurse", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("core.safecrlf", "false"),
    ("advice.detachedHead", "false"),
    ("advice.addEmbeddedRepo", "false"),
    ("advice.addIgnoredFile", "false"),
    # The project's path was declared by the user; nothing of another owner's repository is executed.
    ("safe.directory", "*"),
)


def environment(author: Author | None = None) -> dict[str, str]:
    """The whole environment of a call: nothing of ours passes but PATH."""
    who = author or Author()
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        # Not a folder: git finds no ignore or attributes file of the user's there.
        "HOME": os.devnull,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_GRAFT_FILE": os.devnull,
        # An empty list of transports: nothing reaches the network or starts a helper.
        "GIT_ALLOW_PROTOCOL": "",
        "GIT_PAGER": "cat",
        "GIT_EDITOR": "false",
        "GIT_ASKPASS": "",
        "GIT_AUTHOR_NAME": who.name,
        "GIT_AUTHOR_EMAIL": who.email,
        "GIT_COMMITTER_NAME": who.name,
        "GIT_COMMITTER_EMAIL": who.email,
        "GIT_CONFIG_COUNT": str(len(OVERRIDES)),
    }
    for number, (key, value) in enumerate(OVERRIDES):
        env[f"GIT_CONFIG_KEY_{number}"] = key
        env[f"GIT_CONFIG_VALUE_{number}"] = value
    return env


def user_environment() -> dict[str, str]:
    """The environment in which `git config` alone is asked for the user's effective values."""
    kept = ("PATH", "HOME", "XDG_CONFIG_HOME")
    env = {key: os.environ[key] for key in kept if key in os.environ}
    return {"PATH": os.defpath, "LC_ALL": "C", "GIT_PAGER": "cat", **env}


@dataclass(frozen=True)
class Git:
    """git in one folder with one environment."""

    cwd: Path
    env: Mapping[str, str] = field(default_factory=environment)

    def having(self, **variables: str | Path) -> Git:
        """The same with more variables."""
        return Git(self.cwd, {**self.env, **{key: str(value) for key, value in variables.items()}})

    def run(
        self,
        *args: str,
        stdin: bytes = b"",
        seconds: float = REFS_SECONDS,
        accept: Sequence[int] = (0,),
    ) -> process.Completed:
        """Run one command and return what it said.

        Raises:
            GitError: it is missing, took longer than `seconds`, or its status is not in `accept`.
        """
        try:
            done = process.run_bounded(
                ("git", "--no-pager", *args),
                cwd=self.cwd,
                env=self.env,
                timeout_seconds=seconds,
                stdin=stdin,
                max_output_bytes=OUTPUT_BYTES,
            )
        except process.TimedOut as error:
            raise GitError(
                f"git {args[0]} took longer than {seconds:g} s",
                reason=Reason.TIMED_OUT.value,
                command=args[0],
            ) from error
        except OSError as error:
            raise GitError(
                f"git cannot be run in {self.cwd}: {error.strerror}",
                hint="install git, and see that it is on PATH",
                reason=Reason.GIT_MISSING.value,
            ) from error
        if done.returncode not in accept:
            words = done.stderr.decode("utf-8", "replace").strip()[-_STDERR_CHARS:]
            raise GitError(
                f"git {args[0]} failed ({done.returncode}): {words or 'it said nothing'}",
                reason=Reason.GIT_FAILED.value,
                command=args[0],
                status=done.returncode,
            )
        if done.truncated:
            raise GitError(f"git {args[0]} said more than can be held", reason="git_failed")
        return done

    def line(self, *args: str, stdin: bytes = b"", seconds: float = REFS_SECONDS) -> str:
        """Run one command and return its output without the final newline."""
        return os.fsdecode(self.run(*args, stdin=stdin, seconds=seconds).stdout.rstrip(b"\n"))

    def names(self, *args: str, stdin: bytes = b"", seconds: float = SCAN_SECONDS) -> list[str]:
        """Run one command and return its NUL-separated output."""
        out = self.run(*args, stdin=stdin, seconds=seconds).stdout
        return [os.fsdecode(item) for item in out.split(b"\0") if item]

    def has(self, *args: str) -> bool:
        """Run one command that answers with its exit status; an error counts as no."""
        return self.run(*args, accept=range(256)).returncode == 0


def joined(names: Sequence[str]) -> bytes:
    """Write names the way `-z --stdin` reads them."""
    return b"".join(os.fsencode(name) + b"\0" for name in names)
