"""A server for people: each has the project in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.house import House
from support.repo import make_repo

PASSKEY = "open-sesame-4711"
TOKEN = "tok-of-the-runner"


def peopled(home: House) -> dict[str, Path]:
    """Maria and Jo have the project each in a folder of their own; Jo's is not there. Their folders."""
    folders = {"maria": home.root / "maria", "jo": home.root / "jo"}
    make_repo(folders["maria"])
    agents: dict[str, Any] = {
        name: {"provider": "rehearsal", "passkey": PASSKEY, "parent": person}
        for name, person in (("ann", "maria"), ("bob", "jo"))
    }
    projects: list[dict[str, Any]] = [
        {"id": "app", "path": str(home.repo)},
        {"id": "other", "path": str(home.repo), "shared_path": True},
    ]
    projects[0]["shared_path"] = True
    home.write(
        coordinator_token=TOKEN,
        agents=agents,
        people={name: {"directories": {"app": str(path)}} for name, path in folders.items()},
        projects=projects,
    )
    return folders
