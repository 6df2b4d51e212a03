"""Archives of skills from anybody: read whole and checked, then unpacked, or nothing of them.

Their members are plain files that lie inside, few and small enough, and none of them stands for another
where a disk does not tell `A` from `a`.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.skills import (
    GUIDE,
    MAX_ARCHIVE_BYTES,
    MAX_BYTES,
    MAX_FILES,
    Content,
    File,
    check_name,
    checked,
)

#: No text packs so well; only what is made to fill a disk does. Small files may.
MAX_RATIO: Final = 100
RATIO_FROM_BYTES: Final = 1024 * 1024
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
