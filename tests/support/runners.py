"""The released coordinators of AI Agent PM, installed once beside the tests and run as they are."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

#: Version → what it needs to start.
RELEASES = {"0.1.3": ("aiagent-runner==0.1.3",), "0.1.13": ("aiagent-runner==0.1.13", "aiohttp")}


@cache
def runner(version: str) -> Path | None:
    """The folder that a released coordinator is imported from; None when it cannot be had."""
    place = Path(tempfile.gettempdir()) / f"aac-runner-{version}-{os.geteuid()}"
    if (place / "aiagent_runner").is_dir():
        return place
    with tempfile.TemporaryDirectory(prefix="aac-pip-", dir=place.parent) as draft:
        target = Path(draft) / "lib"
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-input", "--target"]
        try:
            done = subprocess.run(
                [*command, str(target), *RELEASES[version]],
                capture_output=True,
                timeout=240,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode != 0:
            return None
        try:
            target.rename(place)
        except OSError:
            pass  # another worker of the tests was first
    return place if (place / "aiagent_runner").is_dir() else None
