"""Skills that a server offers with an agent: ZIP archives, unpacked into the run's own folder.

An archive comes from another machine: names, sizes and kinds of its members are checked, and what does
not hold is left out with its reason.
"""

from __future__ import annotations

import base64
import binascii
import io
import logging
import shutil
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, cast

from aiagent_coordinator.ids import path_name
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: Of one skill, unpacked.
MAX_BYTES: Final = 32 * 1024 * 1024
MAX_FILES: Final = 1000
MAX_SKILLS: Final = 50
_CHUNK: Final = 64 * 1024
#: How an archive says that it is none, is cut, encrypted, or packed in a way we do not know.
_DAMAGED: Final = (
    ValueError,
    OSError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def unpack(skills: object, folder: Path) -> list[str]:
    """Unpack what a profile offers; returns the names of the folders made. Blocks.

    Args:
        skills: `skills` of a profile, as it came over the wire.
        folder: Where they go, a folder for each.
    """
    if not isinstance(skills, list):
        return []
    made: list[str] = []
    for item in cast("list[object]", skills)[:MAX_SKILLS]:
        entry: Mapping[str, Any] = cast("Mapping[str, Any]", item) if isinstance(item, dict) else {}
        wanted = str(entry.get("directory_name") or entry.get("name") or "")
        name = path_name(wanted) if wanted else ""
        if not name or name in made:
            _left_out(wanted, "it has no name of its own")
            continue
        try:
            _unpack_one(entry, folder / name)
        except _DAMAGED as error:
            # half a skill would be followed as if it were whole
            shutil.rmtree(folder / name, ignore_errors=True)
            _left_out(wanted, str(error))
            continue
        made.append(name)
    return made


def _left_out(wanted: str, reason: str) -> None:
    log_event(
        logger,
        logging.WARNING,
        "loop.failed",
        "a skill was left out",
        skill=wanted[:100],
        error=reason,
    )


def _unpack_one(entry: Mapping[str, Any], folder: Path) -> None:
    try:
        data = base64.b64decode(str(entry.get("archive_base64") or ""), validate=True)
    except binascii.Error as error:
        message = f"its archive is no base64: {error}"
        raise ValueError(message) from None
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        members = [one for one in packed.infolist() if not one.is_dir()]
        _check(members)
        left = MAX_BYTES
        for member in members:
            left -= _extract(packed, member, folder, left)


def _check(members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_FILES:
        message = f"it has more than {MAX_FILES} files"
        raise ValueError(message)
    for member in members:
        path = PurePosixPath(member.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in member.filename:
            message = f"{member.filename!r} lies outside of it"
            raise ValueError(message)
        if stat.S_ISLNK(member.external_attr >> 16):
            message = f"{member.filename!r} is a link"
            raise ValueError(message)
    if not any(PurePosixPath(one.filename).name == "SKILL.md" for one in members):
        message = "it has no SKILL.md"
        raise ValueError(message)


def _extract(packed: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, left: int) -> int:
    """Write one file; what its header says of its size is not believed."""
    target = folder.joinpath(*PurePosixPath(member.filename).parts)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    size = 0
    with packed.open(member) as source, target.open("wb") as file:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > left:
                message = f"it unpacks to more than {MAX_BYTES} bytes"
                raise ValueError(message)
            file.write(chunk)
    target.chmod(0o700 if member.external_attr >> 16 & 0o111 else 0o600)
    return size
