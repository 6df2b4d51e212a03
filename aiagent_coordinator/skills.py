"""Skills: folders with a SKILL.md that tell an agent how something is done, and the archives they travel in.

An archive may come from anybody. It is read whole and checked before a byte of it is written: its
members are plain files that lie inside it, few and small enough, and none of them stands for another
where a disk does not tell `A` from `a`. What we keep we pack ourselves, always alike, so that one
skill has one digest.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
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
#: No text packs so well; only what is made to fill a disk does. Small files may.
MAX_RATIO: Final = 100
RATIO_FROM_BYTES: Final = 1024 * 1024
MAX_PATH_BYTES: Final = 1024
MAX_NAME_BYTES: Final = 255
MAX_DEPTH: Final = 16
#: What every skill has.
GUIDE: Final = "SKILL.md"
MAX_NAME_CHARS: Final = 200
MAX_DESCRIPTION_CHARS: Final = 2000
#: Of every file that we pack: its own would make another archive of the same skill.
_DATE: Final = (1980, 1, 1, 0, 0, 0)
_CHUNK: Final = 64 * 1024
_ENCRYPTED: Final = 0x1
#: In the attributes of Windows: a link, or a folder that stands for another.
_REPARSE_POINT: Final = 0x400
_PACKED: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
#: What a Mac puts beside everything.
_LITTER: Final = frozenset({"__MACOSX", ".DS_Store"})
#: How an archive says that it is none, is cut, or is packed in a way we do not know.
_DAMAGED: Final = (
    ValueError,
    OSError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


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


def read_archive(data: bytes, most: int = MAX_ARCHIVE_BYTES) -> dict[str, File]:
    """Read every file of an archive, or nothing of it.

    A single folder around everything is left away.

    Args:
        data: The archive.
        most: Its most bytes.

    Raises:
        ValidationError: it is no archive, or holds what no skill may hold; the message says what.
    """
    if len(data) > most:
        raise ValidationError(f"the archive is larger than {most} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            members = _members(packed)
            found = _read_all(packed, members, len(data))
    except ValidationError:
        raise
    except _DAMAGED as error:
        raise ValidationError(f"the archive cannot be read: {error}") from None
    return checked(_without_folder(found))


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


def unpack(data: bytes, folder: Path, most: int = MAX_ARCHIVE_BYTES) -> None:
    """Put a skill into a folder of its own, readable by its owner alone. Blocks.

    What stood there goes first. Nothing is left of what cannot be unpacked.

    Args:
        data: The archive.
        folder: The skill's own folder.
        most: The most bytes of the archive.

    Raises:
        ValidationError: the archive holds no skill.
        OSError: it cannot be written.
    """
    write(read_archive(data, most), folder)


def write(content: Content, folder: Path) -> None:
    """Write files that were checked; see `unpack`."""
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700, parents=True)
        for name, file in content.items():
            target = folder.joinpath(*name.split("/"))
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            mode = 0o700 if file.is_executable else 0o600
            with os.fdopen(os.open(target, flags, mode), "wb") as opened:
                opened.write(file.content)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


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


def _members(packed: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files of an archive, by what its directory says of them."""
    listed = packed.infolist()
    # folders and litter are entries too: they cost time before they are seen to be none
    if len(listed) > 3 * MAX_FILES:
        raise ValidationError(f"it has more than {MAX_FILES} files")
    members: list[zipfile.ZipInfo] = []
    for one in listed:
        # what stands there, not what the library made of it: it cuts at NUL
        name = one.orig_filename
        if _is_litter(name):
            continue
        _check_kind(one, name)
        check_name(name.removesuffix("/") if one.is_dir() else name)
        if not one.is_dir():
            members.append(one)
    if len(members) > MAX_FILES:
        raise ValidationError(f"it has more than {MAX_FILES} files")
    if len({one.filename for one in members}) < len(members):
        raise ValidationError("two of its files have one name")
    return members


def _is_litter(name: str) -> bool:
    return not _LITTER.isdisjoint(name.split("/"))


def _check_kind(member: zipfile.ZipInfo, name: str) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    wanted = stat.S_IFDIR if member.is_dir() else stat.S_IFREG
    if kind not in {0, wanted} or member.external_attr & _REPARSE_POINT:
        raise ValidationError(f"{name[:200]!r} is a link, a device or another thing than a file")
    if member.flag_bits & _ENCRYPTED:
        raise ValidationError(f"{name[:200]!r} is encrypted")
    if member.compress_type not in _PACKED:
        raise ValidationError(f"{name[:200]!r} is packed in an unusual way")


def _read_all(
    packed: zipfile.ZipFile, members: Iterable[zipfile.ZipInfo], packed_bytes: int
) -> dict[str, File]:
    """Read the files; what their headers say of their sizes is not believed."""
    left = min(MAX_BYTES, max(RATIO_FROM_BYTES, MAX_RATIO * packed_bytes))
    found: dict[str, File] = {}
    for member in members:
        parts: list[bytes] = []
        with packed.open(member) as source:
            while chunk := source.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise ValidationError("it unpacks to far more than it may")
                parts.append(chunk)
        is_executable = bool(member.external_attr >> 16 & 0o111)
        found[member.filename] = File(b"".join(parts), is_executable)
    return found


def _without_folder(found: dict[str, File]) -> dict[str, File]:
    """What is packed as one folder, without that folder."""
    tops = {name.split("/")[0] for name in found}
    if GUIDE in found or len(tops) != 1:
        return found
    (top,) = tops
    if f"{top}/{GUIDE}" not in found:
        return found
    return {name.removeprefix(f"{top}/"): file for name, file in found.items()}


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
