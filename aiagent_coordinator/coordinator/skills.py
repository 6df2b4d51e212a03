"""Skills that a server of another make offers with an agent, unpacked into the run's own folder.

What does not hold is left out with its reason; the others are given.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from aiagent_coordinator import skill_archives, skills
from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.ids import path_name
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: Servers of that make take larger ones than ours; an answer of theirs has 16 MiB at most.
MAX_ARCHIVE_BYTES: Final = 12 * 1024 * 1024


def unpack(offered: object, folder: Path) -> list[str]:
    """Unpack what a profile offers; returns the names of the folders made. Blocks.

    Args:
        offered: `skills` of a profile, as it came over the wire.
        folder: Where they go, a folder for each.
    """
    if not isinstance(offered, list):
        return []
    made: list[str] = []
    for item in cast("list[object]", offered)[: skills.MAX_SKILLS]:
        entry: Mapping[str, Any] = cast("Mapping[str, Any]", item) if isinstance(item, dict) else {}
        wanted = str(entry.get("directory_name") or entry.get("name") or "")
        name = path_name(wanted) if wanted else ""
        if not name or name in made:
            _left_out(wanted, "it has no name of its own")
            continue
        try:
            skill_archives.unpack(_archive_of(entry), folder / name, MAX_ARCHIVE_BYTES)
        except (ValidationError, OSError) as error:
            _left_out(wanted, str(error))
            continue
        made.append(name)
    return made


def _archive_of(entry: Mapping[str, Any]) -> bytes:
    try:
        return base64.b64decode(str(entry.get("archive_base64") or ""), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValidationError(f"its archive is no base64: {error}") from None


def _left_out(wanted: str, reason: str) -> None:
    log_event(
        logger,
        logging.WARNING,
        "loop.failed",
        "a skill was left out",
        skill=wanted[:100],
        error=reason,
    )
