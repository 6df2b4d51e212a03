"""Which configuration file counts. Imports nothing heavy: quick commands ask too."""

from __future__ import annotations

import os
from pathlib import Path

from aiagent_coordinator.errors import ConfigError
from aiagent_coordinator.paths import user_config_dir

#: What the file is called where nobody names it.
FILE_NAME = "coordinator.yaml"
#: Names the file when no flag does.
CONFIG_VARIABLE = "AIAGENT_COORDINATOR_CONFIG"


def find_config(explicit: Path | None) -> Path | None:
    """Find the file: the one given, the environment's, `./coordinator.yaml`, the user's; else None.

    Raises:
        ConfigError: the file that was named does not exist or is no file.
    """
    named = explicit or _from_environment()
    if named is not None:
        return _must_be_a_file(named)
    for folder in (Path, user_config_dir):
        candidate = folder() / FILE_NAME
        if candidate.is_file():
            return candidate.absolute()
    return None


def _from_environment() -> Path | None:
    value = os.environ.get(CONFIG_VARIABLE)
    return Path(value) if value else None


def _must_be_a_file(path: Path) -> Path:
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder, not a configuration file")
    # a FIFO or /dev/stdin may be meant, so only absence is refused here
    if not path.exists():
        raise ConfigError(
            f"{path}: there is no such file",
            hint="write it, or name another with --config",
        )
    return path.absolute()
