"""Skills: folders with a SKILL.md that tell an agent how something is done.

What makes one, what it is called, and how it is packed: always alike, so that one skill has one digest.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import unicodedata
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.ids import CHOSEN_ID, path_name, slug

#: Of one skill, packed: as text in a frame it leaves room for what stands around it.
MAX_ARCHIVE_BYTES: Final = 4 * 1024 * 1024
#: Of one skill, unpacked.
MAX_BYTES: Final = 32 * 1024 * 1024
MAX_FILES: Final = 1000
#: Of all that one agent is given.
MAX_SKILLS: Final = 50
MAX_PATH_BYTES: Final = 1024
MAX_NAME_BYTES: Final = 255
MAX_DEPTH: Final = 16
#: What every skill has.
GUIDE: Final = "SKILL.md"
MAX_NAME_CHARS: Final = 200
MAX_DESCRIPTION_CHARS: Final = 2000
#: Of every file that we pack: its own would make another archive of the same skill.
_DATE: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class File:
    """One file of a skill."""

    content: bytes
    is_executable: bool = False


@dataclass(frozen=True)
class Skill:
    """A skill that is kept: what it is called, and which content it has."""

    id: str
    #: What its folder is called with every agent.
    directory_name: str
    name: str
    description: str
    #: Of its archive.
    sha256: str
    #: Bytes of its archive, and of its files together.
    size: int
    unpacked_size: int
    files: int
    #: Who put it there: `person`, `configuration`, `agent:<id>`.
    added_by: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Packed:
    """A skill that is to be kept; its archive was packed by us."""

    directory_name: str
    name: str
    description: str
    sha256: str
    archive: bytes
    unpacked_size: int
    files: int


@dataclass(frozen=True)
class GivenSkill:
    """A skill as a run is given it; the digest leads to its archive."""

    directory_name: str
    name: str
    description: str
    sha256: str


#: Paths with slashes → files.
Content = Mapping[str, File]


@dataclass(frozen=True)
class Called:
    """What somebody says a skill is called; empty where they leave it to the skill itself."""

    directory_name: str = ""
    name: str = ""
    description: str = ""


def packed(content: Content, called: Called | None = None, *, fallback: str = "") -> Packed:
    """Pack a skill under the names that it is given, or gives itself.

    Args:
        content: Its files.
        called: What it is to be called.
        fallback: For what nobody says, the name of its folder or archive.

    Raises:
        ValidationError: it is no skill, or no folder could be called so.
    """
    called = called or Called()
    name, description = told(content)
    shown = _line(called.name, MAX_NAME_CHARS) or name or called.directory_name or fallback
    folder = called.directory_name or slug(name) or slug(fallback) or slug(called.name)
    if not CHOSEN_ID.match(folder) or path_name(folder) != folder:
        raise ValidationError(
            f"{folder[:100]!r} is no name of a skill's folder: 1 to 63 lower-case letters, digits, `.`, "
            "`_` and `-`",
            hint="give it a directory_name",
            key="directory_name",
        )
    archive = pack(content)
    return Packed(
        directory_name=folder,
        name=shown,
        description=_line(called.description, MAX_DESCRIPTION_CHARS) or description,
        sha256=digest(archive),
        archive=archive,
        unpacked_size=sum(len(one.content) for one in content.values()),
        files=len(content),
    )


def checked(content: Content) -> dict[str, File]:
    """See that files make a skill.

    Raises:
        ValidationError: they are too many or too large, their names collide, or the guide is missing.
    """
    if GUIDE not in content:
        raise ValidationError(f"there is no {GUIDE} at the top of it")
    if len(content) > MAX_FILES:
        raise ValidationError(f"it has more than {MAX_FILES} files")
    if sum(len(one.content) for one in content.values()) > MAX_BYTES:
        raise ValidationError(f"it has more than {MAX_BYTES} bytes")
    for name in content:
        check_name(name)
    _check_collisions(content)
    return dict(content)


def pack(content: Content) -> bytes:
    """Pack files: the same ones always give the same bytes.

    Raises:
        ValidationError: they make no skill, or a too large one.
    """
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name, file in sorted(checked(content).items()):
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system = 3
            info.compress_type = zipfile.ZIP_DEFLATED
            mode = 0o755 if file.is_executable else 0o644
            info.external_attr = (stat.S_IFREG | mode) << 16
            packed.writestr(info, file.content)
    data = made.getvalue()
    if len(data) > MAX_ARCHIVE_BYTES:
        raise ValidationError(f"packed it is larger than {MAX_ARCHIVE_BYTES} bytes")
    return data


def digest(data: bytes) -> str:
    """What an archive is known by."""
    return hashlib.sha256(data).hexdigest()


def told(content: Content) -> tuple[str, str]:
    """Name and description as the head of the guide says them; empty where it does not."""
    lines = content[GUIDE].content[: 64 * 1024].decode("utf-8", "replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return "", ""
    found: dict[str, list[str]] = {}
    key = ""
    for line in lines[1:]:
        if line.strip() in {"---", "..."}:
            break
        head, colon, rest = line.partition(":")
        if colon and head.strip() and not line[:1].isspace():
            key = head.strip()
            found[key] = [] if rest.strip() in {">", "|", ">-", "|-"} else [_unquoted(rest)]
        elif key:
            found[key].append(line.strip())
    name, description = (" ".join(found.get(one, ())) for one in ("name", "description"))
    return _line(name, MAX_NAME_CHARS), _line(description, MAX_DESCRIPTION_CHARS)


def check_name(name: str) -> None:
    """See that a path stays inside its skill, and means the same file everywhere.

    Raises:
        ValidationError: it does not.
    """
    parts = name.split("/")
    is_odd = any(part in {"", ".", ".."} or part.endswith((" ", ".")) for part in parts)
    if is_odd or name.startswith("/") or "\\" in name or ":" in parts[0]:
        raise ValidationError(f"{name[:200]!r} lies outside of it, or means another file elsewhere")
    if not name.isprintable():
        raise ValidationError(f"{name[:200]!r} has characters that no name has")
    sizes = [len(os.fsencode(part)) for part in parts]
    if len(parts) > MAX_DEPTH or max(sizes) > MAX_NAME_BYTES or sum(sizes) > MAX_PATH_BYTES:
        raise ValidationError(f"{name[:200]!r} is too long or too deep")


def _check_collisions(content: Content) -> None:
    """See that every path is another one where case and ways of writing a letter do not count."""
    seen: dict[str, str] = {}
    files = {_folded(name) for name in content}
    for name in content:
        parts = name.split("/")
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            folded = _folded(path)
            is_folder = depth < len(parts)
            if seen.setdefault(folded, path) != path or (is_folder and folded in files):
                raise ValidationError(f"{path[:200]!r} and another of its files have one name")


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text


def _line(text: str, limit: int) -> str:
    """One line of printable text."""
    words = "".join(one if one.isprintable() else " " for one in text).split()
    return " ".join(words)[:limit]
