"""A user's login that lies in files, for a CLI that has a home of its own in each run.

Nothing is copied: the run's home holds links, so a token that the CLI renews is written where it writes it
when the user starts it, and what is removed with the run is the links alone. What the files hold is looked
at for a pattern and goes nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from aiagent_coordinator.providers.shape import Auth

#: A login is short; a file that is not is none.
_MOST_BYTES = 65536


def login_files(auth: Auth, env: Mapping[str, str]) -> dict[str, Path]:
    """Say which files of a login a run's home is to have.

    Args:
        auth: How the CLI keeps its login.
        env: The variables that its run gets.

    Returns:
        The files that are there, by where the links to them belong; empty without a login, and where a
        key is set, which goes first.
    """
    if any(env.get(name) for name in auth.key_env) or not holds_login(auth, env):
        return {}
    return {link: file for link, file in _placed(auth, env) if file.is_file()}


def holds_login(auth: Auth, env: Mapping[str, str]) -> bool:
    """Whether the user's home holds a login of a CLI that keeps it in files."""
    return any(_is_login(auth, file) for _, file in _placed(auth, env)[:1])


def link_logins(folder: Path, files: Mapping[str, Path]) -> None:
    """Make the links below a folder; those that are there already are made again."""
    for name, file in files.items():
        link = folder / name
        link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(file)


def _placed(auth: Auth, env: Mapping[str, str]) -> list[tuple[str, Path]]:
    home = env.get("HOME", "")
    if not home.startswith("/"):
        return []
    return [(link, Path(home, file.removeprefix("~/"))) for link, file in auth.files.items()]


def _is_login(auth: Auth, path: Path) -> bool:
    if not path.is_file():
        return False  # a pipe in its place would let us wait for ever
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES)
    except OSError:
        return False
    return bool(auth.logged_in and re.search(auth.logged_in, text.decode("utf-8", "replace")))
