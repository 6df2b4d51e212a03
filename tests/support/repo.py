"""Real git repositories for tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

#: No configuration of whoever runs the tests, and a name for the commits.
GIT_ENV = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "A Developer",
    "GIT_AUTHOR_EMAIL": "dev@example.org",
    "GIT_COMMITTER_NAME": "A Developer",
    "GIT_COMMITTER_EMAIL": "dev@example.org",
}


def git(folder: Path, *arguments: str) -> str:
    """Run git and return what it printed; a failure fails the test with git's own words."""
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env={**os.environ, **GIT_ENV},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def make_repo(folder: Path) -> Path:
    """A small repository with real files and one commit on `main`."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    (folder / "README.md").write_text("# A project\n", encoding="utf-8")
    (folder / "src").mkdir()
    (folder / "src" / "app.py").write_text("print('hello')\n", encoding="utf-8")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder
